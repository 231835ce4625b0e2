//! What is done about a runner that does not answer.
//!
//! Whoever waits for a runner looks after it: nobody else would. One that was stopped (SIGSTOP, a
//! debugger that went away) is told to go on, which loses nothing. One that does not answer even so is
//! killed: the next ends what it left and says of its steps that they are lost. While nobody waits for an
//! answer, nothing here runs.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::time::Instant;

use super::mark::Mark;
use super::{family, journal, place, process};
use crate::ids::StepId;
use crate::ipc;
use crate::wake;

/// A runner that has not answered after this time is looked at: it may have been stopped.
const LOOK: Duration = Duration::from_millis(500);

/// While somebody waits for a step to end the runner is asked so often whether it is there.
pub const BEAT: Duration = Duration::from_secs(10);

/// A runner that has not answered within this time hangs. It may first have to end what a runner
/// that died left behind, on a machine that is very busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a process needs to be gone that was killed.
const DEATH: Duration = Duration::from_secs(1);

/// Waits for an answer of the runner of `data`. When there is none by `by` the runner is killed, and
/// there is none.
pub async fn answer<T>(data: &Path, by: Instant, answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = answer => return Some(answer),
        () = tokio::time::sleep_until(by) => {}
        never = wake(data) => match never {},
    }
    end(data).await;
    None
}

/// Tells the runner to go on whenever it is stopped. Never returns.
pub async fn wake(data: &Path) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        go_on(data);
    }
}

/// Tells a runner that was stopped to go on.
fn go_on(data: &Path) {
    if let Some((pid, _)) = place::process(data) {
        ipc::go_on(pid);
    }
}

/// Kills a runner that does not answer.
async fn end(data: &Path) {
    let Some((pid, pidfd)) = place::process(data) else { return };
    tracing::error!(%pid, "the runner does not answer and is killed; the next one ends its steps");
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    let ended = async { wake::readable(pidfd)?.readable().await.map(drop) };
    if tokio::time::timeout(DEATH, ended).await.is_err() {
        tracing::error!(%pid, "the runner hangs in the kernel: not even SIGKILL ends it");
    }
}

/// Ends the processes of a step without its runner, which does not: known by what it has recorded.
/// Answers what to say of it.
pub async fn end_from_outside(data: &Path, step: &StepId) -> String {
    let found = journal::read(&place::records(data), &process::boot());
    let found = found.ok().and_then(|found| found.abandoned.into_iter().find(|known| known.step == *step));
    let Some(known) = found else { return "the runner does not answer, and has no record of it".to_owned() };
    match family::end_abandoned(known.leader, &Mark::recorded(known.mark)).await {
        Ok(()) => "the runner does not answer; its processes were ended without it".to_owned(),
        Err(pids) => {
            format!("the runner does not answer, and these processes of it do not end: {pids:?}")
        }
    }
}
