//! The emulator is as unkind as it says: otherwise the stories told with it prove nothing.

use std::time::{Duration, Instant};

use aws_sdk_ec2::Client as Ec2;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{InstanceType, ResourceType, Tag, TagSpecification};
use aws_sdk_elasticloadbalancingv2 as elb;
use base64::Engine;
use serde_json::json;

use crate::emulator::Emulator;

fn ec2(emulator: &Emulator) -> Ec2 {
    let retry = aws_sdk_ec2::config::retry::RetryConfig::disabled();
    Ec2::from_conf(aws_sdk_ec2::config::Builder::from(&emulator.config()).retry_config(retry).build())
}

fn balancer(emulator: &Emulator) -> elb::Client {
    let retry = elb::config::retry::RetryConfig::disabled();
    elb::Client::from_conf(elb::config::Builder::from(&emulator.config()).retry_config(retry).build())
}

fn run(
    ec2: &Ec2,
    emulator: &Emulator,
) -> aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder {
    ec2.run_instances()
        .image_id(&emulator.world.base.ami)
        .instance_type(InstanceType::T3Small)
        .subnet_id(&emulator.world.subnets[0])
        .min_count(1)
        .max_count(1)
}

async fn state(ec2: &Ec2, id: &str) -> Option<String> {
    let there = ec2.describe_instances().instance_ids(id).send().await.ok()?;
    let state = there.reservations()[0].instances()[0].state()?.name()?;
    Some(state.as_str().to_owned())
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !look().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_instance_is_hidden_pending_running_and_the_same_token_is_the_same_instance() {
    let emulator = Emulator::start(json!({ "lag": 600, "boot": 600 }));
    let ec2 = ec2(&emulator);
    let first = run(&ec2, &emulator).client_token("one").send().await.unwrap();
    let id = first.instances()[0].instance_id().unwrap().to_owned();
    let hidden = ec2.describe_instances().instance_ids(&id).send().await.unwrap_err();
    assert_eq!(hidden.code(), Some("InvalidInstanceID.NotFound"));
    assert!(ec2.describe_instances().send().await.unwrap().reservations().is_empty());
    let again = run(&ec2, &emulator).client_token("one").send().await.unwrap();
    assert_eq!(again.instances()[0].instance_id(), Some(id.as_str()));
    let other = run(&ec2, &emulator).instance_type(InstanceType::T3aSmall).client_token("one").send().await;
    assert_eq!(other.unwrap_err().code(), Some("IdempotentParameterMismatch"));
    emulator.set(json!({ "lag": 0 }));
    assert_eq!(state(&ec2, &id).await.as_deref(), Some("pending"));
    emulator.set(json!({ "boot": 0 }));
    until("it is running", async || state(&ec2, &id).await.as_deref() == Some("running")).await;
    ec2.terminate_instances().instance_ids(&id).send().await.unwrap();
    assert_eq!(state(&ec2, &id).await.as_deref(), Some("shutting-down"));
    ec2.terminate_instances().instance_ids(&id).send().await.unwrap();
    until("it is terminated", async || state(&ec2, &id).await.as_deref() == Some("terminated")).await;
    assert!(emulator.living().is_empty());
}

#[tokio::test]
async fn a_target_is_initial_healthy_draining_and_gone_and_the_history_knows() {
    let emulator = Emulator::start(json!({ "lag": 0 }));
    let (ec2, balancer) = (ec2(&emulator), balancer(&emulator));
    let made = run(&ec2, &emulator).send().await.unwrap();
    let id = made.instances()[0].instance_id().unwrap().to_owned();
    let arn = emulator.world.target_groups["production"].clone();
    let target = elb::types::TargetDescription::builder().id(&id).build();
    let early = balancer.register_targets().target_group_arn(&arn).targets(target.clone()).send().await;
    assert_eq!(early.unwrap_err().code(), Some("InvalidTarget"));
    until("it is running", async || state(&ec2, &id).await.as_deref() == Some("running")).await;
    balancer.register_targets().target_group_arn(&arn).targets(target.clone()).send().await.unwrap();
    let seen = async || {
        let said = balancer.describe_target_health().target_group_arn(&arn).send().await.unwrap();
        let states = said.target_health_descriptions().iter();
        states
            .map(|one| one.target_health().unwrap().state().unwrap().as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen().await, ["initial"]);
    until("it is healthy", async || seen().await == ["healthy"]).await;
    emulator.sick(json!({ "instance": id }));
    assert_eq!(seen().await, ["unhealthy"]);
    emulator.well();
    balancer.deregister_targets().target_group_arn(&arn).targets(target.clone()).send().await.unwrap();
    assert_eq!(seen().await, ["draining"]);
    until("it is gone", async || seen().await.is_empty()).await;
    balancer.deregister_targets().target_group_arn(&arn).targets(target).send().await.unwrap();
    assert_eq!(emulator.lowest("production", 1), Some(0));
    assert_eq!(emulator.lowest("staging", 1), None);
}

#[tokio::test]
async fn faults_strike_whom_they_are_told_to() {
    let emulator = Emulator::start(json!({}));
    let (ec2, balancer) = (ec2(&emulator), balancer(&emulator));
    let all = emulator.rule(json!({ "every": 2, "fault": "throttle" }));
    for throttled in [false, true, false, true] {
        let asked = ec2.describe_images().send().await;
        assert_eq!(asked.is_err(), throttled, "{asked:?}");
        if let Err(error) = asked {
            assert_eq!(error.code(), Some("RequestLimitExceeded"));
        }
    }
    emulator.clear(all);
    emulator.rule(json!({ "operations": ["elasticloadbalancing:*"], "times": 1, "fault": "throttle" }));
    let asked = balancer.describe_target_groups().send().await;
    assert_eq!(asked.unwrap_err().code(), Some("Throttling"));
    balancer.describe_target_groups().send().await.unwrap();

    let full = json!({ "SubnetId": emulator.world.subnets[0], "InstanceType": "t3.*" });
    emulator.rule(json!({ "operations": ["RunInstances"], "match": full, "fault": "capacity" }));
    let refused = run(&ec2, &emulator).send().await;
    assert_eq!(refused.unwrap_err().code(), Some("InsufficientInstanceCapacity"));
    assert!(emulator.living().is_empty());

    emulator.clear_all();
    emulator.rule(json!({ "operations": ["RunInstances"], "nth": 1, "fault": "lost" }));
    let lost = run(&ec2, &emulator).client_token("lost").send().await.unwrap_err();
    assert!(lost.as_service_error().is_none(), "{lost:?}");
    assert_eq!(emulator.living().len(), 1);
    run(&ec2, &emulator).client_token("lost").send().await.unwrap();
    assert_eq!(emulator.living().len(), 1);

    let calls = emulator.calls();
    let lost = calls.iter().find(|call| call.status == Some(0)).unwrap();
    assert_eq!((lost.operation.as_str(), lost.fault.as_deref()), ("RunInstances", Some("lost")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_held_until_it_is_let_go() {
    let emulator = Emulator::start(json!({}));
    let ec2 = ec2(&emulator);
    let rule = emulator.rule(json!({ "operations": ["RunInstances"], "nth": 1, "fault": "block" }));
    let launch = tokio::spawn(run(&ec2, &emulator).send());
    assert_eq!(emulator.held(rule).operation, "RunInstances");
    assert_eq!(emulator.living().len(), 1);
    assert!(!launch.is_finished());
    emulator.clear(rule);
    launch.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_builder_runs_its_user_data_and_what_it_leaves_is_in_the_image() {
    let emulator = Emulator::start(json!({}));
    let ec2 = ec2(&emulator);
    let script = "#!/bin/sh\necho begin\nmkdir -p \"$WINDLASS_ROOT/opt/shop\"\necho 1 > \"$WINDLASS_ROOT/opt/shop/app\"\nsystemctl enable shop\nshutdown -h now\nsleep 1000\n";
    let tag = Tag::builder().key("windlass:image").value("sha256:1").build();
    let tags = TagSpecification::builder().resource_type(ResourceType::Instance).tags(tag).build();
    let made = run(&ec2, &emulator)
        .user_data(base64::engine::general_purpose::STANDARD.encode(script))
        .tag_specifications(tags)
        .send()
        .await
        .unwrap();
    let id = made.instances()[0].instance_id().unwrap().to_owned();
    until("it shuts itself down", async || state(&ec2, &id).await.as_deref() == Some("stopped")).await;
    let said = ec2.get_console_output().instance_id(&id).send().await.unwrap();
    let said = base64::engine::general_purpose::STANDARD.decode(said.output().unwrap()).unwrap();
    assert_eq!(said, b"begin\n");
    let builder = &emulator.state()["builders"][0];
    assert_eq!(builder["calls"], json!(["systemctl enable shop", "shutdown -h now"]));
    assert_eq!(builder["running"], json!([]), "it ends with its instance");

    let asked = ec2.create_image().instance_id(&id).name("shop-1").send().await.unwrap();
    let image = asked.image_id().unwrap();
    let twice = ec2.create_image().instance_id(&id).name("shop-1").send().await;
    assert_eq!(twice.unwrap_err().code(), Some("InvalidAMIName.Duplicate"));
    until("it is available", async || {
        let there = ec2.describe_images().image_ids(image).send().await;
        there.is_ok_and(|there| there.images()[0].state().unwrap().as_str() == "available")
    })
    .await;
    let made =
        emulator.state()["images"].as_array().unwrap().iter().find(|one| one["id"] == image).unwrap().clone();
    let content = std::path::Path::new(made["content"].as_str().unwrap()).join("opt/shop/app");
    assert_eq!(std::fs::read_to_string(content).unwrap(), "1\n");
}

#[tokio::test]
async fn a_group_launches_joins_and_replaces_unless_that_is_suspended() {
    let mut emulator = Emulator::start(json!({}));
    emulator.add(json!({ "target_group": "web", "group": "web", "size": 2 }));
    let config = emulator.config();
    let groups = aws_sdk_autoscaling::Client::new(&config);
    let arn = emulator.world.target_groups["web"].clone();
    let healthy = |state: &serde_json::Value| {
        let targets = state["target_groups"][&arn]["targets"].as_object().unwrap();
        let there: Vec<String> =
            targets.iter().filter(|(_, health)| *health == "healthy").map(|(id, _)| id.clone()).collect();
        (there.len() == 2).then_some(there)
    };
    let before = emulator.until("two are healthy", healthy);
    emulator.kill_instance(&before[0]);
    emulator.until("it is replaced", |state| healthy(state).filter(|now| !now.contains(&before[0])));

    groups
        .suspend_processes()
        .auto_scaling_group_name("web")
        .scaling_processes("Launch")
        .send()
        .await
        .unwrap();
    groups.set_desired_capacity().auto_scaling_group_name("web").desired_capacity(3).send().await.unwrap();
    let there = groups.describe_auto_scaling_groups().auto_scaling_group_names("web").send().await.unwrap();
    let group = &there.auto_scaling_groups()[0];
    assert_eq!(group.desired_capacity(), Some(3));
    assert_eq!(group.instances().len(), 2);
    groups
        .resume_processes()
        .auto_scaling_group_name("web")
        .scaling_processes("Launch")
        .send()
        .await
        .unwrap();
    emulator.until("a third comes", |state| {
        (state["groups"]["web"]["instances"].as_array().unwrap().len() == 3).then_some(())
    });
}
