//! What an operator can do while the disk is full, and what goes on by itself when there is space.

use std::fs;

use rustix::io::Errno;

use crate::shim::{Disk, Processes};
use crate::small::{Small, may_mount};
use crate::sound::is_sound;
use crate::support::{World, edit, get, is, stage, text, until};

/// A world whose first step is held after it has said that it began.
fn held() -> World {
    let world = World::of("tiny");
    edit(
        &world.pipeline,
        r#"echo build >> "$STORY/ledger"; echo counted"#,
        r#"echo build >> "$STORY/ledger"; while [ -e "$STORY/hold-build" ]; do sleep 0.02; done"#,
    );
    world.hold("build");
    world
}

#[test]
fn a_full_disk_is_shown_and_a_run_can_be_cancelled_on_it() {
    let mut world = held();
    if !may_mount() {
        // The preloaded library knows of no reserve: there the refusal is the promise.
        let disk = Disk::under(&mut world);
        let _processes = Processes::start(&world);
        let run = world.run(&["--json"]);
        world.until_written("build");
        disk.fails_at(1, Errno::NOSPC);
        world.windlass(&["show", "shop/1"]).with(0);
        world.windlass(&["cancel", "shop/1"]).with(3).says(&["is full"]);
        disk.is_good();
        world.windlass(&["cancel", "shop/1"]).with(0);
        run.ended().with(1);
        return world.end();
    }
    let disk = Small::under(&world, 32);
    let serve = world.serve(&["--config", world.settings.to_str().unwrap()]);
    let at = serve.says(" at http://");
    let port: u16 = at.rsplit_once(':').unwrap().1.trim().parse().unwrap();
    let run = world.run(&["--json"]);
    world.until_written("build");
    disk.fill();
    let said = world.windlass(&["status"]).with(0);
    assert!(said.err.contains("disk full"), "{said:?}");
    let ready = get(port, "/readyz").unwrap_err().to_string();
    assert!(ready.contains("the disk is full"), "{ready}");
    assert!(is(&world.show("shop/1"), "build", "running"));

    // Recorded in room that was kept ahead, and carried out.
    world.windlass(&["cancel", "shop/1", "--reason", "no room"]).with(0);
    let ended = run.ended().with(1).json();
    assert_eq!(ended["status"], "cancelled", "{ended:#}");
    assert_eq!(world.show("shop/1")["status"], "cancelled");
    disk.free();
    is_sound(&world.data);
    drop(serve);
    world.end();
}

#[test]
fn a_step_that_fills_the_disk_fails_for_that_and_what_comes_next_waits_for_room() {
    if !may_mount() {
        // Whoever cannot mount has the same cause from every write of `writes.rs`.
        return;
    }
    let world = World::of("tiny");
    // It says nothing: a log that cannot be written is another story.
    let greedy =
        r#"[ ! -e "$STORY/hold-build" ] || cat /dev/zero > big 2> /dev/null; echo build >> "$STORY/ledger""#;
    edit(&world.pipeline, r#"echo build >> "$STORY/ledger"; echo counted"#, greedy);
    world.hold("build");
    let _disk = Small::under(&world, 32);
    let serve = world.serve(&["--config", world.settings.to_str().unwrap()]);
    let run = world.run(&["--json"]).ended().with(1).json();
    let build = stage(&run, "build");
    assert_eq!(build["cause"], "infrastructure", "{build:#}");
    let reason = text(&build["reason"]);
    let data = world.data.display().to_string();
    for words in ["the disk is full", "ended with exit code 1", &data, "windlass replay shop/1 --failed"] {
        assert!(reason.contains(words), "{reason}");
    }
    // Its workspace is kept for whoever wants to look, and so the disk stays full.
    world.release("build");
    let replay = world.start(&["replay", "shop/1", "--failed"]);
    replay.says("waiting for disk space");
    let waits = world.until("shop/1", "it waits for room", |run| {
        stage(run, "build")["waiting_for"].as_str().is_some_and(|why| why.contains("waiting for disk space"))
    });
    assert_eq!(waits["status"], "waiting", "{waits:#}");
    fs::remove_file(world.data.join("workspaces/shop/1/build.1/work/big")).unwrap();
    replay.ended().with(0);
    assert_eq!(world.count("build"), 1);
    is_sound(&world.data);
    drop(serve);
    world.end();
}

#[test]
fn how_a_step_ended_is_kept_until_the_disk_takes_it() {
    let mut world = held();
    let disk = Disk::under(&mut world);
    let processes = Processes::start(&world);
    let run = world.run(&[]);
    world.until_written("build");
    disk.fails_at(1, Errno::NOSPC);
    processes.server.signal(crate::support::Signal::KILL);
    until("the server is gone", || processes.server.is_over().then_some(()));
    run.kill();
    world.release("build");
    // A runner that nobody needs leaves after 2 s. This one tries again and again, once a second.
    let failed = disk.failed();
    until("the runner tries", || (disk.failed() >= failed + 5).then_some(()));
    disk.is_good();
    until("the end is recorded", || {
        fs::read_to_string(world.data.join("runner/journal")).unwrap().contains("{\"ended\"").then_some(())
    });
    let serve = world.serve(&["--config", world.settings.to_str().unwrap()]);
    let run = world.until("shop/1", "it ends", |run| run["finished_at"].is_string());
    assert_eq!(run["status"], "succeeded", "{run:#}");
    assert_eq!(world.count("build"), 1, "it ran, and is not run again");
    drop((serve, processes));
    world.end();
}

#[test]
fn a_step_that_never_stops_talking_is_ended_and_its_log_says_so() {
    let world = World::of("tiny");
    edit(&world.pipeline, r#"echo build >> "$STORY/ledger"; echo counted"#, "yes windlass; echo not reached");
    edit(&world.settings, "pass: [STORY]", "pass: [STORY], log_limit: 300KiB");
    let run = world.run(&["--json"]).ended().with(1).json();
    let build = stage(&run, "build");
    assert_eq!(build["cause"], "task", "{build:#}");
    assert!(text(&build["reason"]).contains("wrote more than 300.0 KiB of output"), "{build:#}");
    let said = world.windlass(&["logs", "shop/1", "build"]).with(0);
    assert!(said.out.starts_with("windlass\nwindlass\n"), "{:.60}", said.out);
    assert!(said.out.trim_end().ends_with("it has the 300.0 KiB that runner.log_limit allows"), "{said:?}");
    let log = fs::metadata(world.data.join("logs/shop/1/build/1/01.log")).unwrap().len();
    assert!((300 * 1024..301 * 1024).contains(&log), "{log}");
    world.end();
}
