//! Images are made: each builder really runs, and nothing comes in to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use windlass::cloud::hearing::{self, Hearer};
use windlass::cloud::setup::{Aws as Setup, Builder};
use windlass::cloud::{
    Base, BuildRequest, Cloud, Error, ImageRecord, ImageRequest, Parent, Provision, Tags, aws, conformance,
};
use windlass::ids::{Digest, ImageId, PipelineName, RunId};

use crate::emulator::Emulator;

/// Somebody who bakes.
struct Baker {
    cloud: Cloud,
    room: tempfile::TempDir,
    base: ImageId,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Hearer for Heard {
    fn say(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

impl Heard {
    fn has(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(text))
    }

    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Baker {
    fn new(emulator: &Emulator) -> Self {
        Self::with(emulator, emulator.builder())
    }

    fn with(emulator: &Emulator, builder: Builder) -> Self {
        let setup = Setup { account: emulator.account(), builder: Some(builder), fleets: Default::default() };
        let cloud = aws::Accounts::with(emulator.config()).open(&Arc::new(setup));
        let room = tempfile::tempdir().unwrap();
        let base = emulator.world.base.ami.parse().unwrap();
        Self { cloud, room, base, heard: Arc::default() }
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.room.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn request(&self, run: u64, commands: &[&str]) -> BuildRequest {
        self.file("app/storefront", "the shop");
        let service: PipelineName = "storefront".parse().unwrap();
        let key: windlass::ids::Key = format!("storefront-{run}.bake.1").parse().unwrap();
        let named = (1..).zip(commands);
        BuildRequest {
            key: key.clone(),
            parent: Parent::Machine(self.base.clone()),
            contents: vec![self.room.path().join("app")],
            files: vec![("deploy/setup".to_owned(), self.file("setup", "x"))],
            provision: named
                .map(|(n, run): (u32, &&str)| Provision {
                    name: format!("Command {n}"),
                    run: (*run).to_owned(),
                    bash: false,
                })
                .collect(),
            env: [("WINDLASS_RUN".to_owned(), format!("storefront/{run}"))].into(),
            tags: Tags {
                service: service.clone(),
                run: RunId::new(service, run),
                stage: "bake".to_owned(),
                key,
            },
        }
    }

    fn image(&self, run: u64, recipe: &str) -> ImageRequest {
        ImageRequest {
            name: format!("storefront-{run}-9f3c2a1b"),
            key: Digest::of(recipe.as_bytes()),
            parent: None,
            commit: Some("9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b".parse().unwrap()),
            start: "./storefront".to_owned(),
        }
    }

    async fn hears<T>(&self, work: impl Future<Output = T>) -> T {
        hearing::heard(self.heard.clone(), work).await
    }

    async fn bake(&self, request: &BuildRequest, image: &ImageRequest) -> Result<ImageRecord, Error> {
        let bake = async {
            self.cloud.compute.launch_builder(request, image).await?;
            self.cloud.compute.provisioned(request, image).await?;
            self.cloud.compute.create_image(request, image).await
        };
        self.hears(bake).await
    }
}

fn list<'a>(state: &'a Value, what: &str) -> &'a [Value] {
    state[what].as_array().map_or(&[], Vec::as_slice)
}

/// The images that Windlass made.
fn images(emulator: &Emulator) -> Vec<Value> {
    let state = emulator.state();
    let ours = |image: &&Value| !image["tags"]["windlass:image"].is_null();
    list(&state, "images").iter().filter(ours).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_aws_promises_about_images_is_what_every_cloud_does() {
    let emulator = Emulator::start(json!({ "lag": 0.05, "image": 0.1, "boot": 0.1 }));
    let baker = Baker::new(&emulator);
    let ground = conformance::Ground {
        cloud: "AWS",
        scratch: baker.room.path(),
        from: Parent::Machine(baker.base.clone()),
    };
    conformance::images(&ground, async || {
        windlass::cloud::fault::Faulty::new(
            baker.cloud.compute.clone(),
            windlass::cloud::fault::Faults::none(),
        )
    })
    .await;
    let left: Vec<Value> = emulator.living();
    assert!(left.is_empty(), "builders are ended: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_says_where_it_comes_from_and_what_is_in_it() {
    let emulator = Emulator::start(json!({}));
    let baker = Baker::new(&emulator);
    let request = baker.request(42, &["echo \"provisions $WINDLASS_RUN\"; test -e deploy/setup; touch made"]);
    let image = baker.image(42, "recipe");
    let made =
        baker.bake(&request, &image).await.unwrap_or_else(|error| panic!("{error}\n{}", baker.heard.all()));
    assert_eq!((made.name.as_str(), &made.key, made.certified), (image.name.as_str(), &image.key, false));
    assert_eq!(
        (&made.run, &made.commit, made.start.as_str()),
        (&request.tags.run, &image.commit, "./storefront")
    );
    assert!(baker.heard.has("provisions storefront/42"), "{}", baker.heard.all());
    assert!(baker.heard.has("ec2:RunInstances"), "every request is told");

    let images = images(&emulator);
    let [ami] = images.as_slice() else { panic!("{images:?}") };
    for tags in [&ami["tags"], &tags_of_snapshot(&emulator, ami)] {
        assert_eq!(tags["windlass:run"], "storefront/42");
        assert_eq!(tags["windlass:base"], baker.base.as_str());
        assert_eq!(tags["windlass:image"], image.key.as_str());
    }
    let disk = PathBuf::from(ami["content"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(disk.join("opt/storefront/storefront")).unwrap(), "the shop");
    assert!(disk.join("opt/storefront/made").exists() && !disk.join("opt/storefront/deploy").exists());
    assert!(disk.join("etc/systemd/system/storefront.service").exists());
    let address = emulator.endpoint();
    assert!(!contains(&disk, &address), "no address is left on the disk");
    assert!(emulator.living().is_empty());

    baker.cloud.compute.certify_image(&made.id).await.unwrap();
    let known = baker.cloud.compute.certified_images(&request.tags.service).await.unwrap();
    assert_eq!(known.iter().map(|image| &image.id).collect::<Vec<_>>(), [&made.id]);
}

fn contains(directory: &Path, text: &str) -> bool {
    walkdir::WalkDir::new(directory).into_iter().flatten().any(|found| {
        found.file_type().is_file()
            && String::from_utf8_lossy(&std::fs::read(found.path()).unwrap()).contains(text)
    })
}

fn tags_of_snapshot(emulator: &Emulator, ami: &Value) -> Value {
    let state = emulator.state();
    let snapshot = list(&state, "snapshots").iter().find(|snapshot| snapshot["id"] == ami["snapshot"]);
    snapshot.unwrap_or_else(|| panic!("{ami}"))["tags"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bake_of_the_same_joins_the_first() {
    let emulator = Emulator::start(json!({}));
    let (one, two) = (Baker::new(&emulator), Baker::new(&emulator));
    let commands = ["echo begins; until [ -e go-on ]; do sleep 0.02; done; rm go-on"];
    let (first, second) = (one.request(1, &commands), two.request(2, &commands));
    let (image, same) = (one.image(1, "same"), two.image(2, "same"));
    let go_on = async {
        while !(one.heard.has("begins") && two.heard.has("begins")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let state = emulator.state();
        let [builder] = list(&state, "builders") else { panic!("one builder: {state:#}") };
        std::fs::write(Path::new(builder["directory"].as_str().unwrap()).join("opt/storefront/go-on"), "")
            .unwrap();
    };
    let both = async { tokio::join!(one.bake(&first, &image), two.bake(&second, &same), go_on) };
    let (made, joined, ()) = tokio::time::timeout(Duration::from_secs(90), both).await.unwrap();
    let (made, joined) = (made.unwrap(), joined.unwrap());
    assert_eq!(made.id, joined.id);
    assert_eq!(images(&emulator).len(), 1);
    assert_eq!(emulator.state()["instances"].as_array().unwrap().len(), 1, "one machine");
    assert!(emulator.living().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_is_left_to_whoever_still_follows_it_and_ended_by_the_last() {
    let emulator = Emulator::start(json!({}));
    let (one, two) = (Baker::new(&emulator), Baker::new(&emulator));
    let commands = ["sleep 600"];
    let (first, second) = (one.request(1, &commands), two.request(2, &commands));
    let (image, same) = (one.image(1, "same"), two.image(2, "same"));
    one.hears(one.cloud.compute.launch_builder(&first, &image)).await.unwrap();
    two.hears(two.cloud.compute.launch_builder(&second, &same)).await.unwrap();
    emulator.until("the builder runs", |state| (!list(state, "builders").is_empty()).then_some(()));
    one.hears(one.cloud.compute.abandon(&first, &image)).await.unwrap();
    assert_eq!(emulator.living().len(), 1, "{}", one.heard.all());
    two.cloud.compute.abandon(&second, &same).await.unwrap();
    assert!(emulator.living().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_is_told_and_the_next_attempt_has_another_builder() {
    let emulator = Emulator::start(json!({}));
    let baker = Baker::new(&emulator);
    let request = baker.request(1, &["true", "echo no such shop >&2; exit 3"]);
    let image = baker.image(1, "recipe");
    let failed = baker.bake(&request, &image).await.unwrap_err();
    let Error::Provision { message, exit_code: Some(3) } = &failed else { panic!("{failed:?}") };
    assert_eq!(message, "“Command 2” ended with exit code 3: no such shop");
    assert!(images(&emulator).is_empty());
    // Nobody gave it up: whoever comes next sees that it is no good.
    let again = BuildRequest { key: "storefront-1.bake.2".parse().unwrap(), ..baker.request(1, &["true"]) };
    baker.bake(&again, &image).await.unwrap_or_else(|error| panic!("{error}\n{}", baker.heard.all()));
    let generations: Vec<Value> = list(&emulator.state(), "instances")
        .iter()
        .map(|instance| instance["tags"]["windlass:generation"].clone())
        .collect();
    assert_eq!(generations, ["1", "2"]);
    assert!(emulator.living().is_empty(), "the end of one image is the end of all its builders");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_hangs_is_ended_and_its_console_is_told() {
    let emulator = Emulator::start(json!({}));
    let baker = Baker::with(&emulator, Builder { timeout: Duration::from_secs(10), ..emulator.builder() });
    let request = baker.request(1, &["echo hangs; sleep 600"]);
    let image = baker.image(1, "recipe");
    let failed = baker.bake(&request, &image).await.unwrap_err();
    assert!(matches!(failed, Error::TooLate(_)), "{failed:?}");
    assert!(baker.heard.has("hangs") && baker.heard.has("console: windlass: "), "{}", baker.heard.all());
    assert!(emulator.living().is_empty());
    baker.cloud.compute.abandon(&request, &image).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_after_any_request_and_begun_again_there_is_one_image() {
    let emulator = Emulator::start(json!({ "image": 0.2, "boot": 0.1, "stopping": 0.05, "lag": 0.1 }));
    for operation in
        ["PutObject", "RunInstances", "StopInstances", "CreateImage", "CreateTags", "TerminateInstances"]
    {
        let baker = Baker::new(&emulator);
        let request = baker.request(1, &["echo once"]);
        let image = ImageRequest { name: format!("storefront-{operation}"), ..baker.image(1, operation) };
        // Taken, and never answered: whoever sent it is gone by then.
        let rule = emulator.rule(json!({ "operations": [operation], "nth": 1, "fault": "block" }));
        tokio::select! {
            done = baker.bake(&request, &image) => panic!("{operation} was not held: {done:?}"),
            () = held(&emulator, rule) => {}
        }
        emulator.clear(rule);
        let again = Baker::new(&emulator);
        let made = again.bake(&again.request(1, &["echo once"]), &image).await;
        let made = made.unwrap_or_else(|error| panic!("{operation}: {error}\n{}", again.heard.all()));
        let ours = images(&emulator);
        let of_key = ours.iter().filter(|ami| ami["tags"]["windlass:image"] == image.key.as_str());
        assert_eq!(of_key.map(|ami| &ami["id"]).collect::<Vec<_>>(), [made.id.as_str()], "{operation}");
        let state = emulator.state();
        let machines = list(&state, "instances")
            .iter()
            .filter(|one| one["tags"]["windlass:image"] == image.key.as_str());
        assert_eq!(machines.count(), 1, "{operation}: one machine");
        assert!(emulator.living().is_empty(), "{operation}");
    }
}

async fn held(emulator: &Emulator, rule: crate::emulator::Rule) {
    while emulator.held_within(rule, Duration::from_millis(1)).is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_and_throttling_make_no_second_one() {
    let emulator = Emulator::start(json!({}));
    let baker = Baker::new(&emulator);
    emulator.rule(json!({ "operations": ["ec2:*"], "every": 3, "fault": "throttle" }));
    emulator.rule(json!({ "operations": ["CreateImage", "RunInstances"], "nth": 1, "fault": "lost" }));
    let image = baker.image(1, "recipe");
    let made = baker.bake(&baker.request(1, &["true"]), &image).await;
    made.unwrap_or_else(|error| panic!("{error}\n{}", baker.heard.all()));
    assert_eq!(images(&emulator).len(), 1);
    assert_eq!(list(&emulator.state(), "instances").len(), 1);
    emulator.clear_all();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_fails_is_made_once_more_and_then_told() {
    let emulator = Emulator::start(json!({ "image": 0.1 }));
    emulator.fail_images("storefront-1-*");
    let baker = Baker::new(&emulator);
    let failed = baker.bake(&baker.request(1, &["true"]), &baker.image(1, "recipe")).await.unwrap_err();
    assert!(failed.to_string().contains("came to nothing"), "{failed}");
    assert_eq!(emulator.count("CreateImage"), 2);
    assert!(images(&emulator).is_empty(), "what failed is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_ssm_the_same_is_done() {
    let emulator = Emulator::start(json!({}));
    let profile = Some(emulator.world.profile.clone());
    let baker = Baker::with(&emulator, Builder { ssm: true, profile, ..emulator.builder() });
    let made = baker.bake(&baker.request(1, &["echo by ssm"]), &baker.image(1, "recipe")).await;
    made.unwrap_or_else(|error| panic!("{error}\n{}", baker.heard.all()));
    assert!(baker.heard.has("by ssm"), "{}", baker.heard.all());
    assert_eq!(emulator.count("SendCommand"), 1);
    assert!(emulator.living().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_is_found_or_said_to_be_missing() {
    let emulator = Emulator::start(json!({}));
    let baker = Baker::new(&emulator);
    let compute = &baker.cloud.compute;
    let world = &emulator.world.base;
    let named = Base::Newest { name: world.name.clone(), owner: world.owner.clone() };
    assert_eq!(compute.find_base(&named).await.unwrap(), baker.base);
    assert_eq!(compute.find_base(&Base::Id(world.ami.clone())).await.unwrap(), baker.base);
    let missing = compute.find_base(&Base::Id("ami-0123456789abcdef0".to_owned())).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");

    let mut request = baker.request(1, &[]);
    for parent in [Parent::Empty, Parent::Directory(baker.room.path().to_owned())] {
        request.parent = parent;
        let refused = compute.launch_builder(&request, &baker.image(1, "recipe")).await;
        assert!(matches!(&refused, Err(Error::Denied(said)) if said.contains("base: {")), "{refused:?}");
    }
    assert_eq!(emulator.count("RunInstances"), 0);
}
