//! Killed with SIGKILL at a request that AWS carried out and nobody heard the answer of, and started
//! again, over and over: in the end there is one image, one fleet, and nothing that nobody explains.

use std::time::Duration;

use serde_json::json;

use crate::emulator::{Call, Rule};
use crate::story::{Pace, Story};
use crate::support::{Foreground, image, stage};

/// So often at most: then it may come to its end.
const KILLS: usize = 20;

/// With it, every single request of a run is one at which it is killed, each in a run of its own:
/// hours.
const ALL: &str = "WINDLASS_EVERY_KILL";

/// Waits until the rule holds a request, or the program has come to its end.
fn held(story: &Story, rule: Rule, driver: &Foreground) -> Option<Call> {
    loop {
        if let Some(call) = story.emulator.held_within(rule, Duration::from_millis(200)) {
            return Some(call);
        }
        if driver.is_over() {
            return None;
        }
    }
}

/// The first version ships in peace. The run of the second is killed at its `first`-th request, and
/// whoever resumes it at every `next`-th, so often.
fn killed(first: usize, next: usize, times: usize) -> usize {
    let story = Story::new(2, Pace::Quick);
    let before = story.world.ship();
    story.version(2);
    let mut at: Vec<String> = Vec::new();
    while at.len() < times {
        let nth = if at.is_empty() { first } else { next };
        let rule = story.emulator.rule(json!({ "nth": nth, "fault": "block" }));
        let driver = match at.is_empty() {
            true => story.world.run(&["--promote", "all"]),
            false => story.world.resume("shop/2"),
        };
        let call = held(&story, rule, &driver);
        driver.kill();
        story.emulator.clear(rule);
        match call {
            Some(call) => at.push(call.operation),
            None => break,
        }
    }
    println!("killed {} times, at: {}", at.len(), at.join(" "));
    if story.world.show("shop/2")["status"] != "succeeded" {
        story.world.resume("shop/2").ended().with(0);
    }
    let view = story.world.show("shop/2");
    for stage in view["stages"].as_array().unwrap() {
        assert_eq!((&stage["status"], &stage["attempts"]), (&json!("succeeded"), &json!(1)), "{stage:#}");
    }
    assert_eq!(stage(&view, "bake")["status"], "succeeded");
    story.is_whole("staging", image(&view), 1);
    story.is_whole("production", image(&view), 2);
    story.nothing_else(&[image(&before), image(&view)]);
    story.floor_was_kept();
    story.end();
    at.len()
}

#[test]
fn killed_over_and_over_from_the_bake_on() {
    assert!(killed(3, 7, KILLS) > 3);
}

#[test]
fn killed_over_and_over_a_little_later() {
    assert!(killed(6, 13, KILLS) > 3);
}

#[test]
fn killed_at_every_request() {
    if std::env::var_os(ALL).is_none() {
        println!("with {ALL}=1 this kills at every request, each in a run of its own");
        return;
    }
    let mut first = 1;
    while killed(first, 1, 1) == 1 {
        first += 1;
    }
    assert!(first > 30, "only {first} requests?");
}
