//! Runs that give way, wait and go back: superseding, locks, rollbacks and quarantine.

use serde_json::Value;

use crate::support::{Traffic, World, image, is, stage, text};

#[test]
fn a_newer_run_takes_the_place_of_one_that_waits_at_the_gate() {
    let world = World::new();
    let at_the_gate = |run: &Value| run["status"] == "waiting";
    let first = world.run(&[]);
    world.until("shop/1", "it comes to the gate", at_the_gate);
    world.version(2);
    let second = world.run(&[]);
    // Its holder goes with the first run; the second goes on by itself.
    first.ended().with(1).says(&["shop/1 was superseded by shop/2"]);
    let superseded = world.show("shop/1");
    assert_eq!(
        (&superseded["status"], &superseded["superseded_by"]),
        (&"superseded".into(), &"shop/2".into())
    );
    assert_eq!(stage(&superseded, "production")["reason"], "shop/2 superseded it");
    world.windlass(&["show", "shop/1"]).with(0).says(&["by shop/2"]);
    second.says("going on with it");
    world.until("shop/2", "it comes to the gate", at_the_gate);
    world.windlass(&["promote", "shop/2", "production"]).with(0);
    second.ended().with(0);
    world.end();
}

#[test]
fn a_lock_says_who_holds_it_and_opens_for_whoever_waits() {
    let world = World::new();
    // Nobody holds the directory yet: the lock is there all the same.
    let lock = ["lock", "production/shop", "--as", "ada", "--reason", "the database moves"];
    world
        .windlass(&lock)
        .with(0)
        .says(&["production/shop is locked by ada", "windlass unlock production/shop"]);
    let run = world.run(&["--promote", "all"]);
    let waits = world.until("shop/1", "it waits for the lock", |run| {
        run["waiting_for"].as_str().is_some_and(|why| why.contains("locked by ada"))
    });
    let sentence = text(&waits["waiting_for"]);
    assert!(sentence.starts_with("waiting for shop-production: locked by ada at "), "{sentence}");
    assert!(sentence.ends_with("(the database moves); windlass unlock production/shop"), "{sentence}");
    let fleet = world.fleet("production");
    assert_eq!(
        (&fleet["lock"]["actor"], &fleet["waiting"][0]),
        (&"ada".into(), &format!("shop/1: {sentence}").into())
    );
    assert_eq!(world.fleet("staging")["waiting"], Value::Array(Vec::new()));
    world.windlass(&["lock", "production/shop", "--as", "bob", "--reason", "no"]).with(2).says(&["by ada"]);
    world.windlass(&["unlock", "production/shop", "--as", "bob"]).with(0).says(&["open again"]);
    run.ended().with(0);
    world.windlass(&["unlock", "production"]).with(2).says(&["production is not locked"]);
    world.end();
}

#[test]
fn a_rollback_under_traffic_loses_no_request_and_quarantines_what_it_leaves() {
    let world = World::new();
    world.windlass(&["rollback", "shop", "production"]).with(2).says(&["there is no fleet shop-production"]);
    let first = world.ship();
    world.windlass(&["rollback", "shop", "production"]).with(2).says(&["has nothing to go back to"]);
    world.version(2);
    let second = world.ship();
    let bad = image(&second);
    assert!(text(&world.fleet("production")["previous"]).starts_with("shop-1-"));

    let traffic = Traffic::on(world.production);
    traffic.goes_on(50);
    let back =
        world.windlass(&["rollback", "shop", "production", "--as", "ada", "--reason", "it burns"]).with(0);
    back.says(&["production promoted by ada", "rollback succeeded"]);
    let ships = &world.show("shop/3")["gates"][0]["ships"];
    assert_eq!((&ships["rollback"], &ships["running_image"]), (&true.into(), &bad.into()), "{ships:#}");
    traffic.goes_on(50);
    let seen = traffic.stop().without_failure();
    assert_eq!(seen.versions.keys().map(String::as_str).collect::<Vec<_>>(), ["1", "2"]);
    world.is_whole("production", image(&first), 3);
    let fleet = world.fleet("production");
    assert_eq!((&fleet["commit"], &fleet["previous"]), (&first["commit"], &Value::Null));
    let quarantine = &fleet["quarantined"][0];
    assert_eq!((&quarantine["image"], &quarantine["actor"]), (&bad.into(), &"ada".into()));
    assert_eq!(quarantine["reason"], "shop/3 rolled back from it: it burns");
    world.windlass(&["rollback", "shop", "production"]).with(2).says(&["has nothing to go back to"]);

    // The same commit makes the same image, which is refused.
    world.run(&["--promote", "all"]).ended().with(1).says(&["is in quarantine since", "windlass lift shop"]);
    let refused = world.show("shop/4");
    assert!(is(&refused, "bake", "failed") && stage(&refused, "bake")["cause"] == "policy", "{refused:#}");
    world.is_whole("production", image(&first), 3);
    world.windlass(&["lift", "shop", "nothing", "--reason", "x"]).with(2).says(&["is in quarantine"]);
    world.windlass(&["lift", "shop", bad, "--reason", "it was the weather"]).with(0);
    world.ship();
    world.is_whole("production", bad, 3);
    world.end();
}
