//! Rollouts that do not come to their end: production stays where it was, and nobody notices.

use serde_json::Value;

use crate::support::{Traffic, World, edit, get, image, is_at, stage, text};

/// Ships version 1 and puts traffic on it; then whatever `happens` must leave it as it was.
fn nobody_notices(happens: impl FnOnce(&World, &Traffic)) {
    let world = World::new();
    let first = world.ship();
    let serving = world.is_whole("production", image(&first), 3);
    let traffic = Traffic::on(world.production);
    traffic.goes_on(20);
    happens(&world, &traffic);
    traffic.goes_on(50);
    traffic.stop().without_failure();

    // Those that were not swapped are the ones from before.
    let back = world.is_whole("production", image(&first), 3);
    let view = world.show("shop/2");
    assert!(back.iter().any(|id| serving.contains(id)), "{serving:?} {back:?}");
    assert!(get(world.production, "/").unwrap().starts_with("version 1 "));
    // The next good one goes in.
    world.version(3);
    let third = world.ship();
    let after = world.is_whole("production", image(&third), 3);
    assert!(after.iter().all(|id| !back.contains(id)));
    assert_ne!(view["status"], "succeeded");
    world.end();
}

/// A rollout that turned back says so, everywhere.
fn says_why(world: &World, run: &str, stage_name: &str, cause: &str, why: &[&str]) -> Value {
    let view = world.show(run);
    let failed = stage(&view, stage_name);
    assert_eq!((&failed["status"], &failed["cause"]), (&"failed".into(), &cause.into()), "{failed:#}");
    for words in why {
        assert!(text(&failed["reason"]).contains(words), "{failed:#}");
    }
    world.windlass(&["show", run]).with(0).says(why).says(&[&format!("({cause})")]);
    view
}

#[test]
fn a_version_that_is_not_well_does_not_go_in() {
    nobody_notices(|world, _| {
        // Staging takes what comes: the settings there ask for another page.
        edit(&world.settings, "size: 1", "patience: 10s\n        size: 1");
        let staging = "health: { path: /healthz, interval: 100ms, healthy: 2, unhealthy: 2 }\n        drain: 5s\n        env: { GREETING: rehearsal";
        edit(&world.settings, staging, &staging.replace("/healthz", "/"));
        edit(&world.settings, "size: 3", "size: 3\n        patience: 1s");
        world.sick_version(2);
        let failed = world.run(&["--promote", "all"]).ended().with(1);
        failed.says(&["shop/2 failed", "did not go in", "shop-production is back on shop-1-"]);
        let why = ["did not go in", "was not healthy 1 s after its launch", "503"];
        says_why(world, "shop/2", "production", "task", &why);
        edit(&world.settings, "patience: 1s", "patience: 30s");
    });
}

#[test]
fn a_version_that_ends_by_itself_does_not_go_in() {
    nobody_notices(|world, _| {
        let text = "#!/bin/sh\n[ \"$WINDLASS_ENVIRONMENT\" = production ] && echo 'no such database' >&2 && exit 7\nexec ./shop\n";
        let start = std::fs::read_to_string(world.repository.path.join("start")).unwrap();
        world.repository.write_program("start", text);
        world.version(2);
        world.run(&["--promote", "all"]).ended().with(1);
        let why = ["did not go in", "exit code 7", "no such database"];
        says_why(world, "shop/2", "production", "task", &why);
        world.repository.write_program("start", &start);
    });
}

#[test]
fn a_cancelled_rollout_goes_back() {
    nobody_notices(|world, traffic| {
        world.version(2);
        world.hold("production-2");
        let run = world.run(&["--promote", "all"]);
        run.says("production: Swap batch 2 of 3");
        world.until_written("shop-production-2");
        traffic.goes_on(20);
        let cancel = ["cancel", "shop/2", "--as", "octocat", "--reason", "wrong day"];
        world.windlass(&cancel).with(0).says(&["shop/2 is being cancelled"]);
        run.ended().with(1).says(&["shop/2 was cancelled", "octocat"]);
        let view = world.show("shop/2");
        assert_eq!(view["status"], "cancelled");
        assert_eq!(view["cancelled_by"], "octocat: wrong day");
        let production = stage(&view, "production");
        assert!(text(&production["reason"]).contains("shop-production is back on shop-1-"), "{production:#}");
        world.release("production-2");
    });
}

#[test]
fn a_rollout_that_is_cancelled_while_nobody_drives_it_goes_back() {
    nobody_notices(|world, _| {
        world.version(2);
        world.hold("production-2");
        let run = world.run(&["--promote", "all"]);
        run.says("production: Swap batch 2 of 3");
        run.kill();
        let cancelled = world.windlass(&["cancel", "shop/2", "--as", "octocat"]).with(0);
        cancelled.says(&["shop/2 was cancelled"]);
        assert_eq!(world.show("shop/2")["status"], "cancelled");
        world.release("production-2");
    });
}

#[test]
fn a_rollout_past_its_timeout_goes_back() {
    nobody_notices(|world, _| {
        let production = "production: { uses: deploy, ";
        edit(&world.pipeline, production, &format!("{production}timeout: 2s, "));
        world.version(2);
        world.hold("production-2");
        world.run(&["--promote", "all"]).ended().with(1);
        says_why(world, "shop/2", "production", "timeout", &["the stage's timeout passed", "is back on"]);
        world.release("production-2");
        edit(&world.pipeline, "timeout: 2s, ", "");
    });
}

/// Turning back is recorded before it is done: whoever resumes does not go forward again.
#[test]
fn a_rollout_that_is_killed_on_its_way_back_goes_back() {
    nobody_notices(|world, _| {
        world.version(2);
        world.hold("production-2");
        let run = world.run(&["--promote", "all"]);
        run.says("production: Swap batch 2 of 3");
        world.until_written("shop-production-2");
        // The old one that is launched again for the new one that went in already.
        world.hold("production");
        world.windlass(&["cancel", "shop/2"]).with(0);
        world.until("shop/2", "it goes back", |run| is_at(run, "production", "Roll back"));
        run.kill();
        world.release("production");
        world.release("production-2");
        world.resume("shop/2").ended().with(1);
        assert_eq!(world.show("shop/2")["status"], "cancelled");
    });
}

#[test]
fn a_first_rollout_that_fails_leaves_nothing() {
    let world = World::new();
    edit(&world.settings, "size: 1", "patience: 1s\n        size: 1");
    world.sick_version(1);
    world.run(&["--promote", "all"]).ended().with(1);
    let why = ["did not go in", "shop-staging has no instances, as before", "503"];
    let view = says_why(&world, "shop/1", "staging", "task", &why);
    assert_eq!(stage(&view, "production")["status"], "skipped");
    assert_eq!(world.living("staging"), [""; 0]);
    assert_eq!(get(world.staging, "/").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let fleet = world.fleet("staging");
    assert!(fleet.is_null() || fleet["instances"].as_array().unwrap().is_empty(), "{fleet:#}");

    edit(&world.settings, "patience: 1s", "patience: 30s");
    world.version(2);
    let second = world.ship();
    world.is_whole("staging", image(&second), 1);
    world.is_whole("production", image(&second), 3);
    world.end();
}
