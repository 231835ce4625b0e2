//! Damage is found where it is, what can be made anew is repaired, and a sound directory is sound.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::here::Here;

const MADE: &str = "\
name: made
stages:
  make:
    steps: [{ run: 'mkdir out; echo app > out/app; echo made' }, { run: 'echo and; echo more' }]
    artifacts: { app: out/ }
  upload: { uses: upload, needs: make, with: { artifact: app } }
  bake: { uses: bake, needs: upload, with: { provision: [{ run: echo baked }], start: ./app } }
";

/// Does to a database what Windlass never does.
pub fn sql(data: &Path, statements: &str) {
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("windlass.db")).create_if_missing(true);
    let statements = statements.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let mut connection = options.foreign_keys(false).connect().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// The first file below that is called so, or has it in its path.
fn file(data: &Path, name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(data)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.strip_prefix(data).unwrap().to_str().unwrap().contains(name))
        .collect();
    found.sort();
    found.into_iter().next().unwrap_or_else(|| panic!("no {name} in {}", data.display()))
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn append(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = [fs::read(path).unwrap_or_default(), text.as_bytes().to_vec()].concat();
    fs::write(path, text).unwrap();
}

/// The content of the artifact's one file.
fn content(data: &Path) -> PathBuf {
    let blobs = walkdir::WalkDir::new(data.join("artifacts/blobs")).into_iter().filter_map(Result::ok);
    let is_it = |path: &PathBuf| fs::read(path).is_ok_and(|content| content == b"app\n");
    blobs.map(walkdir::DirEntry::into_path).find(is_it).unwrap()
}

fn flip(path: &Path) {
    let mut content = fs::read(path).unwrap();
    content[0] ^= 1;
    write(path, content);
}

/// What is found, each as `severity area: problem`.
fn found(here: &Here, data: &Path) -> (i32, Vec<String>) {
    let said = here.windlass(&["check-data", "--json", "--data", data.to_str().unwrap()]);
    let view: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = view["findings"].as_array().unwrap().iter();
    let line = |f: &Value| {
        format!("{} {}: {} {}", text(f, "severity"), text(f, "area"), text(f, "place"), text(f, "problem"))
    };
    (said.code, findings.map(line).collect())
}

/// Something that is done to a data directory, and what is found then.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

/// The index stands still while rows change: as after a write that was lost.
const STALE_INDEX: &str = "
PRAGMA writable_schema = ON;
CREATE TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'runs_by_status';
DELETE FROM sqlite_schema WHERE name = 'runs_by_status';";

const DAMAGES: &[Damage] = &[
    ("a byte of an artifact", |data| flip(&content(data)), &["error artifacts: "]),
    (
        "no log",
        |data| fs::remove_file(file(data, "logs/made/1/make/1/01.log")).unwrap(),
        &["error logs: made/1 make attempt 1 step 1 it is not there; it had 5 bytes"],
    ),
    (
        "a log that was cut",
        |data| write(&file(data, "logs/made/1/make/1/02.log"), "and\n"),
        &["error logs: made/1 make attempt 1 step 2 it has 4 bytes instead of 9"],
    ),
    (
        "another status",
        |data| sql(data, "UPDATE runs SET status = 'failed'"),
        &["error lists: made/1 its row says failed, and its journal succeeded"],
    ),
    (
        "no status at all",
        |data| sql(data, "UPDATE runs SET status = 'lost', ended = 0"),
        &["error lists: made/1 its row says \"lost\", which is no status"],
    ),
    (
        "no row and no number",
        |data| sql(data, "DELETE FROM runs; DELETE FROM numbers"),
        &[
            "error lists: made the number of its newest run is 1, and none is kept",
            "error lists: made/1 it has a journal and stands in no list",
        ],
    ),
    (
        "events that are gone",
        |data| sql(data, "DROP TRIGGER events_are_not_removed; DELETE FROM events WHERE sequence IN (3, 4)"),
        &["error journal: run:made/1 event 3 is missing: the next one there is 5"],
    ),
    (
        "an event that cannot be",
        |data| {
            sql(
                data,
                "DROP TRIGGER events_are_not_changed; UPDATE events SET payload = json_set(payload, '$.stage', 'other') WHERE sequence = 2",
            )
        },
        &["error journal: run:made/1 it cannot be followed: "],
    ),
    (
        "an event of a newer format",
        |data| {
            sql(data, "DROP TRIGGER events_are_not_changed; UPDATE events SET format = 99 WHERE sequence = 2")
        },
        &["error journal: run:made/1 event 2 cannot be read: it has format 99"],
    ),
    (
        "an event of next year",
        |data| {
            sql(
                data,
                "DROP TRIGGER events_are_not_changed; UPDATE events SET at = at + 31536000000000 WHERE sequence = 2",
            )
        },
        &["warning journal: run:made/1 event 2 was recorded at "],
    ),
    (
        "a trigger without its run",
        |data| sql(data, "INSERT INTO triggers VALUES ('github:1:made', 'made/7')"),
        &["error lists: trigger github:1:made it created made/7, which has no journal"],
    ),
    (
        "deliveries that cannot be",
        |data| {
            sql(
                data,
                "INSERT INTO deliveries VALUES (1, 'github', 'a', 'push', 0, 'pending', NULL, '[]'),
                (2, 'github', 'b', 'push', 0, 'handled', NULL, '[\"made/9\"]'),
                (3, 'github', 'c', 'push', 0, 'handled', NULL, '[\"made/1\"]')",
            );
        },
        &[
            "error inbox: github a it is still to be handled, and its body is gone",
            "error inbox: github b it started made/9, which has no journal",
            "error inbox: github c it started made/1, and handled again it would start another",
        ],
    ),
    (
        "an image that was changed",
        |data| append(&file(data, "root/app/app"), "more"),
        &["error images: img-"],
    ),
    (
        "half an image's manifest",
        |data| write(&file(data, "/manifest.json"), "{\"version\": 1,"),
        &["error images: img-"],
    ),
    ("another object", |data| flip(&file(data, ".tar")), &["error objects: "]),
    ("no object", |data| fs::remove_file(file(data, ".tar")).unwrap(), &["error objects: "]),
    (
        "records of the runner that are no JSON",
        |data| append(&data.join("runner/journal"), "{\"star\n{}\n"),
        &["warning runner: runner/journal 2 of its lines"],
    ),
    (
        "records of a newer runner",
        |data| write(&data.join("runner/journal"), "{\"opened\":{\"version\":99,\"boot\":\"b\"}}\n"),
        &["error runner: runner/journal a newer windlass wrote it"],
    ),
    (
        "half a balancer's state",
        |data| write(&data.join("balancer.json"), "{"),
        &["error balancer: balancer.json "],
    ),
    (
        "half an instance's record",
        |data| write(&data.join("instances/made-production-1-1/instance.json"), "{"),
        &["error instances: made-production-1-1 "],
    ),
    (
        "no database",
        |data| write(&data.join("windlass.db"), [b'x'; 4096]),
        &["error database: windlass.db ", "note "],
    ),
    (
        "what nobody needs",
        |data| {
            write(&data.join("logs/other/3/a/1/01.log"), "hello\n");
            write(&data.join("artifacts/blobs/00").join("1".repeat(62)), "blob");
            write(&data.join("objects/made/other.tar"), "tar");
        },
        &[
            "note logs: logs/other/3 ",
            "note artifacts: artifacts/blobs 1 stored ",
            "note objects: objects 1 objects",
        ],
    ),
];

#[test]
fn a_sound_directory_is_sound_and_each_damage_is_found_and_no_other() {
    let here = Here::new();
    here.write("made.yaml", MADE);
    here.good(&["run", "made.yaml"]);
    let sound = here.path("data");
    assert_eq!(found(&here, &sound), (0, vec![]));
    assert!(here.good(&["check-data"]).contains("is sound: 1 run, "));
    assert!(!here.good(&["check-data"]).contains(" 0 "), "there is something of everything");

    for (n, (what, damage, wanted)) in DAMAGES.iter().enumerate() {
        let data = here.path(&format!("damaged-{n}"));
        copy(&sound, &data);
        damage(&data);
        let (code, findings) = found(&here, &data);
        let notes = wanted.iter().all(|wanted| wanted.starts_with("note"));
        assert_eq!(code, i32::from(!notes), "{what}: {findings:#?}");
        for wanted in *wanted {
            assert!(
                findings.iter().any(|found| found.starts_with(wanted)),
                "{what}: {wanted}: {findings:#?}"
            );
        }
        let stray = |found: &&String| !wanted.iter().any(|wanted| found.starts_with(wanted));
        assert_eq!(findings.iter().find(stray), None, "{what}");
    }
}

#[test]
fn only_what_the_journals_say_is_made_anew_and_journals_are_left_alone() {
    let here = Here::new();
    here.write("made.yaml", MADE);
    here.good(&["run", "made.yaml"]);
    here.write("other.yaml", "name: other\nstages: { a: { steps: [{ run: 'false' }] } }\n");
    here.windlass(&["run", "other.yaml"]);
    let data = here.path("data");
    let runs = here.good(&["runs", "--json"]);

    sql(
        &data,
        "UPDATE runs SET status = 'running', ended = 0, actor = 'eve' WHERE pipeline = 'made';
                UPDATE runs SET pipeline = 'none' WHERE pipeline = 'other'; DELETE FROM numbers",
    );
    assert_ne!(here.good(&["runs", "--json"]), runs);
    // Between the two, the index is not there, and does not hear of what changes.
    sql(&data, STALE_INDEX);
    sql(&data, "UPDATE runs SET status = 'waiting' WHERE pipeline = 'made'");
    sql(&data, "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; DROP TABLE kept");
    let (code, findings) = found(&here, &data);
    assert_eq!(code, 1);
    let database = |found: &String| found.starts_with("error database: windlass.db ");
    assert!(findings.iter().any(database), "{findings:#?}");

    let said = here.good(&["check-data", "--repair"]);
    let wanted = [
        "made the indexes",
        "made the lists anew from the journals: 2 runs",
        "gets a number above 1",
        "is sound",
    ];
    wanted.iter().for_each(|wanted| assert!(said.contains(wanted), "{wanted}: {said}"));
    assert_eq!(here.good(&["runs", "--json"]), runs);
    here.good(&["run", "made.yaml"]);
    assert_eq!(here.json(&["show", "made/2", "--json"])["status"], "succeeded");

    // What cannot be made anew is not touched.
    fs::remove_file(file(&data, "logs/made/1/make/1/01.log")).unwrap();
    let before = fs::read(data.join("windlass.db")).unwrap();
    let said = here.windlass(&["check-data", "--repair"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("it is not there") && !said.out.contains("repaired"), "{said:?}");
    assert_eq!(fs::read(data.join("windlass.db")).unwrap(), before);
}

#[test]
fn beside_a_holder_it_is_checked_and_not_repaired() {
    let here = Here::new();
    here.write("done.yaml", "name: done\nstages: { a: { steps: [{ run: 'true' }] } }\n");
    here.good(&["run", "done.yaml"]);
    let (step, gate) = here.held_step("held");
    here.write("held.yaml", &format!("name: held\nstages: {{ a: {{ steps: [{step}] }} }}\n"));
    let run = here.start(&["run", "held.yaml"]);
    gate.begun();
    let data = here.path("data");
    assert_eq!(found(&here, &data), (0, vec![]));
    sql(&data, "UPDATE runs SET actor = 'eve' WHERE pipeline = 'done'");
    let said = here.windlass(&["check-data", "--repair"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("(windlass run, since"), "{said:?}");
    gate.go();
    assert_eq!(run.end().code, 0);
    here.good(&["check-data", "--repair"]);
}

#[test]
fn where_there_is_nothing_nothing_is_checked_or_backed_up_or_made() {
    let here = Here::new();
    for words in [&["check-data"][..], &["backup", "copy"]] {
        let said = here.windlass(words);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains("holds no runs"), "{said:?}");
    }
    assert!(!here.path("data").exists() && !here.path("copy").exists());
}
