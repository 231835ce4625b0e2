//! What is under way, or waits for a time, when the clock jumps.

use std::fs;

use serde_json::Value;

use crate::shim::{Clock, days, hours};
use crate::support::{Signal, World, edit, is, stage};

/// A world whose pipeline is this one.
fn with(stages: &str) -> (World, Clock) {
    let mut world = World::new();
    fs::write(&world.pipeline, format!("name: shop\nstages:\n{stages}")).unwrap();
    let clock = Clock::of(&mut world);
    (world, clock)
}

const HELD: &str = "  checkout: { uses: checkout }
  test: { needs: checkout, timeout: 5m, steps: [{ run: ./step test true }] }
  other: { needs: checkout, timeout: 5m, steps: [{ run: ./step other true }] }
";

/// Everything stands still, and when it goes on the clock shows another time.
fn sleeps(world: &World, clock: &Clock, wakes: jiff::SignedDuration) {
    let all = world.processes();
    all.iter().for_each(|process| crate::support::signal(process.pid, Signal::STOP));
    clock.jump(wakes);
    all.iter().for_each(|process| crate::support::signal(process.pid, Signal::CONT));
}

#[test]
fn a_step_outlasts_a_laptop_that_sleeps_and_a_clock_that_is_set_back_by_years() {
    let (world, clock) = with(HELD);
    world.hold("test");
    world.hold("other");
    let run = world.run(&["--json"]);
    world.until_written("test starts");
    world.until_written("other starts");
    sleeps(&world, &clock, hours(9));
    // What ends makes the run look at what goes on.
    world.release("other");
    let view = world.until("shop/1", "the other ends", |view| !is(view, "other", "running"));
    assert!(is(&view, "other", "succeeded") && is(&view, "test", "running"), "{view:#}");
    sleeps(&world, &clock, days(-20_000));
    world.windlass(&["show", "shop/1"]).with(0);
    world.release("test");
    let view = run.ended().with(0).json();
    assert_eq!((&view["status"], &stage(&view, "test")["attempts"]), (&"succeeded".into(), &1.into()));
    assert_eq!(world.count("test starts"), 1);
    world.windlass(&["show", "shop/1"]).with(0).says(&["succeeded"]);
    world.end();
}

#[test]
fn a_timeout_comes_in_its_time_though_the_clock_was_set_back() {
    let (world, clock) = with(&HELD.replace("5m", "4s"));
    world.hold("test");
    let run = world.run(&["--json"]);
    world.until_written("test starts");
    clock.jump(hours(-3));
    let view = run.ended().with(1).json();
    assert_eq!(stage(&view, "test")["cause"], "timeout");
    world.end();
}

#[test]
fn the_pause_before_a_retry_is_as_long_as_it_is() {
    let moody = "  test:
    retry: { attempts: 8, on: [task] }
    steps: [{ run: 'echo tried >>\"$STORY/ledger\"; test -e \"$STORY/good\"' }]
";
    let (world, clock) = with(moody);
    let run = world.run(&["--json"]);
    let attempts = |view: &Value| stage(view, "test")["attempts"].as_u64().unwrap();
    let paused = |view: &Value| is(view, "test", "retrying") && attempts(view) >= 2;
    let before = attempts(&world.until("shop/1", "it failed twice", paused));
    clock.jump(hours(-3));
    world.until("shop/1", "it failed again", |view| paused(view) && attempts(view) > before);
    fs::write(world.directory.join("good"), "").unwrap();
    clock.jump(days(-900));
    let view = run.ended().with(0).json();
    assert_eq!(world.count("tried") as u64, attempts(&view));
    world.end();
}

#[test]
fn a_run_that_waits_for_the_end_of_a_freeze_goes_in_when_the_clock_is_set_past_it() {
    let (world, clock) = with("  test: { environment: staging, steps: [{ run: ./step test true }] }\n");
    let freeze = "    group: qa\n    freeze: [{ from: \"2027-03-01 00:00\", to: \"2027-03-08 00:00\", \
                  timezone: Europe/Berlin, reason: stocktaking }]\n";
    edit(&world.settings, "    group: qa\n", freeze);
    edit(&world.pipeline, "stages:", "stages:\n  checkout: { uses: checkout }");
    edit(&world.pipeline, "{ environment", "{ needs: checkout, environment");
    clock.set("2027-03-03T12:00:00Z");
    let run = world.run(&["--json"]);
    let frozen = |why: &str| why.contains("frozen until Mon 2027-03-08 00:00") && why.contains("stocktaking");
    world.until("shop/1", "it waits", |view| view["waiting_for"].as_str().is_some_and(frozen));
    clock.set("2027-03-02T12:00:00Z");
    clock.set("2027-03-09T12:00:00Z");
    let view = run.ended().with(0).json();
    assert_eq!(view["status"], "succeeded");
    world.end();
}
