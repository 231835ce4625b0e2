//! What a client and the runner say to each other on `DATA/runner.sock`: JSON lines, over
//! [`crate::ipc`].
//!
//! Each side first says [`Hello`], whose form never changes. Then the client asks, each request
//! with an id of its choice, and the runner answers each with that id, in any order: the answer to
//! a start comes when the step has ended, and many may be under way. What cannot be read is
//! answered with id 0 and [`Answer::Refused`], and the runner hangs up.
//!
//! When the versions differ, the client waits and says nothing more. The runner drains: it starts
//! nothing new, and ends when its last step has ended; that closes the connection, and the client
//! starts a runner of its own version, which finds the records.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Exit, StartStep};
use crate::ids::StepId;

/// Goes up with every change that an older side would misunderstand.
pub const VERSION: u32 = 1;

/// The socket's name in the data directory.
pub const SOCKET: &str = "runner.sock";

/// The id of an answer to what could not be read.
pub const NO_REQUEST: u64 = 0;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Hello {
    pub windlass_runner: u32,
}

impl Hello {
    pub const OURS: Self = Self { windlass_runner: VERSION };
}

#[derive(Serialize, Deserialize)]
pub struct Request<'a> {
    pub id: u64,
    pub ask: Ask<'a>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask<'a> {
    /// Start it unless it was started, and answer when it has ended.
    Start(Cow<'a, StartStep>),
    /// Answer when it has ended.
    Wait(StepId),
    /// End it, and answer when it has ended.
    Cancel { step: StepId, grace_ms: u64 },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Response {
    pub id: u64,
    pub answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ended(Exit),
    /// There is no record of the step.
    Unknown,
    /// The runner is about to give way: ask the next one, when the connection closes.
    Leaving,
    Refused(String),
}
