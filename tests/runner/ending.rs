//! Whatever a step does, a cancel ends it in its bound, and nothing of it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit};
use windlass::runner::LATE;

use super::*;

/// Steps that do not want to end. Each says `up` when it is what it is to be; `NASTY` is a program,
/// and `WORLD` stands in the command line of those that cleared their environment.
const STEPS: [(&str, &str); 13] = [
    (
        "deaf with a deaf child",
        "trap '' TERM INT HUP QUIT USR1 USR2 ALRM CONT\n(while :; do sleep 1; done) & echo up\nwhile :; do sleep 1; done",
    ),
    (
        "a child more for each TERM",
        "trap 'sh -c \"trap : TERM; while :; do sleep 1; done\" &' TERM\necho up\nwhile :; do sleep 1 & wait; done",
    ),
    (
        "a session of its own, unmarked",
        "(env -i setsid sh -c 'trap \"\" TERM; echo up; while :; do sleep 1; done' $WORLD &)\nsleep 1000",
    ),
    (
        "twice away, unmarked and silent",
        "(env -i setsid sh -c '(setsid sh -c \"while :; do sleep 1; done\" $0 >/dev/null 2>&1 </dev/null &); echo up' $WORLD &)\nsleep 1000",
    ),
    ("full pipe", "trap '' TERM\necho up\nwhile :; do head -c 200000 /dev/zero; sleep 0.01; done"),
    ("ends between two signals", "trap 'sleep 0.1; exit 3' TERM\necho up\nwhile :; do sleep 0.05; done"),
    ("succeeds when told to end", "trap 'exit 0' TERM\necho up\nwhile :; do sleep 0.05; done"),
    ("stops itself", "trap 'kill -STOP $$' CONT TERM\necho up\nwhile :; do kill -STOP $$; done"),
    ("closes its output", "trap '' TERM\necho up\nexec >/dev/null 2>&1\nwhile :; do sleep 1; done"),
    (
        "hands its output on",
        "(trap '' TERM; while :; do sleep 1; done) & echo up\nexec >/dev/null 2>&1\nsleep 1000",
    ),
    ("stopped by its debugger", "exec $NASTY traced"),
    ("with a zombie", "exec $NASTY zombie"),
    ("forks faster than one looks", "exec $NASTY walker"),
];

/// All that has to do with the world, but for its runner and the guard of that: found also where the environment
/// was cleared.
fn living(world: &World) -> Vec<String> {
    let name = world.name();
    let runners = world.runners();
    let mine = pids().filter(|pid| {
        let told = read(*pid, "environ").contains(&name) || read(*pid, "cmdline").contains(&name);
        told && !runners.contains(pid)
    });
    let lines = mine.map(|pid| read(pid, "cmdline").replace('\0', " "));
    lines.filter(|line| !line.is_empty() && !line.contains(" guard --data ")).collect()
}

/// The world, and in it the program of the steps that no shell can write.
fn nasty_world() -> World {
    let world = World::new();
    let built = std::process::Command::new("cc")
        .args(["-O1", "-o", "nasty", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/runner/nasty.c")])
        .current_dir(world.path())
        .status();
    assert!(built.unwrap().success(), "there is a C compiler");
    world
}

fn nasty_step(world: &World, n: u32, run: &str) -> StartStep {
    let mut start = world.step(n, run);
    start.env.insert("NASTY".to_owned(), format!("{}/nasty", world.name()));
    start
}

fn stop(runner: Pid) {
    rustix::process::kill_process(runner, Signal::STOP).unwrap();
}

#[tokio::test]
async fn every_step_is_cancelled_within_its_bound_and_nothing_of_it_lives() {
    let world = nasty_world();
    // While it runs nothing is ended only because it can be nobody else's.
    let bystander = world.run_until(world.step(99, "mkfifo go; echo up; read line <go"), "up").await;
    let before = living(&world).len();
    for (n, (what, run)) in (1..).zip(STEPS) {
        let running = world.run_until(nasty_step(&world, n, run), "up").await;
        let begun = Instant::now();
        let exit = within(world.client.cancel(&step(n), GRACE)).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(exit.status, ExitStatus::Cancelled, "{what}");
        assert!(took < GRACE + LATE, "{what}: {took:?}");
        assert_eq!(within(running).await.unwrap().unwrap(), exit, "{what}");
        let left = living(&world);
        assert_eq!(left.len(), before, "{what}: {left:?}");
    }
    fs::write(world.path().join("go"), "\n").unwrap();
    assert_eq!(within(bystander).await.unwrap().unwrap().status, code(0));
    world.end().await;
}

#[tokio::test]
async fn a_step_whose_log_hangs_is_cancelled_in_time() {
    let world = World::new();
    let start = world.step(1, "trap '' TERM; touch up; while :; do echo more and more; done");
    fs::create_dir_all(start.log.parent().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &start.log, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    // Somebody holds it open who never reads: writing comes to a halt when it is full.
    let _disk = fs::OpenOptions::new().read(true).write(true).open(&start.log).unwrap();
    let client = world.client.clone();
    let running = tokio::spawn(async move { client.run(&start).await });
    within(async {
        while !world.path().join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let begun = Instant::now();
    let exit = within(world.client.cancel(&step(1), GRACE)).await.unwrap();
    assert!(begun.elapsed() < GRACE + LATE, "{:?}", begun.elapsed());
    assert!(matches!(&exit.status, ExitStatus::Lost { message } if message.contains("disk")), "{exit:?}");
    assert_eq!(within(running).await.unwrap().unwrap(), exit);
    assert_eq!(world.run(&world.step(2, "exit 2")).await.status, code(2), "the runner is none the worse");
    world.end().await;
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_end_changes_nothing_and_does_not_wait() {
    let world = World::new();
    // The first process has ended; a child of it still may write for a while.
    let running = world.run_until(world.step(1, "sleep 1000 & echo up"), "up").await;
    let begun = Instant::now();
    let exit = within(world.client.cancel(&step(1), Duration::ZERO)).await.unwrap();
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    assert!(matches!(exit.status, ExitStatus::Cancelled | ExitStatus::Code { code: 0 }), "{exit:?}");
    assert_eq!(within(running).await.unwrap().unwrap(), exit);
    world.end().await;
}

#[tokio::test]
async fn a_runner_that_was_stopped_goes_on_for_whoever_waits() {
    let world = World::new();
    let running = world.run_until(world.step(1, "trap '' TERM; echo up; sleep 1000; sleep 1000"), "up").await;
    let runner = world.runner();
    stop(runner);
    let begun = Instant::now();
    let exit = within(world.client.cancel(&step(1), Duration::from_secs(1))).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1) + LATE, "{:?}", begun.elapsed());
    assert_eq!(exit.status, ExitStatus::Cancelled);
    assert_eq!(within(running).await.unwrap().unwrap(), exit);

    // One that nobody has talked to yet.
    stop(runner);
    let exit = within(world.another_client().run(&world.step(2, "exit 2"))).await.unwrap();
    assert_eq!((exit.status, world.runner()), (code(2), runner), "it lost nothing");
    world.end().await;
}

#[tokio::test]
async fn the_steps_of_a_runner_that_stays_stopped_are_ended() {
    let world = nasty_world();
    let away = STEPS[2].1;
    let running = world.run_until(nasty_step(&world, 1, away), "up").await;
    let runner = world.runner();
    let gone = watch(runner);
    let enough = Arc::new(AtomicBool::new(false));
    let stopping = tokio::task::spawn_blocking({
        let enough = enough.clone();
        move || {
            let stop = || rustix::process::kill_process(runner, Signal::STOP).is_ok();
            while !enough.load(Ordering::Relaxed) && stop() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let grace = Duration::from_secs(3);
    let begun = Instant::now();
    let exit = within(world.client.cancel(&step(1), grace)).await;
    let took = begun.elapsed();
    enough.store(true, Ordering::Relaxed);
    within(stopping).await.unwrap();
    assert!(took < grace + LATE, "{took:?}");
    match &exit {
        Ok(exit) => {
            assert!(
                matches!(&exit.status, ExitStatus::Lost { message } if message.contains("died")),
                "{exit:?}"
            );
            within(gone).await;
            assert_eq!(within(running).await.unwrap().unwrap(), *exit);
        }
        // Told to go on again and again, it may say now and then that it is there, and is not replaced.
        Err(error) => {
            assert!(error.to_string().contains("its processes were ended without it"), "{error}");
            rustix::process::kill_process(runner, Signal::CONT).unwrap();
            within(running).await.unwrap().unwrap();
        }
    }
    assert_eq!(living(&world), [""; 0], "also what had gone away without a mark in its environment");
    world.end().await;
}

#[tokio::test]
async fn a_runner_that_can_open_nothing_more_says_so_and_recovers() {
    let world = World::new();
    world.run(&world.step(1, ":")).await;
    let limit = |open: u64| {
        let limit = Rlimit { current: Some(open), ..rustix::process::getrlimit(Resource::Nofile) };
        rustix::process::prlimit(Some(world.runner()), Resource::Nofile, limit).unwrap();
    };
    limit(8);
    let exit = world.run(&world.step(2, "echo up")).await;
    assert!(
        matches!(&exit.status, ExitStatus::NotStarted { message } if message.contains("Too many open files")),
        "{exit:?}"
    );
    limit(1024);
    assert_eq!(world.run(&world.step(3, "exit 3")).await.status, code(3));
    world.end().await;
}
