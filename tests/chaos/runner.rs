//! The runner is killed, alone or with everything else: the cause is named, the policy of the pipeline
//! decides, and nothing of what was lost goes on.

use crate::checks::{Killed, all_is_well};
use crate::ground::{Ground, RETRY};
use crate::kills;
use crate::support::{Process, kill, stage, until};

/// Leaves processes behind in every way there is: in a session of their own, orphaned, without their
/// environment, without the step's output.
const STRAY: &str = r#"#!/bin/sh
[ "$WINDLASS_STAGE" = right ] || exit 0
loop='while :; do sleep 0.2; done'
setsid sh -c "$loop" "$STORY/stray-session" >/dev/null 2>&1 &
(setsid sh -c "$loop" "$STORY/stray-orphan" >/dev/null 2>&1 &)
env -i setsid sh -c "$loop" "$STORY/stray-bare" &
(env -i setsid sh -c "$loop" "$STORY/stray-gone" </dev/null >/dev/null 2>&1 &)
exit 0
"#;

/// Waits until the runner has something to lose.
fn until_steps_run(ground: &mut Ground) {
    until("steps run", || {
        ground.promote();
        if ground.of_steps().is_empty() {
            ground.send();
        }
        (!ground.of_steps().is_empty()).then_some(())
    });
}

/// Waits until none of them is left.
fn until_gone(ground: &Ground, lost: &[Process]) {
    until("what was lost has ended", || {
        let there = ground.world.processes();
        (!there.iter().any(|process| lost.contains(process))).then_some(())
    });
}

/// Whatever a step left, and however that went away: it is gone when its runner is.
#[test]
fn nothing_hides_when_the_runner_dies() {
    let mut ground = Ground::new("nothing hides when the runner dies", RETRY);
    ground.stray(STRAY);
    ground.serve();
    ground.send();
    let lost = until("a step leaves its processes", || {
        let there = ground.of_steps();
        let hidden = |name: &str| there.iter().any(|p| p.words.iter().any(|word| word.ends_with(name)));
        let all =
            ["stray-session", "stray-orphan", "stray-bare", "stray-gone"].iter().all(|name| hidden(name));
        all.then_some(there)
    });
    assert_eq!(ground.kill("runner"), 1);
    until_gone(&ground, &lost);
    ground.settle();
    let right = ground.world.show("counting/1");
    let right = stage(&right, "right");
    assert_eq!((&right["status"], &right["attempts"]), (&"succeeded".into(), &2.into()), "{right:#}");
    all_is_well(&mut ground, Killed::Runner);
    ground.leave();
}

#[test]
fn the_runner_killed_again_and_again() {
    let mut ground = Ground::new("the runner killed again and again", RETRY);
    ground.stray(STRAY);
    ground.serve();
    while ground.kills < kills(5) {
        until_steps_run(&mut ground);
        ground.dice.pause(600);
        let lost = ground.of_steps();
        ground.kill("runner");
        until_gone(&ground, &lost);
        if ground.dice.chance(20) {
            // A new one may just be recovering.
            ground.dice.pause(30);
            ground.kill("runner");
        }
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Runner);
    println!("{} kills, {} deliveries", ground.kills, ground.sent.len());
    ground.leave();
}

/// The runner dies, and nobody is there to see it.
#[test]
fn server_and_runner_killed_at_the_same_moment() {
    let mut ground = Ground::new("server and runner killed at the same moment", RETRY);
    ground.stray(STRAY);
    while ground.kills < kills(4) {
        ground.serve();
        until_steps_run(&mut ground);
        ground.dice.pause(600);
        let lost = ground.of_steps();
        match ground.dice.below(3) {
            // The machine loses its power: steps too.
            0 => {
                ground.kill("runner");
                ground.kill_server();
                ground.world.processes().iter().for_each(|process| kill(process.pid));
            }
            1 => {
                ground.kill_server();
                ground.kill("runner");
            }
            _ => {
                ground.kill("runner");
                ground.kill_server();
            }
        }
        ground.serve();
        until_gone(&ground, &lost);
    }
    ground.settle();
    all_is_well(&mut ground, Killed::Runner);
    println!("{} kills, {} deliveries", ground.kills, ground.sent.len());
    ground.leave();
}
