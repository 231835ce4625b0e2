use std::time::Duration;

use super::*;
use crate::cloud::setup::LaunchSpec;

fn account(role: Option<&str>) -> Account {
    Account {
        region: "eu-central-1".to_owned(),
        bucket: "acme-artifacts".to_owned(),
        role: role.map(str::to_owned),
        poll: Duration::from_secs(10),
        rate: 10,
        keep_images: 5,
    }
}

fn builder() -> Builder {
    Builder {
        instance_type: "t3.small".to_owned(),
        subnet: "subnet-1".to_owned(),
        security_groups: vec!["sg-1".to_owned()],
        profile: None,
        spot: false,
        timeout: Duration::from_secs(60),
        ssm: false,
    }
}

fn plain() -> Instances {
    Instances::Plain(LaunchSpec {
        types: vec!["t3.small".to_owned()],
        subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
        security_groups: vec!["sg-2".to_owned()],
        profile: Some("storefront".to_owned()),
        key_pair: None,
    })
}

fn fleet(environment: &str, instances: Instances, role: Option<&str>, standby: &[&str]) -> FleetUse {
    let arn =
        |name: &str| format!("arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/{name}/1");
    FleetUse {
        id: FleetId::new("storefront".parse().unwrap(), environment.parse().unwrap()),
        fleet: Fleet {
            port: 8080,
            target_groups: vec![arn(environment)],
            standby_target_groups: standby.iter().map(|name| arn(name)).collect(),
            instances,
            role: role.map(str::to_owned),
            url: None,
        },
    }
}

fn uses(role: Option<&str>, builder: Option<Builder>, fleets: Vec<FleetUse>) -> Uses {
    let services = BTreeSet::from(["storefront".parse().unwrap()]);
    Uses { account: account(role), objects: true, builder, fleets, services }
}

/// What each statement is about; which actions it allows is the table's business.
fn shown(documents: &[Document]) -> String {
    let mut lines = Vec::new();
    for document in documents {
        lines.push(format!("== {}", document.role.as_deref().unwrap_or("the process")));
        for statement in &document.policy.statement {
            let services: BTreeSet<&str> =
                statement.action.iter().filter_map(|action| Some(action.split_once(':')?.0)).collect();
            let services: Vec<&str> = services.into_iter().collect();
            lines.push(format!("{} ({})", statement.sid, services.join(" ")));
            lines.extend(statement.resource.iter().map(|arn| format!("  {arn}")));
            for (operator, keys) in &statement.condition {
                for (key, values) in keys {
                    lines.push(format!("  if {operator} {key} {}", values.join(" ")));
                }
            }
        }
    }
    lines.join("\n")
}

#[test]
fn a_plain_fleet_and_a_builder_with_the_credentials_of_the_process() {
    let uses = uses(None, Some(builder()), vec![fleet("production", plain(), None, &[])]);
    insta::assert_snapshot!(shown(&documents(&uses)), @"");
}

#[test]
fn a_role_for_each_environment() {
    let fleets = vec![
        fleet(
            "production",
            Instances::Group("shop".to_owned()),
            Some("arn:aws:iam::444455556666:role/prod"),
            &[],
        ),
        fleet("staging", plain(), None, &["standby"]),
    ];
    let uses = uses(Some("arn:aws:iam::111122223333:role/windlass"), None, fleets);
    insta::assert_snapshot!(shown(&documents(&uses)), @"");
}

#[test]
fn every_resource_is_of_the_region_and_every_change_is_limited() {
    let mut with = builder();
    (with.ssm, with.spot, with.profile) = (true, true, Some("builder".to_owned()));
    let fleets = vec![
        fleet("production", Instances::Group("shop".to_owned()), None, &["standby"]),
        fleet("staging", plain(), None, &[]),
    ];
    for document in documents(&uses(None, Some(with), fleets)) {
        let mut sids = BTreeSet::new();
        for statement in &document.policy.statement {
            assert!(sids.insert(&statement.sid), "{} twice", statement.sid);
            assert!(!statement.resource.is_empty() && !statement.action.is_empty());
            let everywhere = statement.resource == ["*"];
            let looks = |action: &&str| {
                let (_, name) = action.split_once(':').unwrap();
                name.starts_with("Describe") || name.starts_with("Get") || name.starts_with("List")
            };
            let only_looks = statement.action.iter().all(looks);
            assert!(!everywhere || only_looks || !statement.condition.is_empty(), "{statement:?}");
        }
    }
}

#[test]
fn an_action_is_allowed_where_it_belongs() {
    let uses = uses(None, Some(builder()), vec![fleet("production", plain(), None, &[])]);
    let [document] = documents(&uses).try_into().unwrap();
    let allows = |sid: &str, action: &str| {
        let mut statements = document.policy.statement.iter();
        statements.any(|statement| statement.sid == sid && statement.action.contains(action))
    };
    assert!(allows("Look", "ec2:DescribeInstances") && allows("Bucket", "s3:ListBucket"));
    assert!(allows("Objects", "s3:PutObject") && allows("Ourinstances", "ec2:TerminateInstances"));
    assert!(allows("LaunchNew", "ec2:RunInstances") && allows("TagAtRunInstances", "ec2:CreateTags"));
    assert!(allows("ImageNew", "ec2:CreateImage") && allows("PassProfile", "iam:PassRole"));
    assert!(!allows("Objects", "s3:ListBucket") && !allows("Look", "ec2:TerminateInstances"));
    let none = |service: &str| {
        let mut actions = document.policy.statement.iter().flat_map(|statement| &statement.action);
        actions.all(|action| !action.starts_with(service))
    };
    assert!(none("autoscaling:") && none("ssm:") && none("sts:"), "nothing here uses them");
}

#[test]
fn a_china_region_has_another_partition() {
    let mut uses = uses(None, Some(builder()), Vec::new());
    uses.account.region = "cn-north-1".to_owned();
    for document in documents(&uses) {
        for statement in document.policy.statement {
            for resource in statement.resource {
                assert!(resource == "*" || resource.starts_with("arn:aws-cn:"), "{resource}");
            }
        }
    }
}
