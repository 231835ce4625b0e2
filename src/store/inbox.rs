//! What came in from outside and may start runs: webhooks, and instants of schedules.
//!
//! - A delivery is durable when [`Inbox::deliver`] answers, and is there once: the second of the same
//!   source and id is [`Receipt::Known`].
//! - A delivery is pending until somebody settles it. Whoever starts looks at the pending ones, so
//!   none is lost to a crash.
//! - Ids are unique over all sources, by their form: those of GitHub are UUIDs, those of schedules
//!   have an `@`.
//!
//! Deliberately absent: what is in a body. The store keeps bytes.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::ids::{PipelineName, RunId};

/// Which delivery: where it came from, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// `github` or `schedule`.
    pub source: String,
    pub id: String,
}

/// Something that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    pub key: DeliveryKey,
    /// What it says it is about: `push`, `ping`, `due`.
    pub event: String,
    pub received_at: Timestamp,
    pub body: Vec<u8>,
}

/// Whether a delivery was there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    New,
    Known,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    /// It is still to be handled.
    Pending,
    /// It started the runs that it names.
    Handled,
    /// It starts nothing, for the reason that it names.
    Ignored,
    /// It should have started a run and could not, for the reason that it names.
    Failed,
}

impl DeliveryStatus {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Handled, Self::Ignored, Self::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Handled => "handled",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }
}

/// What came of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// [`DeliveryStatus::Pending`] leaves it pending, or makes it so again; the reason says why.
    pub status: DeliveryStatus,
    pub reason: Option<String>,
    pub runs: Vec<RunId>,
}

/// A delivery as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub key: DeliveryKey,
    pub event: String,
    pub received_at: Timestamp,
    /// `None` in lists, and for one whose body was dropped for its age.
    pub body: Option<Vec<u8>>,
    /// What came of it so far.
    pub settlement: Settlement,
}

/// Which deliveries a list shows, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub status: Option<DeliveryStatus>,
    /// At most so many; `None` is 100.
    pub limit: Option<u32>,
}

impl DeliveryFilter {
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100)
    }
}

/// Keeps deliveries. See the module for what is promised.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Takes a delivery in, once. Durable when it returns.
    async fn deliver(&self, new: NewDelivery) -> Result<Receipt, Error>;

    /// The delivery of that id, with its body.
    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error>;

    /// Deliveries without their bodies, the one received last first.
    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Error>;

    /// All that are pending, the one received first first.
    async fn pending_deliveries(&self) -> Result<Vec<DeliveryKey>, Error>;

    /// Records what came of a delivery. [`Error::NoDelivery`] when there is none.
    async fn settle_delivery(&self, key: &DeliveryKey, settlement: Settlement) -> Result<(), Error>;

    /// Drops the bodies of settled deliveries that were received before `before`. The deliveries
    /// themselves stay, so that they are still known.
    async fn drop_bodies(&self, before: Timestamp) -> Result<(), Error>;

    /// Up to when the pipeline's schedules were considered: nothing due until then is considered
    /// again. `None` for a pipeline that was never marked.
    async fn schedule_mark(&self, pipeline: &PipelineName) -> Result<Option<Timestamp>, Error>;

    /// Marks the pipeline's schedules as considered up to `until`.
    async fn mark_schedule(&self, pipeline: &PipelineName, until: Timestamp) -> Result<(), Error>;
}
