//! Images and instances.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{PATIENCE, eventually};
use crate::cloud::{
    BuildRequest, Compute, Error, ImageRecord, ImageRequest, Instance, InstanceState, Launch, Parent,
    Provision, Provisioning, Tags,
};
use crate::ids::{Digest, FleetId, InstanceId, RunId};

/// A service that runs until it is ended.
const SERVICE: &str = "exec sleep 3600";

/// Every promise of [`Compute`]. `make` makes an empty one; `scratch` is a directory for what images
/// are made of.
pub async fn compute<C: Compute>(scratch: &Path, make: impl AsyncFn() -> C) {
    let ground = Ground { cloud: "the local cloud", scratch, from: Parent::Empty };
    let suite = Suite::new(&ground, make().await);
    suite.images().await;
    suite.builds().await;
    suite.instances().await;
    suite.ends().await;
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

fn tags(key: &str) -> Tags {
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

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the suite uses legal names")
}

fn fleet(environment: &str) -> FleetId {
    FleetId::new(name("shop"), name(environment))
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

    fn launch(&self, key: &str, instance: &str, image: &ImageRecord, fleet: FleetId) -> Launch {
        Launch {
            key: name(key),
            name: instance.to_owned(),
            fleet,
            image: image.id.clone(),
            env: BTreeMap::from([("FLAVOUR".to_owned(), "plain".to_owned())]),
            release: Digest::of(key.as_bytes()),
            tags: tags(key),
        }
    }

    async fn listed(&self, fleet: &FleetId) -> Vec<Instance> {
        self.compute.instances(fleet).await.expect("instances are listed")
    }

    async fn state(&self, fleet: &FleetId, id: &InstanceId) -> Option<InstanceState> {
        self.listed(fleet).await.into_iter().find(|instance| instance.id == *id).map(|found| found.state)
    }

    async fn instances(&self) {
        let (staging, production) = (fleet("staging"), fleet("production"));
        let image = self.baked("service", SERVICE).await;
        assert!(self.listed(&staging).await.is_empty());

        let launch = self.launch("launch-1", "shop-staging-1-1", &image, staging.clone());
        let first = self.compute.launch(&launch).await.expect("an instance is launched");
        let told = (&first.key, &first.fleet, &first.image, &first.release, first.name.as_str());
        assert_eq!(told, (&launch.key, &staging, &image.id, &launch.release, "shop-staging-1-1"));
        let again = self.compute.launch(&launch).await.expect("launched again");
        assert_eq!((&again.id, again.address), (&first.id, first.address), "one key is one instance");
        eventually("it runs", async || {
            (self.state(&staging, &first.id).await? == InstanceState::Running).then_some(())
        })
        .await;
        let listed = self.listed(&staging).await;
        assert_eq!(listed, [Instance { state: InstanceState::Running, ..first.clone() }]);
        assert!(self.listed(&production).await.is_empty(), "a fleet has only its own");

        let soon = Duration::from_millis(20);
        let waited = Instant::now();
        self.compute.ended(std::slice::from_ref(&first.id), soon).await.expect("an end is awaited");
        assert!(waited.elapsed() >= soon, "while it runs only the patience ends the wait");

        let other = Launch { release: Digest::of(b"other"), ..launch.clone() };
        let conflict = self.compute.launch(&other).await;
        assert!(matches!(conflict, Err(Error::Conflict(_))), "a key is for one release: {conflict:?}");
        let unknown = Launch { image: name("img-unknown"), key: name("launch-9"), ..launch.clone() };
        let missing = self.compute.launch(&unknown).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "an unknown image is not found: {missing:?}");
        assert_eq!(self.listed(&staging).await.len(), 1, "what failed left nothing");

        let race = self.launch("launch-2", "shop-production-1-1", &image, production.clone());
        let launched = join_all((0..8).map(|_| self.compute.launch(&race))).await;
        let ids: Vec<InstanceId> =
            launched.into_iter().map(|launched| launched.expect("all find it").id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "one key at the same time is one instance: {ids:?}");
        let second = self.launch("launch-3", "shop-production-1-2", &image, production.clone());
        let second = self.compute.launch(&second).await.expect("another key is another instance");
        let listed = self.listed(&production).await;
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_ne!(listed[0].address, listed[1].address, "each has an address of its own");

        let watched = [ids[0].clone(), second.id.clone()];
        let end = async {
            let told = self.compute.ended(&watched, PATIENCE);
            tokio::time::timeout(PATIENCE / 2, told).await.expect("an end wakes whoever awaits it")
        };
        let (told, terminated) = tokio::join!(end, self.compute.terminate(&ids[0]));
        told.and(terminated).expect("the end of one of them is told");
        let told = self.compute.ended(&watched, PATIENCE);
        let told =
            tokio::time::timeout(PATIENCE / 2, told).await.expect("one that has ended is told at once");
        told.expect("it is told");
        for _ in 0..2 {
            self.compute.terminate(&ids[0]).await.expect("it is terminated, and again");
            let left = self.listed(&production).await;
            assert_eq!(left.iter().map(|left| &left.id).collect::<Vec<_>>(), [&second.id]);
        }
        let gone = self.compute.launch(&race).await.expect("the key is still known");
        assert_eq!(
            (&gone.id, &gone.state),
            (&ids[0], &InstanceState::Terminated),
            "it is not launched again"
        );
        assert_eq!(self.listed(&production).await.len(), 1);

        let both = [&first.id, &second.id];
        for done in join_all(both.map(|id| self.compute.terminate(id))).await {
            done.expect("it is terminated");
        }
        self.compute.terminate(&name("shop-never-was")).await.expect("one that never was is fine");
        assert!(self.listed(&staging).await.is_empty() && self.listed(&production).await.is_empty());
    }

    async fn ends(&self) {
        let fleet = fleet("qa");
        let image = self.baked("broken", "echo cannot open the shop; exit 3").await;
        let launch = self.launch("launch-4", "shop-qa-1-1", &image, fleet.clone());
        let instance = self.compute.launch(&launch).await.expect("it is launched");
        let failed = async || match self.state(&fleet, &instance.id).await? {
            InstanceState::Failed { reason } => Some(reason),
            _ => None,
        };
        let reason = eventually("an instance that ended by itself has failed", failed).await;
        assert!(reason.contains("cannot open the shop"), "the reason has what it said: {reason}");
        assert!(reason.contains("exit code 3"), "the reason has the exit code: {reason}");
        let again = self.compute.launch(&launch).await.expect("launched again");
        assert!(matches!(again.state, InstanceState::Failed { .. }), "it is found as it is, not restarted");
        self.compute.terminate(&instance.id).await.expect("a failed one is terminated");
        assert!(self.listed(&fleet).await.is_empty());
    }
}
