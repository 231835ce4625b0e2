//! Fills a data directory: a few runs of each kind through the store's own code, the others as copies of
//! those, and all of them looked over by it again.

use std::path::Path;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use windlass::ids::{Digest, EnvironmentName, FleetId, PipelineName, RunId, StageName, StreamId};
use windlass::journal::{environment_append, fleet_append, load_run, run_append, run_row};
use windlass::run::decide::Waits;
use windlass::run::event::{
    Actor, Commit, Ending, EnvironmentEvent, Failure, FleetEvent, Image, Inputs, Origin, Outcome, Release,
    RolloutEnd, RunEvent, Shipment, Trigger,
};
use windlass::run::state::RunState;
use windlass::store::sqlite::Sqlite;
use windlass::store::{
    Append, DeliveryKey, DeliveryStatus, Error, Event, Inbox, NewDelivery, NewRun, Row, RunFilter, RunRow,
    Settlement, Store,
};

use crate::multiply::{Many, multiply};

/// How much there is to be.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Runs that have ended.
    pub history: u64,
    /// Runs that have not.
    pub in_flight: u64,
}

/// The settings that the runs in flight count on.
pub const SETTINGS: &str = "
environments:
  production: { group: production, promotion: manual }
  canary: { group: qa }
runner: { slots: 1 }
";

/// So many runs of the history are written by the store itself, with each way to end among them.
const ORIGINALS: u64 = 100;

/// Pipelines that the history is spread over; each has a fleet that no settings name.
const PIPELINES: u64 = 10;

/// Of each fleet.
const ROLLOUTS: u64 = 10;

/// As large as a push of a few commits.
const BODY: usize = 8 * 1024;

/// A server drops what a delivery brought after as many days.
const BODY_DAYS: i64 = 30;

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

    /// Behind all the history.
    fn deliveries_from(self) -> u64 {
        1_000_000_000 * (1 + self as u64)
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

/// Fills the directory, which nobody holds. The history has [`ORIGINALS`] runs at least, and there are ten in
/// flight at least.
pub async fn fill(directory: &Path, sizes: Sizes) -> Done {
    let calendar = Calendar::until_now(sizes);
    let store = Sqlite::open(directory).await?;
    // What the unfinished runs wait for was there before them.
    for number in 0..PIPELINES {
        fleet(&store, calendar, &format!("service-{number}"), &format!("place-{number}")).await?;
    }
    fleet(&store, calendar, "gate", "production").await?;
    fleet(&store, calendar, "line", "canary").await?;
    let lock = EnvironmentEvent::Locked { actor: actor(), reason: "an audit".to_owned() };
    let canary: EnvironmentName = name("canary");
    store.append(vec![environment_append(&canary, 0, vec![(calendar.beginning, lock)])]).await?;
    history(&store, calendar).await?;
    store.close().await?;
    let kept_bodies = Timestamp::now() - SignedDuration::from_hours(BODY_DAYS * 24);
    let copies = Many {
        pipelines: "service-%".to_owned(),
        first: ORIGINALS,
        count: sizes.history,
        deliveries_from: 0,
        bodies_after: kept_bodies,
    };
    let database = directory.join("windlass.db");
    multiply(&database, &[copies]).await.expect("copies of the history");

    let store = Sqlite::open(directory).await?;
    for (stands, _) in MIX {
        in_flight(&store, stands, calendar.at(sizes.history)).await?;
    }
    store.drop_bodies(kept_bodies).await?;
    store.close().await?;
    let copies = MIX.map(|(stands, of_hundred)| Many {
        pipelines: stands.pipeline().to_owned(),
        first: 1,
        count: sizes.in_flight * of_hundred / 100,
        deliveries_from: stands.deliveries_from(),
        bodies_after: kept_bodies,
    });
    multiply(&database, &copies).await.expect("copies of what is in flight");
    look_over(directory, sizes).await
}

/// Reads some of what is there as a server does, from both ends and from between, and sees that each journal
/// can be followed and is what its row says.
pub async fn look_over(directory: &Path, sizes: Sizes) -> Done {
    let store = Sqlite::open(directory).await?;
    let ended = |n: u64| RunId::new(name(&format!("service-{}", n % PIPELINES)), n / PIPELINES + 1);
    let waiting = MIX.map(|(stands, of_hundred)| {
        RunId::new(name(stands.pipeline()), (sizes.in_flight * of_hundred / 200).max(1))
    });
    let between = (1..8).map(|eighth| ended(sizes.history * eighth / 8));
    let places = [None].into_iter().chain(between.chain(waiting).chain([ended(10)]).map(Some));
    for before in places {
        let rows = store.runs(&RunFilter { before, limit: Some(10), ..RunFilter::default() }).await?;
        assert!(!rows.is_empty(), "runs are missing");
        for row in rows {
            let state = load_run(&store, &row.run).await.expect("a journal that can be followed");
            assert_eq!(run_row(&state, &Waits::at_gates(&state)), row, "the list is as the journal says");
        }
    }
    store.close().await
}

/// The whole directory, by the command that people have for that.
pub fn check(directory: &Path) {
    let mut command = std::process::Command::new(crate::bench::WINDLASS);
    let checked = command.args(["check-data", "--data"]).arg(directory).output().expect("the program starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name")
}

fn actor() -> Actor {
    Actor::unverified("octocat")
}

/// When things happen: something each minute, up to about now.
#[derive(Clone, Copy)]
struct Calendar {
    beginning: Timestamp,
}

impl Calendar {
    fn until_now(sizes: Sizes) -> Self {
        let minutes = (sizes.history + sizes.in_flight) as i64;
        Self { beginning: Timestamp::now() - SignedDuration::from_mins(minutes) }
    }

    fn at(self, minute: u64) -> Timestamp {
        self.beginning + SignedDuration::from_mins(minute as i64)
    }
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
    at: Timestamp,
) -> Done<(RunId, Origin)> {
    let origin = origin(pipeline, stages, number);
    let trigger_key = Some(format!("github:00000000-0000-4000-8000-{number:012}:{pipeline}"));
    let new = NewRun { pipeline: name(pipeline), origin: origin.clone(), at, trigger_key };
    Ok((store.create_run(new).await?, origin))
}

/// Runs that ended, each with the delivery that started it.
async fn history(store: &Sqlite, calendar: Calendar) -> Done {
    const STAGES: &str = "  build: { steps: [{ run: make }] }\n";
    let runs = (0..ORIGINALS).map(|n| {
        let pipeline = format!("service-{}", n % PIPELINES);
        async move { create(store, &pipeline, STAGES, n, calendar.at(n)).await }
    });
    let runs = try_join_all(runs).await?;
    let numbered = || (0..).zip(&runs);
    let deliveries = numbered().map(|(n, (run, _))| deliver(store, n, calendar.at(n), run));
    try_join_all(deliveries).await?;
    let ends = numbered().map(|(n, (run, origin))| store.append(vec![ended(n, run, origin, calendar)]));
    try_join_all(ends).await.map(drop)
}

async fn deliver(store: &Sqlite, number: u64, received_at: Timestamp, run: &RunId) -> Done {
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let key = DeliveryKey { source: "github".to_owned(), id };
    let event = "push".to_owned();
    store.deliver(NewDelivery { key: key.clone(), event, received_at, body: vec![b'x'; BODY] }).await?;
    let settled = Settlement { status: DeliveryStatus::Handled, reason: None, runs: vec![run.clone()] };
    store.settle_delivery(&key, settled).await
}

/// Of a hundred runs every seventh failed, and the first was cancelled.
fn ended(number: u64, run: &RunId, origin: &Origin, calendar: Calendar) -> Append {
    let stage: StageName = name("build");
    let (ending, status) = match (number % ORIGINALS, number % ORIGINALS % 7) {
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
        events: events.into_iter().map(|event| (calendar.at(number + 1), Event::Run(event))).collect(),
        row: Row::Run(RunRow {
            run: run.clone(),
            status: status.to_owned(),
            ended: true,
            commit: origin.commit.as_ref().map(|commit| commit.sha.clone()),
            actor: origin.actor.name.clone(),
            waiting_for: None,
            created_at: calendar.at(number),
            updated_at: calendar.at(number + 1),
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
        log_bytes: 0,
        result: serde_json::Value::Null,
    }
}

/// The first run that stands so, with its delivery.
async fn in_flight(store: &Sqlite, stands: Stands, at: Timestamp) -> Done {
    let number = stands.deliveries_from();
    let (run, origin) = create(store, stands.pipeline(), stands.stages(), number, at).await?;
    deliver(store, number, at, &run).await?;
    match begun(stands, &run, &origin, at) {
        Some(append) => store.append(vec![append]).await,
        None => Ok(()),
    }
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
                shipment: Box::new(Shipment {
                    running_image: Some(image("gate", ROLLOUTS).id),
                    ..Shipment::default()
                }),
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

fn image(service: &str, number: u64) -> Image {
    let digest = Digest::of(&number.to_be_bytes());
    Image {
        id: name(&format!("image-{number}")),
        name: format!("{service}-{number}"),
        key: digest.clone(),
        parent: None,
        commit: Some(name(&digest.as_str()[..40])),
        run: RunId::new(name(service), number.min(3)),
    }
}

/// A fleet with its history, and no instances.
async fn fleet(store: &Sqlite, calendar: Calendar, service: &str, environment: &str) -> Done {
    let service: PipelineName = name(service);
    let fleet = FleetId::new(service.clone(), name(environment));
    let mut events = Vec::new();
    for n in 1..=ROLLOUTS {
        // Of the first runs: there are three of each pipeline at least.
        let run = RunId::new(service.clone(), n.min(3));
        let image = image(service.as_str(), n);
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
    let events = events.into_iter().map(|event| (calendar.beginning, event)).collect();
    store.append(vec![fleet_append(&fleet, 0, events)]).await
}
