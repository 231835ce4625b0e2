//! Between the journals and their folded states: the store keeps what happened, the folds know what
//! it means, and here they meet.

use jiff::Timestamp;

use crate::ids::{EnvironmentName, FleetId, ImageId, PipelineName, RunId, StreamId};
use crate::run::decide::Waits;
use crate::run::environment::EnvironmentState;
use crate::run::event::{EnvironmentEvent, FleetEvent, Origin, RunEvent};
use crate::run::fleet::{FleetState, Quarantine};
use crate::run::fold::Illegal;
use crate::run::outline::Outline;
use crate::run::state::RunState;
use crate::run::view;
use crate::store::{self, Append, Event, FleetRow, Recorded, Row, RunRow, Store};

/// Why a journal could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("there is no run {0}: `windlass runs` lists those there are")]
    NoRun(RunId),
    #[error("the journal of {run} cannot be followed: {illegal}")]
    Illegal { run: RunId, illegal: Illegal },
}

/// Loads a run's journal and folds it.
pub async fn load_run(store: &dyn Store, run: &RunId) -> Result<RunState, Error> {
    fold_run(run, &store.read(&StreamId::Run(run.clone()), 0).await?, Outline::of)
}

/// Folds what was read of a run's journal, from its beginning, by an outline that may be known already.
pub fn fold_run(
    run: &RunId,
    recorded: &[Recorded],
    outline: impl FnOnce(&RunId, &Origin) -> Result<Outline, Illegal>,
) -> Result<RunState, Error> {
    let events = recorded.iter().filter_map(|recorded| match &recorded.event {
        Event::Run(event) => Some((recorded.at, event)),
        Event::Fleet(_) | Event::Environment(_) => None,
    });
    RunState::fold_by(events, outline).map_err(|illegal| match illegal {
        Illegal::NoBeginning if recorded.is_empty() => Error::NoRun(run.clone()),
        illegal => Error::Illegal { run: run.clone(), illegal },
    })
}

/// Loads a fleet's journal and folds it. A fleet that nobody ever touched is in its first state.
pub async fn load_fleet(store: &dyn Store, fleet: &FleetId) -> Result<FleetState, store::Error> {
    let recorded = store.read(&StreamId::Fleet(fleet.clone()), 0).await?;
    Ok(FleetState::fold(recorded.iter().filter_map(|recorded| match &recorded.event {
        Event::Fleet(event) => Some((recorded.at, event)),
        Event::Run(_) | Event::Environment(_) => None,
    })))
}

/// Why the service must not use the image, if it must not: it is in quarantine in one of its fleets.
pub async fn quarantine(
    store: &dyn Store,
    service: &PipelineName,
    image: &ImageId,
) -> Result<Option<Quarantine>, store::Error> {
    for row in store.fleets().await? {
        if row.fleet.service == *service
            && let Some(found) = load_fleet(store, &row.fleet).await?.quarantined.remove(image)
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Loads an environment's journal and folds it.
pub async fn load_environment(
    store: &dyn Store,
    environment: &EnvironmentName,
) -> Result<EnvironmentState, store::Error> {
    let recorded = store.read(&StreamId::Environment(environment.clone()), 0).await?;
    Ok(EnvironmentState::fold(recorded.iter().filter_map(|recorded| match &recorded.event {
        Event::Environment(event) => Some((recorded.at, event)),
        Event::Run(_) | Event::Fleet(_) => None,
    })))
}

/// An append to the journal of a run whose state has the events already.
pub fn run_append(
    state: &RunState,
    waits: &Waits,
    expected: u64,
    events: Vec<(Timestamp, RunEvent)>,
) -> Append {
    Append {
        stream: StreamId::Run(state.id.clone()),
        expected,
        events: events.into_iter().map(|(at, event)| (at, Event::Run(event))).collect(),
        row: Row::Run(run_row(state, waits)),
    }
}

/// How a run stands in lists.
pub fn run_row(state: &RunState, waits: &Waits) -> RunRow {
    let status = view::status(state, waits);
    RunRow {
        run: state.id.clone(),
        status: status.as_str().to_owned(),
        ended: status.is_final(),
        commit: state.commit_sha().cloned(),
        actor: state.origin.actor.name.clone(),
        waiting_for: (status == view::Status::Waiting)
            .then(|| waits.first().map(|wait| wait.reason.clone()))
            .flatten(),
        created_at: state.created_at,
        updated_at: state.updated_at,
    }
}

/// An append to a fleet's journal.
pub fn fleet_append(fleet: &FleetId, expected: u64, events: Vec<(Timestamp, FleetEvent)>) -> Append {
    let row = fleet_row(fleet, events.last().map(|(at, event)| (*at, event)));
    Append {
        stream: StreamId::Fleet(fleet.clone()),
        expected,
        events: events.into_iter().map(|(at, event)| (at, Event::Fleet(event))).collect(),
        row: Row::Fleet(row),
    }
}

/// How a fleet stands in lists after the last event of its journal.
pub fn fleet_row(fleet: &FleetId, last: Option<(Timestamp, &FleetEvent)>) -> FleetRow {
    let updated_at = last.map_or(Timestamp::UNIX_EPOCH, |(at, _)| at);
    let ended = matches!(last, Some((_, FleetEvent::Ended { .. })));
    FleetRow { fleet: fleet.clone(), ended, updated_at }
}

/// An append to an environment's journal.
pub fn environment_append(
    environment: &EnvironmentName,
    expected: u64,
    events: Vec<(Timestamp, EnvironmentEvent)>,
) -> Append {
    Append {
        stream: StreamId::Environment(environment.clone()),
        expected,
        events: events.into_iter().map(|(at, event)| (at, Event::Environment(event))).collect(),
        row: Row::Environment,
    }
}
