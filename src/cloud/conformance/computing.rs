//! Images, and instances of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cloud::{BuildRequest, Compute, Error, ImageRecord, ImageRequest, Parent, Provisioning, Tags};
use crate::ids::{Digest, RunId};

/// A service that runs until it is ended.
const SERVICE: &str = "exec sleep 3600";

/// Every promise of [`Compute`]. `make` makes an empty one; `scratch` is a directory for what images
/// are made of.
pub async fn compute<C: Compute>(scratch: &Path, make: impl AsyncFn() -> C) {
    let suite = Suite { compute: make().await, scratch: scratch.to_owned() };
    suite.images().await;
    suite.builds().await;
    let image = async |start: &str| {
        let key = Digest::of(start.as_bytes()).short().to_owned();
        suite.baked(&key, start).await.id
    };
    let by_itself = async |_: &crate::cloud::Instance| {};
    super::instances(&suite.compute, image, by_itself, super::Ends::WithOutput).await;
}

struct Suite<C> {
    compute: C,
    scratch: PathBuf,
}

pub(super) fn tags(key: &str) -> Tags {
    Tags {
        service: name("shop"),
        run: RunId::new(name("shop"), 1),
        stage: "stage".to_owned(),
        key: name(key),
    }
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the suite uses legal names")
}

impl<C: Compute> Suite<C> {
    fn content(&self, directory: &str, file: &str, text: &str) -> PathBuf {
        let directory = self.scratch.join(directory);
        let path = directory.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(&directory)).expect("scratch is writable");
        std::fs::write(path, text).expect("scratch is writable");
        directory
    }

    fn build(&self, key: &str, contents: Vec<PathBuf>) -> BuildRequest {
        BuildRequest {
            key: name(key),
            parent: Parent::Empty,
            contents,
            files: Vec::new(),
            provision: Vec::new(),
            env: BTreeMap::new(),
            tags: tags(key),
        }
    }

    fn image_request(&self, key: &str, start: &str) -> ImageRequest {
        ImageRequest {
            name: format!("shop-{key}"),
            key: Digest::of(key.as_bytes()),
            parent: None,
            commit: None,
            start: start.to_owned(),
        }
    }

    /// An image that starts with this command.
    async fn baked(&self, key: &str, start: &str) -> ImageRecord {
        let build = self.build(key, vec![self.content("service", "file", "content")]);
        let image = self.image_request(key, start);
        self.compute.launch_builder(&build, &image).await.expect("a builder is launched");
        self.compute.create_image(&build, &image).await.expect("an image is created")
    }

    async fn images(&self) {
        let key = Digest::of(b"first");
        let unknown = name("img-unknown");
        assert_eq!(self.compute.find_image(&key).await.expect("it is looked for"), None);
        let missing = self.compute.image(&unknown).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "an unknown image is not found: {missing:?}");
        let missing = self.compute.certify_image(&unknown).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "nor certified: {missing:?}");

        let build = self.build("first", vec![self.content("first", "app", "one")]);
        let request = self.image_request("first", SERVICE);
        let missing = self.compute.create_image(&build, &request).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "without a builder there is no image");
        self.compute.launch_builder(&build, &request).await.expect("a builder is launched");
        assert_eq!(self.compute.find_image(&key).await.expect("it is looked for"), None, "a half image");

        let image = self.compute.create_image(&build, &request).await.expect("an image is created");
        assert_eq!((&image.key, image.name.as_str(), image.certified), (&key, "shop-first", false));
        assert_eq!((&image.run, image.start.as_str()), (&build.tags.run, SERVICE));
        assert_eq!(self.compute.find_image(&key).await.expect("it is found"), Some(image.clone()));
        assert_eq!(self.compute.image(&image.id).await.expect("it is found"), image);
        let again = self.compute.create_image(&build, &request).await.expect("asked again");
        assert_eq!(again, image, "the same key is the same image, though its builder is gone");

        for _ in 0..2 {
            self.compute.certify_image(&image.id).await.expect("it is certified");
            let certified = self.compute.image(&image.id).await.expect("it is found");
            assert_eq!(certified, ImageRecord { certified: true, ..image.clone() });
        }
    }

    async fn builds(&self) {
        let contents = vec![self.content("two", "shared/one", "1"), self.content("three", "shared/two", "2")];
        let mut build = self.build("second", contents);
        build.files = vec![("deploy/setup".to_owned(), self.content("deploy", "setup", "x").join("setup"))];
        let request = self.image_request("second", SERVICE);
        let builder = self.compute.launch_builder(&build, &request).await.expect("a builder is launched");
        let Provisioning::Here { directory } = builder.provisioning else { panic!("it provisions here") };
        for file in ["shared/one", "shared/two", "deploy/setup"] {
            assert!(directory.join(file).exists(), "{file} is at hand while provisioning");
        }
        std::fs::write(directory.join("half-done"), "x").expect("provisioning writes");

        let builder = self.compute.launch_builder(&build, &request).await.expect("the build starts again");
        let Provisioning::Here { directory } = builder.provisioning else { panic!("it provisions here") };
        assert!(!directory.join("half-done").exists(), "a build starts afresh");
        std::fs::write(directory.join("provisioned"), "x").expect("provisioning writes");
        let parent = self.compute.create_image(&build, &request).await.expect("an image is created");

        let child = BuildRequest {
            parent: Parent::Image(parent.id.clone()),
            ..self.build("child", vec![self.content("four", "app", "4")])
        };
        let request =
            ImageRequest { parent: Some(parent.id.clone()), ..self.image_request("child", SERVICE) };
        let builder =
            self.compute.launch_builder(&child, &request).await.expect("a builder of a parent is launched");
        let Provisioning::Here { directory } = builder.provisioning else { panic!("it provisions here") };
        assert!(directory.join("app").exists());
        assert!(!directory.join("shared").exists(), "the app directory of the parent is emptied");
        let image = self.compute.create_image(&child, &request).await.expect("an image is created");
        assert_eq!(image.parent, Some(parent.id));

        let contents = vec![self.content("left", "app", "1"), self.content("right", "app", "1")];
        let request = self.image_request("conflict", SERVICE);
        let two = self.compute.launch_builder(&self.build("conflict", contents), &request).await;
        let named = matches!(&two, Err(Error::Conflict(message)) if message.contains("app"));
        assert!(named, "two contents at one path are a conflict that names it: {two:?}");
    }
}
