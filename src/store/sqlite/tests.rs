//! What SQLite adds to the contract: files, formats, full disks, other processes, one commit for all.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use futures_util::future::join_all;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, raw_sql};

use super::*;
use crate::run::event::{Ending, FleetEvent, RunEvent};
use crate::store::conformance::{self, new_run};
use crate::store::{DeliveryStatus, Event, Row};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    conformance::exercise(async |place: &str| {
        let directory = root.path().join(place);
        std::fs::create_dir_all(&directory).unwrap();
        Arc::new(Sqlite::open(&directory).await.unwrap()) as Arc<dyn Store>
    })
    .await;
}

/// Does to the file what Windlass never does.
async fn tamper(directory: &Path, statements: &'static str) -> Result<(), sqlx::Error> {
    let options = schema::options(&directory.join(FILE)).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let result = raw_sql(statements).execute(&mut connection).await.map(drop);
    connection.close().await.unwrap();
    result
}

fn ending(run: &RunId, expected: u64, status: &str) -> Append {
    let new = new_run("storefront", 0);
    let (_, row) = new.begin(run);
    let event = Event::Run(RunEvent::Ended { ending: Ending::Failed });
    Append {
        stream: StreamId::Run(run.clone()),
        expected,
        events: vec![(new.at, event)],
        row: Row::Run(RunRow { status: status.to_owned(), ended: true, ..row }),
    }
}

/// Transactions that stand in the write-ahead log of a store that was never checkpointed: a frame
/// that ends one carries the size of the database, https://www.sqlite.org/fileformat2.html#walformat
fn commits(directory: &Path) -> usize {
    let log = std::fs::read(directory.join("windlass.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

/// How SQLite goes about a question.
async fn plan(store: &Sqlite, filter: &RunFilter) -> String {
    let text = format!("EXPLAIN QUERY PLAN {}", read::question(filter));
    let rows = sqlx::query(sqlx::AssertSqlSafe(text)).fetch_all(&store.readers).await.unwrap();
    let steps: Vec<String> = rows.iter().map(|row| sqlx::Row::get(row, "detail")).collect();
    steps.join("; ")
}

#[tokio::test]
async fn every_page_of_runs_finds_its_index() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let pipeline = Some("storefront".parse().unwrap());
    let status = Some("failed".to_owned());
    let before = Some("storefront/9".parse().unwrap());
    let any = RunFilter::default();
    let of_pipeline = RunFilter { pipeline, ..any.clone() };
    for (filter, index) in [
        (any.clone(), "SCAN runs"),
        (RunFilter { before: before.clone(), ..any.clone() }, "USING INTEGER PRIMARY KEY (rowid<?)"),
        (RunFilter { status: status.clone(), ..any.clone() }, "runs_by_status (status=?)"),
        (
            RunFilter { status: status.clone(), before: before.clone(), ..any.clone() },
            "runs_by_status (status=? AND rowid<?)",
        ),
        (RunFilter { unfinished: true, ..any }, "runs_unfinished"),
        (of_pipeline.clone(), "(pipeline=?)"),
        (RunFilter { before: before.clone(), ..of_pipeline.clone() }, "(pipeline=? AND number<?)"),
        (
            RunFilter { status: status.clone(), ..of_pipeline.clone() },
            "runs_by_pipeline_and_status (pipeline=? AND status=?)",
        ),
        (
            RunFilter { status, before, ..of_pipeline.clone() },
            "runs_by_pipeline_and_status (pipeline=? AND status=? AND number<?)",
        ),
    ] {
        let plan = plan(&store, &filter).await;
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
    }
    // Of these there are few: they may be sorted.
    let plan = plan(&store, &RunFilter { unfinished: true, ..of_pipeline }).await;
    assert!(plan.contains("runs_unfinished"), "{plan}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn all_who_wait_share_a_commit() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let before = commits(root.path());
    let creates = (0..100).map(|_| store.create_run(new_run("storefront", 0)));
    let numbers: HashSet<_> = join_all(creates).await.into_iter().map(|run| run.unwrap().number).collect();
    assert_eq!(numbers, (1..=100).collect());
    assert_eq!(commits(root.path()), before + 1);
    store.create_run(new_run("storefront", 0)).await.unwrap();
    assert_eq!(commits(root.path()), before + 2);
}

#[tokio::test]
async fn webhooks_share_a_commit_too() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let before = commits(root.path());
    let deliveries = (0..100).map(|n| store.deliver(conformance::new_delivery(&format!("{}", n / 2), 0)));
    let receipts = join_all(deliveries).await;
    let new = receipts.iter().filter(|receipt| matches!(receipt, Ok(Receipt::New))).count();
    assert_eq!((receipts.len(), new, commits(root.path())), (100, 50, before + 1));
}

#[tokio::test]
async fn what_came_of_a_delivery_waits_for_company_and_not_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let ignored = Settlement { status: DeliveryStatus::Ignored, reason: None, runs: Vec::new() };
    let new = |n: u32| conformance::new_delivery(&n.to_string(), 0);
    store.deliver(new(0)).await.unwrap();
    let mut shared = false;
    // On a machine that stands still meanwhile, no company may come in time.
    for n in 1..=20 {
        let before = commits(root.path());
        let key = new(n - 1).key;
        let settle = store.settle_delivery(&key, ignored.clone());
        tokio::pin!(settle);
        assert!(futures_util::poll!(&mut settle).is_pending());
        // The writer takes it up, before there is anything else.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let (settled, delivered) = tokio::join!(settle, store.deliver(new(n)));
        assert!(matches!((settled, delivered), (Ok(()), Ok(Receipt::New))));
        shared |= commits(root.path()) == before + 1;
    }
    assert!(shared);
    store.settle_delivery(&new(20).key, ignored).await.unwrap();
}

#[tokio::test]
async fn what_is_remembered_of_a_journal_is_never_believed_against_the_table() {
    let root = tempfile::tempdir().unwrap();
    let ours = Sqlite::open(root.path()).await.unwrap();
    let theirs = Sqlite::open(root.path()).await.unwrap();
    let run = ours.create_run(new_run("storefront", 0)).await.unwrap();
    let append = |expected| vec![ending(&run, expected, "running")];
    ours.append(append(1)).await.unwrap();
    // Remembered are 2 by one and nothing by the other, then 2 and 3.
    theirs.append(append(2)).await.unwrap();
    let before = commits(root.path());
    assert!(matches!(ours.append(append(2)).await, Err(Error::Conflict { .. })));
    assert_eq!(commits(root.path()), before);
    ours.append(append(3)).await.unwrap();
    assert!(matches!(theirs.append(append(3)).await, Err(Error::Conflict { .. })));
    theirs.append(append(4)).await.unwrap();
    // One that stands ahead of all is refused as well.
    assert!(matches!(theirs.append(append(9)).await, Err(Error::Conflict { .. })));
    assert_eq!(ours.read(&StreamId::Run(run.clone()), 0).await.unwrap().len(), 5);
    // Nor is a row written that only what is remembered would let in.
    ours.append(append(5)).await.unwrap();
    let row_only = |expected| vec![Append { events: Vec::new(), ..ending(&run, expected, "failed") }];
    assert!(matches!(theirs.append(row_only(5)).await, Err(Error::Conflict { .. })));
    theirs.append(row_only(6)).await.unwrap();
    let rows = ours.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["failed"]);
    theirs.close().await.unwrap();
    ours.close().await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_written_disturbs_no_other() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let runs = join_all((0..4).map(|_| store.create_run(new_run("storefront", 0)))).await;
    // The table refuses an empty status.
    let statuses = ["failed", "", "failed", "failed"];
    let appends = runs.iter().zip(statuses).map(|(run, status)| (run.as_ref().unwrap(), status));
    let appends = appends.map(|(run, status)| store.append(vec![ending(run, 1, status)]));
    let results = join_all(appends).await;
    assert!(matches!(&results[1], Err(Error::Failed { .. })), "{results:?}");
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    for (run, length) in runs.iter().zip([2, 1, 2, 2]) {
        let stream = StreamId::Run(run.clone().unwrap());
        assert_eq!(store.read(&stream, 0).await.unwrap().len(), length);
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(FILE);
    let mut connection = schema::connect(&path).await.unwrap();
    // As many pages as there are: no room for anything.
    raw_sql("PRAGMA max_page_count = 1").execute(&mut connection).await.unwrap();
    let (writer, task) = Writer::start(path.clone(), connection);
    let mut new = new_run("storefront", 0);
    new.origin.pipeline = "x".repeat(100_000);
    let full = join_all((0..2).map(|_| writer.write(Request::Create(Box::new(new.clone()))))).await;
    assert!(full.iter().all(|answer| matches!(answer, Err(Error::Full { .. }))), "{full:?}");

    // The limit was that of the connection, which has been thrown away: there is room again.
    let Ok(Done::Created(run)) = writer.write(Request::Create(Box::new(new))).await else {
        panic!("not created")
    };
    assert_eq!(run.number, 1, "what was not written took no number");
    drop(writer);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_writer_that_died_is_told() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    lock(&store.task).as_ref().unwrap().abort();
    let result = store.create_run(new_run("storefront", 0)).await;
    assert!(matches!(result, Err(Error::Failed { .. })), "{result:?}");
    assert!(store.close().await.is_err());
}

#[tokio::test]
async fn closing_writes_what_waits_and_leaves_one_file() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    store.fleets().await.unwrap();
    let (created, closed) = tokio::join!(store.create_run(new_run("storefront", 0)), store.close());
    closed.unwrap();
    let run = created.unwrap();
    let files: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files, [FILE]);

    assert!(matches!(store.fleets().await, Err(Error::Failed { .. })));
    let result = store.append(vec![ending(&run, 1, "failed")]).await;
    assert!(matches!(result, Err(Error::Failed { .. })));
    store.close().await.unwrap();
}

const DIRECTORY: &str = "WINDLASS_TEST_STORE_DIRECTORY";

/// What the test below kills.
#[tokio::test]
#[ignore = "runs as the second process of the test beside it"]
async fn writes_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let store = Sqlite::open(Path::new(&directory)).await.unwrap();
    loop {
        let run = store.create_run(new_run("storefront", 0)).await.unwrap();
        println!("\ncreated {}", run.number);
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["store::sqlite::tests::writes_until_killed", "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let answered = |line: String| line.strip_prefix("created ").and_then(|number| number.parse().ok());
    let mut last: u64 = said.by_ref().filter_map(answered).nth(30).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    last = said.filter_map(answered).last().unwrap_or(last);

    let reader = Sqlite::open_read_only(root.path()).await.unwrap().unwrap();
    let newest = RunFilter { limit: Some(1), ..RunFilter::default() };
    assert!(reader.runs(&newest).await.unwrap()[0].run.number >= last);
    let store = Sqlite::open(root.path()).await.unwrap();
    let next = store.create_run(new_run("storefront", 0)).await.unwrap().number;
    assert!(next > last);
    for number in 1..=next {
        let stream = StreamId::Run(RunId::new("storefront".parse().unwrap(), number));
        assert_eq!(store.read(&stream, 0).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn reading_only_neither_creates_nor_writes() {
    let root = tempfile::tempdir().unwrap();
    assert!(Sqlite::open_read_only(root.path()).await.unwrap().is_none());
    assert!(Sqlite::open_read_only(&root.path().join("nowhere")).await.unwrap().is_none());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    std::fs::write(root.path().join(FILE), "").unwrap();
    assert!(Sqlite::open_read_only(root.path()).await.unwrap().is_none(), "nobody has written yet");

    let store = Sqlite::open(root.path()).await.unwrap();
    let reader = Sqlite::open_read_only(root.path()).await.unwrap().unwrap();
    for number in 1..=3 {
        let run = store.create_run(new_run("storefront", 0)).await.unwrap();
        assert_eq!(reader.read(&StreamId::Run(run), 0).await.unwrap().len(), 1);
        assert_eq!(reader.runs(&RunFilter::default()).await.unwrap().len(), number);
    }
    let result = reader.create_run(new_run("storefront", 0)).await;
    assert!(matches!(result, Err(Error::Failed { .. })), "{result:?}");
    reader.close().await.unwrap();

    store.close().await.unwrap();
    let reader = Sqlite::open_read_only(root.path()).await.unwrap().unwrap();
    assert_eq!(reader.runs(&RunFilter::default()).await.unwrap().len(), 3, "also when nobody holds it");
}

#[tokio::test]
async fn files_that_are_not_ours_are_left_alone() {
    type Expected = fn(&Error) -> bool;
    let newer: Expected = |e| matches!(e, Error::Newer { found: 4, known: schema::FORMAT, .. });
    let damaged: Expected = |e| matches!(e, Error::Damaged { .. });
    let cases: [(&str, Expected); 3] = [
        ("PRAGMA application_id = 0x57494E44; PRAGMA user_version = 4; CREATE TABLE new (x)", newer),
        ("CREATE TABLE recipes (name)", damaged),
        ("PRAGMA application_id = 7; PRAGMA user_version = 1", damaged),
    ];
    for (statements, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        tamper(root.path(), statements).await.unwrap();
        left_alone(root.path(), expected).await;
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join(FILE), "no database at all\n".repeat(500)).unwrap();
    left_alone(root.path(), damaged).await;
}

async fn left_alone(directory: &Path, expected: fn(&Error) -> bool) {
    let before = std::fs::read(directory.join(FILE)).unwrap();
    let error = Sqlite::open(directory).await.err().unwrap();
    assert!(expected(&error), "{error}");
    let error = Sqlite::open_read_only(directory).await.err().unwrap();
    assert!(expected(&error), "{error}");
    assert!(std::fs::read(directory.join(FILE)).unwrap() == before);
}

#[tokio::test]
async fn events_of_a_newer_format_are_not_guessed_at() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let run = store.create_run(new_run("storefront", 0)).await.unwrap();
    let stream = StreamId::Run(run);
    tamper(
        root.path(),
        "INSERT INTO events (stream, sequence, format, at, payload)
         VALUES ('run:storefront/1', 2, 2, 0, '{\"type\":\"teleported\"}')",
    )
    .await
    .unwrap();
    let error = store.read(&stream, 0).await.unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");

    tamper(
        root.path(),
        "INSERT INTO events (stream, sequence, format, at, payload)
         VALUES ('run:storefront/1', 3, 1, 0, '{\"type\":\"teleported\"}')",
    )
    .await
    .unwrap();
    let error = store.read(&stream, 2).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("event 3 of run:storefront/1"), "{error}");
}

#[tokio::test]
async fn the_tables_hold_the_invariants() {
    let root = tempfile::tempdir().unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let run = store.create_run(new_run("storefront", 0)).await.unwrap();
    for forbidden in [
        "UPDATE events SET at = 0",
        "DELETE FROM events",
        "INSERT INTO events VALUES (NULL, 'run:storefront/1', 1, 1, 0, '{}')",
        "INSERT INTO events VALUES (NULL, 'run:storefront/1', 3, 1, 0, '{}')",
        "INSERT INTO events VALUES (NULL, 'run:storefront/2', 0, 1, 0, '{}')",
        "INSERT INTO events VALUES (NULL, 'storefront', 1, 1, 0, '{}')",
        "INSERT INTO events VALUES (NULL, 'run:storefront/2', 1, 1, 0, '{')",
        "UPDATE runs SET number = 0",
        "UPDATE runs SET ended = 2",
        "UPDATE runs SET commit_sha = 'main'",
        "INSERT INTO runs VALUES (9, 'storefront', 9, 'queued', 0, NULL, 'grace', NULL, 0, 0)",
        "INSERT INTO deliveries VALUES (NULL, 'github', 'a', 'push', 0, 'lost', NULL, '[]', NULL)",
        "INSERT INTO deliveries VALUES (NULL, '', 'a', 'push', 0, 'pending', NULL, '[]', NULL)",
    ] {
        assert!(tamper(root.path(), forbidden).await.is_err(), "{forbidden}");
    }
    assert_eq!(store.read(&StreamId::Run(run), 0).await.unwrap().len(), 1);
}

/// Whether everything that `stored` says, `read` says too. It may say more: fields with defaults.
fn says_all(read: &Value, stored: &Value) -> bool {
    match (read, stored) {
        (Value::Object(read), Value::Object(stored)) => {
            stored.iter().all(|(key, stored)| says_all(read.get(key).unwrap_or(&Value::Null), stored))
        }
        (Value::Array(read), Value::Array(stored)) => {
            read.len() == stored.len() && read.iter().zip(stored).all(|(read, stored)| says_all(read, stored))
        }
        (read, stored) => read == stored,
    }
}

/// Sees that these journals are read as they are stored, and answers which kinds of event they have.
async fn kinds_read(directory: &Path, store: &Sqlite, streams: &[&str]) -> HashSet<String> {
    let mut kinds = HashSet::new();
    for name in streams {
        let stream: StreamId = name.parse().unwrap();
        let journal = store.read(&stream, 0).await.unwrap();
        let stored = payloads(directory, name).await;
        assert_eq!(journal.len(), stored.len());
        for (recorded, stored) in journal.iter().zip(&stored) {
            let read = match &recorded.event {
                Event::Run(event) => serde_json::to_value(event),
                Event::Fleet(event) => serde_json::to_value(event),
                Event::Environment(event) => serde_json::to_value(event),
            };
            let read = read.unwrap();
            assert!(says_all(&read, stored), "{stored} was read as {read}");
            let (kind, _) = name.split_once(':').unwrap();
            kinds.insert(format!("{kind} {}", read["type"]));
        }
    }
    kinds
}

#[tokio::test]
async fn a_store_of_format_1_is_read_for_ever() {
    let root = tempfile::tempdir().unwrap();
    tamper(root.path(), include_str!("../../../tests/data/store-format-1.sql")).await.unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let streams = ["run:storefront/1", "fleet:production/storefront"];
    let kinds = kinds_read(root.path(), &store, &streams).await;
    assert_eq!(kinds.len(), 18 + 5, "every kind of event of format 1 is in the file");
    let journal = store.read(&streams[1].parse().unwrap(), 0).await.unwrap();
    let started = "2026-11-21T14:00:00Z".parse().unwrap();
    assert_eq!(journal[0].at, started);
    let run: RunId = "storefront/1".parse().unwrap();
    assert_eq!(journal[0].event, Event::Fleet(FleetEvent::Held { service: run.pipeline.clone(), run }));

    let runs = store.runs(&RunFilter::default()).await.unwrap();
    assert_eq!(runs[0].status, "cancelled");
    assert!(store.fleets().await.unwrap()[0].ended);
    let again = NewRun { trigger_key: Some("push 1".to_owned()), ..new_run("storefront", 0) };
    assert_eq!(store.create_run(again).await.unwrap(), runs[0].run);
    assert_eq!(store.create_run(new_run("storefront", 0)).await.unwrap().number, 2);
    assert_eq!(store.deliveries(&DeliveryFilter::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_store_of_format_2_is_read_for_ever() {
    let root = tempfile::tempdir().unwrap();
    tamper(root.path(), include_str!("../../../tests/data/store-format-2.sql")).await.unwrap();
    let store = Sqlite::open(root.path()).await.unwrap();
    let streams = [
        "run:storefront/1",
        "run:storefront/2",
        "run:storefront/3",
        "run:storefront/4",
        "fleet:production/storefront",
        "environment:production",
    ];
    let kinds = kinds_read(root.path(), &store, &streams).await;
    assert_eq!(kinds.len(), 23 + 9 + 2, "every kind of event of format 2 is in the file");

    let deliveries = store.deliveries(&DeliveryFilter::default()).await.unwrap();
    let statuses: Vec<_> = deliveries.iter().map(|found| found.settlement.status.as_str()).collect();
    assert_eq!(statuses, ["pending", "failed", "ignored", "handled"]);
    assert_eq!(deliveries[3].settlement.runs, ["storefront/1".parse().unwrap()]);
    let pending = store.pending_deliveries().await.unwrap();
    let body = store.delivery(&pending[0].id).await.unwrap().unwrap().body;
    assert_eq!((pending.len(), body), (1, Some(vec![0xff, 0])));
    let marked = store.schedule_mark(&"storefront".parse().unwrap()).await.unwrap();
    assert_eq!(marked, Some("2026-11-22T05:00:00Z".parse().unwrap()));
}

async fn payloads(directory: &Path, stream: &str) -> Vec<Value> {
    let mut connection: SqliteConnection = schema::options(&directory.join(FILE)).connect().await.unwrap();
    let texts: Vec<String> =
        sqlx::query_scalar("SELECT payload FROM events WHERE stream = $1 ORDER BY sequence")
            .bind(stream)
            .fetch_all(&mut connection)
            .await
            .unwrap();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}
