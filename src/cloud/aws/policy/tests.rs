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

fn statement<'a>(document: &'a Document, sid: &str) -> &'a Statement {
    let mut statements = document.policy.statement.iter();
    statements.find(|statement| statement.sid == sid).unwrap_or_else(|| panic!("no {sid}: {document:#?}"))
}

#[test]
fn an_instance_is_launched_of_what_the_settings_name_and_with_our_tag() {
    let uses = uses(None, Some(builder()), vec![fleet("production", plain(), None, &[])]);
    let [document] = documents(&uses).try_into().unwrap();
    let ec2 = |resource: &str| format!("arn:aws:ec2:eu-central-1:111122223333:{resource}");
    let mut of: Vec<String> = [
        "network-interface/*",
        "security-group/sg-1",
        "security-group/sg-2",
        "subnet/subnet-1",
        "subnet/subnet-2",
    ]
    .map(ec2)
    .to_vec();
    of.push("arn:aws:ec2:eu-central-1::image/*".to_owned());
    assert_eq!(statement(&document, "LaunchOf").resource, of);
    let new = statement(&document, "LaunchNew");
    assert_eq!(new.resource, ["instance/*", "volume/*"].map(ec2));
    let tag = &new.condition["StringEquals"]["aws:RequestTag/windlass:service"];
    assert_eq!(*tag, ["storefront"]);
    let ours = &statement(&document, "Ourinstances").condition["StringEquals"];
    assert_eq!(ours["aws:ResourceTag/windlass:service"], ["storefront"]);
    let pass = statement(&document, "PassProfile");
    assert_eq!(pass.resource, ["arn:aws:iam::111122223333:role/storefront"]);
    assert_eq!(pass.condition["StringEquals"]["iam:PassedToService"], ["ec2.amazonaws.com"]);
    assert_eq!(statement(&document, "Bucket").resource, ["arn:aws:s3:::acme-artifacts"]);
    assert_eq!(statement(&document, "Objects").resource, ["arn:aws:s3:::acme-artifacts/*"]);
}

#[test]
fn there_is_a_document_for_each_role_and_one_that_may_assume_them() {
    let (own, other) = ("arn:aws:iam::111122223333:role/windlass", "arn:aws:iam::444455556666:role/prod");
    let fleets = vec![
        fleet("production", Instances::Group("shop".to_owned()), Some(other), &[]),
        fleet("staging", plain(), None, &["standby"]),
    ];
    let [process, artifacts, production] = documents(&uses(Some(own), None, fleets)).try_into().unwrap();
    assert_eq!((process.role, process.policy.statement.len()), (None, 1));
    assert_eq!(process.policy.statement[0].resource, [own, other]);
    assert_eq!(process.policy.statement[0].action, BTreeSet::from(["sts:AssumeRole"]));
    assert_eq!(artifacts.role.as_deref(), Some(own));
    let listener = "arn:aws:elasticloadbalancing:eu-central-1:111122223333:listener/app/*";
    assert_eq!(statement(&artifacts, "Listeners").resource, [listener]);
    assert_eq!(statement(&artifacts, "Targets").resource.len(), 2);
    assert_eq!(production.role.as_deref(), Some(other));
    let group = "arn:aws:autoscaling:eu-central-1:444455556666:autoScalingGroup:*:autoScalingGroupName/shop";
    assert_eq!(statement(&production, "Groups").resource, [group]);
    let absent = ["Objects", "Bucket", "LaunchNew", "Listeners", "Ourimages", "Roles"];
    let there = production.policy.statement.iter().find(|statement| absent.contains(&statement.sid.as_str()));
    assert_eq!(there, None, "the fleet's role does nothing of that kind");
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
