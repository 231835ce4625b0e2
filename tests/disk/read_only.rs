//! A data directory that cannot be written: what reads works, the rest says why not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::small::{ReadOnly, may_mount};
use crate::sound::bytes;
use crate::support::{Ended, PROGRAM, Signal, World};

/// A command on another data directory.
fn windlass(world: &World, data: &Path, words: &[&str]) -> Ended {
    let output = Command::new(PROGRAM)
        .args(words)
        .current_dir(&world.directory)
        .env("WINDLASS_DATA", data)
        .env("STORY", &world.directory)
        .env_remove("WINDLASS_SERVER")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn reads(world: &World, data: &Path) {
    windlass(world, data, &["runs"]).with(0).says(&["shop/1", "succeeded"]);
    windlass(world, data, &["show", "shop/1"]).with(0).says(&["✓ build", "img-"]);
    windlass(world, data, &["logs", "shop/1", "build"]).with(0).says(&["counted"]);
    windlass(world, data, &["status"]).with(0).says(&["shop-staging"]);
}

fn refuses_to_write(world: &World, data: &Path, words: &[&str]) {
    let settings = world.settings.to_str().unwrap();
    let run = ["run", world.pipeline.to_str().unwrap(), "--source", "source", "--config", settings];
    for command in [&run[..], &["cancel", "shop/1"], &["serve", "--listen", "127.0.0.1:0"], &["gc"]] {
        let refused = windlass(world, data, command).with(3);
        refused.says(words);
        let errors = refused.err.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "one error, clearly: {refused:?}");
    }
}

#[test]
fn a_copy_on_read_only_media_is_read() {
    let world = World::of("tiny");
    world.run(&[]).ended().with(0);
    let (stopped, killed) = (world.directory.join("stopped"), world.directory.join("killed"));
    copy(&world.data, &stopped);
    // One that was copied while somebody wrote has a log of its last commits beside it.
    let serve = world.serve(&["--config", world.settings.to_str().unwrap()]);
    serve.signal(Signal::STOP);
    copy(&world.data, &killed);
    serve.signal(Signal::CONT);
    drop(serve);
    if may_mount() {
        for copy in [&stopped, &killed] {
            let at = PathBuf::from(format!("{}-ro", copy.display()));
            let before = bytes(copy);
            let mounted = ReadOnly::of(copy, at.clone());
            reads(&world, &at);
            refuses_to_write(&world, &at, &["Read-only file system", "--data"]);
            drop(mounted);
            assert_eq!(bytes(copy), before);
        }
    } else {
        use std::os::unix::fs::PermissionsExt;
        let permit = |mode| {
            std::fs::set_permissions(&stopped, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        permit(0o500);
        reads(&world, &stopped);
        permit(0o700);
    }
    world.end();
}
