//! Where journals are kept: the contract, and what every implementation promises.
//!
//! - A journal is append-only. Its events are numbered from 1 without gaps.
//! - [`Store::append`] writes to several journals at once or to none, durably, and only when each
//!   stands at the sequence number that the writer expects. Losing that race is
//!   [`Error::Conflict`]; that also fences a second engine.
//! - A run's journal begins with [`Store::create_run`], nothing else; a fleet's with its first append.
//! - Order is promised within a journal only. Times are kept to the microsecond.
//! - The list tables (runs, fleets) are written in the same transaction as the events that change
//!   them, and can be rebuilt from the journals.
//! - Deliveries are taken in once, durably; see [`inbox`].
//! - Nothing here assumes that all who use the store are one process.
//!
//! Deliberately absent: folding. The store keeps what happened; [`crate::run`] knows what it means.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ids::{CommitSha, FleetId, PipelineName, RunId, StreamId};
use crate::run::event::{EnvironmentEvent, FleetEvent, Origin, RunEvent};

pub mod conformance;
pub mod fault;
pub mod hold;
pub mod home;
pub mod inbox;
pub mod memory;
pub mod sqlite;

pub use inbox::{
    Delivery, DeliveryFilter, DeliveryKey, DeliveryStatus, Inbox, NewDelivery, Receipt, Settlement,
};

/// An event of any kind of journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Run(RunEvent),
    Fleet(FleetEvent),
    Environment(EnvironmentEvent),
}

/// An event as it stands in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the journal, from 1.
    pub sequence: u64,
    /// When it was recorded, by the writer's clock, to the microsecond.
    pub at: Timestamp,
    pub event: Event,
}

/// Events for one journal, to be appended if it stands at `expected`.
#[derive(Debug, Clone)]
pub struct Append {
    pub stream: StreamId,
    /// The sequence number of the journal's last event; 0 for an empty one.
    pub expected: u64,
    /// None at all only writes the row, under the same condition.
    pub events: Vec<(Timestamp, Event)>,
    /// How the journal's row in its list table looks afterwards.
    pub row: Row,
}

/// The row of a list table that an append leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    Run(RunRow),
    Fleet(FleetRow),
    /// Environments stand in no list: the settings name them.
    Environment,
}

/// A run in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub run: RunId,
    /// The word of [`crate::run::state::Status`].
    pub status: String,
    /// Whether the run has ended, in whatever way.
    pub ended: bool,
    pub commit: Option<CommitSha>,
    pub actor: String,
    pub waiting_for: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A fleet in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRow {
    pub fleet: FleetId,
    /// Whether it was taken down.
    pub ended: bool,
    pub updated_at: Timestamp,
}

/// A run to be created.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub pipeline: PipelineName,
    pub origin: Origin,
    pub at: Timestamp,
    /// The same key never creates a second run: the first one is answered again.
    pub trigger_key: Option<String>,
}

/// The word of a run that was created and that nobody has taken up yet.
const QUEUED: &str = "queued";

impl NewRun {
    /// What creating it as `run` records: its first event, and its row.
    fn begin(&self, run: &RunId) -> (Event, RunRow) {
        let row = RunRow {
            run: run.clone(),
            status: QUEUED.to_owned(),
            ended: false,
            commit: self.origin.commit.as_ref().map(|commit| commit.sha.clone()),
            actor: self.origin.actor.name.clone(),
            waiting_for: None,
            created_at: self.at,
            updated_at: self.at,
        };
        let event = RunEvent::Created { run: run.clone(), origin: Box::new(self.origin.clone()) };
        (Event::Run(event), row)
    }
}

impl Append {
    /// Whether the events and the row belong to the journal at all; what stands in the store is
    /// another question.
    fn check(&self) -> Result<(), Error> {
        let illegal = |message| Err(Error::Illegal { stream: self.stream.clone(), message });
        let (fits, row): (fn(&Event) -> bool, bool) = match (&self.stream, &self.row) {
            (StreamId::Run(run), row) => {
                (|event| matches!(event, Event::Run(_)), matches!(row, Row::Run(row) if row.run == *run))
            }
            (StreamId::Fleet(fleet), row) => (
                |event| matches!(event, Event::Fleet(_)),
                matches!(row, Row::Fleet(row) if row.fleet == *fleet),
            ),
            (StreamId::Environment(_), row) => {
                (|event| matches!(event, Event::Environment(_)), *row == Row::Environment)
            }
        };
        match (self.events.iter().all(|(_, event)| fits(event)), row) {
            (true, true) => Ok(()),
            (false, _) => illegal("an event of another kind of journal"),
            (true, false) => illegal("the list row of something else"),
        }
    }

    /// Whether a journal that stands at `actual` takes this.
    fn admit(&self, actual: u64) -> Result<(), Error> {
        let missing = match self.stream {
            StreamId::Run(_) => actual == 0,
            StreamId::Fleet(_) | StreamId::Environment(_) => {
                actual == 0 && self.expected == 0 && self.events.is_empty()
            }
        };
        match actual == self.expected {
            _ if missing => Err(Error::NotFound(self.stream.clone())),
            true => Ok(()),
            false => Err(Error::Conflict { stream: self.stream.clone(), expected: self.expected, actual }),
        }
    }
}

/// A time as stores keep it: PostgreSQL has no more than microseconds, so nobody has.
fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// Which runs a list shows, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    pub pipeline: Option<PipelineName>,
    pub status: Option<String>,
    /// At most so many; `None` is 100.
    pub limit: Option<u32>,
    /// Only runs that have not ended.
    pub unfinished: bool,
    /// Only runs created before this one: where a page of the list ended.
    pub before: Option<RunId>,
}

impl RunFilter {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(100)
    }
}

/// What can go wrong, by what a caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote first: read again, decide again.
    #[error("{stream} stands at {actual}, not at {expected}: somebody else wrote to it first")]
    Conflict { stream: StreamId, expected: u64, actual: u64 },
    #[error("there is no {0}")]
    NotFound(StreamId),
    #[error("there is no delivery {0}: `windlass deliveries` lists those there are")]
    NoDelivery(String),
    /// The caller is wrong: this can never be written, and nothing was.
    #[error("{stream} does not take {message}")]
    Illegal { stream: StreamId, message: &'static str },
    /// The disk is full: nothing was written, and it may be tried again.
    #[error("the disk that holds {path} is full; nothing was lost, free some space and try again")]
    Full { path: String },
    /// Written by a newer Windlass.
    #[error(
        "{path} was written by a newer Windlass (format {found}, this one reads up to {known}); use that one"
    )]
    Newer { path: String, found: i64, known: i64 },
    /// The stored data is not what it should be.
    #[error(
        "{path} is damaged: {message}. Nothing was changed; windlass check-data says what is whole, and a \
         backup of the directory can take its place"
    )]
    Damaged { path: String, message: String },
    /// Anything else that the database says. What was to be written may have been written or not:
    /// read again before deciding again.
    #[error("the store at {path} failed: {message}")]
    Failed { path: String, message: String },
}

/// Keeps journals, and what came in. See the module for what is promised.
#[async_trait]
pub trait Store: Inbox {
    /// Creates a run: allocates its number and writes [`RunEvent::Created`] as its first event, in
    /// one transaction. With a trigger key that was used before, answers that run and writes nothing.
    async fn create_run(&self, new: NewRun) -> Result<RunId, Error>;

    /// Appends to all the journals or to none, in the order given (a journal may come twice, the
    /// second time at what the first leaves). Durable when it returns; once called it happens, even
    /// when nobody waits for the answer any more.
    ///
    /// [`Error::NotFound`] for a run that was never created, and for rows without a journal.
    async fn append(&self, batch: Vec<Append>) -> Result<(), Error>;

    /// The events of a journal after `after`, in order; empty when there are none.
    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Recorded>, Error>;

    /// The whole of each of these journals, in their order. One that cannot be read keeps none of the others
    /// from being read.
    async fn read_each(&self, streams: &[StreamId]) -> Vec<Result<Vec<Recorded>, Error>> {
        let mut journals = Vec::with_capacity(streams.len());
        for stream in streams {
            journals.push(self.read(stream, 0).await);
        }
        journals
    }

    /// Those of these journals that have gone on after the sequence number that is known of each.
    async fn gone_on(&self, known: &[(StreamId, u64)]) -> Result<Vec<StreamId>, Error> {
        let mut gone_on = Vec::new();
        for (stream, after) in known {
            if !self.read(stream, *after).await?.is_empty() {
                gone_on.push(stream.clone());
            }
        }
        Ok(gone_on)
    }

    /// Runs, the one created last first.
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Error>;

    /// Every pipeline that ever had a run, by name.
    async fn pipelines(&self) -> Result<Vec<PipelineName>, Error>;

    /// Fleets by name.
    async fn fleets(&self) -> Result<Vec<FleetRow>, Error>;
}
