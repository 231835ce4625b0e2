//! What a durable append costs: alone, shared by many writers, and a row of a batch; and reading.
//! On the disk of the target directory, since a memory file system waits for nothing.
//!
//! `cargo bench --bench store`

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::Timestamp;
use windlass::ids::{RunId, StreamId};
use windlass::run::event::RunEvent;
use windlass::store::conformance::new_run;
use windlass::store::sqlite::Sqlite;
use windlass::store::{Append, Event, Row, RunFilter, RunRow, Store};

const ALONE: u64 = 1_000;
const WRITERS: u64 = 64;
const EACH: u64 = 100;
const ROWS: u64 = 10_000;

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Arc::new(Sqlite::open(directory.path()).await.expect("a store"));

    let run = store.create_run(new_run("storefront", 0)).await.expect("a run");
    let start = Instant::now();
    for head in 1..=ALONE {
        store.append(vec![append(&run, head, 1)]).await.expect("an append");
    }
    report("one writer, an event each", "commits", ALONE, start.elapsed());

    let mut runs = Vec::new();
    for _ in 0..WRITERS {
        runs.push(store.create_run(new_run("storefront", 0)).await.expect("a run"));
    }
    let start = Instant::now();
    let writers = runs.iter().map(|run| {
        let (store, run) = (store.clone(), run.clone());
        tokio::spawn(async move {
            for head in 1..=EACH {
                store.append(vec![append(&run, head, 1)]).await.expect("an append");
            }
        })
    });
    for writer in join_all(writers).await {
        writer.expect("a writer ends");
    }
    report("64 writers, an event each", "appends", WRITERS * EACH, start.elapsed());

    let start = Instant::now();
    store.append(vec![append(&run, ALONE + 1, ROWS)]).await.expect("an append");
    report("one append of many events", "events", ROWS, start.elapsed());

    let start = Instant::now();
    let journal = store.read(&StreamId::Run(run), 0).await.expect("a journal");
    report("reading them", "events", journal.len() as u64, start.elapsed());

    let start = Instant::now();
    for _ in 0..ALONE {
        store.runs(&RunFilter::default()).await.expect("a list");
    }
    report("a list of 65 runs", "lists", ALONE, start.elapsed());
    store.close().await.expect("the store closes");
}

fn append(run: &RunId, expected: u64, count: u64) -> Append {
    let at = Timestamp::now();
    let step = |step| RunEvent::StepStarted {
        stage: "build".parse().expect("a name"),
        attempt: 1,
        step,
        name: "Unit tests".to_owned(),
    };
    Append {
        stream: StreamId::Run(run.clone()),
        expected,
        events: (0..count as u32).map(|n| (at, Event::Run(step(n)))).collect(),
        row: Row::Run(RunRow {
            run: run.clone(),
            status: "running".to_owned(),
            ended: false,
            commit: None,
            actor: "grace".to_owned(),
            waiting_for: None,
            created_at: at,
            updated_at: at,
        }),
    }
}

fn report(what: &str, unit: &str, count: u64, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    let each = took.as_secs_f64() * 1e6 / count as f64;
    println!("{what:<28} {rate:>10.0} {unit}/s {each:>9.1} µs each");
}
