//! The loop that takes runs to their end: load the events and fold them, ask `decide`, append the
//! intents, only then act; each outcome comes back as an event through the same append.
//!
//! One task drives one run. It alone writes to the run's journal and to those of the fleets that the
//! run holds. Starting a run, going on with it and resuming it are this one path.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::cloud::{self, Clouds};
use crate::config::Settings;
use crate::ids::{CommitSha, EnvironmentName, FleetId, PipelineName, RunId, StreamId};
use crate::journal::{self, fold_run, load_fleet, load_run};
use crate::run::approval::Policy;
use crate::run::command::{self, Act, Refusal};
use crate::run::decide::Waits;
use crate::run::event::{Actor, Origin, Shipment};
use crate::run::state::RunState;
use crate::run::view::{self, RunView};
use crate::stage::Stage;
use crate::store::{self, NewRun, Recorded, Store};

mod acts;
mod admit;
mod drive;
pub mod fleets;
pub mod gc;
mod glance;
mod keeper;
pub mod known;
mod lanes;
mod observe;
mod outlines;
mod policy;
mod room;
mod slots;
mod take_up;
#[cfg(test)]
mod tests;
mod turn;
mod written;

pub use acts::Target;
pub use glance::Glance;
pub use keeper::Keeper;
pub use slots::Slots;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Journal(error.into())
    }
}

/// Why the engine cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Journal(#[from] journal::Error),
    #[error("{0}")]
    Settings(String),
    #[error("there is no fleet {0}: windlass status lists those there are")]
    NoFleet(FleetId),
    #[error("{holder} holds {fleet}: windlass cancel {holder} ends it")]
    Held { fleet: FleetId, holder: RunId },
    /// As things are, it makes no sense; the sentence says why, and what to do.
    #[error("{0}")]
    NotNow(String),
    #[error("the cloud does not do it: {0}")]
    Cloud(cloud::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the run's driver went away before it answered; ask again")]
    Gone,
}

/// Finds out what a promotion would ship: the commits and files between what a fleet runs and what
/// the run brings.
#[async_trait]
pub trait Surveyor: Send + Sync {
    /// The commits and files from `running` to the origin's commit, and whether that goes back.
    async fn survey(&self, origin: &Origin, running: &CommitSha) -> Result<Shipment, String>;
}

/// What an engine is made of; see [`crate::app`] for how it is put together.
pub struct Parts {
    pub data: PathBuf,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// By [`crate::pipeline::model::Kind::word`].
    pub stages: BTreeMap<&'static str, Arc<dyn Stage>>,
    pub surveyor: Arc<dyn Surveyor>,
    pub clouds: Arc<dyn Clouds>,
    pub slots: Slots,
}

/// Drives runs.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    parts: Parts,
    /// Runs that are being driven.
    runs: Mutex<HashMap<RunId, Handle>>,
    /// Counts up with every change of any run.
    changed: watch::Sender<u64>,
    /// Where the driven runs stand.
    lanes: lanes::Registry,
    known: known::Known,
    outlines: outlines::Outlines,
    /// What every run is driven by; `None` where each has settings of its own.
    settings: RwLock<Option<Arc<Settings>>>,
    /// This process ought to drive every run there is.
    drives_all: AtomicBool,
    /// Runs that could not be driven, and why.
    stuck: Mutex<BTreeMap<RunId, String>>,
    /// Whoever tries those again does it now.
    again: Notify,
    /// Somebody keeps fleets alive here.
    kept: AtomicBool,
    /// Whose journals were written, for those who keep fleets.
    written: written::Written,
    /// Held by whoever acts on a fleet outside rollouts.
    acting: Mutex<HashMap<FleetId, Arc<tokio::sync::Mutex<()>>>>,
    /// What there is to say of fleets that are not kept as they should be.
    troubles: Mutex<BTreeMap<FleetId, String>>,
}

/// What is known of a run that is being driven.
#[derive(Clone)]
pub struct Handle {
    acts: mpsc::UnboundedSender<Box<Request>>,
    looks: mpsc::UnboundedSender<Look>,
    changes: watch::Receiver<u64>,
    /// Somebody else than the driver has written to the run's journal.
    written: Arc<Notify>,
}

/// Somebody looks at a run.
enum Look {
    Whole(oneshot::Sender<RunView>),
    Glance(oneshot::Sender<Glance>),
}

/// Somebody asks something of a run.
struct Request {
    act: Act,
    actor: Actor,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

impl Engine {
    pub fn new(parts: Parts) -> Self {
        let (changed, _) = watch::channel(0);
        Self(Arc::new(Shared {
            parts,
            runs: Mutex::default(),
            changed,
            lanes: Default::default(),
            known: Default::default(),
            outlines: Default::default(),
            settings: RwLock::default(),
            drives_all: AtomicBool::new(false),
            stuck: Mutex::default(),
            again: Notify::new(),
            kept: Default::default(),
            written: Default::default(),
            acting: Mutex::default(),
            troubles: Mutex::default(),
        }))
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.parts.store
    }

    /// Creates a run. It waits until somebody drives it.
    pub async fn create(
        &self,
        pipeline: PipelineName,
        origin: Origin,
        trigger_key: Option<String>,
    ) -> Result<RunId, Error> {
        let at = self.0.parts.clock.now();
        let (actor, trigger) = (origin.actor.name.clone(), origin.trigger.word());
        let run = self.0.parts.store.create_run(NewRun { pipeline, origin, at, trigger_key }).await?;
        // Said again where the same key asks again: only the store knows.
        tracing::info!(%run, actor, trigger, "run created");
        Ok(run)
    }

    /// Drives the run to its end, in the background. A run that is being driven stays with its
    /// driver.
    pub async fn drive(&self, run: &RunId) -> Result<Handle, Error> {
        if let Some(handle) = self.handle(run) {
            return Ok(handle);
        }
        match self.load(run).await {
            Ok((state, settings)) => {
                let handle = self.start(state, settings);
                // Whoever acted before the driver was known has only the journal to tell it by.
                handle.written.notify_one();
                Ok(handle)
            }
            Err(error) => {
                // It is there and cannot be read just now: who drives every run tries it again.
                if !matches!(error, Error::Journal(journal::Error::NoRun(_))) {
                    self.0.is_stuck(run, &error);
                }
                Err(error)
            }
        }
    }

    /// The run, and what it is driven by.
    async fn load(&self, run: &RunId) -> Result<(RunState, Arc<Settings>), Error> {
        self.fold(run, &self.store().read(&StreamId::Run(run.clone()), 0).await?)
    }

    fn fold(&self, run: &RunId, journal: &[Recorded]) -> Result<(RunState, Arc<Settings>), Error> {
        let state = self.folded(run, journal)?;
        let settings = self.0.settings_of(&state.origin)?;
        Ok((state, settings))
    }

    fn folded(&self, run: &RunId, journal: &[Recorded]) -> Result<RunState, Error> {
        let outline = |run: &RunId, origin: &Origin| self.0.outlines.of(run, origin);
        Ok(fold_run(run, journal, outline)?)
    }

    fn start(&self, state: RunState, settings: Arc<Settings>) -> Handle {
        let run = state.id.clone();
        let mut runs = self.0.runs();
        if let Some(handle) = runs.get(&run) {
            return handle.clone();
        }
        let handle = drive::spawn(self.0.clone(), state, settings);
        runs.insert(run, handle.clone());
        handle
    }

    /// Counts up with every change of any run that is driven here, and with every act.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The run's handle, while it is being driven.
    pub fn handle(&self, run: &RunId) -> Option<Handle> {
        self.0.runs().get(run).cloned()
    }

    /// Does what somebody asks of a run. Durable when it returns. A run that is replayed is driven from
    /// then on.
    pub async fn act(&self, run: &RunId, act: Act, actor: Actor) -> Result<(), Error> {
        if let Some(handle) = self.handle(run) {
            let (answer, answered) = oneshot::channel();
            let request = Box::new(Request { act: act.clone(), actor: actor.clone(), answer });
            if handle.acts.send(request).is_ok()
                && let Ok(answer) = answered.await
            {
                return Ok(answer?);
            }
            // The driver ended meanwhile: the journal answers.
        }
        let goes_on = matches!(act, Act::Replay { .. });
        if goes_on {
            // Before it is recorded: a run that cannot be driven is not to be made unfinished.
            settings(&load_run(self.store().as_ref(), run).await?.origin)?;
        }
        act_on_journal(self.store().as_ref(), self.0.parts.clock.now(), run, act, actor).await?;
        // A driver that began meanwhile may have read the journal before that.
        if let Some(handle) = self.handle(run) {
            handle.written.notify_one();
        }
        if goes_on {
            self.drive(run).await?;
        }
        self.0.has_changed();
        Ok(())
    }

    /// Every fleet that was not taken down.
    pub async fn fleets(&self) -> Result<Vec<fleets::FleetView>, Error> {
        let driven = |run: &RunId| self.handle(run).is_some();
        let (clouds, now) = (self.0.parts.clouds.as_ref(), self.0.parts.clock.now());
        // Who drives all but those it cannot drive need not look for others.
        let drives_all = self.0.drives_all.load(Ordering::Relaxed);
        let undriven = drives_all.then(|| self.0.stuck().keys().cloned().collect());
        let settings = self.0.settings();
        let reach = fleets::Reach { store: self.store().as_ref(), clouds, settings, undriven };
        let rows = self.store().fleets().await?;
        let waiting = self.waiting(&rows).await;
        let mut views = fleets::list(reach, rows, &self.0.known, now, driven, waiting).await?;
        let troubles = self.0.troubles();
        for view in &mut views {
            let fleet = FleetId::new(view.service.clone(), view.environment.clone());
            view.trouble = troubles.get(&fleet).cloned().or(view.trouble.take());
        }
        Ok(views)
    }

    /// Takes a fleet down. `say` is told what happens.
    pub async fn down(&self, fleet: &FleetId, actor: Actor, say: impl FnMut(String)) -> Result<(), Error> {
        let parts = &self.0.parts;
        let acting = self.0.fleet_lock(fleet);
        let held = acting.lock().await;
        let reach = fleets::Reach {
            store: parts.store.as_ref(),
            clouds: parts.clouds.as_ref(),
            settings: self.0.settings(),
            undriven: None,
        };
        let done = fleets::down(reach, parts.clock.as_ref(), fleet, actor, say).await;
        drop(held);
        self.0.written.say(fleet);
        done
    }

    /// The run as it is now.
    pub async fn view(&self, run: &RunId) -> Result<RunView, Error> {
        if let Some(handle) = self.handle(run)
            && let Some(view) = handle.view().await
        {
            return Ok(view);
        }
        let journal = self.store().read(&StreamId::Run(run.clone()), 0).await?;
        Ok(view_of(&self.folded(run, &journal)?, None))
    }
}

/// Does what somebody asks of a run that nobody drives: its events are appended, and carried out by
/// whoever goes on with the run.
pub async fn act_on_journal(
    store: &dyn Store,
    now: jiff::Timestamp,
    run: &RunId,
    act: Act,
    actor: Actor,
) -> Result<(), Error> {
    loop {
        let mut state = load_run(store, run).await?;
        let expected = state.sequence;
        if let Act::Promote { environment } = &act
            && is_outdated(store, &state, environment).await?
        {
            return Err(Refusal::Changed { run: run.clone(), environment: environment.clone() }.into());
        }
        let policy = match &act {
            Act::Promote { .. } => policy::policy(&settings(&state.origin)?),
            _ => Policy::default(),
        };
        let events = command::carry_out(&state, &act, &actor, &policy)?;
        if events.is_empty() {
            return Ok(());
        }
        for event in &events {
            let followed = state.apply(now, event);
            followed.map_err(|illegal| journal::Error::Illegal { run: run.clone(), illegal })?;
        }
        let events: Vec<_> = events.into_iter().map(|event| (now, event)).collect();
        let append = journal::run_append(&state, &Waits::at_gates(&state), expected, events.clone());
        match store.append(vec![append]).await {
            Err(store::Error::Conflict { .. }) => continue,
            done => {
                done?;
                observe::appended(run, events.iter().map(|(_, event)| event));
                return Ok(());
            }
        }
    }
}

/// Whether what the environment's fleet runs is not what the run's gate shows any more.
async fn is_outdated(
    store: &dyn Store,
    state: &RunState,
    environment: &EnvironmentName,
) -> Result<bool, store::Error> {
    let fleet = FleetId::new(state.id.pipeline.clone(), environment.clone());
    let running = load_fleet(store, &fleet).await?.current.map(|current| current.image.id);
    Ok(command::is_outdated(state, environment, running.as_ref()))
}

/// The run as its journal alone tells it. `idle` is what an unfinished run waits for when nobody
/// drives it.
pub async fn view_of_journal(store: &dyn Store, run: &RunId, idle: Option<&str>) -> Result<RunView, Error> {
    Ok(view_of(&load_run(store, run).await?, idle))
}

fn view_of(state: &RunState, idle: Option<&str>) -> RunView {
    let mut view = view::view(state, &Waits::at_gates(state));
    if !view.gates.is_empty()
        && let Ok(settings) = settings(&state.origin)
    {
        view.apply_policy(&policy::policy(&settings));
    }
    if !view.status.is_final() {
        view.waiting_for = idle.map(ToOwned::to_owned);
    }
    view
}

impl Handle {
    /// The run as it is now; `None` when its driver ended.
    pub async fn view(&self) -> Option<RunView> {
        let (look, seen) = oneshot::channel();
        self.looks.send(Look::Whole(look)).ok()?;
        seen.await.ok()
    }

    /// What a list shows of it, however many stages it has; `None` when its driver ended.
    pub async fn glance(&self) -> Option<Glance> {
        let (look, seen) = oneshot::channel();
        self.looks.send(Look::Glance(look)).ok()?;
        seen.await.ok()
    }

    /// Counts up with every change of the run; closed when nobody drives it any more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Returns when nobody drives the run any more.
    pub async fn ended(&self) {
        let mut changes = self.changes.clone();
        while changes.changed().await.is_ok() {}
    }
}

impl Shared {
    fn has_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Handle>> {
        self.runs.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, BTreeMap<FleetId, String>> {
        self.troubles.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn fleet_lock(&self, fleet: &FleetId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.acting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        locks.entry(fleet.clone()).or_default().clone()
    }
}

/// Reads the settings that a run was started with, as they are now.
fn settings(origin: &Origin) -> Result<Settings, Error> {
    match &origin.settings_path {
        None => Ok(Settings::default()),
        Some(path) => Settings::read(std::path::Path::new(path))
            .map_err(|problems| Error::Settings(problems.to_string())),
    }
}
