//! The same story in bad weather: throttling, answers that are lost, no capacity.

use serde_json::{Value, json};

use crate::story::{Pace, Story};
use crate::support::image;

/// Ships two versions in this weather, and sees that the end is the same.
fn shipped_in(rules: &[Value]) -> Story {
    let story = Story::new(2, Pace::Quick);
    for rule in rules {
        story.emulator.rule(rule.clone());
    }
    let first = story.world.ship();
    story.version(2);
    let second = story.world.ship();
    story.emulator.clear_all();
    story.is_whole("staging", image(&second), 1);
    story.is_whole("production", image(&second), 2);
    story.nothing_else(&[image(&first), image(&second)]);
    story.floor_was_kept();
    story
}

#[test]
fn one_request_in_three_is_throttled() {
    let story = shipped_in(&[json!({ "every": 3, "fault": "throttle" })]);
    let throttled = story.emulator.calls().iter().filter(|call| call.fault.is_some()).count();
    println!("{throttled} of {} requests were throttled", story.emulator.calls().len());
    assert!(throttled > 10);
    story.end();
}

/// Everything that makes, changes or ends something is carried out, and its first answers are lost.
#[test]
fn answers_are_lost_after_the_request_was_taken() {
    let acts = [
        "RunInstances",
        "TerminateInstances",
        "StopInstances",
        "CreateImage",
        "CreateTags",
        "RegisterTargets",
        "DeregisterTargets",
        "PutObject",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
    ];
    let lost = |act: &&str| json!({ "operations": [act], "every": 2, "times": 3, "fault": "lost" });
    let mut rules: Vec<Value> = acts.iter().map(lost).collect();
    rules.push(json!({ "operations": ["CreateImage"], "nth": 1, "fault": "lost" }));
    let story = shipped_in(&rules);
    let lost = story.emulator.calls().iter().filter(|call| call.fault.as_deref() == Some("lost")).count();
    println!("{lost} answers were lost");
    assert!(lost > 5);
    story.end();
}

#[test]
fn one_subnet_has_no_capacity_and_one_type_has_none_anywhere() {
    let story = Story::new(2, Pace::Quick);
    let subnet = &story.emulator.world.subnets[1];
    let rule = |fits: Value| json!({ "operations": ["RunInstances"], "match": fits, "fault": "capacity" });
    story.emulator.rule(rule(json!({ "SubnetId": subnet })));
    let first = story.world.ship();
    story.is_whole("production", image(&first), 2);
    let refused = |story: &Story| story.emulator.calls().iter().filter(|call| call.fault.is_some()).count();
    assert!(refused(&story) > 0, "nobody tried the subnet");
    for member in story.members("production") {
        assert_ne!(member["subnet"], subnet.as_str());
    }
    story.end();
}
