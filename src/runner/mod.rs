//! Runs shell steps in a process of its own, so that they outlive whoever asked for them.
//!
//! One runner for each data directory: this same binary in its own session (`windlass runner`),
//! started on demand, owning the steps' output, redacting it, writing it to the step's log as it
//! comes, and leaving a durable exit record. What it promises:
//!
//! - a start is idempotent by [`StepId`] and the time at which the run was created: asked again, it
//!   answers for the step that runs or ran. Where a lost or restored journal gave a run's number out
//!   again, the step of the earlier run is ended and forgotten, and its log removed;
//! - what a step wrote and how it ended is known also to a client that comes later, and after the
//!   runner was replaced;
//! - cancelling ends all of the step: SIGTERM, then after the grace SIGKILL, and children that were
//!   forked meanwhile or went away too. It is over [`LATE`] after the grace at the latest, also where the
//!   runner itself was stopped or hangs; what SIGKILL does not end by then is called lost, and named. A
//!   step that is cancelled and exits with 0 is cancelled;
//! - a runner that somebody stopped (SIGSTOP) is told to go on by whoever waits for it, and one that
//!   does not answer is killed, so that another takes its place;
//! - when the runner died, a new one ends the process groups that the old one left (checked by their
//!   start time, so that a reused number is never killed) before it calls their steps lost;
//! - it ends when it is idle and nobody holds the data directory; told to end (SIGTERM), it ends its
//!   steps first and records them as lost.
//!
//! What a step leaves in the background ends with the step, however it was detached.

mod client;
mod family;
mod guard;
mod journal;
mod mark;
mod output;
mod place;
mod process;
mod protocol;
mod serve;
mod server;
mod step;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use client::Client;
pub use place::left;
pub use serve::{Options, ServeError, serve};

use crate::ids::StepId;
use crate::pipeline::model::Shell;

/// Whoever runs shell steps. See the module for what is promised; [`Client`] asks the process that
/// does it.
#[async_trait]
pub trait Runner: Send + Sync {
    /// Runs a step and waits until it has ended. If it was started before, by whomever, it is not
    /// started again: this answers for that start. May be dropped; the step runs on.
    ///
    /// # Errors
    /// The runner cannot be reached, or refused: the step's text and environment are too long.
    async fn run(&self, start: &StartStep) -> Result<Exit, Error>;

    /// Waits until a step that was started has ended.
    ///
    /// # Errors
    /// The runner cannot be reached, or has no record of the step.
    async fn wait(&self, step: &StepId) -> Result<Exit, Error>;

    /// Ends a step: SIGTERM to all its processes, SIGKILL after `grace`. Waits until nothing of it
    /// is left. A step that ended before is left as it ended.
    ///
    /// # Errors
    /// The runner cannot be reached, or has no record of the step.
    async fn cancel(&self, step: &StepId, grace: Duration) -> Result<Exit, Error>;
}

/// A step to be run. Travels over the runner's socket only; it is never stored, as it carries
/// secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct StartStep {
    pub step: StepId,
    /// When the run was created, from its journal: tells it from another with the same number.
    pub born: Timestamp,
    pub shell: Shell,
    /// The author's text, given to the shell as a script.
    pub run: String,
    /// Where it runs; must exist.
    pub directory: PathBuf,
    /// The whole environment: nothing is inherited. The runner adds `WINDLASS_STEP`, by which it
    /// finds the step's processes wherever they went.
    pub env: BTreeMap<String, String>,
    /// What must not appear in the log.
    pub mask: Vec<String>,
    /// Where its output goes, appended. The file and the directories above are made when it first
    /// writes something.
    pub log: PathBuf,
}

/// How a step's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub status: ExitStatus,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Length of its log, in bytes, after redaction.
    pub log_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExitStatus {
    /// It ended by itself.
    Code { code: i32 },
    /// A signal ended it that we did not send.
    Signal { signal: i32 },
    /// It was cancelled, and nothing of it is left.
    Cancelled,
    /// It could not be started: no such directory, no such shell, no memory.
    NotStarted { message: String },
    /// The runner died while it ran, or its output could not be written; what was left of it has
    /// been ended.
    Lost { message: String },
}

/// Why the runner could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The runner could not be started, or went away; asking again starts a new one.
    #[error("the runner cannot be reached: {0}")]
    Unreachable(String),
    /// It has no record of the step: it was never started, or long ago.
    #[error("the runner knows no {0}")]
    Unknown(StepId),
    #[error("the runner refused: {0}")]
    Refused(String),
}

/// How long a cancelled step has between SIGTERM and SIGKILL, unless the caller says otherwise.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long after its grace a cancelled step may still take.
pub const LATE: Duration = Duration::from_secs(2);
