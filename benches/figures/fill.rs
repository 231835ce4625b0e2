//! Fills a data directory through the store's own code, quickly: many wait for each commit together.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use windlass::ids::{Digest, EnvironmentName, FleetId, PipelineName, RunId, StageName, StreamId};
use windlass::journal::{environment_append, fleet_append, run_append};
use windlass::run::decide::Waits;
use windlass::run::event::{
    Actor, Commit, Ending, EnvironmentEvent, Failure, FleetEvent, Image, Inputs, Origin, Outcome, Release,
    RolloutEnd, RunEvent, Shipment, Trigger,
};
use windlass::run::state::RunState;
use windlass::store::sqlite::Sqlite;
use windlass::store::{
    Append, DeliveryKey, DeliveryStatus, Error, Event, Inbox, NewDelivery, NewRun, Row, RunRow, Settlement,
    Store,
};

/// How much there is to be.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Runs that have ended.
    pub history: u64,
    /// Runs that have not.
    pub in_flight: u64,
    pub fleets: u64,
    /// Of each fleet.
    pub rollouts: u64,
}

/// The settings that the runs in flight count on.
pub const SETTINGS: &str = "
environments:
  production: { group: production, promotion: manual }
  canary: { group: qa }
runner: { slots: 1 }
";

/// So many wait for each other's commits.
const TOGETHER: u64 = 4_096;

/// Pipelines that the history is spread over.
const PIPELINES: u64 = 10;

/// In which states unfinished runs are, and how many of each hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Nobody has decided on its promotion.
    AtGate,
    /// Behind others of its pipeline and ref, and the first before a lock.
    InLine,
    /// For the runner's only slot.
    ForSlot,
    /// For its next attempt.
    Retrying,
}

const MIX: [(Stands, u64); 4] =
    [(Stands::AtGate, 40), (Stands::InLine, 30), (Stands::ForSlot, 20), (Stands::Retrying, 10)];

impl Stands {
    fn pipeline(self) -> &'static str {
        match self {
            Self::AtGate => "gate",
            Self::InLine => "line",
            Self::ForSlot => "slot",
            Self::Retrying => "retry",
        }
    }

    fn stages(self) -> &'static str {
        match self {
            Self::AtGate => {
                "  work: { steps: [{ run: sleep 600 }] }\n  \
                 ship: { needs: work, environment: production, steps: [{ run: ':' }] }\n"
            }
            Self::InLine => {
                "  work: { steps: [{ run: sleep 600 }] }\n  \
                 ship: { needs: work, environment: canary, steps: [{ run: ':' }] }\n"
            }
            Self::ForSlot => "  work: { steps: [{ run: sleep 600 }] }\n",
            Self::Retrying => "  work: { retry: { attempts: 3, on: [task] }, steps: [{ run: sleep 600 }] }\n",
        }
    }
}

type Done<T = ()> = Result<T, Error>;

/// Fills the directory, which nobody holds.
pub async fn fill(directory: &Path, sizes: Sizes) -> Done {
    let store = Arc::new(Sqlite::open(directory).await?);
    // What the unfinished runs wait for was there before them.
    for number in 0..sizes.fleets {
        fleet(&store, number, sizes.rollouts).await?;
    }
    let lock = EnvironmentEvent::Locked { actor: actor(), reason: "an audit".to_owned() };
    let canary: EnvironmentName = name("canary");
    store.append(vec![environment_append(&canary, 0, vec![(at(0), lock)])]).await?;
    let mut left = sizes.history;
    while left > 0 {
        let some = left.min(TOGETHER);
        history(&store, sizes.history - left, some).await?;
        left -= some;
    }
    for (stands, of_hundred) in MIX {
        let count = sizes.in_flight * of_hundred / 100;
        let mut begun = 0;
        while begun < count {
            let some = (count - begun).min(TOGETHER);
            in_flight(&store, stands, begun, some).await?;
            begun += some;
        }
    }
    store.close().await
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn actor() -> Actor {
    Actor::unverified("octocat")
}

fn at(minute: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(29_000_000 + minute as i64)
}

fn origin(pipeline: &str, stages: &str, number: u64) -> Origin {
    let digest = Digest::of(&number.to_be_bytes());
    Origin {
        source: Some("/srv/shop".to_owned()),
        commit: Some(Commit {
            sha: name(&digest.as_str()[..40]),
            branch: "main".to_owned(),
            author: "Grace <grace@example.com>".to_owned(),
            message: "Count the visitors".to_owned(),
        }),
        trigger: Trigger::Push { delivery: format!("00000000-0000-4000-8000-{number:012}") },
        reference: Some("refs/heads/main".to_owned()),
        ..Origin::new(
            format!("name: {pipeline}\nqueue: every\nstages:\n{stages}"),
            format!("/srv/pipelines/{pipeline}.yaml"),
            actor(),
        )
    }
}

async fn create(
    store: &Sqlite,
    pipeline: &str,
    stages: &str,
    number: u64,
    minute: u64,
) -> Done<(RunId, Origin)> {
    let origin = origin(pipeline, stages, number);
    let trigger_key = Some(format!("github:00000000-0000-4000-8000-{number:012}:{pipeline}"));
    let new = NewRun { pipeline: name(pipeline), origin: origin.clone(), at: at(minute), trigger_key };
    Ok((store.create_run(new).await?, origin))
}

/// Runs that ended, each with the delivery that started it.
async fn history(store: &Sqlite, first: u64, count: u64) -> Done {
    const STAGES: &str = "  build: { steps: [{ run: make }] }\n";
    let runs = (first..first + count).map(|n| {
        let pipeline = format!("service-{}", n % PIPELINES);
        async move { create(store, &pipeline, STAGES, n, n).await }
    });
    let runs = try_join_all(runs).await?;
    let numbered = || (first..).zip(&runs);
    let deliveries = numbered().map(|(n, (run, _))| deliver(store, n, run));
    try_join_all(deliveries).await?;
    let ends = numbered().map(|(n, (run, origin))| store.append(vec![ended(n, run, origin)]));
    try_join_all(ends).await.map(drop)
}

/// One in ten keeps what it brought, as those of the last days do.
async fn deliver(store: &Sqlite, number: u64, run: &RunId) -> Done {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let key = DeliveryKey { source: "github".to_owned(), id };
    let body = if number.is_multiple_of(10) { vec![b'x'; 512] } else { Vec::new() };
    let event = "push".to_owned();
    store.deliver(NewDelivery { key: key.clone(), event, received_at: at(number), body }).await?;
    let settled = Settlement { status: DeliveryStatus::Handled, reason: None, runs: vec![run.clone()] };
    store.settle_delivery(&key, settled).await
}

/// Every seventh run failed, every hundredth was cancelled.
fn ended(number: u64, run: &RunId, origin: &Origin) -> Append {
    let stage: StageName = name("build");
    let (ending, status) = match (number % 100, number % 7) {
        (0, _) => (Ending::Cancelled, "cancelled"),
        (_, 0) => (Ending::Failed, "failed"),
        _ => (Ending::Succeeded, "succeeded"),
    };
    let mut events = vec![
        RunEvent::AttemptStarted { stage: stage.clone(), attempt: 1, inputs: Inputs::default() },
        RunEvent::StepStarted { stage: stage.clone(), attempt: 1, step: 1, name: "make".to_owned() },
    ];
    match ending {
        Ending::Succeeded => events.extend([
            step_succeeded(&stage),
            RunEvent::AttemptSucceeded { stage, attempt: 1, outcome: Box::default() },
        ]),
        _ => events.push(RunEvent::AttemptFailed { stage, attempt: 1, failure: failure(ending) }),
    }
    if ending == Ending::Cancelled {
        events.insert(2, RunEvent::CancelRequested { actor: actor(), reason: String::new() });
    }
    events.push(RunEvent::Ended { ending });
    Append {
        stream: StreamId::Run(run.clone()),
        expected: 1,
        events: events.into_iter().map(|event| (at(number + 1), Event::Run(event))).collect(),
        row: Row::Run(RunRow {
            run: run.clone(),
            status: status.to_owned(),
            ended: true,
            commit: origin.commit.as_ref().map(|commit| commit.sha.clone()),
            actor: origin.actor.name.clone(),
            waiting_for: None,
            created_at: at(number),
            updated_at: at(number + 1),
        }),
    }
}

fn failure(ending: Ending) -> Failure {
    match ending {
        Ending::Cancelled => {
            Failure::new(windlass::run::event::Cause::Cancelled, "octocat cancelled the run")
        }
        _ => Failure::task("make ended with 2"),
    }
}

fn step_succeeded(stage: &StageName) -> RunEvent {
    RunEvent::StepSucceeded {
        stage: stage.clone(),
        attempt: 1,
        step: 1,
        exit_code: Some(0),
        log_bytes: 1_234,
        result: serde_json::Value::Null,
    }
}

async fn in_flight(store: &Sqlite, stands: Stands, first: u64, count: u64) -> Done {
    // Behind all the history, also by their trigger keys.
    const BEHIND: u64 = 1_000_000_000;
    let runs = (first..first + count)
        .map(|n| create(store, stands.pipeline(), stands.stages(), BEHIND + n, 2_000_000 + n));
    let runs = try_join_all(runs).await?;
    let appends = (first..).zip(&runs).map(|(n, (run, origin))| {
        let append = begun(stands, run, origin, at(2_000_000 + n));
        async move {
            match append {
                Some(append) => store.append(vec![append]).await,
                None => Ok(()),
            }
        }
    });
    try_join_all(appends).await.map(drop)
}

/// What has happened to a run that stands so, beyond its creation.
fn begun(stands: Stands, run: &RunId, origin: &Origin, at: Timestamp) -> Option<Append> {
    let stage: StageName = name("work");
    let attempt = 1;
    let started = RunEvent::AttemptStarted { stage: stage.clone(), attempt, inputs: Inputs::default() };
    let step = RunEvent::StepStarted { stage: stage.clone(), attempt, step: 1, name: "sleep 600".to_owned() };
    let mut events = vec![started, step];
    let done = [
        step_succeeded(&stage),
        RunEvent::AttemptSucceeded { stage: stage.clone(), attempt, outcome: Box::<Outcome>::default() },
    ];
    match stands {
        Stands::AtGate => {
            events.extend(done);
            events.push(RunEvent::GateReached {
                environment: name("production"),
                stage: name("ship"),
                shipment: Box::<Shipment>::default(),
            });
        }
        Stands::InLine => events.extend(done),
        Stands::ForSlot => return None,
        Stands::Retrying => events.extend([
            RunEvent::AttemptFailed {
                stage: stage.clone(),
                attempt,
                failure: Failure::task("sleep 600 ended with 1"),
            },
            RunEvent::RetryScheduled {
                stage,
                attempt: 2,
                not_before: Timestamp::now() + SignedDuration::from_hours(24),
            },
        ]),
    }
    let created = RunEvent::Created { run: run.clone(), origin: Box::new(origin.clone()) };
    let mut state = RunState::begin(at, &created).expect("a pipeline");
    for event in &events {
        state.apply(at, event).expect("a legal event");
    }
    let events = events.into_iter().map(|event| (at, event)).collect();
    Some(run_append(&state, &Waits::at_gates(&state), 1, events))
}

/// A fleet that no settings name, with its history: nobody touches it.
async fn fleet(store: &Sqlite, number: u64, rollouts: u64) -> Done {
    let service: PipelineName = name(&format!("service-{}", number % PIPELINES));
    let fleet = FleetId::new(service.clone(), name(&format!("place-{number}")));
    let mut events = Vec::new();
    for n in 1..=rollouts {
        let run = RunId::new(service.clone(), n);
        let digest = Digest::of(&n.to_be_bytes());
        let image = Image {
            id: name(&format!("image-{n}")),
            name: format!("{service}-{n}"),
            key: digest.clone(),
            parent: None,
            commit: Some(name(&digest.as_str()[..40])),
            run: run.clone(),
        };
        let key: windlass::ids::Key = name(&format!("{service}-{n}-deploy"));
        events.extend([
            FleetEvent::Held { run: run.clone(), service: service.clone() },
            FleetEvent::RolloutStarted {
                run: run.clone(),
                stage: name("deploy"),
                attempt: 1,
                key: key.clone(),
                release: Release { image: image.id.clone(), env: Default::default() },
                image: Box::new(image),
                size: 10,
                reference: Some("refs/heads/main".to_owned()),
            },
            FleetEvent::RolloutEnded { key, end: RolloutEnd::Completed },
            FleetEvent::Released { run },
        ]);
    }
    let events = events.into_iter().map(|event| (at(0), event)).collect();
    store.append(vec![fleet_append(&fleet, 0, events)]).await
}
