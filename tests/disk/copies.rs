//! A data directory that was copied or moved: what it records of processes, ports and instances belongs to
//! one place only.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::sound::ended;
use crate::support::{World, get, until};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[test]
fn a_copy_does_not_touch_what_belongs_to_its_original() {
    let world = World::of("tiny");
    let settings = world.settings.to_str().unwrap();
    let serve = world.serve(&["--config", settings]);
    world.run(&[]).ended().with(0);
    let instances = world.until_whole("staging", 1);
    let other = world.directory.join("copy");
    copy(&world.data, &other);
    let (copied, original) = (other.display().to_string(), world.data.display().to_string());
    for words in [
        &["serve", "--listen", "127.0.0.1:0", "--config", settings][..],
        &["down", "shop", "staging"],
        &["cancel", "shop/1"],
        &["gc"],
    ] {
        let command = [words, &["--data", &copied]].concat();
        let refused = world.windlass(&command).with(3);
        refused.says(&[&format!("is a copy of {original}, which is still there"), "rm -rf home.json"]);
    }
    world.windlass(&["runs", "--data", &copied]).with(0).says(&["shop/1"]);
    assert_eq!(world.living("staging"), instances);
    assert_eq!(get(world.staging, "/").unwrap(), "open");

    // The original is opened under another name of its own.
    drop(serve);
    let link = world.directory.join("link");
    std::os::unix::fs::symlink(&world.data, &link).unwrap();
    let link = link.to_str().unwrap();
    let serve = world.serve(&["--config", settings, "--data", link]);
    world.windlass(&["serve", "--listen", "127.0.0.1:0"]).with(3).says(&["is held by process"]);
    drop(serve);
    // Said plainly, the copy is a directory of its own.
    for name in ["home.json", "instances", "runner", "balancer.json"] {
        let path = other.join(name);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
    }
    world.windlass(&["cancel", "shop/1", "--data", &copied]).with(2);
    assert_eq!(world.living("staging"), instances);
    world.end();
}

#[test]
fn a_moved_directory_says_what_still_works_at_the_old_place() {
    let mut world = World::of("tiny");
    world.run(&[]).ended().with(0);
    ended(&world, &["runner"]);
    let moved = world.directory.join("moved");
    fs::rename(&world.data, &moved).unwrap();
    let old = std::mem::replace(&mut world.data, moved);
    let balancer = world.the("balancer").pid;
    let said = world.windlass(&["gc"]).with(3);
    said.says(&["was moved here from", old.to_str().unwrap(), &format!("kill {balancer}")]);
    ended(&world, &["balancer"]);
    let settings = world.settings.to_str().unwrap().to_owned();
    let serve = world.serve(&["--config", &settings]);
    until("the fleet serves again", || (get(world.staging, "/").ok()? == "open").then_some(()));
    drop(serve);
    world.windlass(&["down", "shop", "staging"]).with(0);
    world.end();
}
