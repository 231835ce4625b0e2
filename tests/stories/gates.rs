//! Production waits for a decision, and says what it would ship.

use serde_json::{Value, json};

use crate::support::{Foreground, World, image, is, stage, text};

/// Starts a run of the last commit, and waits until it stands at production's gate.
fn at_the_gate(world: &World, run: &str) -> (Foreground, Value) {
    let driver = world.run(&[]);
    let view = world.until(run, "it comes to the gate", |view| view["status"] == "waiting");
    (driver, view)
}

fn gate(view: &Value) -> &Value {
    let gates = view["gates"].as_array().unwrap();
    gates.iter().find(|gate| gate["environment"] == "production").unwrap()
}

#[test]
fn what_waits_says_why_and_goes_on_when_somebody_promotes_it() {
    let world = World::new();
    let (driver, view) = at_the_gate(&world, "shop/1");
    let sentence = "waiting for somebody to promote it to production: windlass promote shop/1 production";
    assert_eq!(view["waiting_for"], sentence);
    assert_eq!(stage(&view, "production")["status"], "waiting");
    assert_eq!(stage(&view, "production")["waiting_for"], sentence);
    assert_eq!(world.runs()[0]["status"], "waiting");
    assert_eq!(world.runs()[0]["waiting_for"], sentence);
    for command in [&["show", "shop/1"][..], &["runs"], &["status"]] {
        world.windlass(command).with(0).says(&["waiting for somebody to promote it to production"]);
    }
    assert_eq!((&gate(&view)["status"], &gate(&view)["actor"]), (&"waiting".into(), &Value::Null));

    let not_there = world.windlass(&["promote", "shop/1", "staging"]).with(2);
    not_there.says(&["shop/1 does not stand at the gate of staging"]);
    world.windlass(&["promote", "shop/1", "nowhere"]).with(2).says(&["nowhere"]);
    world.windlass(&["promote", "shop/9", "production"]).with(2).says(&["there is no run shop/9"]);
    assert_eq!(world.show("shop/1")["status"], "waiting");

    let promote = ["promote", "shop/1", "production", "--as", "octocat"];
    let promoted = world.windlass(&promote).with(0);
    promoted.says(&["shop/1 is promoted to production by octocat", "nothing runs in production yet"]);
    driver.says("production promoted by octocat");
    driver.ended().with(0);
    let view = world.show("shop/1");
    assert_eq!((&gate(&view)["status"], &gate(&view)["actor"]), (&"promoted".into(), &"octocat".into()));

    // Too late for another word.
    world.windlass(&promote).with(2).says(&["shop/1 has ended already"]);
    world.end();
}

#[test]
fn the_second_promotion_is_refused() {
    let world = World::new();
    let (driver, _) = at_the_gate(&world, "shop/1");
    world.hold("production");
    world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    let again = world.windlass(&["promote", "shop/1", "production", "--as", "hubot"]).with(2);
    again.says(&["shop/1 does not stand at the gate of production", "octocat promoted it"]);
    let late = world.windlass(&["reject", "shop/1", "production", "--reason", "no"]).with(2);
    late.says(&["octocat promoted it"]);
    world.release("production");
    driver.ended().with(0);
    world.end();
}

#[test]
fn what_is_rejected_fails_by_policy() {
    let world = World::new();
    let (driver, _) = at_the_gate(&world, "shop/1");
    let reject = ["reject", "shop/1", "production", "--as", "octocat", "--reason"];
    world.windlass(&[&reject[..], &[" "]].concat()).with(2).says(&["a reason is needed"]);
    let rejected = world.windlass(&[&reject[..], &["the shop is closed today"]].concat()).with(0);
    rejected.says(&["shop/1 is kept out of production by octocat"]);
    driver.ended().with(1).says(&["the shop is closed today"]);
    let view = world.show("shop/1");
    assert_eq!(view["status"], "failed");
    let production = stage(&view, "production");
    assert_eq!((&production["status"], &production["cause"]), (&"failed".into(), &"policy".into()));
    assert!(text(&production["reason"]).contains("octocat rejected production: the shop is closed today"));
    assert_eq!(gate(&view)["reason"], "the shop is closed today");
    assert_eq!(world.living("production"), [""; 0]);
    world.end();
}

#[test]
fn the_gate_says_what_it_ships() {
    let world = World::new();
    let first = world.ship();
    world.repository.write("README", "A shop.\n");
    world.repository.commit_as("Ada Lovelace", "Say what this is");
    let commit = world.version(2);
    let (driver, view) = at_the_gate(&world, "shop/2");

    let ships = &gate(&view)["ships"];
    let shipped = |commit: &Value| json!([commit["author"], commit["subject"]]);
    let commits: Vec<Value> = ships["commits"].as_array().unwrap().iter().map(shipped).collect();
    assert_eq!(commits.len(), 2, "{ships:#}");
    assert!(text(&commits[0][0]).contains("Octo Cat") && commits[0][1] == "Greet as version 2", "{ships:#}");
    assert!(text(&commits[1][0]).contains("Ada Lovelace") && commits[1][1] == "Say what this is");
    assert_eq!(ships["commits"][0]["sha"], *commit);
    assert_eq!(ships["files"], json!(["README", "src/version.h"]));
    assert_eq!(
        (&ships["running_image"], &ships["running_commit"]),
        (&image(&first).into(), &first["commit"])
    );
    assert_eq!(ships["rollback"], false);
    assert_eq!(ships["image"]["id"], image(&view));
    let said = ["Ada Lovelace", "Say what this is", "Greet as version 2", "src/version.h", image(&first)];
    world.windlass(&["show", "shop/2"]).with(0).says(&said);
    driver.says("to ship it: windlass promote shop/2 production");
    world.windlass(&["promote", "shop/2", "production"]).with(0).says(&said);
    driver.ended().with(0);
    world.end();
}

#[test]
fn promoting_what_is_older_is_called_going_back() {
    let world = World::new();
    let first = world.ship();
    world.version(2);
    let second = world.ship();
    let older = text(&first["commit"]);
    let driver = world.run(&["--commit", older]);
    // Nothing older goes in by itself, not even where nobody asks for a promotion.
    let why = "its commit is older than what staging runs: promoting it takes staging back";
    let sentence =
        format!("waiting for somebody to promote it to staging: windlass promote shop/3 staging ({why})");
    world.until("shop/3", "it asks for staging", |view| view["waiting_for"] == *sentence);
    world.windlass(&["promote", "shop/3", "staging"]).with(0).says(&["this takes staging back"]);
    let at_production =
        |view: &Value| view["waiting_for"].as_str().is_some_and(|why| why.contains("production"));
    let view = world.until("shop/3", "it comes to the gate", at_production);
    assert_eq!(gate(&view)["ships"]["rollback"], true, "{:#}", gate(&view));
    assert_eq!(gate(&view)["ships"]["running_commit"], second["commit"]);
    driver.says("this takes production back");
    let promoted = world.windlass(&["promote", "shop/3", "production"]).with(0);
    promoted.says(&["this takes production back"]);
    driver.ended().with(0);
    assert_eq!(world.fleet("production")["commit"], *older);
    world.end();
}

/// A cancelled run at a gate is over at once, and nothing was shipped.
#[test]
fn a_run_at_a_gate_can_be_cancelled() {
    let world = World::new();
    let (driver, _) = at_the_gate(&world, "shop/1");
    world.windlass(&["cancel", "shop/1", "--as", "octocat"]).with(0);
    driver.ended().with(1);
    let view = world.show("shop/1");
    assert_eq!(view["status"], "cancelled");
    assert!(is(&view, "production", "skipped") && is(&view, "e2e", "succeeded"));
    world.end();
}
