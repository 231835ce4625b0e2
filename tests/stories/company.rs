//! Several runs, and several who drive them, in one data directory.

use serde_json::Value;

use crate::support::{Signal, World, image, is, is_at, stage, text};

/// When the stage's rollout began and ended.
fn rollout(run: &Value, environment: &str) -> (String, String) {
    let deploy = stage(run, environment);
    (text(&deploy["started_at"]).to_owned(), text(&deploy["finished_at"]).to_owned())
}

#[test]
fn two_runs_at_once_take_turns() {
    let world = World::new();
    world.hold("staging");
    let first = world.run(&["--promote", "all"]);
    world.until("shop/1", "it swaps", |run| is_at(run, "staging", "Swap batch"));
    world.version(2);
    let second = world.run(&["--promote", "all"]);
    second.says("shop/2 is driven by process");
    let waits = world.until("shop/2", "it waits for staging", |run| run["status"] == "waiting");
    let sentence = text(&waits["waiting_for"]);
    assert!(sentence.starts_with("waiting for shop-staging: shop/1 is at “Swap batch 1 of 1”"), "{sentence}");
    assert!(is(&waits, "staging", "waiting"));
    assert_eq!(world.runs()[0]["waiting_for"], sentence);
    assert_eq!(world.fleet("staging")["held_by"], "shop/1");
    world.windlass(&["status"]).with(0).says(&[&format!("shop/2: {sentence}")]);

    world.release("staging");
    first.ended().with(0);
    second.ended().with(0);
    let (first, second) = (world.show("shop/1"), world.show("shop/2"));
    for environment in ["staging", "production"] {
        // RFC 3339 in UTC with the same precision sorts as text, and both end in Z.
        let (ended, began) = (rollout(&first, environment).1, rollout(&second, environment).0);
        assert!(ended.parse::<jiff::Timestamp>().unwrap() <= began.parse().unwrap(), "{ended} {began}");
    }
    world.is_whole("staging", image(&second), 1);
    world.is_whole("production", image(&second), 3);
    world.end();
}

#[test]
fn whoever_followed_takes_over_when_the_holder_is_killed() {
    let world = World::new();
    world.hold("test");
    let first = world.run(&["--promote", "all"]);
    world.until_written("test starts");
    world.version(2);
    let second = world.run(&["--promote", "all"]);
    second.says("shop/2 is driven by process");
    second.says("shop/2 begins");
    first.kill();
    second.says("going on with it");
    world.release("test");
    let ended = world.until("shop/2", "it waits or ends", |run| run["status"] != "running");
    assert_ne!(ended["status"], "failed", "{ended:#}");
    second.ended().with(0);
    // The first one held nothing, so nobody waited for it; and what it brings came before what runs.
    world.resume("shop/1").ended().with(1).says(&["shop/1 was superseded by shop/2"]);
    assert_eq!(world.show("shop/1")["superseded_by"], "shop/2");
    assert_eq!(world.fleet("production")["commit"], world.show("shop/2")["commit"]);
    world.end();
}

#[test]
fn a_fleet_held_by_the_dead_says_what_frees_it() {
    let world = World::new();
    world.hold("e2e");
    let first = world.run(&["--promote", "all"]);
    world.until("shop/1", "it is tested", |run| is(run, "e2e", "running"));
    first.kill();
    world.version(2);
    let second = world.run(&["--promote", "all"]);
    let waits = world.until("shop/2", "it waits for staging", |run| run["status"] == "waiting");
    let sentence = text(&waits["waiting_for"]);
    for words in ["waiting for shop-staging", "shop/1 holds it and was interrupted", "windlass resume shop/1"]
    {
        assert!(sentence.contains(words), "{sentence}");
    }
    world.windlass(&["down", "shop", "staging"]).with(2).says(&["shop/1 holds shop-staging"]);
    // What is typed then, in a second terminal: the first run is cancelled, and brought to its end.
    world.windlass(&["cancel", "shop/1"]).with(0).says(&["shop/1 was cancelled"]);
    world.release("e2e");
    second.ended().with(0);
    assert_eq!(world.show("shop/1")["status"], "cancelled");
    world.end();
}

#[test]
fn a_fleet_held_by_the_dead_is_freed_without_a_holder() {
    let world = World::new();
    world.hold("e2e");
    let first = world.run(&["--promote", "all"]);
    world.until("shop/1", "it is tested", |run| is(run, "e2e", "running"));
    first.kill();
    world.windlass(&["cancel", "shop/1"]).with(0).says(&["shop/1 was cancelled"]);
    assert_eq!(world.show("shop/1")["status"], "cancelled");
    assert_eq!(world.fleet("staging")["held_by"], Value::Null);
    assert!(world.processes().iter().all(|process| !process.carries("WINDLASS_STAGE", "e2e")));
    world.release("e2e");
    world.version(2);
    world.ship();
    world.end();
}

/// The first Ctrl-C cancels; what runs is ended.
#[test]
fn an_interrupted_run_is_cancelled() {
    let world = World::new();
    world.hold("test");
    let run = world.run(&["--promote", "all"]);
    world.until_written("test starts");
    run.signal(Signal::INT);
    run.ended().with(1).says(&["cancelling shop/1", "shop/1 was cancelled"]);
    let view = world.show("shop/1");
    assert_eq!(view["status"], "cancelled");
    assert_eq!(stage(&view, "test")["cause"], "cancelled");
    assert!(world.processes().iter().all(|process| !process.carries("WINDLASS_STAGE", "test")));
    assert_eq!(world.count("test is done"), 0);
    world.end();
}

/// A terminated process leaves the run where it is.
#[test]
fn a_terminated_run_is_left_for_somebody_to_resume() {
    let world = World::new();
    world.hold("test");
    let run = world.run(&["--promote", "all"]);
    world.until_written("test starts");
    run.signal(Signal::TERM);
    run.ended().with(3).says(&["left shop/1 before its end", "windlass resume shop/1"]);
    world.release("test");
    world.until_written("test is done");
    world.resume("shop/1").ended().with(0);
    assert_eq!(world.count("test starts"), 1);
    world.end();
}
