//! A backup that is taken while runs go on is a data directory: it goes on by itself, and the original
//! does not notice.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Signal, World, get, image, is, is_at, signal, stage, text, until};

const FLAKY: &str = "\
name: flaky
params: { mood: { default: bad } }
stages:
  checkout: { uses: checkout }
  build:
    needs: checkout
    env: { MOOD: \"${{ params.mood }}\" }
    steps: [{ name: Mood, run: test $MOOD = good }, { name: Look, run: test -f step }]
";

/// What a backup has.
const COPIED: [&str; 10] = [
    "artifacts",
    "backup.jsonl",
    "balancer.json",
    "cache",
    "images",
    "instances",
    "logs",
    "objects",
    "runner",
    "windlass.db",
];

/// What there is in a data directory at work: that, and what is of processes and of the moment.
const KNOWN: [&str; 23] = [
    "artifacts",
    "balancer.json",
    "balancer.lock",
    "balancer.log",
    "balancer.sock",
    "balancer.start.lock",
    "builders",
    "cache",
    "home.json",
    "images",
    "instances",
    "lock",
    "logs",
    "objects",
    "runner",
    "runner.lock",
    "runner.log",
    "runner.sock",
    "windlass.db",
    "windlass.db-shm",
    "windlass.db-wal",
    "windlass.sock",
    "workspaces",
];

#[test]
fn a_backup_under_load_goes_on_elsewhere_and_the_original_does_not_notice() {
    let mut world = World::new();
    let shipped = world.ship();
    let flaky = world.directory.join("flaky.yaml");
    fs::write(&flaky, FLAKY).unwrap();
    let words = ["run", flaky.to_str().unwrap(), "--source", "source"];
    world.start(&words).ended().with(1);
    world.hold("build");
    let busy = world.run(&["--promote", "all"]);
    world.until("shop/2", "it builds", |run| is_at(run, "build", "Compile") && is(run, "test", "succeeded"));
    until("the step runs", || (world.count("build starts") == 2).then_some(()));

    let copy = world.directory.join("copy");
    let copy_name = copy.to_str().unwrap().to_owned();
    let taken = world.windlass(&["backup", &copy_name, "--json"]).with(0).json();
    assert_eq!((&taken["steps_under_way"], &taken["findings"]), (&1.into(), &Value::Array(vec![])));
    let there = |words: &[&str]| world.windlass(&[words, &["--data", &copy_name]].concat());
    there(&["check-data"]).with(0).says(&["is sound: 3 runs"]);
    for words in [&["show", "shop/1", "--json"][..], &["show", "flaky/1", "--json"], &["logs", "shop/1"]] {
        assert_eq!(there(words).with(0).out, world.windlass(words).with(0).out, "{words:?}");
    }
    let names = |directory: &Path| -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        entries.map(|name| name.into_string().unwrap()).collect()
    };
    for name in names(&world.data) {
        assert!(KNOWN.contains(&name.as_str()), "{name} is new: does a backup copy it? See src/backup");
    }
    for name in names(&copy) {
        assert!(COPIED.contains(&name.as_str()), "{name} is of the original's processes");
    }
    // An image that a fleet runs has to be there.
    let (kept, away) = (copy.join("images").join(image(&shipped)), world.directory.join("away"));
    fs::rename(&kept, &away).unwrap();
    there(&["check-data"]).with(1).says(&["needs it, and it is not there", "error backup: images/"]);
    fs::rename(&away, &kept).unwrap();

    // In the copy the step is lost; no process of the original is touched.
    there(&["resume", "shop/2"]).with(1);
    let lost = there(&["show", "shop/2", "--json"]).with(0).json();
    let build = stage(&lost, "build");
    assert_eq!(build["cause"], "infrastructure", "{build:#}");
    assert!(text(&build["reason"]).contains("it was under way when this copy"), "{build:#}");
    world.release("build");
    busy.ended().with(0);
    assert_eq!((world.count("build starts"), world.count("build is done")), (2, 2), "{:?}", world.ledger());
    world.windlass(&["check-data"]).with(0);

    // What had failed is done again from what was recorded.
    there(&["replay", "flaky/1", "--failed", "--set", "params.mood=good"]).with(0);
    assert_eq!(there(&["show", "flaky/1", "--json"]).with(0).json()["status"], "succeeded");

    // The original has gone; its fleet comes up again from the copy.
    for environment in ["staging", "production"] {
        world.windlass(&["down", "shop", environment]).with(0);
    }
    for process in world.processes() {
        signal(process.pid, Signal::TERM);
    }
    world.is_empty();
    world.data = copy;
    let fleet = world.fleet("production");
    assert_eq!(fleet["image"], image(&shipped), "{fleet:#}");
    assert_eq!((&fleet["healthy"], &fleet["instances"]), (&0.into(), &Value::Array(vec![])), "{fleet:#}");
    let serve = world.serve(&["--config", world.settings.to_str().unwrap()]);
    world.until_whole("production", 3);
    until("it answers", || get(world.production, "/").ok());
    serve.signal(Signal::TERM);
    serve.ended().with(0);
    world.windlass(&["check-data"]).with(0).says(&["is sound: 3 runs"]);
    world.end();
}
