//! What the settings say of AWS: the keys, the rules that one value alone cannot break, and what they
//! mean.

use std::sync::Arc;
use std::time::Duration;

use crate::cloud::setup::{Account, Aws, Builder, Fleet, Instances, LaunchSpec, Setup};
use crate::ids::{FleetId, PipelineName};
use crate::pipeline::Problems;
use crate::pipeline::shape::{Key, Shape, Table};
use crate::pipeline::yaml::Node;

use super::read::{entries, flag, number, texts, time};
use super::{Place, Settings};

const BUILDER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const POLL: Duration = Duration::from_secs(10);
const RATE: u32 = 10;
const KEEP_IMAGES: u32 = 5;
/// On AWS a machine boots first.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// What a target group says unless it is told otherwise: for bounds, never for waiting.
pub(super) const DRAIN: Duration = Duration::from_secs(300);

pub(super) static CLOUDS: Table = Table {
    what: "\"clouds\"",
    keys: &[Key::required("aws", Shape::Table(&AWS), "Amazon Web Services")],
    one_of: &[],
};

static AWS: Table = Table {
    what: "\"aws\"",
    keys: &[
        Key::required("region", Shape::Text, "eu-central-1"),
        Key::required("bucket", Shape::Text, "for artifacts, and what builders fetch and write"),
        Key::optional("role", Shape::Text, "the ARN of a role to assume; else what the machine has"),
        Key::optional("builder", Shape::Table(&BUILDER), "the machine that images are made on"),
        Key::optional(
            "poll",
            Shape::Time(Duration::from_millis(10)),
            "what is waited for is asked for this often at most; 10s unless given",
        ),
        Key::optional(
            "rate",
            Shape::Whole(1, 1_000),
            "requests a second, of all runs together; 10 unless given",
        ),
        Key::optional(
            "keep_images",
            Shape::Whole(1, 1_000),
            "so many certified images of a service are kept, besides those in use; 5 unless given",
        ),
    ],
    one_of: &[],
};

static BUILDER: Table = Table {
    what: "\"builder\"",
    keys: &[
        Key::required("type", Shape::Text, "t3.small"),
        Key::required("subnet", Shape::Text, "with a way out to S3, and none in"),
        Key::optional(
            "security_groups",
            Shape::OneOrList(&Shape::Text),
            "those of the subnet's VPC, unless given",
        ),
        Key::optional("profile", Shape::Text, "the name of an instance profile"),
        Key::optional("spot", Shape::Flag, "whether it is a spot instance; false unless given"),
        Key::optional(
            "timeout",
            Shape::Time(Duration::from_secs(1)),
            "from its launch to the last command's end; 30m unless given",
        ),
        Key::optional(
            "via",
            Shape::Word(&["user_data", "ssm"], &[]),
            "how its commands reach it; user_data unless given; ssm needs a profile that allows it",
        ),
    ],
    one_of: &[],
};

static LAUNCH_SPEC: Table = Table {
    what: "\"launch\"",
    keys: &[
        Key::required(
            "types",
            Shape::OneOrList(&Shape::Text),
            "instance types; a later one where there is no capacity of an earlier one",
        ),
        Key::required("subnets", Shape::OneOrList(&Shape::Text), "its instances are spread over them"),
        Key::optional("security_groups", Shape::OneOrList(&Shape::Text), "the VPC's own unless given"),
        Key::optional("profile", Shape::Text, "the name of an instance profile"),
        Key::optional("key_pair", Shape::Text, "the name of a key pair"),
    ],
    one_of: &[],
};

pub(super) const TARGET_GROUPS: Key = Key::optional(
    "target_groups",
    Shape::OneOrList(&Shape::Text),
    "on AWS: the ARNs of its target groups; an instance is in service when it is healthy in each",
);
pub(super) const STANDBY_TARGET_GROUPS: Key = Key::optional(
    "standby_target_groups",
    Shape::OneOrList(&Shape::Text),
    "on AWS, for blue_green: ARNs of target groups that the same listeners give a weight of 0 to, one for \
     each of target_groups; without them new and old instances serve side by side for a moment",
);
pub(super) const LAUNCH: Key =
    Key::optional("launch", Shape::Table(&LAUNCH_SPEC), "on AWS: how its instances are launched");
pub(super) const AUTO_SCALING_GROUP: Key = Key::optional(
    "auto_scaling_group",
    Shape::Text,
    "on AWS: the name of the group that launches its instances, instead of `launch`",
);
pub(super) const URL: Key = Key::optional(
    "url",
    Shape::Text,
    "on AWS: its address for people and tests; the load balancer's unless given",
);

/// Keys of a fleet that only AWS has, and only the local cloud.
const ONLY_AWS: [&str; 5] = ["target_groups", "standby_target_groups", "launch", "auto_scaling_group", "url"];
const ONLY_LOCAL: [&str; 2] = ["health", "drain"];

/// The rules about clouds.
pub(super) fn check(root: &Node, problems: &mut Problems) {
    let known = root.get("clouds").and_then(|clouds| clouds.get("aws"));
    let mut clouds: std::collections::BTreeMap<&str, (&str, String)> = Default::default();
    for environment in entries(root, "environments") {
        for fleet in entries(&environment.value, "fleets") {
            let node = &*fleet.value;
            let Some(cloud) = node.get("cloud").and_then(Node::text) else { continue };
            let name = format!("{}-{}", fleet.key, environment.key);
            match clouds.get(fleet.key.as_str()) {
                Some((other, first)) if *other != cloud => {
                    let at = node.get("cloud").map_or(0..0, |node| node.at.clone());
                    problems
                        .error(at, format!("{name} is in the cloud {cloud}, and {first} in {other}"))
                        .help(
                            "an image is of one cloud, and what was tried out is what goes on: \
                               the fleets of a service are in one cloud",
                        );
                }
                Some(_) => {}
                None => {
                    clouds.insert(&fleet.key, (cloud, name));
                }
            }
            match cloud {
                "aws" => aws_fleet(node, known.is_some(), problems),
                _ => local_fleet(node, problems),
            }
        }
    }
}

fn local_fleet(node: &Node, problems: &mut Problems) {
    for key in ONLY_AWS {
        if let Some(at) = node.get(key).map(|node| node.at.clone()) {
            problems.error(at, format!("{key:?} is for fleets on AWS, and this one is local"));
        }
    }
    if node.get("health").is_none() {
        problems
            .error(node.at.clone(), "a local fleet needs \"health\"")
            .help("for example health: { path: /healthz }, which an instance that is well answers with 2xx");
    }
}

fn aws_fleet(node: &Node, known: bool, problems: &mut Problems) {
    if !known {
        let at = node.get("cloud").map_or(0..0, |node| node.at.clone());
        problems
            .error(at, "the settings do not say which account and region that is")
            .help("clouds: { aws: { region: eu-central-1, bucket: acme-artifacts } }");
    }
    for key in ONLY_LOCAL {
        if let Some(at) = node.get(key).map(|node| node.at.clone()) {
            problems
                .error(at, format!("{key:?} is for local fleets"))
                .help("on AWS it is the target group's: set it there");
        }
    }
    match (node.get("launch"), node.get("auto_scaling_group")) {
        (None, None) => {
            problems
                .error(node.at.clone(), "a fleet on AWS needs \"launch\" or \"auto_scaling_group\"")
                .help("launch: { types: [t3.small], subnets: [subnet-1], security_groups: [sg-2] }");
        }
        (Some(_), Some(group)) => {
            problems
                .error(group.at.clone(), "there is \"launch\" and \"auto_scaling_group\": which of them?");
        }
        _ => {}
    }
    let (groups, standby) = (texts(node, "target_groups"), texts(node, "standby_target_groups"));
    if node.get("target_groups").is_none() {
        problems
            .error(node.at.clone(), "a fleet on AWS needs \"target_groups\"")
            .help("the ARNs of the target groups of its load balancer");
    }
    for (node, arn) in groups.iter().chain(&standby) {
        if !arn.starts_with("arn:") {
            problems.error(node.at.clone(), format!("{arn:?} is no ARN of a target group"));
        }
    }
    if let (Some(node), true) = (node.get("standby_target_groups"), groups.len() != standby.len()) {
        problems.error(
            node.at.clone(),
            format!("there are {} of them, and {} of target_groups", standby.len(), groups.len()),
        );
    }
}

fn list(node: &Node, key: &str) -> Vec<String> {
    texts(node, key).into_iter().map(|(_, text)| text.to_owned()).collect()
}

fn text(node: &Node, key: &str) -> Option<String> {
    Some(node.get(key)?.text()?.to_owned())
}

/// `clouds.aws`.
pub(super) fn account(root: &Node) -> Option<(Account, Option<Builder>)> {
    let node = root.get("clouds")?.get("aws")?;
    let account = Account {
        region: text(node, "region")?,
        bucket: text(node, "bucket")?,
        role: text(node, "role"),
        poll: time(node, "poll").unwrap_or(POLL),
        rate: number(node, "rate").unwrap_or(RATE),
        keep_images: number(node, "keep_images").unwrap_or(KEEP_IMAGES),
    };
    let builder = node.get("builder").and_then(|node| {
        Some(Builder {
            instance_type: text(node, "type")?,
            subnet: text(node, "subnet")?,
            security_groups: list(node, "security_groups"),
            profile: text(node, "profile"),
            spot: flag(node, "spot").unwrap_or(false),
            timeout: time(node, "timeout").unwrap_or(BUILDER_TIMEOUT),
            ssm: text(node, "via").as_deref() == Some("ssm"),
        })
    });
    Some((account, builder))
}

/// A fleet on AWS, of an environment with this role.
pub(super) fn fleet(node: &Node, port: u16, role: Option<String>) -> Option<Fleet> {
    let instances = match (node.get("launch"), text(node, "auto_scaling_group")) {
        (Some(launch), _) => Instances::Plain(LaunchSpec {
            types: list(launch, "types"),
            subnets: list(launch, "subnets"),
            security_groups: list(launch, "security_groups"),
            profile: text(launch, "profile"),
            key_pair: text(launch, "key_pair"),
        }),
        (None, group) => Instances::Group(group?),
    };
    Some(Fleet {
        port,
        target_groups: list(node, "target_groups"),
        standby_target_groups: list(node, "standby_target_groups"),
        instances,
        role,
        url: text(node, "url"),
    })
}

impl Settings {
    /// Where a service runs: where its fleets are; a service without any is on AWS where the settings
    /// know of it.
    pub fn cloud_of(&self, service: &PipelineName) -> Setup {
        let fleets = self.environments.iter().filter_map(|(environment, policy)| {
            Some((FleetId::new(service.clone(), environment.clone()), policy.fleets.get(service)?))
        });
        let mut on_aws = std::collections::BTreeMap::new();
        for (id, fleet) in fleets {
            match &fleet.place {
                Place::Local => return Setup::Local,
                Place::Aws(fleet) => drop(on_aws.insert(id, (**fleet).clone())),
            }
        }
        match &self.aws {
            None => Setup::Local,
            Some((account, builder)) => {
                let (account, builder) = (account.clone(), builder.clone());
                Setup::Aws(Arc::new(Aws { account, builder, fleets: on_aws }))
            }
        }
    }
}
