//! A whole small run - clone, build, upload, bake, deploy - whose k-th write to the data directory and all
//! after it fail, in whichever process; then the disk is good again.
//!
//! An ordinary test takes some ks. All are tried by
//! `WINDLASS_EVERY_WRITE=1 cargo test --test disk every_write`, which takes an hour; a number instead of 1 is
//! the step from one k to the next.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde_json::Value;

use crate::shim::{Disk, Processes};
use crate::sound::is_sound;
use crate::support::{World, text, until};

/// How long the disk stays bad at the longest, while nothing more is written and the run goes on.
const BAD: Duration = Duration::from_millis(700);

/// How many writes a run has: what is later happens when it is over.
fn writes_of_a_run() -> u64 {
    let (world, disk) = world();
    let processes = Processes::start(&world);
    let before = disk.writes();
    world.run(&[]).ended().with(0);
    let writes = disk.writes() - before;
    drop(processes);
    world.end();
    writes
}

fn world() -> (World, Disk) {
    let mut world = World::of("tiny");
    let disk = Disk::under(&mut world);
    (world, disk)
}

fn failure(run: &Value) -> Option<(&str, &str)> {
    let failed = run["stages"].as_array()?.iter().find(|stage| stage["status"] == "failed")?;
    Some((text(&failed["cause"]), text(&failed["reason"])))
}

/// What is said of it, besides that it is so.
fn words(how: Errno) -> &'static str {
    match how {
        Errno::NOSPC => "full: free some space",
        Errno::ROFS => "the file system is read-only",
        _ => "Input/output error",
    }
}

fn story(k: u64, how: Errno) -> &'static str {
    let (world, disk) = world();
    let processes = Processes::start(&world);
    disk.fails_at(k, how);
    let run = world.run(&["--json"]);
    until("a write fails, or the run is over", || (disk.failed() > 0 || run.is_over()).then_some(()));
    let (since, many) = (Instant::now(), 3 + k % 7);
    until("more fail", || (run.is_over() || disk.failed() >= many || since.elapsed() > BAD).then_some(()));
    // Whoever looks gets an answer, whatever the disk does.
    world.windlass(&["runs"]).with(0);
    world.windlass(&["status"]).with(0);
    disk.is_good();

    let ended = run.ended();
    let end = match ended.code {
        // There was no run yet; the next one is one like any other.
        Some(3) => {
            let told =
                ["os error", "No space left on device", "is full; nothing was lost", "Input/output error"];
            assert!(told.iter().any(|words| ended.err.contains(words)), "{}", ended.err);
            assert!(!ended.err.contains("panicked"), "{}", ended.err);
            world.run(&["--json"]).ended().with(0);
            "refused"
        }
        Some(0) => {
            assert_eq!(world.count("build"), 1, "no step is done twice: {:?}", world.ledger());
            "succeeded"
        }
        _ => {
            let view = ended.json();
            let (cause, reason) = failure(&view).unwrap();
            assert_eq!(cause, "infrastructure", "{reason}");
            assert!(reason.contains(words(how)), "{reason}");
            if how == Errno::NOSPC {
                assert!(reason.contains("windlass replay shop/1"), "{reason}");
            }
            world.windlass(&["replay", "shop/1", "--failed"]).with(0);
            world.until("shop/1", "the replay succeeds", |run| {
                assert_ne!(run["status"], "failed", "{run:#}");
                run["status"] == "succeeded"
            });
            "failed"
        }
    };
    world.until_whole("staging", 1);
    is_sound(&world.data);
    drop(processes);
    world.end();
    end
}

#[test]
fn every_write_may_find_the_disk_full() {
    let writes = writes_of_a_run();
    let chosen = std::env::var("WINDLASS_EVERY_WRITE").ok().and_then(|step| step.parse().ok());
    let step = chosen.unwrap_or(writes.div_ceil(9));
    let mut ends = std::collections::BTreeMap::<_, u64>::new();
    // Not the round numbers alone.
    for k in (1 + step / 3..=writes).step_by(usize::try_from(step).unwrap()) {
        println!("write {k} of {writes}");
        *ends.entry(story(k, Errno::NOSPC)).or_default() += 1;
    }
    println!("{ends:?} of {writes} writes");
    assert!(ends.values().sum::<u64>() >= 5, "{ends:?}");
}

#[test]
fn a_disk_with_errors_and_one_that_became_read_only_are_no_worse() {
    for (k, how) in [(20, Errno::IO), (330, Errno::IO), (250, Errno::ROFS)] {
        println!("write {k}: {how}");
        story(k, how);
    }
}
