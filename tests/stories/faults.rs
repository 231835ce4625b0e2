//! The world is not as it should be: what is said then, and that nothing is left of it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{World, edit, image, stage, text};

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let world = World::new();
    fs::write(&world.data, "a file\n").unwrap();
    let failed = world.run(&[]).ended().with(3);
    failed.says(&["error: ", world.data.to_str().unwrap()]);
    fs::remove_file(&world.data).unwrap();

    fs::create_dir(&world.data).unwrap();
    fs::set_permissions(&world.data, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(world.data.join("probe"), "").is_ok() {
        eprintln!("SKIPPED a data directory that is read-only: this user may write everywhere");
        fs::remove_file(world.data.join("probe")).unwrap();
    } else {
        world.run(&[]).ended().with(3).says(&["error: ", world.data.to_str().unwrap()]);
    }
    fs::set_permissions(&world.data, fs::Permissions::from_mode(0o700)).unwrap();
    world.end();
}

#[test]
fn a_port_that_somebody_has_is_named() {
    let world = World::new();
    let somebody = TcpListener::bind(("127.0.0.1", world.production)).unwrap();
    world.run(&["--promote", "all"]).ended().with(1).says(&[&world.production.to_string()]);
    let view = world.show("shop/1");
    let production = stage(&view, "production");
    assert_eq!((&production["status"], &production["cause"]), (&"failed".into(), &"infrastructure".into()));
    assert!(text(&production["reason"]).contains(&world.production.to_string()), "{production:#}");
    assert_eq!(world.living("production"), [""; 0]);
    drop(somebody);
    world.version(2);
    let second = world.ship();
    world.is_whole("production", image(&second), 3);
    world.end();
}

/// A directory that somebody holds who does not answer is not touched.
#[test]
fn a_second_holder_is_told_who_the_first_is() {
    let world = World::new();
    fs::create_dir(&world.data).unwrap();
    let mut held = fs::File::create(world.data.join("lock")).unwrap();
    held.lock().unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started: u64 =
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let pid = std::process::id();
    let holder = serde_json::json!({
        "pid": pid, "what": "windlass run", "since": "2026-01-01T00:00:00Z", "started": started,
    });
    held.write_all(holder.to_string().as_bytes()).unwrap();
    let refused = world.run(&[]).ended().with(3);
    refused.says(&[&format!("is held by process {pid} (windlass run"), "--data"]);
    assert!(!world.data.join("windlass.db").exists());
    world.end();
}

#[test]
fn a_source_that_is_none_is_named() {
    let world = World::new();
    let (pipeline, settings) = (world.pipeline.to_str().unwrap(), world.settings.to_str().unwrap());
    let nowhere = ["run", pipeline, "--source", "nowhere", "--config", settings];
    world.windlass(&nowhere).with(2).says(&["nowhere", "there is no such directory"]);
    world.run(&["--commit", "nothing"]).ended().with(2).says(&["nothing"]);
    edit(&world.settings, "production:\n    group", "productoin:\n    group");
    world.run(&[]).ended().with(2).says(&["production"]);
    world.end();
}
