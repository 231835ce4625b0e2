//! How runs start by themselves: webhooks, schedules, and people who trigger a pipeline by its name.
//!
//! What comes in is stored first and answered then ([`crate::store::inbox`]); the rest happens from the
//! inbox, again after a crash, and repeats nothing. Always true:
//!
//! - A delivery starts at most one run of each pipeline, however often it comes and is handled.
//! - Deliveries of one branch are handled in their order. One that cannot be handled yet holds up nothing
//!   but what comes after it on its branch.
//! - An address in a payload is never used: the pipeline or the settings say where commits come from.
//! - A schedule never fires twice for an instant, and never late: what was missed is said.
//! - A pipeline file that was broken by an edit stays as it was, and the problem is shown.
//!
//! Deliberately absent: who may sign (the settings know the secrets), and what a run does then.

mod catalog;
mod handle;
mod lanes;
mod origin;
mod schedule;
mod start;
#[cfg(test)]
mod tests;
mod trigger;
mod view;
mod watch;
mod webhook;

pub use catalog::{Catalog, Entry, Listed};
pub use handle::{GITHUB, SCHEDULE};
pub use origin::ParamsError;
pub use trigger::{Ask, TriggerError};
pub use view::{DeliveryList, DeliveryView, ParamView, PipelineList, PipelineView};
pub use webhook::{Hook, Refused};

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch as signal};
use tokio::task::JoinSet;

use self::lanes::Job;
use crate::clock::Clock;
use crate::config::Settings;
use crate::engine::Engine;
use crate::source::Sources;
use crate::store::{self, Delivery, DeliveryFilter, DeliveryStatus, Settlement};

/// Somebody who asks for a delivery to be handled again is answered after so long at the latest.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an intake is made of; see [`crate::app`] for how it is put together.
pub struct Parts {
    pub engine: Engine,
    pub sources: Arc<Sources>,
    pub clock: Arc<dyn Clock>,
    pub settings: Arc<Settings>,
    /// The directory of the pipeline files; without one only the inbox is kept.
    pub pipelines: Option<PathBuf>,
}

/// Why an intake could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the pipelines in {} cannot be read: {error}", directory.display())]
    Directory { directory: PathBuf, error: std::io::Error },
}

/// Why a delivery is not handled again.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    #[error("there is no delivery {0}: windlass deliveries lists those there are")]
    Unknown(String),
    #[error(
        "the body of delivery {0} was dropped for its age; windlass trigger starts a run of what is there now"
    )]
    Dropped(String),
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Takes in what starts runs. Ends when [`Intake::stop`] is called or the last one of it is dropped.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
}

/// What the tasks have in common.
pub(crate) struct Shared {
    engine: Engine,
    sources: Arc<Sources>,
    clock: Arc<dyn Clock>,
    pipelines: Option<PathBuf>,
    settings: signal::Sender<Arc<Settings>>,
    catalog: signal::Sender<Arc<Catalog>>,
    jobs: mpsc::UnboundedSender<Job>,
    /// Whatever waits looks again.
    sooner: Notify,
    /// Counts up with every delivery that is settled.
    settled: signal::Sender<u64>,
}

impl Intake {
    /// Reads the pipelines, and goes on with what is pending in the inbox.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { engine, sources, clock, settings, pipelines } = parts;
        let pipelines = match pipelines {
            None => None,
            Some(directory) => {
                match directory.canonicalize().and_then(|path| path.read_dir().map(|_| path)) {
                    Ok(path) => Some(path),
                    Err(error) => return Err(StartError::Directory { directory, error }),
                }
            }
        };
        // Before the first look, so that no edit is missed.
        let edits = watch::Edits::of(pipelines.as_deref());
        let catalog = Catalog::default().look(pipelines.as_deref(), settings.clone());
        watch::report(&Catalog::default(), &catalog);
        let (jobs, arriving) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            engine,
            sources,
            clock,
            pipelines,
            settings: signal::channel(settings).0,
            catalog: signal::channel(Arc::new(catalog)).0,
            jobs,
            sooner: Notify::new(),
            settled: signal::channel(0).0,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(lanes::run(shared.clone(), arriving));
        tasks.spawn(schedule::run(shared.clone()));
        tasks.spawn(watch::run(shared.clone(), edits));
        tasks.spawn(lanes::forget(shared.clone()));
        Ok(Self(Arc::new(Inner { shared, tasks: Mutex::new(tasks) })))
    }

    /// Ends its tasks. What is pending goes on at the next start.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    /// Whatever waits for a time or for a source looks again now.
    pub fn look(&self) {
        self.0.shared.sooner.notify_waiters();
    }

    /// From now on the settings are these: the pipelines are read with them again.
    pub fn use_settings(&self, settings: Arc<Settings>) {
        self.0.shared.settings.send_replace(settings);
    }

    /// The pipelines as they are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.0.shared.catalog.borrow().clone()
    }

    /// Told of each change of the pipelines.
    pub fn catalog_changes(&self) -> signal::Receiver<Arc<Catalog>> {
        self.0.shared.catalog.subscribe()
    }

    /// Every pipeline file, and when its schedules are due next.
    pub fn pipelines(&self) -> PipelineList {
        view::pipelines(&self.catalog(), self.0.shared.clock.now())
    }

    /// Deliveries, newest first.
    pub async fn deliveries(&self, filter: &DeliveryFilter) -> Result<DeliveryList, store::Error> {
        DeliveryList::of(self.0.shared.engine.store().as_ref(), filter).await
    }

    /// Handles a delivery again, and waits a while for what comes of it. Runs that it started are answered
    /// again and not started twice.
    pub async fn again(&self, id: &str) -> Result<Delivery, AgainError> {
        let shared = &self.0.shared;
        let store = shared.engine.store();
        let mut settled = shared.settled.subscribe();
        let unknown = || AgainError::Unknown(id.to_owned());
        let before = store.delivery(id).await?.ok_or_else(unknown)?;
        if before.body.is_none() {
            return Err(AgainError::Dropped(id.to_owned()));
        }
        let pending =
            Settlement { status: DeliveryStatus::Pending, reason: None, runs: before.settlement.runs };
        store.settle_delivery(&before.key, pending).await?;
        shared.sooner.notify_waiters();
        let _ = shared.jobs.send(Job::of(before.key, Some(shared.clock.now())));
        self.settled(id, &mut settled).await
    }

    /// A delivery that was taken in, once it is handled or has to wait for something; waits a while for
    /// that.
    pub async fn handled(&self, id: &str) -> Result<Delivery, AgainError> {
        let mut settled = self.0.shared.settled.subscribe();
        self.settled(id, &mut settled).await
    }

    async fn settled(&self, id: &str, settled: &mut signal::Receiver<u64>) -> Result<Delivery, AgainError> {
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        loop {
            let now = self.0.shared.engine.store().delivery(id).await?;
            let now = now.ok_or_else(|| AgainError::Unknown(id.to_owned()))?;
            if now.settlement.status != DeliveryStatus::Pending || now.settlement.reason.is_some() {
                return Ok(now);
            }
            tokio::select! {
                _ = settled.changed() => {}
                () = &mut deadline => return Ok(now),
            }
        }
    }
}
