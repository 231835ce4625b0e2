//! From a push to production on AWS, as its user has it: the built program, its settings, an emulated AWS.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::emulator::{Call, Emulator};
use crate::support::{Foreground, Signal, World, image, is, stage, text};

const SECRET: &str = "what GitHub and we know";

/// One service, and an AWS of its own.
pub struct Story {
    pub emulator: Emulator,
    pub world: World,
    pub size: usize,
}

/// What the settings say of how fast things go.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// As they are unless somebody changes them.
    Default,
    /// What is measured in seconds elsewhere takes no longer than it has to.
    Quick,
}

impl Story {
    pub fn new(size: usize, pace: Pace) -> Self {
        let emulator = Emulator::start(json!({}));
        let mut world = World::of("aws");
        world.env = emulator.env();
        let there = &emulator.world;
        let served = format!("{}/_served", emulator.endpoint());
        let size_written = size.to_string();
        let pace = if pace == Pace::Quick { "poll: 100ms\n    rate: 500" } else { "" };
        let words = [
            ("PACE", pace),
            ("SUBNET_1", &there.subnets[0]),
            ("SUBNET_2", &there.subnets[1]),
            ("SECURITY_GROUP", &there.security_group),
            ("GROUP_STAGING", &there.target_groups["staging"]),
            ("GROUP_PRODUCTION", &there.target_groups["production"]),
            ("SERVED", &served),
            ("SIZE", &size_written),
            ("BASE_IMAGE", &there.base.ami),
        ];
        for file in [&world.settings, &world.pipeline] {
            let text = fs::read_to_string(file).unwrap();
            let text = words.iter().fold(text, |text, (word, value)| text.replace(word, value));
            fs::write(file, text).unwrap();
        }
        fs::write(world.directory.join("secret"), SECRET).unwrap();
        fs::create_dir(world.directory.join("pipelines")).unwrap();
        fs::copy(&world.pipeline, world.directory.join("pipelines/shop.yaml")).unwrap();
        Self { emulator, world, size }
    }

    /// Commits another version.
    pub fn version(&self, number: u32) -> String {
        self.world.repository.write("greeting", &format!("hello for the {number}. time\n"));
        self.world.repository.commit(&format!("Greet for the {number}. time"))
    }

    /// `windlass serve`, and where it listens.
    pub fn serve(&self) -> (Foreground, String) {
        let words = ["serve", "--listen", "127.0.0.1:0", "--pipelines", "pipelines", "--config"];
        let serve = self.world.start(&[&words[..], &[self.world.settings.to_str().unwrap()]].concat());
        let line = serve.says("windlass serves");
        let address = line.rsplit_once("http://").unwrap().1.to_owned();
        (serve, address)
    }

    /// Every request was one that `windlass policy` lists for these settings and this pipeline.
    #[track_caller]
    fn was_allowed(&self) {
        let pipeline = self.world.pipeline.to_str().unwrap();
        let settings = self.world.settings.to_str().unwrap();
        let said = self.world.windlass(&["policy", pipeline, "--config", settings]);
        let policy: Value = serde_json::from_str(&said.with(0).out).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let actions =
            statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap()).map(text);
        assert_eq!(crate::policy::not_among(&self.emulator, &actions.collect()), Vec::<String>::new());
    }

    /// The fleet of an environment is whole: so many instances of the image, healthy in their target
    /// group, with every tag that explains them, and no others.
    #[track_caller]
    pub fn is_whole(&self, environment: &str, image: &str, size: usize) {
        let members = self.members(environment);
        assert_eq!(members.len(), size, "{environment}: {members:#?}");
        let state = self.emulator.state();
        let arn = &self.emulator.world.target_groups[environment];
        let targets = state["target_groups"][arn]["targets"].as_object().unwrap();
        assert_eq!(targets.len(), size, "{environment}: {targets:#?}");
        for member in members {
            assert_eq!(member["image"], image, "{environment}: {member:#}");
            assert_eq!(targets[text(&member["id"])], "healthy", "{member:#}");
            for tag in ["service", "run", "stage", "key", "fleet", "environment", "release"] {
                assert!(member["tags"][format!("windlass:{tag}")].is_string(), "{tag}: {member:#}");
            }
        }
    }

    pub fn members(&self, environment: &str) -> Vec<Value> {
        let fleet = format!("shop-{environment}");
        let of = |instance: &Value| instance["tags"]["windlass:fleet"] == fleet.as_str();
        self.emulator.living().into_iter().filter(of).collect()
    }

    /// Nothing is there but the two fleets and images by these keys: each with its snapshot and its
    /// lineage, and no builder, upload or volume besides.
    #[track_caller]
    pub fn nothing_else(&self, images: &[&str]) {
        let living = self.emulator.living();
        let stray: Vec<&Value> =
            living.iter().filter(|instance| !instance["tags"]["windlass:fleet"].is_string()).collect();
        assert!(stray.is_empty(), "left: {stray:#?}");
        let state = self.emulator.state();
        let baked: Vec<&Value> = state["images"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|image| {
                image["tags"]["windlass:image"].is_string() || image["name"] != "debian-12-amd64-20260101"
            })
            .collect();
        let ids: Vec<&str> = baked.iter().map(|image| text(&image["id"])).collect();
        assert_eq!(ids, images, "{baked:#?}");
        for image in baked {
            assert_eq!(image["state"], "available", "{image:#}");
            for tag in ["service", "run", "stage", "key", "image", "commit"] {
                assert!(image["tags"][format!("windlass:{tag}")].is_string(), "{tag}: {image:#}");
            }
        }
        assert_eq!(
            state["snapshots"].as_array().unwrap().len(),
            images.len() + 1,
            "{:#}",
            state["snapshots"]
        );
        assert_eq!(state["uploads"], json!([]));
        assert_eq!(state["volumes"], json!([]));
        for builder in state["builders"].as_array().unwrap() {
            assert_eq!(builder["running"], json!([]), "{builder:#}");
        }
    }

    /// From the first moment at which production was whole it never had less.
    #[track_caller]
    pub fn floor_was_kept(&self) {
        let lowest = self.emulator.lowest("production", self.size as u64);
        let state = self.emulator.state();
        let history = &state["target_groups"][&self.emulator.world.target_groups["production"]]["history"];
        assert_eq!(lowest, Some(self.size as u64), "{history:#}");
    }

    pub fn served(&self, environment: &str) -> String {
        let address = self.emulator.endpoint();
        let address = address.strip_prefix("http://").unwrap();
        let (status, body) = ask(address, &format!("GET /_served/{environment}/version"), &[], b"");
        assert_eq!(status, 200, "{body}");
        body.trim().to_owned()
    }

    /// Ends the fleets as people do, and sees that nothing is left.
    #[track_caller]
    pub fn end(self) {
        for environment in ["staging", "production"] {
            if !self.world.fleet(environment).is_null() {
                self.world.windlass(&["down", "shop", environment]).with(0);
            }
        }
        assert_eq!(self.emulator.living(), Vec::<Value>::new());
        self.world.end();
    }
}

/// What a request over HTTP is answered with.
pub fn ask(address: &str, what: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let mut head =
        format!("{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A push at GitHub.
fn push(address: &str, commit: &str) {
    let payload = json!({
        "ref": "refs/heads/main", "before": "0".repeat(40), "after": commit, "deleted": false, "forced": false,
        "head_commit": { "id": commit, "message": "Greet again" },
        "repository": { "full_name": "acme/shop", "default_branch": "main" },
        "sender": { "login": "octocat" },
    });
    let body = payload.to_string().into_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(&body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("sha256={digits}");
    let headers = [
        ("Content-Type", "application/json"),
        ("X-GitHub-Event", "push"),
        ("X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("X-Hub-Signature-256", &signature),
    ];
    let (status, said) = ask(address, "POST /webhooks/github", &headers, &body);
    assert_eq!(status, 202, "{said}");
}

/// Where in the log an operation stands.
fn at(calls: &[Call], operation: &str) -> usize {
    let found = calls.iter().find(|call| call.operation == operation && call.error.is_none());
    found.unwrap_or_else(|| panic!("no {operation}")).n
}

#[test]
fn a_push_becomes_an_image_and_production_is_turned_over_to_it() {
    let story = Story::new(3, Pace::Quick);
    let first = story.world.ship();
    story.is_whole("staging", image(&first), 1);
    story.is_whole("production", image(&first), 3);
    story.nothing_else(&[image(&first)]);
    let calls = story.emulator.calls();
    let order = ["PutObject", "RunInstances", "StopInstances", "CreateImage", "RegisterTargets"];
    assert!(order.map(|operation| at(&calls, operation)).is_sorted(), "{order:?}");

    let commit = story.version(2);
    let (serve, address) = story.serve();
    push(&address, &commit);
    story.world.until("shop/2", "it asks for production", |run| {
        is(run, "production", "waiting") && run["status"] == "waiting"
    });
    story.world.windlass(&["promote", "shop/2", "production"]).with(0);
    let second = story.world.until("shop/2", "it succeeds", |run| run["status"] == "succeeded");
    serve.signal(Signal::TERM);
    serve.ended().with(0);

    story.is_whole("staging", image(&second), 1);
    story.is_whole("production", image(&second), 3);
    story.nothing_else(&[image(&first), image(&second)]);
    story.floor_was_kept();
    for run in [&first, &second] {
        assert_eq!(stage(run, "bake")["status"], "succeeded");
    }
    let state = story.emulator.state();
    let made = state["images"].as_array().unwrap().iter().find(|made| made["id"] == image(&second)).unwrap();
    assert_eq!(made["tags"]["windlass:parent"], image(&first), "{made:#}");
    assert_eq!(made["tags"]["windlass:commit"], commit.as_str(), "{made:#}");
    assert_eq!(made["tags"]["windlass:run"], "shop/2", "{made:#}");
    assert_eq!(made["tags"]["windlass:certified"], "true", "{made:#}");
    assert!(story.served("production").starts_with("2-"), "{}", story.served("production"));
    let artifacts = state["objects"][&story.emulator.world.bucket].as_array().unwrap();
    assert!(artifacts.iter().any(|key| text(key).contains("shop-2-")), "{artifacts:#?}");
    // What was provisioned is in the image, and what was at hand for it is not.
    let content = std::path::Path::new(text(&made["content"])).join("opt/shop");
    assert!(
        content.join("provisioned").is_file() && content.join("start").is_file(),
        "{}",
        content.display()
    );
    assert!(!content.join("deploy/provision.sh").exists());
    story.was_allowed();
    story.end();
}

#[test]
fn a_version_that_is_never_well_leaves_production_as_it_was() {
    let story = Story::new(3, Pace::Quick);
    crate::support::edit(&story.world.settings, "strategy: {", "patience: 3s\n        strategy: {");
    let first = story.world.ship();
    story.version(2);
    story.emulator.sick(json!({ "name": "shop-production-2-*" }));
    let second = story.world.run(&["--promote", "all", "--json"]).ended().with(1).json();
    assert_eq!(stage(&second, "production")["status"], "failed", "{second:#}");
    story.is_whole("production", image(&first), 3);
    story.is_whole("staging", image(&second), 1);
    story.nothing_else(&[image(&first), image(&second)]);
    story.floor_was_kept();
    assert!(story.served("production").starts_with("1-"));
    story.end();
}

/// With the settings as they are unless somebody changes them.
#[test]
fn a_swap_of_ten_takes_fewer_than_150_requests() {
    let story = Story::new(10, Pace::Default);
    story.world.ship();
    story.version(2);
    let driver = story.world.run(&[]);
    story.world.until("shop/2", "it waits at the gate", |run| run["status"] == "waiting");
    let quiet = story.emulator.calls().len();
    story.world.windlass(&["promote", "shop/2", "production"]).with(0);
    driver.ended().with(0);
    let calls = story.emulator.calls().split_off(quiet);
    let mut counted = std::collections::BTreeMap::<String, usize>::new();
    for call in &calls {
        *counted.entry(format!("{}:{}", call.service, call.operation)).or_default() += 1;
    }
    println!("{} requests for a rolling swap of ten instances: {counted:#?}", calls.len());
    assert!(calls.len() < 150, "{} requests: {counted:#?}", calls.len());
    story.floor_was_kept();
    story.end();
}
