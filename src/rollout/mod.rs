//! PURE. From the fleet as it is observed to the next move.
//!
//! A rollout is level-triggered: [`plan`] is asked again after each observation and needs no memory
//! of what it said before. Crash anywhere, observe, go on. What it promises, and what the property
//! tests hold against a simulated fleet with faults:
//!
//! - its own acts never lower the healthy capacity below min(floor, what was healthy at the start);
//! - new instances are launched, healthy and taking traffic before an old one is drained; as many
//!   are drained as came up, and only from the source;
//! - an old instance is terminated only after it has drained;
//! - it ends: in the new release everywhere, or back in the old one everywhere with the reason; a
//!   failed first rollout ends with no instances. Where the old one cannot be brought back either,
//!   everything healthy keeps serving and the end says so ([`End::Stranded`]).
//!
//! The strategy `blue_green` brings up all new members beside the old ones, which go on serving, and
//! switches when every one of them is healthy. Before that a failure ends the new ones; after it, it
//! switches back, if the old ones are still there.
//!
//! Deliberately absent: memory of what was asked before. The same observation always gives the same
//! move, so an operation that is repeated because an observation was old names the same members; a
//! repeated launch is recognised by its key, which is the caller's to choose. An observation may be
//! old, but not older than the turn back: after that one, look again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, InstanceId};

mod blue_green;
mod expected;
mod keep;
mod plan;
mod words;

pub use expected::{Expected, Pace, expected};
pub use keep::{Kept, keep};
pub use plan::plan;

/// An instance and what the balancer says of it, joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: InstanceId,
    /// [`crate::run::event::Release::id`] of what it runs.
    pub release: Digest,
    pub life: Life,
    pub traffic: Traffic,
    pub launched_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    Pending,
    Running,
    /// It ended by itself, with the reason.
    Failed(String),
}

/// What the balancer says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traffic {
    Unregistered,
    Initial,
    Healthy,
    /// With what the last check said.
    Unhealthy(String),
    /// It is checked, and gets no request before it is switched to.
    Standby(Check),
    Draining {
        open_requests: u64,
    },
    /// No open requests, or the drain time is over.
    Drained,
}

/// What is known of the health of a member that stands by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    Initial,
    Healthy,
    /// With what the last check said.
    Unhealthy(String),
}

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub now: Timestamp,
    pub members: Vec<Member>,
}

/// How a fleet is turned over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A batch at a time.
    Rolling(Rolling),
    /// All at once: the new members stand by until every one of them is healthy, and one switch turns
    /// the traffic over to them. The old ones then stand by for `hold`, so that there is a way back at
    /// once; zero: they are ended by the rollout itself.
    BlueGreen { hold: Duration },
}

/// How a fleet is turned over a batch at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// Members swapped at a time, at least 1.
    pub batch: u32,
    /// Members above the size that may exist for a while, at least 1: launch before terminate.
    /// Above what was healthy at the start, where that was more. Members that are draining count
    /// until they are terminated; those that ended by themselves do not.
    pub surge: u32,
    /// The least healthy capacity; the size unless the author said less.
    pub floor: u32,
}

/// Which way a rollout goes. Turning back is recorded before it is acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direction {
    Forward,
    /// Back to the source, for this reason.
    Back {
        reason: String,
    },
}

/// What a rollout is to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    pub target: Digest,
    /// The release that the fleet ran before; `None` for the first rollout.
    pub source: Option<Digest>,
    pub size: u32,
    pub strategy: Strategy,
    pub direction: Direction,
    /// When the rollout was recorded. A member launched before that tells nothing about the release:
    /// one that fails is replaced. One launched since then that fails turns the rollout back.
    pub started_at: Timestamp,
    /// A new member that is not healthy so long after its launch has failed.
    pub patience: Duration,
    /// How many members were healthy when the rollout started.
    pub healthy_at_start: u32,
}

/// One act on the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Launch `count` members of `release`. The next observation may not show them yet and the
    /// same launch be asked for again: the caller gives it the same keys, so that it happens once.
    Launch {
        release: Digest,
        count: u32,
    },
    Register {
        id: InstanceId,
    },
    /// Have it checked, and give it no request.
    StandBy {
        id: InstanceId,
    },
    /// In one step: these serve, and whoever else served stands by.
    Switch {
        to: Vec<InstanceId>,
    },
    /// Start draining.
    Drain {
        id: InstanceId,
    },
    Terminate {
        id: InstanceId,
    },
}

/// Where a rollout stands, for people and for naming its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// From 1.
    pub batch: u32,
    pub batches: u32,
    /// Healthy members of the release that the fleet is moving to: the target, or on the way back
    /// the source.
    pub ready: u32,
    /// Members of any other release that still exist.
    pub remaining: u32,
}

/// What is being done at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Members are swapped, a batch at a time.
    Batch,
    /// New members come up while the old ones serve.
    BringUp,
    /// The traffic is turned over.
    Switch,
    /// What does not serve any more is ended.
    End,
}

/// The next move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Carry these out, then observe again.
    Act {
        operations: Vec<Operation>,
        progress: Progress,
    },
    /// Nothing to do until something changes; the sentence says what is awaited. Look again at
    /// `until` at the latest (a patience that runs out).
    Wait {
        reason: String,
        until: Option<Timestamp>,
        progress: Progress,
    },
    /// The new release does not come up: record it, then plan with [`Direction::Back`].
    TurnBack {
        reason: String,
    },
    Done(End),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Completed,
    /// The source everywhere, or nothing after a failed first rollout. Members of the source that
    /// failed on the way back may still be listed; they have ended, and the next rollout clears them.
    RolledBack {
        reason: String,
    },
    /// Turned back, but the source does not come up either: whatever is healthy, of either release,
    /// keeps serving. The reason says what was tried and what is left.
    Stranded {
        reason: String,
    },
}
