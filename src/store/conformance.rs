//! What every store promises, as one suite that every implementation runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::{Append, Error, Event, FleetRow, NewRun, Row, RunFilter, RunRow, Store};
use crate::ids::{FleetId, PipelineName, RunId, StreamId};
use crate::run::event::{Actor, Commit, Ending, FleetEvent, Origin, RunEvent};

mod inbox;

pub use inbox::new_delivery;

/// Holds a store to its contract; panics where it breaks it.
///
/// `open` opens the store of the given name, an empty one the first time. Opening the same name
/// again opens what was left there, also while it is open already.
pub async fn exercise(open: impl AsyncFn(&str) -> Arc<dyn Store>) {
    a_run_begins_with_what_created_it(&*open("create").await).await;
    runs_are_numbered_without_gaps(&open("numbers").await).await;
    a_trigger_key_creates_one_run(&open("triggers").await).await;
    events_are_read_as_they_were_appended(&*open("order").await).await;
    what_comes_too_late_is_a_conflict(&*open("conflict").await).await;
    several_journals_are_written_together_or_not_at_all(&*open("together").await).await;
    what_belongs_to_no_journal_is_refused(&*open("refused").await).await;
    rows_are_written_without_events_too(&*open("rows").await).await;
    runs_are_listed_newest_first_and_filtered(&*open("lists").await).await;
    fleets_are_listed_by_name(&*open("fleets").await).await;
    any_text_comes_back(&*open("texts").await).await;
    large_events_come_back(&*open("large").await).await;
    times_are_kept_to_the_microsecond(&*open("times").await).await;
    of_two_who_race_one_wins(&open("race").await, &open("race").await).await;
    many_who_write_at_once_all_succeed(&open("many").await, &open("many").await).await;
    inbox::exercise(&open).await;

    let store = open("reopened").await;
    let left = leave_something(&*store).await;
    drop(store);
    what_was_left_is_found(&*open("reopened").await, left).await;
}

/// A new run of `pipeline`, `minute` minutes after the suite's beginning of time.
pub fn new_run(pipeline: &str, minute: i64) -> NewRun {
    NewRun { pipeline: name(pipeline), origin: origin("stages: {}"), at: minutes(minute), trigger_key: None }
}

fn name(pipeline: &str) -> PipelineName {
    pipeline.parse().expect("a name")
}

fn minutes(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(29_000_000 + minute)
}

fn origin(pipeline: &str) -> Origin {
    Origin {
        source: Some("/srv/storefront".to_owned()),
        commit: Some(Commit {
            sha: "9f3c2a1b".repeat(5).parse().expect("a commit"),
            branch: "main".to_owned(),
            author: "Grace <grace@example.com>".to_owned(),
            message: "Count the visitors".to_owned(),
        }),
        params: BTreeMap::from([("flavour".to_owned(), "plain".to_owned())]),
        ..Origin::new(pipeline, "/srv/pipelines/storefront.yaml", Actor::unverified("grace"))
    }
}

/// The row of a run that has the given status.
fn row(run: &RunId, status: &str, minute: i64) -> RunRow {
    RunRow {
        run: run.clone(),
        status: status.to_owned(),
        ended: matches!(status, "succeeded" | "failed" | "cancelled"),
        commit: origin("").commit.map(|commit| commit.sha),
        actor: "grace".to_owned(),
        waiting_for: (status == "waiting").then(|| "a promotion to production".to_owned()),
        created_at: minutes(0),
        updated_at: minutes(minute),
    }
}

fn skipped(stage: &str, reason: &str) -> Event {
    let stage = stage.parse().expect("a name");
    Event::Run(RunEvent::StageSkipped { stage, reason: reason.to_owned() })
}

/// `count` events for the run, which stands at `expected`.
fn append(run: &RunId, expected: u64, count: u64) -> Append {
    let event = |n| (minutes(0), skipped("build", &format!("{run}: {n} after {expected}")));
    Append {
        stream: StreamId::Run(run.clone()),
        expected,
        events: (1..=count).map(event).collect(),
        row: Row::Run(row(run, "running", 1)),
    }
}

fn hold(service: &str, environment: &str, expected: u64, run: &RunId) -> Append {
    let fleet = FleetId::new(name(service), environment.parse().expect("a name"));
    let event = FleetEvent::Held { run: run.clone(), service: name(service) };
    Append {
        stream: StreamId::Fleet(fleet.clone()),
        expected,
        events: vec![(minutes(0), Event::Fleet(event))],
        row: Row::Fleet(FleetRow { fleet, ended: false, updated_at: minutes(0) }),
    }
}

fn stream(run: &RunId) -> StreamId {
    StreamId::Run(run.clone())
}

async fn create(store: &dyn Store, pipeline: &str, minute: i64) -> RunId {
    store.create_run(new_run(pipeline, minute)).await.expect("a run is created")
}

/// The sequence numbers of a journal.
async fn sequences(store: &dyn Store, stream: &StreamId) -> Vec<u64> {
    let journal = store.read(stream, 0).await.expect("a journal is read");
    journal.iter().map(|recorded| recorded.sequence).collect()
}

async fn listed(store: &dyn Store, filter: RunFilter) -> Vec<String> {
    let rows = store.runs(&filter).await.expect("runs are listed");
    rows.iter().map(|row| row.run.to_string()).collect()
}

fn assert_conflict(result: Result<(), Error>, expected: u64, actual: u64) {
    match result {
        Err(Error::Conflict { expected: e, actual: a, .. }) => assert_eq!((e, a), (expected, actual)),
        other => panic!("a conflict at {actual}, not {expected}, was due; it answered {other:?}"),
    }
}

async fn a_run_begins_with_what_created_it(store: &dyn Store) {
    let new = new_run("storefront", 7);
    let run = store.create_run(new.clone()).await.expect("a run is created");
    assert_eq!(run.to_string(), "storefront/1");
    let journal = store.read(&stream(&run), 0).await.expect("a journal is read");
    let first = Event::Run(RunEvent::Created { run: run.clone(), origin: Box::new(new.origin) });
    assert_eq!(journal.len(), 1);
    assert_eq!((journal[0].sequence, journal[0].at, &journal[0].event), (1, minutes(7), &first));
    let expected = RunRow { status: "queued".to_owned(), created_at: minutes(7), ..row(&run, "running", 7) };
    assert_eq!(store.runs(&RunFilter::default()).await.expect("runs are listed"), [expected]);
}

async fn runs_are_numbered_without_gaps(store: &Arc<dyn Store>) {
    let creates = (0..40).map(|n| {
        let (store, pipeline) = (store.clone(), ["storefront", "warehouse"][n % 2]);
        tokio::spawn(async move { create(&*store, pipeline, 0).await })
    });
    let runs: BTreeSet<_> =
        join_all(creates).await.into_iter().map(|run| run.expect("a task ends")).collect();
    let expected: BTreeSet<_> = ["storefront", "warehouse"]
        .into_iter()
        .flat_map(|pipeline| (1..=20).map(move |number| RunId::new(name(pipeline), number)))
        .collect();
    assert_eq!(runs, expected);
}

async fn a_trigger_key_creates_one_run(store: &Arc<dyn Store>) {
    let new = |key: &str| NewRun { trigger_key: Some(key.to_owned()), ..new_run("storefront", 0) };
    let creates = (0..8).map(|_| {
        let (store, new) = (store.clone(), new("push 1"));
        tokio::spawn(async move { store.create_run(new).await.expect("a run is created") })
    });
    let runs: BTreeSet<_> =
        join_all(creates).await.into_iter().map(|run| run.expect("a task ends")).collect();
    assert_eq!(runs.len(), 1, "one key made {runs:?}");

    let again = store.create_run(new("push 1")).await.expect("a run is answered");
    assert!(runs.contains(&again));
    assert_eq!(sequences(&**store, &stream(&again)).await, [1], "nothing was written again");
    let other = store.create_run(new("push 2")).await.expect("a run is created");
    assert_eq!(other.number, 2, "no number was lost to the repeated key");
}

async fn events_are_read_as_they_were_appended(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    let mut expected = store.read(&stream(&run), 0).await.expect("a journal is read");
    for (head, count) in [(1, 1), (2, 100), (102, 3)] {
        let append = append(&run, head, count);
        for (sequence, (at, event)) in (head + 1..).zip(append.events.clone()) {
            expected.push(super::Recorded { sequence, at, event });
        }
        store.append(vec![append]).await.expect("events are appended");
    }
    assert_eq!(store.read(&stream(&run), 0).await.expect("a journal is read"), expected);
    assert_eq!(store.read(&stream(&run), 100).await.expect("a journal is read"), expected[100..]);
    assert_eq!(store.read(&stream(&run), 105).await.expect("a journal is read"), []);
    assert_eq!(store.read(&stream(&run), u64::MAX).await.expect("a journal is read"), []);
    let unknown = stream(&RunId::new(name("unknown"), 1));
    assert_eq!(store.read(&unknown, 0).await.expect("no journal is read"), []);

    let other = create(store, "warehouse", 0).await;
    let streams = [stream(&other), unknown, stream(&run)];
    let read: Result<Vec<_>, Error> = store.read_each(&streams).await.into_iter().collect();
    let others = store.read(&stream(&other), 0).await.expect("a journal is read");
    assert_eq!(read.expect("journals are read"), [others, Vec::new(), expected]);
    let known = [104, 0, 105].map(|sequence| (stream(&run), sequence)).into_iter();
    let known: Vec<_> = known.chain([(stream(&other), 1), (streams[1].clone(), 0)]).collect();
    let gone_on = store.gone_on(&known).await.expect("journals are looked at");
    assert_eq!(gone_on, [stream(&run), stream(&run)], "those that are known to their end have not");
}

async fn what_comes_too_late_is_a_conflict(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    store.append(vec![append(&run, 1, 2)]).await.expect("events are appended");
    for wrong in [0, 1, 2, 4, u64::MAX] {
        assert_conflict(store.append(vec![append(&run, wrong, 1)]).await, wrong, 3);
    }
    assert_conflict(store.append(vec![hold("storefront", "production", 1, &run)]).await, 1, 0);
    assert_eq!(sequences(store, &stream(&run)).await, [1, 2, 3]);
    store.append(vec![append(&run, 3, 1)]).await.expect("the next one is appended");
}

async fn several_journals_are_written_together_or_not_at_all(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    let other = create(store, "storefront", 0).await;
    let fleet = hold("storefront", "production", 0, &run);
    let together = vec![append(&run, 1, 2), fleet.clone(), append(&other, 1, 1)];
    store.append(together).await.expect("three journals are appended to");
    assert_eq!(sequences(store, &stream(&run)).await, [1, 2, 3]);
    assert_eq!(sequences(store, &fleet.stream).await, [1]);
    assert_eq!(sequences(store, &stream(&other)).await, [1, 2]);

    let mut ending = append(&run, 3, 1);
    ending.row = Row::Run(row(&run, "failed", 9));
    for late in 0..3 {
        let mut batch = vec![ending.clone(), append(&other, 2, 1)];
        batch.insert(late, hold("storefront", "production", 0, &run));
        assert_conflict(store.append(batch).await, 0, 1);
        assert_eq!(sequences(store, &stream(&run)).await, [1, 2, 3]);
        assert_eq!(sequences(store, &stream(&other)).await, [1, 2]);
    }
    let failed = RunFilter { status: Some("failed".to_owned()), ..RunFilter::default() };
    assert_eq!(listed(store, failed).await, [""; 0], "nor is the row written");

    let twice = vec![append(&run, 3, 1), append(&run, 4, 2)];
    store.append(twice).await.expect("a journal may come twice");
    assert_eq!(sequences(store, &stream(&run)).await, [1, 2, 3, 4, 5, 6]);
    assert_conflict(store.append(vec![append(&run, 6, 1), append(&run, 6, 1)]).await, 6, 7);
    assert_eq!(sequences(store, &stream(&run)).await, [1, 2, 3, 4, 5, 6]);
}

async fn what_belongs_to_no_journal_is_refused(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    let other = RunId::new(name("storefront"), 2);
    for expected in [0, 1] {
        let result = store.append(vec![append(&other, expected, 1)]).await;
        assert!(matches!(result, Err(Error::NotFound(_))), "no run was created: {result:?}");
    }
    let fleet = hold("storefront", "production", 0, &run);
    let without = Append { events: Vec::new(), ..fleet.clone() };
    assert!(matches!(store.append(vec![without]).await, Err(Error::NotFound(_))), "a row without a journal");

    let foreign_row = Append { row: fleet.row.clone(), ..append(&run, 1, 1) };
    let others_row = Append { row: Row::Run(row(&other, "running", 0)), ..append(&run, 1, 1) };
    let foreign_event = Append { events: fleet.events.clone(), ..append(&run, 1, 1) };
    for wrong in [foreign_row, others_row, foreign_event] {
        let result = store.append(vec![append(&run, 1, 1), wrong]).await;
        assert!(matches!(result, Err(Error::Illegal { .. })), "{result:?}");
    }
    assert_eq!(sequences(store, &stream(&run)).await, [1]);
    store.append(Vec::new()).await.expect("nothing is easily written");
    assert_eq!(create(store, "storefront", 0).await, other, "nothing took its number");
}

async fn rows_are_written_without_events_too(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    let waiting = row(&run, "waiting", 5);
    let only_row = Append { events: Vec::new(), row: Row::Run(waiting.clone()), ..append(&run, 1, 0) };
    store.append(vec![only_row.clone()]).await.expect("a row is written");
    assert_eq!(store.runs(&RunFilter::default()).await.expect("runs are listed"), [waiting]);
    assert_eq!(sequences(store, &stream(&run)).await, [1]);
    assert_conflict(store.append(vec![Append { expected: 2, ..only_row }]).await, 2, 1);
}

async fn runs_are_listed_newest_first_and_filtered(store: &dyn Store) {
    // The clock goes backwards; the order is that of creation all the same.
    let pipelines = ["storefront", "warehouse", "storefront", "storefront", "warehouse"];
    let mut runs = Vec::new();
    for (minute, pipeline) in (0..).zip(pipelines) {
        runs.push(create(store, pipeline, -minute).await);
    }
    for (run, status) in runs.iter().zip(["failed", "running", "running", "succeeded"]) {
        let ended = Append { row: Row::Run(row(run, status, 3)), ..append(run, 1, 1) };
        store.append(vec![ended]).await.expect("events are appended");
    }
    let all = RunFilter::default();
    let storefront = RunFilter { pipeline: Some(name("storefront")), ..all.clone() };
    let running = RunFilter { status: Some("running".to_owned()), ..all.clone() };
    let unfinished = RunFilter { unfinished: true, ..all.clone() };
    let before = |run: &str| RunFilter { before: run.parse().ok(), ..all.clone() };
    let expectations: [(RunFilter, &[&str]); 13] = [
        (all.clone(), &["warehouse/2", "storefront/3", "storefront/2", "warehouse/1", "storefront/1"]),
        (RunFilter { limit: Some(2), ..all.clone() }, &["warehouse/2", "storefront/3"]),
        (RunFilter { limit: Some(0), ..all.clone() }, &[]),
        (storefront.clone(), &["storefront/3", "storefront/2", "storefront/1"]),
        (RunFilter { limit: Some(1), ..storefront.clone() }, &["storefront/3"]),
        (running.clone(), &["storefront/2", "warehouse/1"]),
        (RunFilter { pipeline: storefront.pipeline.clone(), ..running }, &["storefront/2"]),
        (unfinished.clone(), &["warehouse/2", "storefront/2", "warehouse/1"]),
        (before("storefront/3"), &["storefront/2", "warehouse/1", "storefront/1"]),
        (RunFilter { limit: Some(1), ..before("warehouse/2") }, &["storefront/3"]),
        (
            RunFilter { before: "warehouse/2".parse().ok(), ..storefront.clone() },
            &["storefront/3", "storefront/2", "storefront/1"],
        ),
        (before("storefront/9"), &[]),
        (RunFilter { pipeline: storefront.pipeline, limit: Some(9), ..unfinished }, &["storefront/2"]),
    ];
    for (filter, expected) in expectations {
        assert_eq!(listed(store, filter.clone()).await, expected, "{filter:?}");
    }
    let pipelines = store.pipelines().await.expect("pipelines are listed");
    assert_eq!(pipelines, ["storefront", "warehouse"].map(name));
    let nobody = RunFilter { pipeline: Some(name("nobody")), ..all.clone() };
    assert_eq!(listed(store, nobody).await, [""; 0]);

    for _ in 0..110 {
        create(store, "storefront", 0).await;
    }
    assert_eq!(listed(store, all).await.len(), 100, "a list has an end");
}

async fn fleets_are_listed_by_name(store: &dyn Store) {
    let run = create(store, "storefront", 0).await;
    for (service, environment) in
        [("warehouse", "staging"), ("storefront", "staging"), ("storefront", "production")]
    {
        store.append(vec![hold(service, environment, 0, &run)]).await.expect("a fleet is written");
    }
    let mut ended = hold("storefront", "staging", 1, &run);
    ended.events[0].1 = Event::Fleet(FleetEvent::Ended { actor: Actor::unverified("grace") });
    let Row::Fleet(row) = &mut ended.row else { panic!("a fleet has a fleet's row") };
    (row.ended, row.updated_at) = (true, minutes(8));
    store.append(vec![ended]).await.expect("the fleet is taken down");

    let fleets = store.fleets().await.expect("fleets are listed");
    let fleets: Vec<_> =
        fleets.iter().map(|row| (row.fleet.to_string(), row.ended, row.updated_at)).collect();
    let expected = [
        ("storefront-production".to_owned(), false, minutes(0)),
        ("storefront-staging".to_owned(), true, minutes(8)),
        ("warehouse-staging".to_owned(), false, minutes(0)),
    ];
    assert_eq!(fleets, expected);
}

async fn any_text_comes_back(store: &dyn Store) {
    let texts = [
        "",
        "'; DROP TABLE events; --",
        "\"quoted\" \\ back\\slash \\u0000",
        "line\nbreak\ttab\r\u{1b}[31m\u{7f}",
        "NUL \0 inside",
        "Grüße 🚢 \u{202e}\u{feff}",
        "$1 ? :name @x {{}} ${{ }}",
    ];
    for text in texts {
        let run = create(store, "storefront", 0).await;
        let mut written = append(&run, 1, 0);
        written.events.push((minutes(0), skipped("build", text)));
        let row =
            RunRow { actor: text.to_owned(), waiting_for: Some(text.to_owned()), ..row(&run, "waiting", 0) };
        written.row = Row::Run(row.clone());
        store.append(vec![written]).await.expect("any text is taken");
        let journal = store.read(&stream(&run), 1).await.expect("a journal is read");
        assert_eq!(journal[0].event, skipped("build", text));
        let newest = RunFilter { limit: Some(1), ..RunFilter::default() };
        assert_eq!(store.runs(&newest).await.expect("runs are listed"), [row]);

        let new = NewRun { trigger_key: Some(text.to_owned()), ..new_run("warehouse", 0) };
        let first = store.create_run(new.clone()).await.expect("any key is taken");
        assert_eq!(store.create_run(new).await.expect("any key is found"), first);
    }
    let keyed = RunFilter { pipeline: Some(name("warehouse")), ..RunFilter::default() };
    assert_eq!(listed(store, keyed).await.len(), texts.len(), "different keys are different runs");
}

async fn large_events_come_back(store: &dyn Store) {
    let mut new = new_run("storefront", 0);
    new.origin.pipeline = "name: storefront # \"é\"\n".repeat(1024 * 1024 / 24);
    let run = store.create_run(new.clone()).await.expect("a large pipeline is taken");
    let mut large = append(&run, 1, 0);
    let value = serde_json::Value::from("x".repeat(3 * 1024 * 1024));
    let stage = "build".parse().expect("a name");
    let note = RunEvent::StepNoted { stage, attempt: 1, step: 1, key: "seen".to_owned(), value };
    large.events.push((minutes(0), Event::Run(note.clone())));
    store.append(vec![large]).await.expect("a large event is taken");
    let journal = store.read(&stream(&run), 0).await.expect("a journal is read");
    assert!(journal[0].event == Event::Run(RunEvent::Created { run, origin: Box::new(new.origin) }));
    assert!(journal[1].event == Event::Run(note));
}

async fn times_are_kept_to_the_microsecond(store: &dyn Store) {
    for nanoseconds in [1_700_000_000_123_456_789, -1_500, Timestamp::UNIX_EPOCH.as_nanosecond()] {
        let at = Timestamp::from_nanosecond(nanoseconds).expect("a time");
        let kept = Timestamp::from_microsecond(at.as_microsecond()).expect("a time");
        let run = store.create_run(NewRun { at, ..new_run("storefront", 0) }).await.expect("it is created");
        let journal = store.read(&stream(&run), 0).await.expect("a journal is read");
        assert_eq!(journal[0].at, kept);
        let newest = RunFilter { limit: Some(1), ..RunFilter::default() };
        let row = store.runs(&newest).await.expect("runs are listed").remove(0);
        assert_eq!((row.created_at, row.updated_at), (kept, kept));
    }
}

/// `one` and `other` are the same store, opened twice.
async fn of_two_who_race_one_wins(one: &Arc<dyn Store>, other: &Arc<dyn Store>) {
    let run = create(&**one, "storefront", 0).await;
    for head in 1..=25 {
        let race = [one, other, one, other].map(|store| {
            let (store, append) = (store.clone(), append(&run, head, 1));
            tokio::spawn(async move { store.append(vec![append]).await })
        });
        let mut won = 0;
        for result in join_all(race).await {
            match result.expect("a task ends") {
                Ok(()) => won += 1,
                lost => assert_conflict(lost, head, head + 1),
            }
        }
        assert_eq!(won, 1, "exactly one wins at {head}");
    }
    assert_eq!(sequences(&**other, &stream(&run)).await, (1..=26).collect::<Vec<_>>());
}

/// `one` and `other` are the same store, opened twice.
async fn many_who_write_at_once_all_succeed(one: &Arc<dyn Store>, other: &Arc<dyn Store>) {
    let writers = (0..64).map(|n| {
        let store = if n % 4 == 0 { other } else { one }.clone();
        tokio::spawn(async move {
            let run = create(&*store, "storefront", 0).await;
            for head in 1..=5 {
                store.append(vec![append(&run, head, 1)]).await.expect("nobody else writes here");
                let journal = store.read(&stream(&run), head).await.expect("a journal is read");
                assert_eq!(journal.len(), 1, "whoever wrote can read it");
            }
            run
        })
    });
    let runs: BTreeSet<_> =
        join_all(writers).await.into_iter().map(|run| run.expect("a task ends").number).collect();
    assert_eq!(runs, (1..=64).collect());
    for number in runs {
        let stream = stream(&RunId::new(name("storefront"), number));
        assert_eq!(sequences(&**one, &stream).await, [1, 2, 3, 4, 5, 6]);
    }
}

/// What a store had before it was opened again.
#[derive(Debug, PartialEq)]
struct Left {
    run: RunId,
    journal: Vec<super::Recorded>,
    runs: Vec<RunRow>,
    fleets: Vec<FleetRow>,
}

async fn look(store: &dyn Store, run: RunId) -> Left {
    Left {
        journal: store.read(&stream(&run), 0).await.expect("a journal is read"),
        runs: store.runs(&RunFilter::default()).await.expect("runs are listed"),
        fleets: store.fleets().await.expect("fleets are listed"),
        run,
    }
}

async fn leave_something(store: &dyn Store) -> Left {
    let new = NewRun { trigger_key: Some("push 1".to_owned()), ..new_run("storefront", 0) };
    let run = store.create_run(new).await.expect("a run is created");
    let mut end = append(&run, 1, 1);
    end.events.push((minutes(4), Event::Run(RunEvent::Ended { ending: Ending::Succeeded })));
    end.row = Row::Run(row(&run, "succeeded", 4));
    let fleet = hold("storefront", "production", 0, &run);
    store.append(vec![end, fleet]).await.expect("events are appended");
    look(store, run).await
}

async fn what_was_left_is_found(store: &dyn Store, left: Left) {
    assert_eq!(look(store, left.run.clone()).await, left);
    let again = NewRun { trigger_key: Some("push 1".to_owned()), ..new_run("storefront", 0) };
    assert_eq!(store.create_run(again).await.expect("the run is answered"), left.run);
    assert_eq!(create(store, "storefront", 0).await.number, 2);
    assert_conflict(store.append(vec![append(&left.run, 1, 1)]).await, 1, 3);
    store.append(vec![append(&left.run, 3, 1)]).await.expect("the journal goes on");
}
