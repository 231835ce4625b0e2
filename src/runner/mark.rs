//! How the runner knows a step's processes, wherever they went.
//!
//! A step is started with two marks, which its children inherit: a variable in the environment, which
//! people see too, and a limit. The limit is one on something that nobody uses (`RLIMIT_RTTIME`: the
//! time that a process of a real-time class may take without a pause, in microseconds), at some thirty
//! years and a number of the step's own. So a process is known also when it has cleared its
//! environment, forked twice and made a session of its own.

use std::hash::{BuildHasher, Hasher};

use rustix::process::{Resource, Rlimit};

use super::process::Process;
use crate::ids::StepId;

/// The variable in a step's environment that holds its mark.
pub const VARIABLE: &str = "WINDLASS_STEP";

/// What marks are added to, in microseconds.
const LIMIT: u64 = 1_000_000_000_000_000;

/// The mark of one start of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A new one: the step's key, and something that no other start has, in any data directory.
    pub fn new(step: &StepId) -> Self {
        let random = std::hash::RandomState::new().build_hasher().finish();
        Self(format!("{}.{random:016x}", step.key()))
    }

    /// One that was recorded.
    pub fn recorded(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The limit that tells the same; `None` for what is no mark of ours.
    fn limit(&self) -> Option<u64> {
        let random = u64::from_str_radix(self.0.rsplit('.').next()?, 16).ok()?;
        Some(LIMIT + (random >> 16))
    }

    /// Whether a process was started with it.
    pub fn is_on(&self, process: &Process) -> bool {
        process.has(VARIABLE, &self.0)
            || self.limit().is_some_and(|limit| process.realtime_limit() == Some(limit))
    }

    /// Does `start` so that what it starts has the limit. Where that cannot be set, the variable alone
    /// has to do.
    pub fn put<T>(&self, start: impl FnOnce() -> T) -> T {
        let before = rustix::process::getrlimit(Resource::Rttime);
        if let Some(limit) = self.limit() {
            let _ = rustix::process::setrlimit(Resource::Rttime, Rlimit { current: Some(limit), ..before });
        }
        let started = start();
        let _ = rustix::process::setrlimit(Resource::Rttime, before);
        started
    }
}
