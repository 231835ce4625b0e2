//! Plain instances, against an AWS that loses answers, shows late, and has no room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass::cloud::aws::Accounts;
use windlass::cloud::conformance::{self, Ends};
use windlass::cloud::setup::Aws;
use windlass::cloud::{Cloud, Error, Instance, InstanceState, Launch, Tags};
use windlass::ids::{Digest, FleetId, RunId};

use crate::emulator::Emulator;

fn fleet(environment: &str) -> FleetId {
    FleetId::new("shop".parse().unwrap(), environment.parse().unwrap())
}

fn setup(emulator: &Emulator) -> Arc<Aws> {
    let fleets =
        ["staging", "production", "qa"].map(|environment| (fleet(environment), emulator.fleet("production")));
    Arc::new(Aws { account: emulator.account(), builder: None, fleets: BTreeMap::from(fleets) })
}

/// The cloud, as a process sees it that has just started.
fn open(emulator: &Emulator) -> Cloud {
    Accounts::with(emulator.config()).open(&setup(emulator))
}

fn launch(emulator: &Emulator, key: &str, environment: &str, n: u32) -> Launch {
    Launch {
        key: key.parse().unwrap(),
        name: fleet(environment).instance_name("42-9f3c2a1b", n),
        fleet: fleet(environment),
        image: emulator.world.base.ami.parse().unwrap(),
        env: BTreeMap::from([("FLAVOUR".to_owned(), "it's \"plain\"".to_owned())]),
        release: Digest::of(b"release"),
        tags: Tags {
            service: "shop".parse().unwrap(),
            run: RunId::new("shop".parse().unwrap(), 42),
            stage: "production".to_owned(),
            key: key.parse().unwrap(),
        },
    }
}

fn subnet(emulator: &Emulator, instance: &Instance) -> String {
    let living = emulator.living();
    let found = living.iter().find(|found| found["id"] == instance.id.as_str()).unwrap();
    found["subnet"].as_str().unwrap().to_owned()
}

/// DescribeInstances, so far.
fn looks(emulator: &Emulator) -> usize {
    emulator.count("DescribeInstances")
}

async fn listed(cloud: &Cloud, environment: &str) -> Vec<Instance> {
    cloud.compute.instances(&fleet(environment)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_instances_keep_what_every_cloud_promises_of_them() {
    let emulator = Emulator::start(json!({}));
    let cloud = open(&emulator);
    let image = async |_: &str| emulator.world.base.ami.parse().unwrap();
    let ending = async |instance: &Instance| {
        let id = instance.id.as_str();
        emulator.until("it runs", |state| {
            let all = state["instances"].as_array()?;
            all.iter().find(|one| one["id"] == id && one["state"] == "running").map(|_| ())
        });
        emulator.kill_instance(id);
    };
    conformance::instances(cloud.compute.as_ref(), image, ending, Ends::Alone).await;
    assert_eq!(emulator.living(), [] as [Value; 0]);
    println!("conformance: instances ran for aws, plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_launches_nothing_twice() {
    let emulator = Emulator::start(json!({}));
    emulator.rule(json!({ "operations": ["RunInstances"], "nth": 1, "fault": "lost" }));
    let first = open(&emulator).compute.launch(&launch(&emulator, "one", "production", 1)).await.unwrap();
    assert_eq!(emulator.living().len(), 1);
    assert_eq!(emulator.count("RunInstances"), 2, "asked again, with the same token");

    // Nothing is shown and no answer comes: whoever asked is told so, and dies.
    emulator.clear_all();
    emulator.set(json!({ "lag": 600 }));
    emulator.rule(json!({ "operations": ["RunInstances"], "fault": "lost" }));
    let second = launch(&emulator, "two", "production", 2);
    let lost = open(&emulator).compute.launch(&second).await;
    assert!(matches!(lost, Err(Error::Ambiguous(_))), "{lost:?}");
    emulator.clear_all();
    let cloud = open(&emulator);
    let found = cloud.compute.launch(&second).await.unwrap();
    assert_eq!(emulator.living().len(), 2);
    let again = cloud.compute.launch(&second).await.unwrap();
    assert_eq!((&again.id, again.address), (&found.id, found.address));
    assert_ne!(found.id, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_room_the_next_place_is_tried_and_all_are_named() {
    let emulator = Emulator::start(json!({}));
    let cloud = open(&emulator);
    let full = json!({ "SubnetId": emulator.world.subnets[0], "InstanceType": "t3.*" });
    let rule = emulator.rule(json!({ "operations": ["RunInstances"], "match": full, "fault": "capacity" }));
    let there = cloud.compute.launch(&launch(&emulator, "k1", "production", 1)).await.unwrap();
    assert_eq!(subnet(&emulator, &there), emulator.world.subnets[1]);
    emulator.clear(rule);
    emulator.rule(json!({ "operations": ["RunInstances"], "fault": "capacity" }));
    let second = launch(&emulator, "k2", "production", 2);
    let refused = cloud.compute.launch(&second).await;
    let Err(Error::NoCapacity(told)) = refused else { panic!("{refused:?}") };
    for subnet in &emulator.world.subnets {
        for instance_type in ["t3.small", "t3a.small"] {
            assert!(told.contains(&format!("{instance_type} in {subnet}: Insufficient")), "{told}");
        }
    }
    assert_eq!(emulator.living().len(), 1);
    emulator.clear_all();
    cloud.compute.launch(&second).await.unwrap();
    assert_eq!(emulator.living().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_spread_evenly_and_carry_what_explains_them() {
    let emulator = Emulator::start(json!({}));
    let cloud = open(&emulator);
    let mut subnets = Vec::new();
    for n in [1, 3] {
        let two = [n, n + 1].map(|n| launch(&emulator, &format!("k{n}"), "production", n));
        // At the same time, as when a fleet is repaired.
        let both = tokio::join!(cloud.compute.launch(&two[0]), cloud.compute.launch(&two[1]));
        subnets.extend([both.0, both.1].map(|launched| subnet(&emulator, &launched.unwrap())));
    }
    let all = &emulator.world.subnets;
    for subnet in all {
        assert_eq!(subnets.iter().filter(|other| *other == subnet).count(), 2, "{subnets:?}");
    }
    let living = emulator.living();
    let (tags, data) = (&living[0]["tags"], living[0]["user_data"].as_str().unwrap());
    let run = RunId::new("shop".parse().unwrap(), 42).to_string();
    let release = Digest::of(b"release").to_string();
    for (name, value) in [
        ("windlass:service", "shop"),
        ("windlass:environment", "production"),
        ("windlass:fleet", "shop-production"),
        ("windlass:run", &run),
        ("windlass:stage", "production"),
        ("windlass:release", &release),
    ] {
        assert_eq!(tags[name], value, "{tags}");
    }
    assert!(tags["Name"].as_str().unwrap().starts_with("shop-production-42-9f3c2a1b-"), "{tags}");
    assert!(!data.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_is_for_all_fleets_and_what_we_did_needs_none() {
    let emulator = Emulator::start(json!({ "boot": 600 }));
    let mut account = emulator.account();
    account.poll = Duration::from_secs(60);
    let aws = Arc::new(Aws { account, ..(*setup(&emulator)).clone() });
    let accounts = Accounts::with(emulator.config());
    let cloud = accounts.open(&aws);
    let all = tokio::join!(listed(&cloud, "staging"), listed(&cloud, "production"), listed(&cloud, "qa"));
    assert_eq!(all, (vec![], vec![], vec![]));
    assert!(looks(&emulator) <= 2, "{}", looks(&emulator));
    let before = looks(&emulator);
    // An earlier process may have launched something just before this one began.
    let patient = Duration::from_secs(20);
    let first = launch(&emulator, "k1", "production", 1);
    let launched = tokio::time::timeout(patient, cloud.compute.launch(&first)).await.unwrap().unwrap();
    assert!(looks(&emulator) <= before + 1, "{} after {before}", looks(&emulator));
    let before = looks(&emulator);
    let second = launch(&emulator, "k2", "production", 2);
    let second = cloud.compute.launch(&second).await.unwrap();
    assert_eq!(listed(&cloud, "production").await.len(), 2);
    cloud.compute.terminate(&launched.id).await.unwrap();
    let left = listed(&cloud, "production").await;
    assert_eq!(left.iter().map(|left| &left.id).collect::<Vec<_>>(), [&second.id]);
    assert_eq!(looks(&emulator), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_by_itself_has_failed_until_it_is_ended() {
    let emulator = Emulator::start(json!({}));
    let cloud = open(&emulator);
    let one = launch(&emulator, "k1", "production", 1);
    let launched = cloud.compute.launch(&one).await.unwrap();
    let until = async |cloud: &Cloud, what: &str, is: fn(&InstanceState) -> bool| {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !listed(cloud, "production").await.iter().any(|one| is(&one.state)) {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(&cloud, "it runs", |state| *state == InstanceState::Running).await;
    emulator.kill_instance(launched.id.as_str());
    let failed = |state: &InstanceState| matches!(state, InstanceState::Failed { .. });
    until(&cloud, "it failed", failed).await;
    let anew = open(&emulator);
    until(&anew, "another process sees it too", failed).await;
    let found = anew.compute.launch(&one).await.unwrap();
    assert_eq!((found.id == launched.id, failed(&found.state)), (true, true), "{found:?}");
    for _ in 0..2 {
        anew.compute.terminate(&launched.id).await.unwrap();
        assert_eq!(listed(&anew, "production").await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_of_the_quota_and_of_the_subnets() {
    let emulator = Emulator::start(json!({ "vcpus": 9 }));
    let cloud = open(&emulator);
    let like = launch(&emulator, "k1", "production", 1);
    cloud.compute.launch(&like).await.unwrap();
    // A t3.small has two vCPUs.
    cloud.compute.room_for(&like, 3).await.unwrap();
    let short = cloud.compute.room_for(&like, 4).await;
    let named = matches!(&short, Err(Error::NoCapacity(told)) if told.contains("L-1216C47A"));
    assert!(named, "{short:?}");
    let short = cloud.compute.room_for(&like, 1_000_000).await;
    let named = matches!(&short, Err(Error::NoCapacity(told)) if told.contains("address"));
    assert!(named, "{short:?}");

    emulator.rule(json!({ "operations": ["GetServiceQuota"], "fault": "error", "code": "AccessDeniedException", "message": "no", "status": 400 }));
    open(&emulator).compute.room_for(&like, 100).await.unwrap();
}
