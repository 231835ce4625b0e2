//! Files that are cut off, damaged, somebody else's or of a newer program: each is refused by name with what
//! to do, and left as it is.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use crate::sound::{bytes, ended};
use crate::support::{World, edit, stage, text};

/// A world with one run that has succeeded and nobody at work.
fn shipped() -> World {
    let world = World::of("tiny");
    world.run(&[]).ended().with(0);
    world.windlass(&["down", "shop", "staging"]).with(0);
    ended(&world, &["balancer", "runner"]);
    world
}

/// Puts the data directory back as it was.
fn restore(world: &World, from: &Path) {
    fs::remove_dir_all(&world.data).unwrap();
    copy(from, &world.data);
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

fn cut(path: &Path, by: u64) {
    let length = fs::metadata(path).unwrap().len();
    File::options().write(true).open(path).unwrap().set_len(length - by).unwrap();
}

fn scribble(path: &Path, at: u64, text: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(text).unwrap();
}

fn sql(path: &Path, statement: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    });
}

/// One way to damage a database, and what is said of it.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

const DAMAGES: &[Damage] = &[
    ("half of it", |db| cut(db, fs::metadata(db).unwrap().len() / 2), &["is damaged", "windlass check-data"]),
    (
        "another file",
        |db| fs::write(db, "a list of fruit\n".repeat(9999)).unwrap(),
        &["is damaged", "not a database"],
    ),
    ("a scribbled header", |db| scribble(db, 0, &[0xA5; 100]), &["is damaged", "not a database"]),
    ("a scribbled first page", |db| scribble(db, 100, &[0xA5; 900]), &["is damaged", "windlass check-data"]),
    (
        "an empty file",
        |db| fs::write(db, "").unwrap(),
        &["the journal of", "is missing", "restore it from a backup"],
    ),
    ("no file", |db| fs::remove_file(db).unwrap(), &["the journal of", "is missing"]),
    ("another program's", |db| sql(db, "PRAGMA application_id = 7"), &["database of another program"]),
    ("a newer one's", |db| sql(db, "PRAGMA user_version = 99"), &["newer Windlass", "format 99"]),
    ("a torn last page", |db| cut(db, 1000), &["is damaged", "is cut off", "windlass check-data"]),
];

#[test]
fn a_damaged_database_is_refused_by_name_and_left_as_it_is() {
    let world = shipped();
    let whole = world.directory.join("whole");
    copy(&world.data, &whole);
    let db = world.data.join("windlass.db");
    for (what, damage, words) in DAMAGES {
        println!("{what}");
        damage(&db);
        let before = fs::read(&db).ok();
        for command in [&["cancel", "shop/1"][..], &["gc"], &["serve", "--listen", "127.0.0.1:0"]] {
            let refused = world.windlass(command).with(3);
            refused.says(words).says(&[world.data.to_str().unwrap()]);
            assert!(!refused.err.contains("panicked"), "{refused:?}");
        }
        assert_eq!(fs::read(&db).ok(), before, "{what}: it was changed");
        restore(&world, &whole);
    }
    // What is only garbage beside it is not taken for commits.
    fs::write(world.data.join("windlass.db-wal"), [0xA5; 9000]).unwrap();
    fs::write(world.data.join("windlass.db-shm"), [0x5A; 9000]).unwrap();
    world.windlass(&["cancel", "shop/1"]).with(2);
    world.windlass(&["runs"]).with(0).says(&["shop/1"]);
    world.end();
}

#[test]
fn a_damaged_event_is_named_and_other_runs_are_not_dragged_along() {
    let world = shipped();
    world.run(&[]).ended().with(0);
    let db = world.data.join("windlass.db");
    ended(&world, &["balancer", "runner"]);
    sql(
        &db,
        "DROP TRIGGER events_are_not_changed;
         UPDATE events SET payload = '{\"woven\": 1}' WHERE stream = 'run:shop/1' AND sequence = 4",
    );
    world.windlass(&["show", "shop/1"]).with(3).says(&["is damaged", "event 4 of run:shop/1", "check-data"]);
    world.windlass(&["show", "shop/2"]).with(0);
    sql(&db, "UPDATE events SET format = 99 WHERE stream = 'run:shop/2' AND sequence = 4");
    world.windlass(&["show", "shop/2"]).with(3).says(&["newer Windlass", "format 99"]);
    world.windlass(&["runs"]).with(0).says(&["shop/1", "shop/2"]);
    world.windlass(&["down", "shop", "staging"]).with(0);
    world.leave();
}

/// Replays from a stage, and answers why the stage failed.
#[track_caller]
fn fails_from(world: &World, name: &str) -> String {
    let run = world.windlass(&["replay", "shop/1", "--from", name, "--json"]).with(1).json();
    let failed: Vec<&Value> =
        run["stages"].as_array().unwrap().iter().filter(|stage| stage["status"] == "failed").collect();
    let [failed] = failed.as_slice() else { panic!("{run:#}") };
    assert_eq!(failed["cause"], "infrastructure", "{failed:#}");
    text(&failed["reason"]).to_owned()
}

#[track_caller]
fn works_from(world: &World, name: &str) {
    let run = world.windlass(&["replay", "shop/1", "--from", name, "--json"]).with(0);
    assert_eq!(stage(&run.json(), "staging")["status"], "succeeded");
    world.windlass(&["down", "shop", "staging"]).with(0);
    ended(world, &["balancer", "runner"]);
}

fn only(directory: PathBuf) -> PathBuf {
    fs::read_dir(directory).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn state_of_the_processes_that_is_cut_off_or_newer_is_refused_and_left_as_it_is() {
    let world = shipped();
    // The balancer.
    let state = world.data.join("balancer.json");
    for (damaged, words) in [
        (r#"{ "format": 1, "fleets": [ { "listener": {"#, "EOF while parsing"),
        (r#"{ "format": 2, "fleets": [] }"#, "it has format 2"),
        ("", "EOF while parsing"),
    ] {
        fs::write(&state, damaged).unwrap();
        let reason = fails_from(&world, "staging");
        for word in [words, "balancer.json cannot be read", "move the file away"] {
            assert!(reason.contains(word), "{reason}");
        }
        assert_eq!(fs::read_to_string(&state).unwrap(), damaged);
    }
    fs::remove_file(&state).unwrap();
    works_from(&world, "staging");

    // The runner.
    let records = world.data.join("runner/journal");
    let newer = "{\"opened\":{\"version\":2,\"boot\":\"b\"}}\n";
    fs::write(&records, newer).unwrap();
    let reason = fails_from(&world, "build");
    assert!(reason.contains("a newer windlass wrote it"), "{reason}");
    assert_eq!(fs::read_to_string(&records).unwrap(), newer);
    // One that is cut off, or all zeros after a loss of power, is read as far as it goes.
    let mut text =
        "{\"opened\":{\"version\":1,\"boot\":\"b\"}}\n{\"starting\":{\"step\"".to_owned().into_bytes();
    text.extend([0; 512]);
    fs::write(&records, text).unwrap();
    works_from(&world, "build");
    world.end();
}

#[test]
fn an_image_or_artifact_that_is_not_whole_is_not_used() {
    let world = shipped();
    // An image of which a part is gone, whose manifest is cut off, or that is of a newer program.
    let image = only(world.data.join("images"));
    let manifest = image.join("manifest.json");
    let whole = fs::read_to_string(&manifest).unwrap();
    for (damaged, words) in [
        (whole.get(..whole.len() / 2).unwrap().to_owned(), "cannot be read"),
        (whole.replacen("\"version\": 1", "\"version\": 2", 1), "it has version 2"),
    ] {
        fs::write(&manifest, &damaged).unwrap();
        let before = bytes(&image);
        let reason = fails_from(&world, "staging");
        assert!(reason.contains(words) && reason.contains("manifest.json"), "{reason}");
        assert_eq!(bytes(&image), before);
    }
    fs::write(&manifest, whole).unwrap();
    works_from(&world, "staging");

    // An artifact that is shorter than it was.
    let artifact = world
        .data
        .join("artifacts/blobs")
        .read_dir()
        .unwrap()
        .flat_map(|directory| fs::read_dir(directory.unwrap().path()).unwrap())
        .map(|blob| blob.unwrap().path())
        .find(|blob| fs::read_to_string(blob).is_ok_and(|text| text.contains("smallest shop")))
        .unwrap();
    fs::set_permissions(&artifact, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    cut(&artifact, 10);
    let reason = fails_from(&world, "upload");
    assert!(reason.contains("bytes instead of"), "{reason}");
    works_from(&world, "build");
    world.end();
}

#[test]
fn a_lock_or_a_home_that_cannot_be_read_says_nothing() {
    let world = shipped();
    for name in ["lock", "home.json", "runner.lock", "balancer.lock"] {
        fs::write(world.data.join(name), [0xA5; 700]).unwrap();
    }
    edit(&world.pipeline, "echo counted", "echo counted again");
    world.run(&["--json"]).ended().with(0);
    world.windlass(&["down", "shop", "staging"]).with(0);
    world.end();
}
