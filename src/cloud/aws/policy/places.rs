//! What an action is allowed on, as ARNs and conditions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Condition, FleetUse, Part, Policy, Uses, tagged};
use crate::cloud::aws::operations::On;
use crate::cloud::setup::{Instances, LaunchSpec};
use crate::ids::PipelineName;

/// Resources, under a condition.
pub(super) struct Place {
    pub sid: String,
    pub resources: Vec<String>,
    pub condition: Condition,
}

/// Where all that is that certain credentials act on.
pub(super) struct Places<'a> {
    part: &'a Part<'a>,
    services: &'a BTreeSet<PipelineName>,
    partition: &'static str,
    region: &'a str,
    /// Its number, or `*` where nothing of the settings names it.
    account: &'a str,
}

impl<'a> Places<'a> {
    pub fn new(uses: &'a Uses, role: Option<&'a str>, part: &'a Part<'a>) -> Self {
        let region = uses.account.region.as_str();
        let partition = match region {
            _ if region.starts_with("cn-") => "aws-cn",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let groups = part.fleets.iter().flat_map(|used| &used.fleet.target_groups);
        let named = role.into_iter().chain(groups.map(String::as_str));
        let account = named.filter_map(|arn| arn.split(':').nth(4)).find(|number| !number.is_empty());
        Self { part, services: &uses.services, partition, region, account: account.unwrap_or("*") }
    }

    /// Where the action is allowed; nowhere when these credentials do nothing of that kind.
    pub fn of(&self, on: On) -> Vec<Place> {
        let always = Condition::new;
        let ours = || tagged("aws:ResourceTag", self.services);
        let new = || tagged("aws:RequestTag", self.services);
        let places = match on {
            On::Everybody => Vec::new(),
            On::Anything => vec![("Look".to_owned(), vec!["*".to_owned()], always())],
            On::Bucket => vec![("Bucket".to_owned(), self.bucket(""), always())],
            On::Objects => vec![("Objects".to_owned(), self.bucket("/*"), always())],
            On::Launch => vec![
                ("LaunchOf".to_owned(), self.launched_of(), always()),
                ("LaunchNew".to_owned(), self.launched(), new()),
            ],
            On::GroupLaunch => vec![("LaunchByTemplate".to_owned(), self.if_group("*"), self.by_template())],
            On::Made(by) => {
                let kinds: &[&str] = match by {
                    "CreateImage" => &["image", "snapshot"],
                    _ => &["instance", "volume"],
                };
                let condition = one("StringEquals", "ec2:CreateAction", by);
                vec![(format!("TagAt{by}"), self.any(kinds), condition)]
            }
            On::NewImage => vec![
                ("ImageOf".to_owned(), self.any(&["instance"]), ours()),
                ("ImageNew".to_owned(), self.any(&["image", "snapshot"]), new()),
            ],
            On::Ours(kinds) => {
                // Images belong to the account, and fleets only start from them.
                let kinds = kinds.iter().filter(|kind| **kind == "instance" || self.part.own);
                let place = |kind: &&str| (format!("Our{kind}s"), self.any(&[kind]), ours());
                kinds.map(place).collect()
            }
            On::Profile => {
                let roles = self.profiles().map(|profile| self.global("iam", &format!("role/{profile}")));
                vec![("PassProfile".to_owned(), roles.collect(), self.to_instances())]
            }
            On::TemplateProfile => {
                let roles = self.if_group(&self.global("iam", "role/*"));
                vec![("PassTemplateProfile".to_owned(), roles, self.to_instances())]
            }
            On::TargetGroups => {
                let groups = self.part.fleets.iter().map(|used| &used.fleet);
                let groups = groups.flat_map(|fleet| {
                    fleet.target_groups.iter().chain(&fleet.standby_target_groups).cloned()
                });
                vec![("Targets".to_owned(), groups.collect(), always())]
            }
            On::Listeners => {
                vec![("Listeners".to_owned(), self.balancing("listener/app/*"), always())]
            }
            On::Rules => vec![("Rules".to_owned(), self.balancing("listener-rule/app/*"), always())],
            On::AutoScalingGroups => {
                let arns = self.groups().map(|name| {
                    self.arn("autoscaling", &format!("autoScalingGroup:*:autoScalingGroupName/{name}"))
                });
                vec![("Groups".to_owned(), arns.collect(), always())]
            }
            On::Templates => {
                let templates = self.if_group(&self.arn("ec2", "launch-template/*"));
                vec![("Templates".to_owned(), templates, always())]
            }
            On::Document => {
                let document =
                    format!("arn:{}:ssm:{}::document/AWS-RunShellScript", self.partition, self.region);
                let to = tagged("ssm:resourceTag", self.services);
                vec![
                    ("Commands".to_owned(), vec![document], always()),
                    ("CommandsTo".to_owned(), self.any(&["instance"]), to),
                ]
            }
            On::Roles => {
                let roles = self.part.roles.iter().map(|role| (*role).to_owned());
                vec![("Roles".to_owned(), roles.collect(), always())]
            }
        };
        let places = places.into_iter().map(|(sid, resources, condition)| Place {
            sid: words(&sid),
            resources: resources.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
            condition,
        });
        places.filter(|place| !place.resources.is_empty()).collect()
    }

    /// What a person has to know who uses the policy.
    pub fn notes(&self, policy: &Policy) -> Vec<String> {
        let has = |sid: &str| policy.statement.iter().any(|statement| statement.sid == sid);
        let mut notes = Vec::new();
        let mut note = |sid: &str, text: String| {
            if has(sid) {
                notes.push(text);
            }
        };
        note(
            "PassProfile",
            "PassProfile takes the role of an instance profile to have the profile's name: where it has \
             another, put that there"
                .to_owned(),
        );
        let groups: Vec<&str> = self.groups().collect();
        note(
            "PassTemplateProfile",
            format!(
                "PassTemplateProfile allows every role that instances may have: put there the one that the \
                 launch template of {} gives, or leave it out where that gives none",
                groups.join(", ")
            ),
        );
        note("Templates", "Templates allows every launch template: put there those of the groups".to_owned());
        note(
            "Listeners",
            "Listeners and Rules allow those of every application load balancer: put there \
             those of the ones that lead to the target groups"
                .to_owned(),
        );
        note(
            "Objects",
            "a bucket that is encrypted with a key of your own takes kms:GenerateDataKey and kms:Decrypt on \
             that key besides"
                .to_owned(),
        );
        let vague = format!(":{}:*:", self.region);
        let anywhere =
            |statement: &super::Statement| statement.resource.iter().any(|arn| arn.contains(&vague));
        if self.account == "*" && policy.statement.iter().any(anywhere) {
            notes.push(
                "nothing in the settings names the account: * stands for its number in the ARNs".to_owned(),
            );
        }
        notes
    }

    /// What instances are launched of, and what comes into being without tags.
    fn launched_of(&self) -> Vec<String> {
        let specs: Vec<&LaunchSpec> = self.specs().collect();
        let Some(builder) = self.part.builder.map(|builder| (&builder.subnet, &builder.security_groups))
        else {
            if specs.is_empty() {
                return Vec::new();
            }
            return self.of_specs(&specs, [].iter(), &[]);
        };
        self.of_specs(&specs, std::iter::once(builder.0), &[builder.1])
    }

    fn of_specs<'b>(
        &self,
        specs: &[&'b LaunchSpec],
        subnets: impl Iterator<Item = &'b String>,
        groups: &[&'b Vec<String>],
    ) -> Vec<String> {
        let subnets = subnets.chain(specs.iter().flat_map(|spec| &spec.subnets));
        let mut all = self.any(&["image", "network-interface"]);
        all.extend(subnets.map(|subnet| self.arn("ec2", &format!("subnet/{subnet}"))));
        for groups in groups.iter().copied().chain(specs.iter().map(|spec| &spec.security_groups)) {
            match groups.is_empty() {
                // The VPC's own, which the settings do not name.
                true => all.push(self.arn("ec2", "security-group/*")),
                false => {
                    all.extend(
                        groups.iter().map(|group| self.arn("ec2", &format!("security-group/{group}"))),
                    );
                }
            }
        }
        let keys = specs.iter().filter_map(|spec| spec.key_pair.as_deref());
        all.extend(keys.map(|key| self.arn("ec2", &format!("key-pair/{key}"))));
        if self.part.builder.is_some_and(|builder| builder.spot) {
            all.extend(self.any(&["spot-instances-request"]));
        }
        all
    }

    fn launched(&self) -> Vec<String> {
        match self.part.builder.is_some() || self.specs().next().is_some() {
            true => self.any(&["instance", "volume"]),
            false => Vec::new(),
        }
    }

    fn bucket(&self, path: &str) -> Vec<String> {
        self.part.bucket.iter().map(|bucket| format!("arn:{}:s3:::{bucket}{path}", self.partition)).collect()
    }

    fn balancing(&self, resource: &str) -> Vec<String> {
        vec![self.arn("elasticloadbalancing", resource)]
    }

    fn specs(&self) -> impl Iterator<Item = &LaunchSpec> {
        self.part.fleets.iter().filter_map(|FleetUse { fleet, .. }| match &fleet.instances {
            Instances::Plain(spec) => Some(spec),
            Instances::Group(_) => None,
        })
    }

    fn groups(&self) -> impl Iterator<Item = &str> {
        self.part.fleets.iter().filter_map(|FleetUse { fleet, .. }| match &fleet.instances {
            Instances::Plain(_) => None,
            Instances::Group(name) => Some(name.as_str()),
        })
    }

    fn if_group(&self, resource: &str) -> Vec<String> {
        self.groups().next().map(|_| resource.to_owned()).into_iter().collect()
    }

    fn profiles(&self) -> impl Iterator<Item = &str> {
        let builder = self.part.builder.and_then(|builder| builder.profile.as_deref());
        builder.into_iter().chain(self.specs().filter_map(|spec| spec.profile.as_deref()))
    }

    fn by_template(&self) -> Condition {
        one("ArnLike", "ec2:LaunchTemplate", &self.arn("ec2", "launch-template/*"))
    }

    fn to_instances(&self) -> Condition {
        let service = if self.partition == "aws-cn" { "ec2.amazonaws.com.cn" } else { "ec2.amazonaws.com" };
        one("StringEquals", "iam:PassedToService", service)
    }

    /// All of these kinds in the account. Images and snapshots are in none.
    fn any(&self, kinds: &[&str]) -> Vec<String> {
        let arn = |kind: &&str| match *kind {
            "image" | "snapshot" => format!("arn:{}:ec2:{}::{kind}/*", self.partition, self.region),
            kind => self.arn("ec2", &format!("{kind}/*")),
        };
        kinds.iter().map(arn).collect()
    }

    fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}:{}:{}:{resource}", self.partition, self.region, self.account)
    }

    fn global(&self, service: &str, resource: &str) -> String {
        format!("arn:{}:{service}::{}:{resource}", self.partition, self.account)
    }
}

fn one(operator: &'static str, key: &str, value: &str) -> Condition {
    BTreeMap::from([(operator, BTreeMap::from([(key.to_owned(), vec![value.to_owned()])]))])
}

/// A statement's name: letters and digits only.
fn words(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}
