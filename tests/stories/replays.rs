//! What failed is done again in the same run, which then goes on; also when everything around it has
//! changed.

use std::fs;

use serde_json::{Value, json};

use crate::support::{World, edit, image, is, stage, text};

/// A world whose build fails until its param is good.
fn moody() -> World {
    let world = World::new();
    edit(&world.pipeline, "name: shop\n", "name: shop\nparams: { mood: { default: bad } }\n");
    let steps = "    steps:\n      - { name: Compile,";
    let moody = "    env: { MOOD: \"${{ params.mood }}\" }\n    steps:\n      - { name: Mood, run: test $MOOD = good }\n      - { name: Compile,";
    edit(&world.pipeline, steps, moody);
    world
}

fn attempts(view: &Value) -> Vec<(&str, u64)> {
    let stages = view["stages"].as_array().unwrap().iter();
    stages.map(|stage| (text(&stage["name"]), stage["attempts"].as_u64().unwrap())).collect()
}

#[test]
fn a_failed_run_is_mended_and_carries_on_to_production_also_through_a_crash() {
    let world = moody();
    world.run(&["--promote", "all"]).ended().with(1);
    assert!(is(&world.show("shop/1"), "build", "failed"));

    world.hold("build");
    let words = ["replay", "shop/1", "--failed", "--set", "params.mood=good", "--as", "hubot"];
    let replay = world.start(&words);
    world.until_written("build starts");
    assert!(is(&world.show("shop/1"), "build", "running"));
    replay.kill();
    assert!(text(&world.show("shop/1")["waiting_for"]).contains("windlass resume shop/1"));
    assert_eq!(world.runs()[0]["status"], "running");
    world.release("build");
    world.resume("shop/1").ended().with(0);

    let view = world.show("shop/1");
    assert_eq!((&view["status"], &view["params"]["mood"]), (&"succeeded".into(), &"good".into()));
    let wanted = ["checkout", "test", "build", "upload", "bake", "staging", "e2e", "certify", "production"];
    assert_eq!(attempts(&view), wanted.map(|name| (name, 1 + u64::from(name == "build"))));
    for step in ["test", "build", "provision", "e2e"] {
        assert_eq!(world.count(&format!("{step} starts")), 1, "{:?}", world.ledger());
    }
    let history: Vec<&Value> = stage(&view, "build")["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| &attempt["status"])
        .collect();
    assert_eq!(history, ["failed", "succeeded"]);
    let replay = &view["replays"][0];
    assert_eq!((&replay["actor"], &replay["edits"]), (&"hubot".into(), &json!(["params.mood=good"])));
    let said = ["hubot: --failed, with params.mood=good", "attempt 1 failed", "attempt 2"];
    world.windlass(&["show", "shop/1"]).with(0).says(&said);
    let instances = world.is_whole("production", image(&view), 3);

    // Weeks later: nothing that the run came from is there any more.
    fs::remove_dir_all(&world.repository.path).unwrap();
    fs::remove_dir_all(world.data.join("workspaces")).unwrap();
    fs::write(&world.pipeline, "not a pipeline").unwrap();
    let before = image(&view).to_owned();
    let replay = world.start(&["replay", "shop/1", "--from", "bake", "--as", "hubot"]);
    // What `--promote` said beforehand was for the first time.
    world.until("shop/1", "production's gate asks again", |view| view["status"] == "waiting");
    world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    replay.ended().with(0);
    let view = world.show("shop/1");
    assert_eq!((&view["status"], image(&view)), (&"succeeded".into(), before.as_str()));
    assert_eq!(world.count("provision starts"), 1, "the same image is not baked twice");
    assert_eq!((world.count("e2e starts"), world.count("build starts")), (2, 1));
    assert_eq!(world.is_whole("production", &before, 3), instances, "nothing had to be replaced");
    world.end();
}

#[test]
fn a_spent_promotion_is_asked_for_again_and_one_that_came_to_nothing_holds() {
    let world = World::new();
    let first = world.ship();
    world.sick_version(2);
    // Staging would find out; here it is not asked.
    edit(&world.pipeline, "  staging: { uses: deploy, needs: bake, environment: staging }\n", "");
    edit(&world.pipeline, "    needs: staging\n    environment: staging\n", "    needs: bake\n");
    edit(&world.pipeline, "check/check \"$WINDLASS_URL\"", "true");
    edit(&world.settings, "drain: 5s\n        strategy", "drain: 5s\n        patience: 2s\n        strategy");
    let driver = world.run(&[]);
    world.until("shop/2", "it comes to the gate", |view| view["status"] == "waiting");
    world.windlass(&["promote", "shop/2", "production", "--as", "octocat"]).with(0);
    driver.ended().with(1);
    assert_eq!(world.fleet("production")["image"], *image(&first));
    // No second click.
    world.windlass(&["replay", "shop/2", "--failed"]).with(1);
    let view = world.show("shop/2");
    assert_eq!(stage(&view, "production")["attempts"], 2);
    assert_eq!(world.fleet("production")["image"], *image(&first));

    // The first run has shipped: its promotion is spent.
    let replay = world.start(&["replay", "shop/1", "--stage", "production"]);
    world.until("shop/1", "it asks again", |view| view["status"] == "waiting");
    world.windlass(&["promote", "shop/1", "production", "--as", "hubot"]).with(0);
    replay.ended().with(0);
    let view = world.show("shop/1");
    assert_eq!((&view["gates"][0]["actor"], &view["status"]), (&"hubot".into(), &"succeeded".into()));
    world.end();
}

#[test]
fn a_test_of_another_image_says_nothing_and_names_the_replay_that_mends_it() {
    let world = World::new();
    let first = world.ship();
    world.version(2);
    world.ship();
    world.windlass(&["replay", "shop/1", "--stage", "e2e"]).with(1);
    let view = world.show("shop/1");
    let e2e = stage(&view, "e2e");
    assert_eq!((&e2e["status"], &e2e["cause"]), (&"failed".into(), &"policy".into()));
    assert!(text(&e2e["reason"]).contains("windlass replay shop/1 --from staging"), "{e2e:#}");
    assert_eq!(world.count("e2e starts"), 2, "it did not run");
    let replay = world.start(&["replay", "shop/1", "--from", "staging"]);
    // It may wait for staging before.
    let view = world.until("shop/1", "it comes to the gate", |view| is(view, "production", "waiting"));
    assert!(is(&view, "e2e", "succeeded") && is(&view, "certify", "succeeded"));
    assert_eq!(world.fleet("staging")["image"], *image(&first));
    world.windlass(&["cancel", "shop/1"]).with(0);
    replay.ended().with(1);
    world.end();
}
