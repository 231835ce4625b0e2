//! Follows a run to its end, and does what Ctrl-C asks meanwhile.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;
use super::progress::Progress;
use crate::ids::RunId;
use crate::run::view::RunView;

/// Times on a terminal move on so often.
const TICK: Duration = Duration::from_millis(250);

/// Whoever leaves right after a cancel gives it so long to be recorded, which takes milliseconds.
const LEAVING: Duration = Duration::from_secs(2);

/// What a signal asks of a foreground run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Cancel,
    /// Leave at once. Nothing is cancelled: what runs goes on, and somebody may resume the run.
    Leave,
}

/// The signals that a foreground run takes.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    interrupted: bool,
}

impl Signals {
    /// From now on they do not end this process by themselves.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupted: false,
        })
    }

    /// Returns when somebody wants this process to end.
    pub async fn asked(&mut self) {
        self.next().await;
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => match std::mem::replace(&mut self.interrupted, true) {
                false => Wish::Cancel,
                true => Wish::Leave,
            },
            _ = self.terminate.recv() => Wish::Leave,
            _ = self.hangup.recv() => Wish::Leave,
        }
    }
}

/// How following came to an end.
pub enum Followed {
    Ended(Box<RunView>),
    /// Somebody told us to leave.
    Left,
    /// Whoever drove the run went away before its end.
    Lost(Option<Error>),
}

/// Shows the run until it ends. The first Ctrl-C calls `cancel`.
pub async fn follow(
    run: &RunId,
    views: impl Stream<Item = Result<RunView, Error>> + Unpin,
    cancel: impl Fn() -> BoxFuture<'static, Result<(), Error>>,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Followed {
    let mut views = views;
    let mut ticks = tokio::time::interval(TICK);
    // Asked for, and not recorded yet.
    let mut cancelled = false;
    let mut cancelling: BoxFuture<'static, Result<(), Error>> = std::future::pending().boxed();
    loop {
        tokio::select! {
            view = views.next() => match view {
                Some(Ok(view)) => {
                    progress.show(&view);
                    if view.status.is_final() {
                        return Followed::Ended(Box::new(view));
                    }
                }
                Some(Err(error)) => return Followed::Lost(Some(error)),
                None => return Followed::Lost(None),
            },
            wish = signals.next() => match wish {
                Wish::Cancel => {
                    progress.say(&format!(
                        "cancelling {run}: what runs is told to stop; Ctrl-C again leaves at once"
                    ));
                    cancelling = cancel();
                    cancelled = true;
                }
                Wish::Leave => {
                    // A cancel that was asked for wins, however soon somebody wants to leave.
                    if cancelled {
                        let _ = tokio::time::timeout(LEAVING, cancelling).await;
                    }
                    return Followed::Left;
                }
            },
            done = &mut cancelling => {
                cancelling = std::future::pending().boxed();
                cancelled = false;
                if let Err(error) = done {
                    progress.say(&format!("{run} could not be cancelled: {error}"));
                }
            }
            _ = ticks.tick(), if progress.is_live() => progress.tick(),
        }
    }
}
