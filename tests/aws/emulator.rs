//! An AWS for one test: `tests/aws/hostile`, a process that ends with the test.
//!
//! Rules say what goes wrong; `tests/aws/hostile/faults.py` says how they are written:
//!
//! ```ignore
//! let emulator = Emulator::start(json!({}));
//! emulator.rule(json!({ "operations": ["ec2:*"], "every": 3, "fault": "throttle" }));
//! let blocked = emulator.rule(json!({ "operations": ["CreateImage"], "nth": 1, "fault": "block" }));
//! let call = emulator.held(blocked); // it was carried out, and its answer waits
//! emulator.clear(blocked);
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::{Credentials, SharedCredentialsProvider};
use serde::Deserialize;
use serde_json::{Value, json};
use windlass::cloud::setup::{Account, Builder, Fleet, Instances, LaunchSpec};

use crate::tools::tool;

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What is there before anybody asks.
#[derive(Debug, Clone, Deserialize)]
pub struct World {
    pub region: String,
    pub account: String,
    pub vpc: String,
    /// Two, in two zones.
    pub subnets: Vec<String>,
    pub security_group: String,
    pub load_balancer: String,
    /// ARNs by name: `staging`, `production`, `standby` (with production's listener, at a weight of
    /// zero), `second`, and `group`, which the Auto Scaling group has.
    pub target_groups: BTreeMap<String, String>,
    pub bucket: String,
    /// An instance profile.
    pub profile: String,
    pub base: Base,
    pub launch_template: String,
    /// The name of each, and of its target group: `storefront-production`, which is empty.
    pub auto_scaling_groups: BTreeMap<String, String>,
}

/// An image to begin with.
#[derive(Debug, Clone, Deserialize)]
pub struct Base {
    pub ami: String,
    /// With `*`
    pub name: String,
    pub owner: String,
}

/// A request that came.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// From one on.
    pub n: usize,
    /// Seconds since the start.
    pub at: f64,
    /// As requests are signed for: `ec2`, `elasticloadbalancing`, `autoscaling`, `s3`, `ssm`.
    pub service: String,
    pub operation: String,
    pub params: serde_json::Map<String, Value>,
    /// Whoever sent it had a presigned URL.
    pub presigned: bool,
    /// `None`: it is under way; zero: no answer was given.
    pub status: Option<u16>,
    /// The code of the error.
    pub error: Option<String>,
    /// What struck it.
    pub fault: Option<String>,
}

/// A rule that strikes requests.
#[derive(Debug, Clone, Copy)]
pub struct Rule(u64);

/// An AWS of its own. Ends when it is dropped, with all that runs in it.
pub struct Emulator {
    port: u16,
    pub world: World,
    /// Where disks of builders and images are.
    pub directory: PathBuf,
    child: Child,
    /// It ends when this does.
    stdin: Option<ChildStdin>,
}

#[derive(Deserialize)]
struct Said {
    port: u16,
    directory: PathBuf,
    world: World,
}

impl Emulator {
    /// Starts one with these options: `tests/aws/hostile/settings.py` has all of them.
    #[track_caller]
    pub fn start(options: Value) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aws/hostile");
        let mut child = Command::new(tool("moto").join("python"))
            .args(["-B", program, &options.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Said = serde_json::from_str(&line).unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("the emulator does not start: {error}: {line:?}, {:?}", child.wait())
        });
        Self { port: said.port, world: said.world, directory: said.directory, child, stdin }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// For `aws::Accounts::with` and clients of a test's own.
    pub fn config(&self) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(self.world.region.clone()))
            .endpoint_url(self.endpoint())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// For the program: it finds this AWS and no other.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_REGION", self.world.region.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ]
    }

    // -- settings for it, in a hurry

    pub fn account(&self) -> Account {
        Account {
            region: self.world.region.clone(),
            bucket: self.world.bucket.clone(),
            role: None,
            poll: Duration::from_millis(100),
            rate: 1_000,
            keep_images: 5,
        }
    }

    pub fn builder(&self) -> Builder {
        Builder {
            instance_type: "t3.small".to_owned(),
            subnet: self.world.subnets[0].clone(),
            security_groups: vec![self.world.security_group.clone()],
            profile: None,
            spot: false,
            timeout: Duration::from_secs(60),
            ssm: false,
        }
    }

    /// A fleet of plain instances in this target group.
    pub fn fleet(&self, target_group: &str) -> Fleet {
        Fleet {
            port: 8080,
            target_groups: vec![self.world.target_groups[target_group].clone()],
            standby_target_groups: Vec::new(),
            instances: Instances::Plain(LaunchSpec {
                types: vec!["t3.small".to_owned(), "t3a.small".to_owned()],
                subnets: self.world.subnets.clone(),
                security_groups: vec![self.world.security_group.clone()],
                profile: None,
                key_pair: None,
            }),
            role: None,
            url: None,
        }
    }

    /// The fleet of the Auto Scaling group.
    pub fn group_fleet(&self) -> Fleet {
        let instances = Instances::Group("storefront-production".to_owned());
        Fleet { instances, ..self.fleet("group") }
    }

    // -- what goes wrong

    pub fn rule(&self, rule: Value) -> Rule {
        Rule(self.control("rule", json!({ "rule": rule }))["rule"].as_u64().unwrap())
    }

    /// Ends a rule; what it held goes on.
    pub fn clear(&self, rule: Rule) {
        self.control("clear", json!({ "rule": rule.0 }));
    }

    /// Ends all rules.
    pub fn clear_all(&self) {
        self.control("clear", json!({}));
    }

    /// Waits until a rule with `block` or `hold` holds a request; `None` when none came in that time.
    pub fn held_within(&self, rule: Rule, patience: Duration) -> Option<Call> {
        let held = self.control("held", json!({ "rule": rule.0, "patience": patience.as_secs_f64() }));
        serde_json::from_value(held).unwrap()
    }

    #[track_caller]
    pub fn held(&self, rule: Rule) -> Call {
        self.held_within(rule, PATIENCE).expect("no request came that the rule holds")
    }

    /// What fits is never healthy from now on: `{ "image": …, "instance": …, "name": …, "file": … }`,
    /// with `*`; the file is one on the image's disk.
    pub fn sick(&self, which: Value) {
        self.control("sick", which);
    }

    /// Everything is well again.
    pub fn well(&self) {
        self.control("well", json!({}));
    }

    /// Images with such a name fail.
    pub fn fail_images(&self, name: &str) {
        self.control("fail_images", json!({ "name": name }));
    }

    /// An instance ends by itself.
    pub fn kill_instance(&self, id: &str) {
        self.control("kill", json!({ "instance": id }));
    }

    /// Changes options of a running emulator.
    pub fn set(&self, options: Value) {
        self.control("set", options);
    }

    /// Adds a target group and an Auto Scaling group: `{ "target_group": name, "port": 8080,
    /// "group": name, "size": 4 }`.
    pub fn add(&mut self, what: Value) {
        self.world = serde_json::from_value(self.control("world", what)).unwrap();
    }

    // -- what happened

    /// Every request so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        serde_json::from_value(self.control("calls", json!({}))).unwrap()
    }

    /// Requests for an operation that were not presigned.
    pub fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| call.operation == operation && !call.presigned).count()
    }

    /// Everything that there is: instances, images, snapshots, volumes, uploads, objects,
    /// target_groups, groups, builders.
    pub fn state(&self) -> Value {
        self.control("state", json!({}))
    }

    /// Instances that are not terminated, nor about to be.
    pub fn living(&self) -> Vec<Value> {
        let ended =
            |instance: &Value| matches!(instance["state"].as_str(), Some("terminated" | "shutting-down"));
        let all = self.state()["instances"].as_array().unwrap().clone();
        all.into_iter().filter(|instance| !ended(instance)).collect()
    }

    /// The fewest healthy targets that a target group had since it first had `size`; `None` if it
    /// never had so many.
    pub fn lowest(&self, target_group: &str, size: u64) -> Option<u64> {
        let arn = &self.world.target_groups[target_group];
        let state = self.state();
        let history = state["target_groups"][arn]["history"].as_array().unwrap();
        let healthy = history.iter().map(|moment| moment["healthy"].as_u64().unwrap());
        healthy.skip_while(|healthy| *healthy < size).min()
    }

    /// Looks until there is something to see.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if let Some(seen) = look(&state) {
                return seen;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}: {state:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn control(&self, act: &str, mut with: Value) -> Value {
        with["do"] = act.into();
        let body = with.to_string();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /_control HTTP/1.1\r\nhost: aws\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(head.starts_with("HTTP/1.1 200"), "{act}: {body}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {head} {body}"))
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
