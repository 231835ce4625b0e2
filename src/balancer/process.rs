//! The process: its listeners, from the first start to the end or to the hand-over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::fleet::OpenRequests;
use super::saved::{Saved, SavedFleet, Saver};
use super::workers::Workers;
use super::{admin, handover, lock};
use crate::ids::FleetId;

mod listeners;

use listeners::{Entry, bind};

/// Without a listener for so long, nobody needs the process.
const IDLE: Duration = Duration::from_secs(5);

/// How long a process that is ending may hold the lock: its own grace, and that of its predecessors.
const LOCKED: Duration = Duration::from_secs(20);

/// What open requests get when the process is asked to end.
const GRACE: Duration = Duration::from_secs(5);

/// After a hand-over an unused connection is left open for so long: its client learns with its next
/// answer that it should connect anew.
const QUIET: Duration = Duration::from_secs(30);

/// After a hand-over open requests get so long.
const FAREWELL: Duration = Duration::from_secs(300);

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; must exist.
    pub data: PathBuf,
    pub start: Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From what the data directory holds. Fails while another process serves it.
    Fresh,
    /// From the process that serves it now, by a hand-over; without one, afresh.
    TakeOver,
}

/// Why the process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("another process holds {0}; `windlass balancer --replace` takes its place")]
    Held(String),
    #[error("{0}")]
    State(String),
    #[error("the running balancer did not hand over: {0}")]
    HandOver(String),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

/// What becomes of changes that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Another process decides, or soon will.
    Left,
}

/// What the process has besides its listeners, and gives away with them.
pub(super) struct Keys {
    pub lock: OwnedFd,
    pub admin: OwnedFd,
}

/// What a process starts with.
pub(super) struct Estate {
    pub keys: Keys,
    pub fleets: Vec<Heirloom>,
}

/// A fleet from before.
pub(super) struct Heirloom {
    pub saved: SavedFleet,
    /// `None` when its port is taken by another program.
    pub socket: Option<std::net::TcpListener>,
    /// What the process has open that handed it over.
    pub elsewhere: Option<(u32, OpenRequests)>,
}

pub(super) struct Process {
    data: PathBuf,
    /// Held while something changes, and through a hand-over.
    pub gate: tokio::sync::Mutex<Phase>,
    fleets: Mutex<BTreeMap<FleetId, Entry>>,
    count: watch::Sender<usize>,
    keys: Mutex<Option<Keys>>,
    workers: Workers,
    pub saver: Arc<Saver>,
    /// What clients may be waiting for.
    open: TaskTracker,
    /// The processes we took over from.
    pub predecessors: TaskTracker,
    closing: CancellationToken,
    /// The process was asked to end.
    pub end: CancellationToken,
    /// Another process has taken over.
    pub left: CancellationToken,
    /// Woken when fewer requests are open, after a hand-over.
    pub released: Arc<Notify>,
    /// Where revisions start: later than those of an earlier process.
    seed: u64,
}

/// Serves the data directory until nobody needs that any more. Calls `ready` as soon as connections
/// and admin requests are taken.
pub async fn run(options: Options, ready: impl FnOnce()) -> Result<(), StartError> {
    raise_limit();
    let taken = match options.start {
        Start::Fresh => None,
        Start::TakeOver => handover::take(&options.data).await?,
    };
    let (estate, predecessor) = match taken {
        Some((estate, predecessor)) => (estate, Some(predecessor)),
        None => (fresh(&options.data).await?, None),
    };
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| StartError::Io { what, error }
    };
    let admin = estate.keys.admin.try_clone().map_err(failed("the admin socket"))?;
    let admin = std::os::unix::net::UnixListener::from(admin);
    admin.set_nonblocking(true).map_err(failed("the admin socket"))?;
    let admin = UnixListener::from_std(admin).map_err(failed("the admin socket"))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(failed("signals"))?;
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(failed("signals"))?;

    let workers = Workers::start().map_err(failed("threads"))?;
    let process = Process::new(options.data, estate.keys, workers);
    for heirloom in estate.fleets {
        process.restore(heirloom);
    }
    if let Some(predecessor) = predecessor {
        process.predecessors.spawn(predecessor.follow(process.clone()));
    }
    let saving = process.clone();
    let _saving = AbortOnDropHandle::new(tokio::spawn(process.saver.clone().run(move || saving.saved())));
    let accepting = AbortOnDropHandle::new(tokio::spawn(admin::accept(process.clone(), admin)));
    tracing::info!("process {} serves {}", std::process::id(), process.data.display());
    ready();

    tokio::select! {
        () = process.end.cancelled() => {}
        () = process.idle() => tracing::info!("no listener is left"),
        _ = terminate.recv() => tracing::info!("ended by SIGTERM"),
        _ = interrupt.recv() => tracing::info!("ended by SIGINT"),
        () = process.left.cancelled() => {
            drop(accepting);
            tokio::select! {
                () = process.farewell() => {}
                () = process.end.cancelled() => {}
                _ = terminate.recv() => {}
            }
        }
    }
    process.finish().await;
    tracing::info!("process {} ends", std::process::id());
    Ok(())
}

/// What a first process starts with: the lock, the admin socket, the state of the data directory.
async fn fresh(data: &Path) -> Result<Estate, StartError> {
    let path = data.join(super::LOCK);
    let failed = |error| StartError::Io { what: path.display().to_string(), error };
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    // A process that is just ending holds it for a moment longer.
    let locked = tokio::task::spawn_blocking(move || {
        flock(&file, FlockOperation::LockExclusive).map(|()| file).map_err(io::Error::from)
    });
    let file = match tokio::time::timeout(LOCKED, locked).await {
        Err(_) => return Err(StartError::Held(path.display().to_string())),
        Ok(Err(error)) => return Err(failed(io::Error::other(error))),
        Ok(Ok(file)) => file.map_err(failed)?,
    };
    let saved = Saved::read(data).map_err(StartError::State)?;
    Saved::sweep(data);
    let path = data.join(super::SOCKET);
    let failed = |error| StartError::Io { what: path.display().to_string(), error };
    let admin = crate::ipc::listen(data, super::SOCKET).and_then(UnixListener::into_std).map_err(failed)?;
    let mut fleets = Vec::new();
    for fleet in saved.fleets {
        let socket = match bind(fleet.listener.port) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::error!("port {} of {}: {error}", fleet.listener.port, fleet.listener.fleet);
                None
            }
        };
        fleets.push(Heirloom { saved: fleet, socket, elsewhere: None });
    }
    Ok(Estate { keys: Keys { lock: file.into(), admin: admin.into() }, fleets })
}

/// Each request takes two descriptors; the soft limit of 1024 is for programs that use `select`.
fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on open files stays as it is: {error}");
    }
}

impl Process {
    fn new(data: PathBuf, keys: Keys, workers: Workers) -> Arc<Self> {
        Arc::new(Self {
            saver: Saver::new(data.clone()),
            data,
            gate: tokio::sync::Mutex::new(Phase::Serving),
            fleets: Mutex::default(),
            count: watch::Sender::new(0),
            keys: Mutex::new(Some(keys)),
            workers,
            open: TaskTracker::new(),
            predecessors: TaskTracker::new(),
            closing: CancellationToken::new(),
            end: CancellationToken::new(),
            left: CancellationToken::new(),
            released: Arc::new(Notify::new()),
            seed: Timestamp::now().as_microsecond().unsigned_abs(),
        })
    }

    pub fn saved(&self) -> Saved {
        Saved::new(self.fleets().iter().map(|fleet| fleet.saved()).collect())
    }

    /// Tells when listeners come and go.
    pub fn counts(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Lets another process decide from now on; answers what is open here. The caller cancels `left`
    /// as soon as the other process knows that.
    pub async fn leave(&self) -> Vec<(FleetId, OpenRequests)> {
        self.saver.stop().await;
        lock(&self.keys).take();
        let mut open = Vec::new();
        for (id, entry) in &mut *lock(&self.fleets) {
            open.push((id.clone(), entry.fleet.relay()));
            entry.door = None;
        }
        open
    }

    /// Returns when there was no listener for a while, and nobody can make one any more.
    async fn idle(&self) {
        let mut counts = self.counts();
        loop {
            if counts.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            if tokio::time::timeout(IDLE, counts.wait_for(|count| *count > 0)).await.is_err() {
                let mut phase = self.gate.lock().await;
                if *self.count.borrow() == 0 {
                    *phase = Phase::Left;
                    return;
                }
            }
        }
    }

    /// Returns when everything that was open at the hand-over is done.
    async fn farewell(&self) {
        self.open.close();
        self.predecessors.close();
        let done = async {
            self.open.wait().await;
            self.predecessors.wait().await;
        };
        tokio::pin!(done);
        if tokio::time::timeout(QUIET, done.as_mut()).await.is_err() {
            self.closing.cancel();
            let _ = tokio::time::timeout(FAREWELL, done).await;
        }
    }

    /// Ends: nothing new is taken, what is open gets a moment, and so do processes we took over
    /// from.
    async fn finish(&self) {
        self.end.cancel();
        *self.gate.lock().await = Phase::Left;
        for entry in lock(&self.fleets).values_mut() {
            entry.door = None;
        }
        self.closing.cancel();
        self.open.close();
        if tokio::time::timeout(GRACE, self.open.wait()).await.is_err() {
            tracing::warn!("{} connections were still open", self.open.len());
        }
        self.predecessors.close();
        let _ = tokio::time::timeout(2 * GRACE, self.predecessors.wait()).await;
        if !self.left.is_cancelled() {
            if let Err(why) = self.saver.now().await {
                tracing::error!("{why}");
            }
            // Before the lock is gone: the next process makes its own.
            let _ = std::fs::remove_file(self.data.join(super::SOCKET));
        }
    }
}
