//! The threads that carry requests, each with a runtime of its own.
//!
//! A client's connection stays with one worker, and so do the connections to targets that its requests
//! use: no request wakes another thread, which takes longer than much of the rest of its way. Everything
//! else, health checks and the admin socket too, is the main thread's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The targets and whoever asks are on the same machine, and need the rest of it.
const MOST: usize = 4;

/// A connection stays with the worker that accepted it, unless another has fewer by more than this: of
/// many that come at once, whoever wakes first would get them all.
const LEAD: usize = 4;

/// All of them. They end when this is dropped.
pub(super) struct Workers {
    all: Arc<[Arc<Worker>]>,
    _end: DropGuard,
}

pub(super) struct Worker {
    /// Tells it from the others.
    pub number: usize,
    pub handle: Handle,
    /// Connections of clients.
    open: AtomicUsize,
}

/// A connection that a worker has. Dropping it ends that.
pub(super) struct Taken(Arc<Worker>);

impl Workers {
    /// One for each processor, within bounds.
    ///
    /// # Errors
    /// The system has no thread or no descriptors left.
    pub fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let end = CancellationToken::new();
        let start = |number: usize| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, end) = (runtime.handle().clone(), end.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            thread.spawn(move || runtime.block_on(end.cancelled()))?;
            Ok(Arc::new(Worker { number, handle, open: AtomicUsize::new(0) }))
        };
        let all = (0..count).map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, _end: end.drop_guard() })
    }

    pub fn all(&self) -> &Arc<[Arc<Worker>]> {
        &self.all
    }
}

impl Worker {
    /// Counts a connection that this one accepted as the one's, of `all`, that is to serve it.
    pub fn share(self: &Arc<Self>, all: &[Arc<Self>]) -> Taken {
        let open = |worker: &Self| worker.open.load(Ordering::Relaxed);
        let least = all.iter().min_by_key(|worker| open(worker)).unwrap_or(self);
        let worker = if open(self) > open(least).saturating_add(LEAD) { least } else { self };
        worker.open.fetch_add(1, Ordering::Relaxed);
        Taken(worker.clone())
    }
}

impl Taken {
    pub fn by(&self) -> &Worker {
        &self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_many_more_connections_than_another() {
        let workers = Workers::start().unwrap();
        let first = workers.all().first().unwrap();
        let taken: Vec<Taken> = (0..100).map(|_| first.share(workers.all())).collect();
        let of = |worker: &Worker| taken.iter().filter(|taken| taken.by().number == worker.number).count();
        let counts: Vec<usize> = workers.all().iter().map(|worker| of(worker)).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= LEAD + 1, "{counts:?}");
        drop(taken);
        assert!(workers.all().iter().all(|worker| worker.open.load(Ordering::Relaxed) == 0));
    }
}
