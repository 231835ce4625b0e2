//! Where a backup goes, what it says of itself, and that old data is backed up before it is changed.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::check_data::sql;
use crate::here::Here;

const DONE: &str = "\
name: done
stages:
  make:
    steps: [{ run: 'mkdir out; echo app > out/app; echo made' }]
    artifacts: { app: out/ }
";

fn with_a_run() -> Here {
    let here = Here::new();
    here.write("done.yaml", DONE);
    here.good(&["run", "done.yaml"]);
    here
}

/// What lies in a directory besides what the test put there.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_backup_takes_no_place_that_is_taken_and_leaves_nothing_of_one_that_failed() {
    let here = with_a_run();
    fs::create_dir(here.path("full")).unwrap();
    here.write("full/file", "").write("file", "");
    fs::create_dir(here.path("empty")).unwrap();
    let before = names(&here.path(""));
    for (target, why) in
        [("full", "is not empty"), ("file", "is no directory"), ("data/copy", "inside the data")]
    {
        let said = here.windlass(&["backup", target]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(why), "{said:?}");
    }
    // Something in it that cannot be copied: nobody has a backup with a hole in it.
    here.write("data/balancer.json", "{");
    let said = here.windlass(&["backup", "copy"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("balancer.json cannot be read"), "{said:?}");
    fs::remove_file(here.path("data/balancer.json")).unwrap();
    assert_eq!(names(&here.path("")), before);

    let said = here.good(&["backup", "empty"]);
    assert!(said.contains("is a backup of") && said.contains("is sound"), "{said}");
    assert_eq!(names(&here.path("empty")), ["artifacts", "backup.jsonl", "logs", "runner", "windlass.db"]);
    assert_eq!(names(&here.path("")), before);
}

#[test]
fn a_backup_is_compared_with_its_list_until_it_is_opened() {
    let here = with_a_run();
    let view = here.json(&["backup", "deep/copy", "--json"]);
    assert_eq!((&view["steps_under_way"], &view["findings"]), (&0.into(), &Value::Array(vec![])));
    let log = here.path("deep/copy/logs/done/1/make/1/01.log");
    assert!(here.good(&["check-data", "--data", "deep/copy"]).contains("is sound"));
    // Longer than the journal says, which is as it may be; and not what was copied.
    fs::write(&log, "made\nand\n").unwrap();
    let said = here.windlass(&["check-data", "--data", "deep/copy"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains("error backup: logs/done/1/make/1/01.log: it has 9 bytes instead of 5"),
        "{said:?}"
    );

    let said = here.windlass(&["run", "done.yaml", "--data", "deep/copy"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("the original must not act any more"), "{said:?}");
    assert_eq!(here.json(&["show", "done/2", "--data", "deep/copy", "--json"])["status"], "succeeded");
    assert!(here.good(&["check-data", "--data", "deep/copy"]).contains("is sound: 2 runs"));
    assert!(here.path("deep/copy/restored.jsonl").exists());
    // The copy's runner, too.
    let lock = fs::File::options().write(true).open(here.path("deep/copy/runner.lock")).unwrap();
    lock.lock().unwrap();
}

/// The statements that made a store of format 1.
fn format_1() -> &'static str {
    let text = include_str!("../data/store-format-1.sql");
    let end = "PRAGMA user_version = 1;";
    &text[..text.find(end).unwrap() + end.len()]
}

#[test]
fn a_directory_of_format_1_is_checked_and_backed_up_as_it_is_and_brought_up_to_date_by_who_writes() {
    let here = with_a_run();
    let data = here.path("data");
    let view = here.good(&["show", "done/1", "--json"]);
    let runs = here.good(&["runs", "--json"]);
    // What format 1 had of it.
    fs::rename(data.join("windlass.db"), here.path("new.db")).unwrap();
    let _ = fs::remove_file(data.join("windlass.db-wal"));
    let _ = fs::remove_file(data.join("windlass.db-shm"));
    let tables = ["events", "runs", "fleets", "numbers", "triggers"];
    let copy: String = tables.map(|table| format!("INSERT INTO {table} SELECT * FROM new.{table};")).concat();
    sql(&data, &format!("{} ATTACH '{}' AS new; {copy}", format_1(), here.path("new.db").display()));

    assert!(here.good(&["check-data"]).contains("is sound: 1 run"));
    here.good(&["backup", "old"]);
    let said = here.windlass(&["runs"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("the older format 1; any command that writes"), "{said:?}");

    let mut serve = here.start(&["serve", "--listen", "127.0.0.1:0"]);
    serve.wait_for("windlass serves");
    assert_eq!(here.good(&["show", "done/1", "--json"]), view);
    assert_eq!(here.good(&["runs", "--json"]), runs);
    serve.signal(rustix::process::Signal::TERM);
    assert_eq!(serve.end().code, 0);
    here.good(&["run", "done.yaml"]);
    assert!(here.good(&["check-data"]).contains("is sound: 2 runs"));
    // The backup of before is of format 1 still, and is opened as well.
    assert!(here.good(&["check-data", "--data", "old"]).contains("is sound: 1 run"));
}
