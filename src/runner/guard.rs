//! What is done about a runner that does not answer.
//!
//! Whoever waits for a runner looks after it: nobody else would. One that was stopped (SIGSTOP, a
//! debugger that went away) is told to go on, which loses nothing. One that does not answer even so is
//! killed: the next ends what it left and says of its steps that they are lost. What answers is known by
//! its hello, whose form never changes, so that this works with every version. While nobody waits for an
//! answer, nothing here runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::mark::Mark;
use super::protocol::{Hello, SOCKET};
use super::{family, journal, place, process};
use crate::ids::StepId;
use crate::{ipc, wake};

/// A runner that has not said hello after this time is looked at: it may have been stopped.
const LOOK: Duration = Duration::from_millis(500);

/// While somebody waits for a step to end the runner is asked so often whether it is there.
const BEAT: Duration = Duration::from_secs(10);

/// A runner that has not answered within this time hangs. It may first have to end what a runner
/// that died left behind, on a machine that is very busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a process needs to be gone that was killed.
const DEATH: Duration = Duration::from_secs(1);

/// Sees to it that the runner of `data` answers, or is gone, about as soon as `by`.
async fn see_to(data: &Path, by: Instant) {
    let greeting = greet(data);
    tokio::pin!(greeting);
    loop {
        tokio::select! {
            () = &mut greeting => return,
            () = tokio::time::sleep_until(by) => return end(data).await,
            () = tokio::time::sleep(LOOK) => go_on(data),
        }
    }
}

/// Sees to it that the runner answers for as long as somebody waits for it to: `waits` tells, and
/// `asked` when that may have changed.
pub async fn watch(data: &Path, waits: impl Fn() -> bool, asked: Arc<Notify>) {
    loop {
        let changed = asked.notified();
        if !waits() {
            changed.await;
        } else {
            tokio::time::sleep(BEAT).await;
            if waits() {
                see_to(data, Instant::now() + PATIENCE).await;
            }
        }
    }
}

/// Sees to it that the runner answers until `by`, when one that does not is ended. Never returns.
pub async fn insist(data: &Path, by: Instant) -> std::convert::Infallible {
    loop {
        see_to(data, by.max(Instant::now() + LOOK * 2)).await;
        tokio::time::sleep(LOOK).await;
    }
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

/// Returns when somebody has said hello, or nobody is there.
async fn greet(data: &Path) {
    let hello = async {
        let (read, write) = ipc::connect(data, SOCKET).await?.into_split();
        ipc::Writer::new(write).send(&Hello::OURS).await?;
        ipc::Reader::new(read).next::<Hello>().await
    };
    // Whatever goes wrong with the connection, whoever waits at another sees it there too.
    let _ = hello.await;
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
