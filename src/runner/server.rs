//! The runner itself: takes requests, starts steps, remembers how they ended.
//!
//! One thread does it all but the writing of output: a step passes from the socket to the kernel and
//! back without waking another thread, and all processes are children of the thread that adopts
//! them (see [`super::family`]).

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::family::Family;
use super::journal::{Journal, Past};
use super::mark::Mark;
use super::output::Output;
use super::protocol::{Answer, Response};
use super::step::{Order, Running, Why};
use super::{Exit, ExitStatus, GRACE, StartStep};
use crate::ids::StepId;

/// What is known of all steps, and how to start one.
pub(super) struct Runner {
    /// Long scripts are put here while they run.
    scratch: PathBuf,
    family: Family,
    state: Mutex<State>,
    /// Somebody came or went, or a step ended.
    pub(super) changed: Notify,
    /// There are records that were not synced.
    unsynced: Notify,
    /// Connections are to be closed.
    pub(super) closing: CancellationToken,
}

struct State {
    journal: Journal,
    ended: HashMap<StepId, Past>,
    running: HashMap<StepId, Watched>,
    clients: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing new is started: another runner is to take over, or the operator wants this one gone.
    Leaving,
}

/// A step that runs, and who wants to know when it has ended.
struct Watched {
    born: Timestamp,
    orders: watch::Sender<Option<Order>>,
    listeners: Vec<Listener>,
    /// Steps of another run with the same number, to be started when this one has ended.
    successors: Vec<(StartStep, Listener)>,
}

/// Who asked, and under which id.
pub(super) struct Listener {
    pub(super) id: u64,
    pub(super) answers: mpsc::UnboundedSender<Response>,
}

impl Listener {
    pub(super) fn tell(self, answer: Answer) {
        // Whoever has gone asks again when it comes back.
        let _ = self.answers.send(Response { id: self.id, answer });
    }
}

/// Counts a client for as long as it is there.
pub(super) struct Present(Arc<Runner>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.state().clients -= 1;
        self.0.changed.notify_one();
    }
}

impl Runner {
    pub(super) fn new(
        scratch: PathBuf,
        family: Family,
        journal: Journal,
        ended: HashMap<StepId, Past>,
    ) -> Arc<Self> {
        let state = State { journal, ended, running: HashMap::new(), clients: 0, phase: Phase::Open };
        Arc::new(Self {
            scratch,
            family,
            state: Mutex::new(state),
            changed: Notify::new(),
            unsynced: Notify::new(),
            closing: CancellationToken::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reaps adopted processes that died.
    pub(super) fn reap(&self) {
        self.family.reap();
    }

    pub(super) fn enter(self: &Arc<Self>) -> Present {
        self.state().clients += 1;
        Present(Arc::clone(self))
    }

    pub(super) fn has_clients(&self) -> bool {
        self.state().clients > 0
    }

    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        state.clients == 0 && state.running.is_empty()
    }

    /// Whether it is to leave, and may: no step runs.
    pub(super) fn has_drained(&self) -> bool {
        let state = self.state();
        state.phase == Phase::Leaving && state.running.is_empty()
    }

    /// Starts nothing new from now on.
    pub(super) fn drain(&self) {
        self.state().phase = Phase::Leaving;
        self.changed.notify_one();
    }

    /// Starts nothing new, and ends all that runs.
    pub(super) fn shut_down(&self, grace: Duration) {
        self.drain();
        let order = Order { why: Why::Shutdown, until: Instant::now() + grace };
        for watched in self.state().running.values() {
            watched.orders.send_replace(Some(order));
        }
    }

    /// Starts a step unless it was started before; `listener` hears when it has ended.
    pub(super) fn start(self: &Arc<Self>, start: StartStep, listener: Listener) {
        let mut state = self.state();
        let State { running, ended, .. } = &mut *state;
        match (running.get_mut(&start.step), ended.get(&start.step)) {
            (Some(watched), _) if watched.born != start.born => {
                tracing::warn!(step = %start.step, "ending a step of another run with the same number");
                watched
                    .orders
                    .send_replace(Some(Order { why: Why::Cancelled, until: Instant::now() + GRACE }));
                return watched.successors.push((start, listener));
            }
            (Some(watched), _) => return watched.listeners.push(listener),
            (None, Some(past)) if past.is_of(start.born) => {
                return listener.tell(Answer::Ended(past.exit.clone()));
            }
            (None, _) => {}
        }
        if state.phase == Phase::Leaving {
            return listener.tell(Answer::Leaving);
        }
        let (id, born) = (start.step.clone(), start.born);
        // Of another run that bore the same number, if of any.
        state.ended.remove(&id);
        let started_at = Timestamp::now();
        match self.spawn(&mut state.journal, start, started_at) {
            Err(message) => {
                let status = ExitStatus::NotStarted { message };
                let exit = Exit { status, started_at, finished_at: started_at, log_bytes: 0 };
                self.record(&mut state, id, Past { born: Some(born), exit: exit.clone() });
                listener.tell(Answer::Ended(exit));
            }
            Ok(running) => {
                let (orders, given) = watch::channel(None);
                let watched = Watched { born, orders, listeners: vec![listener], successors: Vec::new() };
                state.running.insert(id.clone(), watched);
                let runner = Arc::clone(self);
                tokio::spawn(async move {
                    let (status, log_bytes) = running.watch(&runner.family, given).await;
                    let exit = Exit { status, started_at, finished_at: Timestamp::now(), log_bytes };
                    runner.ended(id, born, exit);
                });
            }
        }
    }

    /// Records the intent, then starts the process.
    fn spawn(&self, journal: &mut Journal, start: StartStep, at: Timestamp) -> Result<Running, String> {
        let mut start = start;
        let unrecorded = |error: io::Error| format!("its start could not be recorded: {error}");
        let output = Output::open(start.log.clone(), std::mem::take(&mut start.mask))
            .map_err(|error| format!("there is no pipe for its output: {error}"))?;
        remove_old(&start.log)?;
        let id = start.step.clone();
        let mark = Mark::new(&id);
        journal.starting(&start, mark.as_str(), at).map_err(unrecorded)?;
        let running = Running::start(start, mark, output, &self.scratch)?;
        self.family.add(running.leader());
        if let Err(error) = journal.running(&id, running.leader(), running.start_time()) {
            // Its mark is recorded, by which it would be found too.
            tracing::warn!(%error, step = %id, "a step's process could not be recorded");
        }
        Ok(running)
    }

    /// `listener` hears when the step has ended.
    pub(super) fn wait(&self, step: &StepId, listener: Listener) {
        let mut state = self.state();
        let State { running, ended, .. } = &mut *state;
        match (running.get_mut(step), ended.get(step)) {
            (Some(watched), _) => watched.listeners.push(listener),
            (None, Some(past)) => listener.tell(Answer::Ended(past.exit.clone())),
            (None, None) => listener.tell(Answer::Unknown),
        }
    }

    /// Ends a step, which has `grace` to end by itself first; `listener` hears when it has ended.
    /// Said again, the shorter grace counts.
    pub(super) fn cancel(&self, step: &StepId, grace: Duration, listener: Listener) {
        if let Some(watched) = self.state().running.get(step) {
            let until = Instant::now() + grace;
            watched.orders.send_replace(Some(Order { why: Why::Cancelled, until }));
        }
        self.wait(step, listener);
    }

    fn ended(self: &Arc<Self>, step: StepId, born: Timestamp, exit: Exit) {
        let mut state = self.state();
        let watched = state.running.remove(&step);
        self.record(&mut state, step, Past { born: Some(born), exit: exit.clone() });
        drop(state);
        if let Some(Watched { listeners, successors, .. }) = watched {
            for listener in listeners {
                listener.tell(Answer::Ended(exit.clone()));
            }
            for (start, listener) in successors {
                self.start(start, listener);
            }
        }
        self.changed.notify_one();
    }

    fn record(&self, state: &mut State, step: StepId, past: Past) {
        if let Err(error) = state.journal.ended(&step, &past) {
            tracing::error!(%error, %step, "how a step ended could not be recorded");
        }
        state.ended.insert(step, past);
        if state.journal.is_due() && state.running.is_empty() {
            let State { journal, ended, .. } = state;
            if let Err(error) = journal.renew(ended) {
                tracing::error!(%error, "the records could not be written anew");
            }
        }
        self.unsynced.notify_one();
    }

    /// Syncs records in the background for as long as it is polled: one sync at a time, and one for
    /// all that was written during the last and the `pause` after it.
    pub(super) async fn sync(&self, pause: Duration) {
        loop {
            self.unsynced.notified().await;
            let file = self.state().journal.file();
            let synced = tokio::task::spawn_blocking(move || file?.sync_data()).await;
            if let Err(error) = synced.map_err(io::Error::other).flatten() {
                tracing::error!(%error, "the records could not be synced");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Syncs records, at the end.
    pub(super) fn sync_now(&self) -> io::Result<()> {
        self.state().journal.file()?.sync_data()
    }
}

/// Removes the log of an earlier run's step with the same number: output is appended, and theirs must
/// not look like ours. What is no file is left for whoever put it there.
fn remove_old(log: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(log) {
        Ok(metadata) if metadata.is_file() => std::fs::remove_file(log)
            .map_err(|error| format!("an old log {} cannot be removed: {error}", log.display())),
        _ => Ok(()),
    }
}
