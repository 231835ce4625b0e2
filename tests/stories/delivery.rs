//! From a commit to production, twice.

use std::fs;
use std::process::Command;

use serde_json::Value;
use windlass::ids::Digest;

use crate::support::{World, get, image, list, stage, text, until};

#[test]
fn a_c_service_reaches_production_twice() {
    let world = World::of("c");
    let first = world.ship();
    world.repository.edit("src/version.h", "\"1\"", "\"2\"");
    // An image that is built upon another one takes what its base was, and nothing of this.
    world.repository.write("base/motd", "Another machine.\n");
    let commit = world.repository.commit("Greet as version 2");
    let second = world.ship();

    reaches_production_twice(&world, &first, &second, 3);
    assert_eq!(second["commit"], *commit);
    assert!(get(world.production, "/").unwrap().starts_with("version 2 "));
    world.end();
}

#[test]
fn a_python_service_reaches_production_twice() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED a_python_service_reaches_production_twice: there is no python3 on this machine");
        return;
    }
    let world = World::of("python");
    let first = world.ship();
    world.repository.edit("shop/__init__.py", "\"1\"", "\"2\"");
    world.repository.write("base/motd", "Another machine.\n");
    world.repository.commit("Greet as version 2");
    let second = world.ship();

    reaches_production_twice(&world, &first, &second, 2);
    assert!(get(world.production, "/").unwrap().starts_with("version 2 "));
    world.end();
}

/// What holds for any service after its first two versions went all the way.
fn reaches_production_twice(world: &World, first: &Value, second: &Value, size: usize) {
    for run in [first, second] {
        assert_eq!(run["status"], "succeeded");
        for stage in run["stages"].as_array().unwrap() {
            assert_eq!((&stage["status"], &stage["attempt"]), (&"succeeded".into(), &1.into()), "{stage:#}");
        }
        is_uploaded(world, run);
        is_baked(world, run);
        // One image serves every environment.
        for environment in ["staging", "production"] {
            assert_eq!(stage(run, environment)["outputs"]["image"], image(run));
        }
    }

    // Where they came from.
    let record = |run: &Value| stage(run, "bake")["image"].clone();
    assert_eq!(record(first)["parent"], Value::Null);
    assert_eq!(record(second)["parent"], image(first));
    assert_eq!(record(first)["commit"], first["commit"]);
    assert_eq!(record(second)["run"], "shop/2");
    assert_ne!(image(first), image(second));

    // Who serves.
    let outputs = |run: &Value| stage(run, "production")["outputs"].clone();
    let (before, after) = (outputs(second)["before"].clone(), outputs(second)["after"].clone());
    assert_eq!(before, outputs(first)["after"]);
    assert_eq!((list(&before).len(), list(&after).len()), (size, size));
    assert!(list(&after).iter().all(|id| !list(&before).contains(id)), "{before} {after}");
    world.is_whole("staging", image(second), 1);
    let mut after = list(&after);
    after.sort();
    assert_eq!(world.is_whole("production", image(second), size), after);

    // What they were told at their launch.
    let greeting = |port| get(port, "/").unwrap();
    assert!(greeting(world.staging).contains("greeting rehearsal price 750"), "{}", greeting(world.staging));
    assert!(greeting(world.production).contains("greeting welcome price 750"));
    assert_eq!(outputs(second)["url"], format!("http://127.0.0.1:{}", world.production));
}

/// The artifact and its manifest are in the object store, and are what they say.
fn is_uploaded(world: &World, run: &Value) {
    let objects = world.data.join("objects");
    let name = format!("shop-{}", text(&run["version"]));
    let manifest = fs::read(objects.join(format!("shop/{name}/manifest.json"))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!((&manifest["name"], &manifest["run"]), (&Value::from(name), &run["run"]));
    assert_eq!((&manifest["version"], &manifest["commit"]), (&run["version"], &run["commit"]));
    let artifacts = manifest["artifacts"].as_array().unwrap();
    assert_eq!(artifacts.len(), 1);
    assert_eq!(artifacts[0]["name"], "app");
    assert_eq!(artifacts[0]["digest"], stage(run, "build")["artifacts"]["app"]);
    let object = fs::read(objects.join(text(&artifacts[0]["object"]))).unwrap();
    assert_eq!(artifacts[0]["object_digest"], Digest::of(&object).as_str());
}

/// The image is of the base, the artifact and what was provisioned, and of nothing else.
fn is_baked(world: &World, run: &Value) {
    let root = world.data.join("images").join(image(run)).join("root");
    assert_eq!(fs::read_to_string(root.join("motd")).unwrap(), "A machine for shops.\n");
    assert_eq!(fs::read_to_string(root.join("app/provisioned.txt")).unwrap(), "provisioned\n");
    let provision_files = ["deploy", "app/deploy", "source", ".git", "app/.git"];
    assert!(provision_files.iter().all(|name| !root.join(name).exists()));
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            let told = ["rehearsal", "welcome"].iter().any(|greeting| text.contains(greeting));
            assert!(!told, "{} knows an environment", entry.path().display());
        }
    }
}

/// What keeps house leaves by itself when there is nothing left to keep.
#[test]
fn nothing_stays_when_the_fleets_are_down() {
    let world = World::of("c");
    world.ship();
    for environment in ["staging", "production"] {
        let down = world.windlass(&["down", "shop", environment]).with(0);
        down.says(&[&format!("shop-{environment} is down")]);
    }
    until("runner and balancer leave", || world.processes().is_empty().then_some(()));
    world.is_empty();
    let again = world.windlass(&["down", "shop", "nowhere"]).with(2);
    again.says(&["there is no fleet shop-nowhere"]);
}
