//! Images and instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cloud::{
    BuildRequest, Compute, Error, ImageRecord, ImageRequest, Parent, Provision, Provisioning, Tags,
};
use crate::ids::{Digest, RunId};

/// A service that runs until it is ended.
const SERVICE: &str = "exec sleep 3600";

/// Every promise of [`Compute`]. `make` makes an empty one; `scratch` is a directory for what images
/// are made of.
pub async fn compute<C: Compute>(scratch: &Path, make: impl AsyncFn() -> C) {
    let ground = Ground { cloud: "the local cloud", scratch, from: Parent::Empty };
    let suite = Suite::new(&ground, make().await);
    suite.images().await;
    suite.builds().await;
    let image = async |start: &str| {
        let key = Digest::of(start.as_bytes()).short().to_owned();
        suite.baked(&key, start).await.id
    };
    let by_itself = async |_: &crate::cloud::Instance| {};
    super::instances(&suite.compute, image, by_itself, super::Ends::WithOutput).await;
    told(&ground, "images, builds and instances");
}

/// The promises of [`Compute`] about images and how they are made.
pub async fn images<C: Compute>(ground: &Ground<'_>, make: impl AsyncFn() -> C) {
    let suite = Suite::new(ground, make().await);
    suite.images().await;
    suite.builds().await;
    told(ground, "images and builds");
}

/// Where a suite runs.
#[derive(Debug, Clone)]
pub struct Ground<'a> {
    /// For people.
    pub cloud: &'a str,
    /// A directory for what images are made of.
    pub scratch: &'a Path,
    /// What the first image starts from.
    pub from: Parent,
}

fn told(ground: &Ground<'_>, what: &str) {
    println!("conformance: {}: {what}: every promise is kept", ground.cloud);
}

struct Suite<C> {
    compute: C,
    scratch: PathBuf,
    from: Parent,
}

pub(super) fn tags(key: &str) -> Tags {
    Tags {
        service: name("shop"),
        run: RunId::new(name("shop"), 1),
        stage: "stage".to_owned(),
        key: name(key),
    }
}

fn commands(run: &[&str]) -> Vec<Provision> {
    let named = (1..).zip(run);
    let command = |(n, run): (u32, &&str)| Provision {
        name: format!("command {n}"),
        run: (*run).to_owned(),
        bash: false,
    };
    named.map(command).collect()
}

pub(super) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the suite uses legal names")
}

impl<C: Compute> Suite<C> {
    fn new(ground: &Ground<'_>, compute: C) -> Self {
        Self { compute, scratch: ground.scratch.to_owned(), from: ground.from.clone() }
    }

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
            parent: self.from.clone(),
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

    /// Launches the builder and runs its commands, wherever that is.
    async fn provision(&self, build: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        let builder = self.compute.launch_builder(build, image).await?;
        let Provisioning::Here { directory } = builder.provisioning else {
            return self.compute.provisioned(build, image).await;
        };
        for command in &build.provision {
            let done = Command::new("sh").args(["-ec", &command.run]).current_dir(&directory).status();
            let done = done.expect("a shell starts");
            if !done.success() {
                let (message, exit_code) = (command.name.clone(), done.code());
                return Err(Error::Provision { message, exit_code });
            }
        }
        Ok(())
    }

    /// An image that starts with this command.
    async fn baked(&self, key: &str, start: &str) -> ImageRecord {
        let build = self.build(key, vec![self.content("service", "file", "content")]);
        let image = self.image_request(key, start);
        self.provision(&build, &image).await.expect("a builder is launched");
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
        self.provision(&build, &request).await.expect("a builder is launched and provisioned");
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
        build.provision = commands(&[
            "test -e shared/one; test -e shared/two; test -e deploy/setup",
            "test ! -e half-done; touch provisioned",
        ]);
        let request = self.image_request("second", SERVICE);
        let builder = self.compute.launch_builder(&build, &request).await.expect("a builder is launched");
        if let Provisioning::Here { directory } = builder.provisioning {
            // The next command fails unless a build starts afresh.
            std::fs::write(directory.join("half-done"), "x").expect("provisioning writes");
        }
        self.provision(&build, &request).await.expect("all of it is at hand while provisioning");
        let parent = self.compute.create_image(&build, &request).await.expect("an image is created");

        let mut child = self.build("child", vec![self.content("four", "app", "4")]);
        child.parent = Parent::Image(parent.id.clone());
        child.provision =
            commands(&["test -e app", "test ! -e shared; test ! -e provisioned; test ! -e deploy"]);
        let request =
            ImageRequest { parent: Some(parent.id.clone()), ..self.image_request("child", SERVICE) };
        self.provision(&child, &request).await.expect("the app directory of the parent is emptied");
        let image = self.compute.create_image(&child, &request).await.expect("an image is created");
        assert_eq!(image.parent, Some(parent.id));

        let mut broken = self.build("broken-build", vec![self.content("five", "app", "5")]);
        broken.provision = commands(&["true", "exit 7", "touch never"]);
        let request = self.image_request("broken-build", SERVICE);
        let failed = self.provision(&broken, &request).await;
        let told = matches!(&failed, Err(Error::Provision { message, exit_code: Some(7) }) if message.contains("command 2"));
        assert!(told, "a command that fails is told, and its exit code: {failed:?}");
        for _ in 0..2 {
            self.compute.abandon(&broken, &request).await.expect("a build that failed is given up");
        }
        assert_eq!(self.compute.find_image(&request.key).await.expect("it is looked for"), None);

        let contents = vec![self.content("left", "app", "1"), self.content("right", "app", "1")];
        let request = self.image_request("conflict", SERVICE);
        let two = self.compute.launch_builder(&self.build("conflict", contents), &request).await;
        let named = matches!(&two, Err(Error::Conflict(message)) if message.contains("app"));
        assert!(named, "two contents at one path are a conflict that names it: {two:?}");
    }
}
