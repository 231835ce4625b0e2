//! A schedule fires once for each instant, however the clock comes to it.

use std::fs;

use crate::shim::Clock;
use crate::support::{Signal, World, until};

const MINUTELY: &str = "\
name: tick
source: { git: ../source }
on: { schedule: { cron: '* * * * *', timezone: UTC } }
stages: { say: { steps: [{ run: echo now }] } }
";

/// Waits until that came of the instant.
fn until_it_is(world: &World, instant: &str, status: &str) {
    let id = format!("tick@{instant}");
    until(&format!("{id} is {status}"), || {
        let all = world.windlass(&["deliveries", "--json", "--limit", "1000"]).with(0).json();
        let found = all["deliveries"].as_array()?.iter().find(|delivery| delivery["id"] == *id)?;
        (found["status"] == status).then_some(())
    });
}

fn runs_of(world: &World) -> usize {
    world.runs().len()
}

#[test]
fn it_fires_once_when_the_clock_goes_forward_and_back_over_it() {
    let mut world = World::new();
    let clock = Clock::of(&mut world);
    fs::create_dir(world.directory.join("pipelines")).unwrap();
    fs::write(world.directory.join("pipelines/tick.yaml"), MINUTELY).unwrap();
    let fires = |to: &str, instant: &str, runs: usize| {
        clock.set(to);
        until_it_is(&world, instant, "handled");
        assert_eq!(runs_of(&world), runs, "{instant}");
    };
    clock.set("2027-03-02T12:00:50Z");
    let server = world.serve(&["--pipelines", "pipelines"]);
    fires("2027-03-02T12:00:58Z", "2027-03-02T12:01:00Z", 1);
    // Three hours forward: what it passes over is said and not fired.
    fires("2027-03-02T15:00:58Z", "2027-03-02T15:01:00Z", 2);
    until_it_is(&world, "2027-03-02T15:00:00Z", "ignored");
    // And back: the instant comes again, and the next one for the first time.
    clock.set("2027-03-02T12:00:58Z");
    until("it has come again", || (clock.now() > "2027-03-02T12:01:01Z".parse().unwrap()).then_some(()));
    fires("2027-03-02T12:01:58Z", "2027-03-02T12:02:00Z", 3);
    // One that was passed over before comes indeed.
    until_it_is(&world, "2027-03-02T14:00:00Z", "ignored");
    fires("2027-03-02T13:59:58Z", "2027-03-02T14:00:00Z", 4);
    // Four years too far, which nobody notices before the server has ended.
    fires("2031-03-02T12:00:58Z", "2031-03-02T12:01:00Z", 5);
    server.signal(Signal::TERM);
    server.ended().with(0);
    clock.set("2027-03-02T18:00:50Z");
    let server = world.serve(&["--pipelines", "pipelines"]);
    fires("2027-03-02T18:00:58Z", "2027-03-02T18:01:00Z", 6);
    server.signal(Signal::TERM);
    server.ended().with(0);
    world.end();
}
