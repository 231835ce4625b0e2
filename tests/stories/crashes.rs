//! Whatever is killed, the run goes on from where it was.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Foreground, Signal, World, image, is, is_at, kill, stage, text, until};

/// The steps that write into the ledger.
const STEPS: [&str; 4] = ["test", "build", "provision", "e2e"];

/// Kills the driver of shop/1, and sees that everybody can read what became of the run.
fn kill_driver(world: &World, driver: Foreground) {
    driver.kill();
    for said in [&world.show("shop/1")["waiting_for"], &world.runs()[0]["waiting_for"]] {
        assert!(text(said).contains("windlass resume shop/1"), "{said}");
    }
}

/// The run has ended well: every step was done once, and every instance is one that is wanted.
fn ended_well(world: World) {
    let view = world.show("shop/1");
    assert_eq!(view["status"], "succeeded", "{view:#}");
    for stage in view["stages"].as_array().unwrap() {
        assert_eq!((&stage["status"], &stage["attempts"]), (&"succeeded".into(), &1.into()), "{stage:#}");
    }
    for step in STEPS {
        let times = (world.count(&format!("{step} starts")), world.count(&format!("{step} is done")));
        assert_eq!(times, (1, 1), "{step}: {:?}", world.ledger());
    }
    for (environment, size) in [("staging", 1), ("production", 3)] {
        let ids = world.is_whole(environment, image(&view), size);
        let prefix = format!("shop-{environment}-");
        let launched = world.ledger().iter().filter(|line| line.starts_with(&prefix)).count();
        assert_eq!(launched, ids.len(), "{:?}", world.ledger());
    }
    world.end();
}

/// When a step that ran while its driver was killed comes to its end.
#[derive(PartialEq)]
enum Ends {
    WhileNobodyDrives,
    AfterTheResume,
}

/// Kills the driver while `held` runs, in a stage that looks as told.
fn killed_while_held(held: &str, looks: impl Fn(&Value) -> bool, ends: Ends) {
    let world = World::new();
    world.hold(held);
    let driver = world.run(&["--promote", "all"]);
    world.until("shop/1", held, looks);
    // A step is recorded before it starts; here it is to be one that runs.
    let line = if STEPS.contains(&held) { format!("{held} starts") } else { format!("shop-{held}-") };
    world.until_written(&line);
    kill_driver(&world, driver);
    let resumed = match ends {
        Ends::WhileNobodyDrives => {
            world.release(held);
            if STEPS.contains(&held) {
                world.until_written(&format!("{held} is done"));
            }
            world.resume("shop/1")
        }
        Ends::AfterTheResume => {
            let resumed = world.resume("shop/1");
            world.until("shop/1", "it is driven again", |view| view["waiting_for"].is_null());
            world.release(held);
            resumed
        }
    };
    resumed.ended().with(0).says(&["shop/1 succeeded"]);
    ended_well(world);
}

#[test]
fn killed_in_test_whose_step_ends_meanwhile() {
    killed_while_held("test", |run| is(run, "test", "running"), Ends::WhileNobodyDrives);
}

#[test]
fn killed_in_test_whose_step_ends_later() {
    killed_while_held("test", |run| is(run, "test", "running"), Ends::AfterTheResume);
}

#[test]
fn killed_in_build() {
    killed_while_held("build", |run| is(run, "build", "running"), Ends::WhileNobodyDrives);
}

#[test]
fn killed_in_bake() {
    killed_while_held("provision", |run| is_at(run, "bake", "Provision"), Ends::AfterTheResume);
}

#[test]
fn killed_in_bake_whose_provisioning_ends_meanwhile() {
    killed_while_held("provision", |run| is_at(run, "bake", "Provision"), Ends::WhileNobodyDrives);
}

#[test]
fn killed_in_staging() {
    killed_while_held("staging", |run| is_at(run, "staging", "Swap batch"), Ends::AfterTheResume);
}

#[test]
fn killed_in_e2e() {
    killed_while_held("e2e", |run| is(run, "e2e", "running"), Ends::WhileNobodyDrives);
}

#[test]
fn killed_in_production() {
    killed_while_held("production", |run| is_at(run, "production", "Swap batch"), Ends::WhileNobodyDrives);
}

/// A launch is recorded, and then its process is started. What a kill leaves in between is a record
/// without a process: whoever resumes starts it, instead of waiting for it.
#[test]
fn killed_in_the_middle_of_a_launch() {
    let world = World::new();
    world.hold("production");
    let driver = world.run(&["--promote", "all"]);
    let launched =
        until("three are launched", || Some(world.living("production")).filter(|ids| ids.len() == 3));
    kill_driver(&world, driver);
    let place = world.data.join("instances").join(&launched[1]);
    for process in world.processes() {
        if process.carries("HOME", place.join("home").to_str().unwrap()) {
            kill(process.pid);
        }
    }
    until("it is gone", || (world.living("production").len() == 2).then_some(()));
    for entry in fs::read_dir(&place).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().is_some_and(|name| name == "instance.json") {
            true => {}
            false if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    world.release("production");
    world.resume("shop/1").ended().with(0);
    let ids = world.is_whole("production", image(&world.show("shop/1")), 3);
    assert_eq!(ids, launched);
    world.end();
}

/// Nothing in a checkout can be held: it is killed as soon as its step has a log, and what it had
/// fetched is lost besides.
#[test]
fn killed_in_checkout() {
    let world = World::new();
    let driver = world.run(&["--promote", "all"]);
    let log = world.data.join("logs/shop/1/checkout/1/01.log");
    until("the checkout begins", || log.exists().then_some(()));
    driver.kill();
    fs::remove_dir_all(world.data.join("cache")).unwrap();
    world.resume("shop/1").ended().with(0);
    ended_well(world);
}

/// A file that whoever reads it waits for: a pipe that nobody writes to stands in its place.
struct Stalled {
    path: PathBuf,
    aside: PathBuf,
}

impl Stalled {
    fn new(path: &Path) -> Self {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
        Self { path: path.to_owned(), aside }
    }

    fn over(self) {
        fs::rename(&self.aside, &self.path).unwrap();
    }
}

#[test]
fn killed_in_upload() {
    let world = World::new();
    world.hold("test");
    let driver = world.run(&["--promote", "all"]);
    let view = world.until("shop/1", "it is built", |run| is(run, "build", "succeeded"));
    let (first, rest) = text(&stage(&view, "build")["artifacts"]["app"]).split_at(2);
    let artifact = Stalled::new(&world.data.join("artifacts/blobs").join(first).join(rest));
    world.release("test");
    world.until("shop/1", "it uploads", |run| is_at(run, "upload", "Upload app"));
    kill_driver(&world, driver);
    artifact.over();
    world.resume("shop/1").ended().with(0);
    ended_well(world);
}

#[test]
fn killed_in_certify() {
    let world = World::new();
    world.hold("e2e");
    let driver = world.run(&["--promote", "all"]);
    let view = world.until("shop/1", "it is tested", |run| is(run, "e2e", "running"));
    let image = Stalled::new(&world.data.join("images").join(image(&view)).join("manifest.json"));
    world.release("e2e");
    world.until("shop/1", "it certifies", |run| is_at(run, "certify", "Certify"));
    kill_driver(&world, driver);
    image.over();
    world.resume("shop/1").ended().with(0);
    ended_well(world);
}

#[test]
fn killed_at_the_gate() {
    let world = World::new();
    let driver = world.run(&[]);
    world.until("shop/1", "it waits at the gate", |run| run["status"] == "waiting");
    kill_driver(&world, driver);
    // A promotion is recorded also when nobody drives the run.
    let promoted = world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    promoted.says(&["shop/1 is promoted to production by octocat", "windlass resume shop/1"]);
    world.resume("shop/1").ended().with(0);
    ended_well(world);
}

#[test]
fn killed_at_the_gate_and_promoted_later() {
    let world = World::new();
    let driver = world.run(&[]);
    world.until("shop/1", "it waits at the gate", |run| run["status"] == "waiting");
    kill_driver(&world, driver);
    let resumed = world.resume("shop/1");
    resumed.says("windlass promote shop/1 production");
    world.windlass(&["promote", "shop/1", "production", "--as", "octocat"]).with(0);
    resumed.ended().with(0);
    ended_well(world);
}

/// Killed again and again: in each step that can be held, and then wherever it happens to be, each time a
/// little later than the last.
#[test]
fn killed_again_and_again() {
    let world = World::new();
    STEPS.iter().for_each(|step| world.hold(step));
    let mut driver = world.run(&["--promote", "all"]);
    let (mut said, mut kills) = (0, 0);
    for step in STEPS {
        world.until_written(&format!("{step} starts"));
        driver.kill();
        kills += 1;
        world.release(step);
        driver = world.resume("shop/1");
    }
    // A resumed run begins with what happened before, so it has to say more than the last did.
    while driver.says_lines(said + 1) {
        said = driver.kill().out.lines().count();
        kills += 1;
        driver = world.resume("shop/1");
    }
    driver.ended().with(0);
    assert!(kills > STEPS.len(), "it was killed {kills} times");
    ended_well(world);
}

// -- the runner

/// Waits until the unit tests run, and nothing else.
fn tests_run(world: &World) {
    world.until("shop/1", "it is built", |run| is(run, "build", "succeeded"));
    world.until_written("test starts");
}

/// Kills the runner while the unit tests run, and answers the ids of the processes that they had.
fn kill_runner(world: &World) -> Vec<i32> {
    let step = |process: &crate::support::Process| process.carries("WINDLASS_STAGE", "test");
    let steps: Vec<i32> = world.processes().iter().filter(|p| step(p)).map(|p| p.pid).collect();
    assert!(!steps.is_empty());
    kill(world.the("runner").pid);
    steps
}

#[test]
fn a_lost_runner_fails_the_stage_and_leaves_nothing_of_its_step() {
    let world = World::new();
    world.hold("test");
    let run = world.run(&["--promote", "all"]);
    tests_run(&world);
    let steps = kill_runner(&world);
    run.ended().with(1).says(&["shop/1 failed", "the runner died while it ran"]);
    let view = world.show("shop/1");
    let test = stage(&view, "test");
    assert_eq!((&test["status"], &test["cause"]), (&"failed".into(), &"infrastructure".into()), "{test:#}");
    assert_eq!(test["attempts"], 1);
    assert_eq!(stage(&view, "production")["status"], "skipped");
    assert!(world.processes().iter().all(|process| !steps.contains(&process.pid)));
    assert_eq!(world.count("test starts"), 1);
    world.end();
}

#[test]
fn a_lost_runner_is_worth_another_attempt() {
    let world = World::new();
    let timeout = "test:\n    needs: checkout\n";
    let retry = format!("{timeout}    retry: {{ attempts: 2, on: [infrastructure] }}\n");
    crate::support::edit(&world.pipeline, timeout, &retry);
    world.hold("test");
    let run = world.run(&["--promote", "all"]);
    tests_run(&world);
    let steps = kill_runner(&world);
    run.says("test is to be tried again");
    world.release("test");
    run.ended().with(0);
    let view = world.show("shop/1");
    assert_eq!(stage(&view, "test")["attempts"], 2);
    assert_eq!((world.count("test starts"), world.count("test is done")), (2, 1));
    assert!(world.processes().iter().all(|process| !steps.contains(&process.pid)));
    world.end();
}

/// The runner is killed while nobody drives the run: whoever resumes it finds out.
#[test]
fn driver_and_runner_are_lost_together() {
    let world = World::new();
    world.hold("test");
    let driver = world.run(&["--promote", "all"]);
    tests_run(&world);
    // So that it does not start another one.
    driver.signal(Signal::STOP);
    let steps = kill_runner(&world);
    driver.kill();
    world.resume("shop/1").ended().with(1);
    let view = world.show("shop/1");
    assert_eq!(stage(&view, "test")["cause"], "infrastructure");
    assert!(world.processes().iter().all(|process| !steps.contains(&process.pid)));
    assert_eq!(world.count("test starts"), 1);
    world.end();
}
