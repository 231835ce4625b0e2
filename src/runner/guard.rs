//! The guard: the runner's parent, there for the moment in which the runner dies.
//!
//! What a runner that died has left is found by its group and by its mark; a process that left its
//! session and cleared its environment shows neither. The kernel still knows it: it gives the dead
//! runner's children, and so everything that ever came of its steps, to the next subreaper above.
//! That is this process. It does nothing until the runner has ended, ends whatever it was given
//! then, and ends itself. The runner writes down who guards it, so that the next runner waits for
//! that end before it calls anything lost.
//!
//! Where the guard was killed as well, group and mark are all there is.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::Instant;

use super::family::Family;
use super::place::RUNNER;
use super::process::Process;
use crate::wake;

/// The variable by which a runner knows that its parent is a guard: the guard's process number.
const GUARD: &str = "WINDLASS_GUARD";

/// How long a guard may take to end what its runner left.
const PATIENCE: Duration = Duration::from_secs(6);

/// Which process guards a runner, known by number and start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pid: i32,
    start_time: u64,
}

impl Guard {
    /// This process's guard, if it has one.
    pub fn ours() -> Option<Self> {
        let parent = rustix::process::getppid()?;
        let named = std::env::var(GUARD).ok()?.parse::<i32>().ok()? == parent.as_raw_nonzero().get();
        let parent = Process::read(parent).filter(|_| named)?;
        Some(Self { pid: parent.pid.as_raw_nonzero().get(), start_time: parent.start_time })
    }

    /// Waits until it has ended, and with it what its runner left.
    pub async fn ended(self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return;
        };
        if Process::read(pid).is_none_or(|now| now.start_time != self.start_time || now.zombie) {
            return;
        }
        let ended = async { wake::readable(process)?.readable().await.map(drop) };
        if tokio::time::timeout(PATIENCE, ended).await.is_err() {
            tracing::warn!(guard = %pid, "the guard of the runner that died does not end");
        }
    }
}

/// Starts `program runner --data DATA`, and stays until that has ended and nothing of its steps is
/// left. Answers how it ended.
///
/// Must be called on the process's main thread, outside of any async runtime: see
/// [`serve`](super::serve).
///
/// # Errors
/// The runner cannot be started.
pub fn guard(program: &Path, data: &Path) -> io::Result<ExitStatus> {
    let family = Family::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let mut told = Told::new()?;
        let mut runner = Command::new(program)
            .arg(RUNNER)
            .arg("--data")
            .arg(data)
            .env(GUARD, std::process::id().to_string())
            .spawn()?;
        let pid = Pid::from_child(&runner);
        let status = loop {
            if let Some(status) = runner.try_wait()? {
                break status;
            }
            told.pass_on(pid).await;
        };
        family.end_strays(Instant::now() + PATIENCE).await;
        Ok(status)
    })
}

/// What this process is told: nothing of it ends it while there is a runner.
struct Told {
    child: Signals,
    terminate: Signals,
    interrupt: Signals,
    hangup: Signals,
}

impl Told {
    fn new() -> io::Result<Self> {
        Ok(Self {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal; what is meant to end us is the runner's to follow.
    async fn pass_on(&mut self, runner: Pid) {
        let signal = tokio::select! {
            _ = self.child.recv() => return,
            _ = self.hangup.recv() => return,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
        };
        // It was not waited for since it was last seen, so the number is still its own.
        let _ = rustix::process::kill_process(runner, signal);
    }
}
