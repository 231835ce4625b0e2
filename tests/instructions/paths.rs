//! The hot paths, each one a function of its own that gets its input ready-made: what is counted is what
//! happens between its call and its return.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpStream;

use futures_util::future::try_join_all;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use tokio::runtime::Runtime;
use windlass::github;
use windlass::ids::{Digest, PipelineName, RunId};
use windlass::journal::run_append;
use windlass::log::Redactor;
use windlass::pipeline::{self, model::Pipeline};
use windlass::rollout::{Desired, Direction, Life, Member, Move, Observed, Rolling, Strategy, Traffic, plan};
use windlass::run::decide::{Facts, Waits, decide, settle};
use windlass::run::event::{Actor, Origin, RunEvent};
use windlass::run::state::{RunState, StepPhase};
use windlass::run::view::{RunView, view};
use windlass::secret::Secret;
use windlass::store::sqlite::Sqlite;
use windlass::store::{Append, DeliveryKey, DeliveryStatus, Inbox, NewDelivery, NewRun, Settlement, Store};

use crate::balancer::{Balancer, exchange};

/// Everything once, in the order of [`super::PATHS`].
pub fn all() {
    let storefront = std::fs::read_to_string("pipelines/storefront.yaml").expect("a pipeline");
    assert_eq!(read_pipeline(&storefront).stages.len(), 9);

    let journal = drive_100(created(&chain(100)));
    let four_times = drive_400(created(&chain(400)));
    assert_eq!((journal.len(), four_times.len()), (2 + 100 * 4, 2 + 400 * 4));

    let state = fold(&journal);
    assert!(state.ending.is_some());
    assert_eq!(show(&state).stages.len(), 100);
    let text = encode(&journal);
    assert_eq!(decode(&text), journal.len());

    let mut output = Vec::new();
    redact(&mut redactor(), &log(), &mut output);
    assert!(output.windows(3).any(|bytes| bytes == b"***"));

    let body = format!("{{\"ref\":\"refs/heads/main\",\"text\":\"{}\"}}", "x".repeat(8_000));
    check_webhook(&secret(), &signature(body.as_bytes()), body.as_bytes());

    let (observed, desired) = fleet(20);
    assert!(matches!(plan_swap(&observed, &desired), Move::Act { .. }), "a swap begins with something");

    // Last, as its threads go on for a moment.
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = runtime.block_on(Sqlite::open(directory.path())).expect("a store");
    record(&runtime, &store, appends(&journal));
    take_in(&runtime, &store, deliveries(&body));
    runtime.block_on(store.close()).expect("all is written");

    let balancer = Balancer::start(directory.path());
    let mut client = balancer.connect();
    // The first one has a connection to the target made.
    exchange(&mut client);
    carry(&mut client);
}

#[inline(never)]
pub fn read_pipeline(text: &str) -> Pipeline {
    pipeline::read(text, "storefront.yaml").expect("a legal pipeline")
}

#[inline(never)]
pub fn drive_100(created: RunEvent) -> Vec<(Timestamp, RunEvent)> {
    drive(created)
}

#[inline(never)]
pub fn drive_400(created: RunEvent) -> Vec<(Timestamp, RunEvent)> {
    drive(created)
}

#[inline(never)]
pub fn fold(journal: &[(Timestamp, RunEvent)]) -> RunState {
    RunState::fold(journal.iter().map(|(at, event)| (*at, event))).expect("a legal journal")
}

#[inline(never)]
pub fn show(state: &RunState) -> RunView {
    view(state, &Waits::default())
}

#[inline(never)]
pub fn encode(journal: &[(Timestamp, RunEvent)]) -> Vec<String> {
    journal.iter().map(|(_, event)| serde_json::to_string(event).expect("JSON")).collect()
}

#[inline(never)]
pub fn decode(text: &[String]) -> usize {
    text.iter().filter(|text| serde_json::from_str::<RunEvent>(text).is_ok()).count()
}

#[inline(never)]
pub fn redact(redactor: &mut Redactor, log: &[u8], output: &mut Vec<u8>) {
    for bytes in log.chunks(64 * 1024) {
        redactor.push(bytes, output);
    }
    redactor.finish(output);
}

#[inline(never)]
pub fn check_webhook(secrets: &[Secret], signature: &str, body: &[u8]) {
    github::verify(secrets, Some(signature.as_bytes()), body).expect("a good signature");
    let payload = github::json(Some("application/json"), body).expect("a payload");
    github::told("push", &payload).expect("JSON");
}

/// A commit for each, one after the other, by whichever threads the store has.
#[inline(never)]
pub fn record(runtime: &Runtime, store: &Sqlite, (new, appends): (NewRun, Vec<Append>)) {
    runtime.block_on(async {
        store.create_run(new).await.expect("a run");
        for append in appends {
            store.append(vec![append]).await.expect("a commit");
        }
    });
}

/// All of them at once, and what came of them.
#[inline(never)]
pub fn take_in(runtime: &Runtime, store: &Sqlite, deliveries: Vec<NewDelivery>) {
    let ignored = Settlement { status: DeliveryStatus::Ignored, reason: None, runs: Vec::new() };
    runtime
        .block_on(try_join_all(deliveries.into_iter().map(|new| async {
            let key = new.key.clone();
            store.deliver(new).await?;
            store.settle_delivery(&key, ignored.clone()).await
        })))
        .expect("room on the disk");
}

/// Two hundred requests, one after the other.
#[inline(never)]
pub fn carry(client: &mut TcpStream) {
    (0..200).for_each(|_| exchange(client));
}

#[inline(never)]
pub fn plan_swap(observed: &Observed, desired: &Desired) -> Move {
    plan(observed, desired)
}

/// Stages of one step, one behind the other.
fn chain(stages: usize) -> String {
    let mut text = "name: chain\nstages:\n".to_owned();
    for i in 0..stages {
        let needs = if i == 0 { String::new() } else { format!("needs: s{}, ", i - 1) };
        let _ = writeln!(text, "  s{i}: {{ {needs}steps: [{{ run: ':' }}] }}");
    }
    text
}

fn created(text: &str) -> RunEvent {
    let run = RunId::new("chain".parse::<PipelineName>().expect("a name"), 1);
    let origin = Origin::new(text, "/chain.yaml", Actor::unverified("octocat"));
    RunEvent::Created { run, origin: Box::new(origin) }
}

/// What records the journal in a store: two events in each commit.
fn appends(journal: &[(Timestamp, RunEvent)]) -> (NewRun, Vec<Append>) {
    let (at, created) = &journal[0];
    let RunEvent::Created { run, origin } = created else { panic!("a journal begins with its run") };
    let (pipeline, origin) = (run.pipeline.clone(), (**origin).clone());
    let mut state = RunState::begin(*at, created).expect("a legal beginning");
    let mut append = |events: &[(Timestamp, RunEvent)]| {
        let expected = state.sequence;
        events.iter().for_each(|(at, event)| state.apply(*at, event).expect("a legal event"));
        run_append(&state, &Waits::default(), expected, events.to_vec())
    };
    let appends = journal[1..].chunks(2).map(&mut append).collect();
    (NewRun { pipeline, origin, at: *at, trigger_key: None }, appends)
}

/// A hundred webhooks.
fn deliveries(body: &str) -> Vec<NewDelivery> {
    let new = |n: u32| NewDelivery {
        key: DeliveryKey { source: "github".to_owned(), id: n.to_string() },
        event: "push".to_owned(),
        received_at: Timestamp::UNIX_EPOCH,
        body: body.as_bytes().to_vec(),
    };
    (0..100).map(new).collect()
}

/// A run to its good end, by what `decide` says and nothing else.
fn drive(created: RunEvent) -> Vec<(Timestamp, RunEvent)> {
    let now = Timestamp::UNIX_EPOCH;
    let mut journal = vec![(now, created)];
    let mut state = RunState::begin(now, &journal[0].1).expect("a legal beginning");
    let (lasted, places) = (BTreeMap::new(), BTreeMap::new());
    while state.ending.is_none() {
        let facts = Facts { now, lasted: &lasted, free_slots: 1, slots: 1, wanting: None, places: &places };
        let mut events = decide(&state, &facts).events;
        if events.is_empty() {
            let i = state.running().next().expect("something runs until the run ends");
            events.push(next_of(&state, i));
        }
        for event in events {
            state.apply(now, &event).expect("a legal event");
            journal.push((now, event));
        }
    }
    journal
}

/// What the only step of a stage comes to next.
fn next_of(state: &RunState, i: usize) -> RunEvent {
    let (stage, attempt) = (state.pipeline.stages[i].name.clone(), state.attempt_number(i));
    match state.stages[i].attempts.last().and_then(|attempt| attempt.steps.last()) {
        None => RunEvent::StepStarted { stage, attempt, step: 1, name: "noop".to_owned() },
        Some(step) if step.phase == StepPhase::Running => RunEvent::StepSucceeded {
            stage,
            attempt,
            step: 1,
            exit_code: Some(0),
            log_bytes: 0,
            result: serde_json::Value::Null,
        },
        Some(_) => settle(state, i, attempt, Ok(Box::default())),
    }
}

fn redactor() -> Redactor {
    let secrets = (0..20).map(|n| format!("correct horse battery staple {n}"));
    Redactor::new(secrets)
}

/// 256 KiB of output, a secret in each twentieth line.
fn log() -> Vec<u8> {
    let mut log = String::new();
    let mut line = 0;
    while log.len() < 256 * 1024 {
        line += 1;
        let secret = if line % 20 == 0 { " correct horse battery staple 7" } else { "" };
        let _ = writeln!(log, "2026-01-01T00:00:00Z INFO compiled module {line} in {} ms{secret}", line % 97);
    }
    log.into_bytes()
}

fn secret() -> [Secret; 1] {
    [Secret::new("a secret of webhooks".to_owned())]
}

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret()[0].expose().as_bytes()).expect("a key");
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

/// A fleet that runs one release and is to run another.
fn fleet(size: u32) -> (Observed, Desired) {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
    let release = |name: &str| Digest::of(name.as_bytes());
    let members = (0..size).map(|n| Member {
        id: format!("web-{n}").parse().expect("a name"),
        release: release("old"),
        life: Life::Running,
        traffic: Traffic::Healthy,
        launched_at: Timestamp::UNIX_EPOCH,
    });
    let desired = Desired {
        target: release("new"),
        source: Some(release("old")),
        size,
        strategy: Strategy::Rolling(Rolling { batch: 2, surge: 2, floor: size }),
        direction: Direction::Forward,
        started_at: now,
        patience: std::time::Duration::from_secs(60),
        healthy_at_start: size,
    };
    (Observed { now, members: members.collect() }, desired)
}
