//! The task that drives one run.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::policy::{places, policy};
use super::{Error, Glance, Handle, Look, Request, Shared, lanes, room, slots::Slot};
use crate::clock::{Ages, between};
use crate::config::Settings;
use crate::ids::{EnvironmentName, FleetId, RunId, StageName, StreamId};
use crate::journal::load_fleet;
use crate::pipeline::model::Kind;
use crate::run::command;
use crate::run::decide::{self, Decision, Place, Stop, Waits};
use crate::run::event::{Edit, Failure, Image, Outcome, RunEvent, Shipment};
use crate::run::fleet::FleetState;
use crate::run::ships;
use crate::run::state::RunState;
use crate::run::view;
use crate::stage::{Afterwards, Attempt, Entry, Journal, Stage, Work};

/// While a run waits for a fleet and nobody is before it, or while somebody follows it, it looks again so
/// often, should nobody wake it. Whoever is behind another has nothing to look for.
const SLOW_TICK: Duration = Duration::from_secs(5);

/// Whoever wakes so much later than he wanted to was stopped (SIGSTOP, a debugger).
const OVERSLEPT: Duration = Duration::from_secs(10);

/// The pause before a store that failed is asked again, and the longest such pause.
pub(super) const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Starts to drive a run.
///
/// A channel has room for 32 messages from its beginning, and most runs wait most of their time: large
/// messages travel in boxes.
pub fn spawn(shared: Arc<Shared>, state: RunState, settings: Arc<Settings>) -> Handle {
    let (acts, requests) = mpsc::unbounded_channel();
    let (entries_in, entries) = mpsc::unbounded_channel();
    let (ends_in, ends) = mpsc::unbounded_channel();
    let (revision, changes) = watch::channel(0);
    let (looks_in, looks) = mpsc::unbounded_channel();
    let written = Arc::new(Notify::new());
    let handle = Handle { acts, looks: looks_in, changes, written: written.clone() };
    let places = places(&settings, &state.id.pipeline);
    let driver = Driver {
        run: state.id.clone(),
        places,
        queued: BTreeSet::new(),
        looked: BTreeMap::new(),
        settings,
        waits: Waits::default(),
        fleets: BTreeMap::new(),
        active: BTreeMap::new(),
        ages: Ages::default(),
        granted: Vec::new(),
        place: shared.lanes.join(&state.id),
        told: true,
        surveys: BTreeSet::new(),
        entries_in,
        ends_in,
        revision,
        inbox: Inbox { requests, looks, entries, ends, written },
        state,
        shared,
    };
    // Before anything of it starts, so that those that are driven with it see it.
    driver.publish();
    tokio::spawn(driver.drive());
    handle
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) run: RunId,
    pub(super) settings: Arc<Settings>,
    pub(super) places: BTreeMap<EnvironmentName, Place>,
    /// Environments where a run that is ahead of this one has not passed.
    pub(super) queued: BTreeSet<EnvironmentName>,
    /// What entering an environment that asks nobody would ship.
    pub(super) looked: BTreeMap<EnvironmentName, Shipment>,
    pub(super) state: RunState,
    pub(super) waits: Waits,
    /// The fleets that the run holds.
    pub(super) fleets: BTreeMap<FleetId, FleetState>,
    /// Running attempts, by their stage.
    pub(super) active: BTreeMap<usize, Active>,
    /// How long attempts and the pauses before them have lasted: by stage, attempt, and whether it is that.
    pub(super) ages: Ages<(usize, u32, bool)>,
    /// Slots that came to the run and that no attempt has taken yet.
    pub(super) granted: Vec<Slot>,
    /// Among the runs of the pipeline.
    place: lanes::Place,
    /// What the last turn came to is news to whoever follows the run.
    pub(super) told: bool,
    /// Gates that are being surveyed.
    pub(super) surveys: BTreeSet<EnvironmentName>,
    pub(super) entries_in: mpsc::UnboundedSender<Box<Entry>>,
    pub(super) ends_in: mpsc::UnboundedSender<Box<End>>,
    pub(super) revision: watch::Sender<u64>,
    pub(super) inbox: Inbox,
}

pub(super) struct Inbox {
    pub(super) requests: mpsc::UnboundedReceiver<Box<Request>>,
    pub(super) looks: mpsc::UnboundedReceiver<Look>,
    entries: mpsc::UnboundedReceiver<Box<Entry>>,
    ends: mpsc::UnboundedReceiver<Box<End>>,
    written: Arc<Notify>,
}

/// An attempt that a task of this process works on.
pub(super) struct Active {
    pub(super) attempt: u32,
    stop: watch::Sender<Option<Stop>>,
    /// When it is ended by force, once it was told to stop, and how long it has for that in all.
    force_at: Option<(Instant, Duration)>,
    task: AbortHandle,
    _slot: Option<Slot>,
}

/// Something that was started came to its end.
pub(super) enum End {
    Attempt { stage: usize, attempt: u32, events: Vec<RunEvent>, end: Result<Box<Outcome>, Failure> },
    Survey { environment: EnvironmentName, stage: usize, shipment: Box<Shipment> },
}

/// What came in since the last turn.
#[derive(Default)]
pub(super) struct Input {
    pub(super) requests: Vec<Request>,
    pub(super) entries: Vec<Entry>,
    pub(super) ends: Vec<End>,
}

impl Driver {
    async fn drive(mut self) {
        let mut stuck = None;
        if let Err(error) = self.drive_to_end().await {
            tracing::error!(run = %self.run, %error, "the run cannot be driven any further");
            stuck = Some(error);
        }
        for active in self.active.values() {
            active.task.abort();
        }
        // Before anybody else may drive it, who takes the same place.
        self.shared.lanes.remove(&self.run);
        self.shared.runs().remove(&self.run);
        self.shared.has_changed();
        if let Some(error) = stuck {
            self.shared.is_stuck(&self.run, &error);
        }
    }

    async fn drive_to_end(&mut self) -> Result<(), Error> {
        Box::pin(self.load_fleets()).await?;
        let mut input = Input::default();
        let shared = self.shared.clone();
        let mut queue: Option<Queue> = None;
        let mut looks: Vec<Look> = Vec::new();
        loop {
            // Before looking, so that nothing that happens meanwhile is missed.
            self.place.catch_up();
            self.renew_settings();
            if let Err(error) = Box::pin(self.look_again()).await {
                // The run stands at a gate, and looks again soon.
                tracing::error!(run = %self.run, %error, "what runs behind a gate cannot be read");
            }
            // In boxes of their own: while a run waits, and most do, it takes no room for them.
            let decision = Box::pin(self.turn(&mut input)).await?;
            looks.drain(..).for_each(|look| self.answer(look));
            if std::mem::take(&mut self.told) {
                self.revision.send_modify(|revision| *revision += 1);
                shared.has_changed();
            }
            if self.state.ending.is_some() {
                return Ok(());
            }

            match decision.slots_wanted {
                0 => queue = None,
                _ => drop(queue.get_or_insert_with(|| Box::pin(shared.parts.slots.queue()))),
            }
            let wake_at = self.next_look(&decision);
            let at_gate = self.state.gates.values().any(|gate| gate.undecided().is_some());
            let for_fleet = at_gate || self.places.values().any(|place| place.held.is_some());
            let leads =
                for_fleet && shared.lanes.ask(&self.run.pipeline, |lanes| lanes.leads(self.run.number));
            let tick_at = Instant::now() + SLOW_TICK;
            // A look changes nothing, and tells nobody that something did: whoever follows the run
            // looks after each change, and would cause the next one.
            loop {
                let followed = self.revision.receiver_count() > 1;
                tokio::select! {
                // Looks come last: whoever looks again and again keeps nothing from happening.
                biased;
                request = self.inbox.requests.recv() => input.requests.extend(request.map(|request| *request)),
                entry = self.inbox.entries.recv() => input.entries.extend(entry.map(|entry| *entry)),
                end = self.inbox.ends.recv() => input.ends.extend(end.map(|end| *end)),
                () = self.inbox.written.notified() => Box::pin(self.catch_up()).await,
                () = tokio::time::sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
                slot = turn_of(&mut queue) => {
                    self.granted.push(slot);
                    queue = None;
                }
                () = self.place.called(for_fleet && followed) => {}
                () = tokio::time::sleep_until(tick_at), if for_fleet && (followed || leads) => {}
                Some(look) = self.inbox.looks.recv() => {
                    // What it waits for is found out when somebody asks: of ten thousand that wait for
                    // one fleet, most have nothing else to wake up for.
                    if for_fleet && (self.place.is_behind() || Instant::now() >= tick_at) {
                        looks.push(look);
                        break;
                    }
                    self.answer(look);
                    continue;
                }
                }
                break;
            }
            while let Ok(request) = self.inbox.requests.try_recv() {
                input.requests.push(*request);
            }
            while let Ok(entry) = self.inbox.entries.try_recv() {
                input.entries.push(*entry);
            }
            while let Ok(end) = self.inbox.ends.try_recv() {
                input.ends.push(*end);
            }
            self.end_by_force(&mut input);
        }
    }

    /// Takes in what somebody else has written to the journal: an act of a moment when nobody knew that
    /// the run is driven here.
    async fn catch_up(&mut self) {
        let stream = StreamId::Run(self.run.clone());
        let store = self.shared.parts.store.clone();
        let caught = match store.read(&stream, self.state.sequence).await {
            Ok(new) if new.is_empty() => Ok(()),
            Ok(_) => self.reload().await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = caught {
            tracing::error!(run = %self.run, %error, "the journal cannot be read; trying again");
            tokio::time::sleep(STORE_PAUSE.0).await;
            self.inbox.written.notify_one();
        }
    }

    /// Takes the settings that hold now.
    fn renew_settings(&mut self) {
        let Some(settings) = self.shared.settings() else { return };
        if Arc::ptr_eq(&settings, &self.settings) {
            return;
        }
        self.places = places(&settings, &self.run.pipeline);
        // A fleet that the run holds stays held, also when the settings do not name it any more.
        for fleet in self.fleets.keys() {
            if let Some(place) = self.places.get_mut(&fleet.environment) {
                place.has_fleet = true;
            }
        }
        self.settings = settings;
    }

    /// Starts and stops what the state says has to run or to stop.
    pub(super) fn act(&mut self, decision: &Decision, mut slots: Vec<Slot>) {
        let running: Vec<usize> = self.state.running().collect();
        for i in running {
            if !self.active.contains_key(&i) {
                let takes_slot = self.state.pipeline.stages[i].kind.takes_slot();
                let slot =
                    takes_slot.then(|| slots.pop().unwrap_or_else(|| self.shared.parts.slots.take_anyway()));
                self.start(i, slot);
            }
            let is_told = self.active.get(&i).is_none_or(|active| active.force_at.is_some());
            let Some(why) = decide::stop_of(&self.state, i).filter(|_| !is_told) else { continue };
            let bound = self.kind(i).map_or(Duration::ZERO, |kind| kind.stop_bound(&self.work(i)));
            if let Some(active) = self.active.get_mut(&i) {
                active.stop.send_replace(Some(why));
                active.force_at = Some((Instant::now() + bound, bound));
            }
        }
        for (environment, stage) in &decision.survey {
            if self.surveys.insert(environment.clone()) {
                self.survey(environment.clone(), *stage);
            }
        }
    }

    /// What the attempt at the stage works with.
    pub(super) fn work(&self, i: usize) -> Work {
        work(&self.shared, &self.state, &self.settings, i)
    }

    /// Who carries out the stage; `None` where nobody can.
    pub(super) fn kind(&self, i: usize) -> Option<&Arc<dyn Stage>> {
        self.shared.parts.stages.get(self.state.pipeline.stages[i].kind.word())
    }

    fn start(&mut self, i: usize, slot: Option<Slot>) {
        let work = self.work(i);
        let number = work.id.attempt;
        let (stop, stop_signal) = watch::channel(None);
        let journal = Journal::new(self.entries_in.clone());
        let stage = self.kind(i).cloned();
        let data = self.shared.parts.data.clone();
        let ends = self.ends_in.clone();
        let task = tokio::spawn(async move {
            let mut attempt = Attempt::new(work, &data, journal, stop_signal);
            let end = match stage {
                None => Err(Failure::infrastructure("this engine knows no such kind of stage")),
                Some(stage) => {
                    std::panic::AssertUnwindSafe(stage.run(&mut attempt)).catch_unwind().await.unwrap_or_else(
                        |_| Err(Failure::infrastructure("the stage's code panicked; this is a defect")),
                    )
                }
            };
            let run = attempt.work.id.run.clone();
            let events = attempt.into_deferred();
            let end = end.map(Box::new).map_err(|failure| room::explain(failure, &data, &run));
            let _ = ends.send(Box::new(End::Attempt { stage: i, attempt: number, events, end }));
        });
        let active = Active { attempt: number, stop, force_at: None, task: task.abort_handle(), _slot: slot };
        self.active.insert(i, active);
    }

    /// What runs behind a gate may change while the run stands at it: then what a promotion ships is
    /// surveyed again.
    async fn look_again(&mut self) -> Result<(), Error> {
        let gates = self.state.gates.iter().filter(|(_, gate)| gate.undecided().is_some());
        let gates: Vec<_> = gates.map(|(name, gate)| (name.clone(), gate.stages.first().copied())).collect();
        for (environment, stage) in gates {
            let Some(stage) = stage else { continue };
            if self.is_outdated(&environment).await? && self.surveys.insert(environment.clone()) {
                self.survey(environment, stage);
            }
        }
        Ok(())
    }

    /// Whether the environment's fleet runs something else by now than what the run's gate shows.
    pub(super) async fn is_outdated(&self, environment: &EnvironmentName) -> Result<bool, Error> {
        let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
        let state = self.shared.known.fleet(self.shared.parts.store.as_ref(), &fleet).await?;
        let running = state.current.as_ref().map(|current| &current.image.id);
        Ok(command::is_outdated(&self.state, environment, running))
    }

    /// Finds out in the background what a promotion would ship.
    fn survey(&self, environment: EnvironmentName, stage: usize) {
        let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
        let gate = self.state.gates.get(&environment);
        let image = gate.and_then(|gate| self.state.gate_image(gate));
        let origin = self.state.origin.clone();
        let env = self.settings.fleet(&environment, &fleet.service).map(|fleet| fleet.env.clone());
        let shared = self.shared.clone();
        let ends = self.ends_in.clone();
        tokio::spawn(async move {
            let mut shipment = Shipment::default();
            match load_fleet(shared.parts.store.as_ref(), &fleet).await {
                Err(error) => shipment.note = Some(error.to_string()),
                Ok(FleetState { current: Some(current), .. }) => {
                    if let Some(commit) = &current.image.commit {
                        match shared.parts.surveyor.survey(&origin, commit).await {
                            Ok(surveyed) => shipment = surveyed,
                            Err(why) => shipment.note = Some(why),
                        }
                        shipment.running_commit = Some(commit.clone());
                    }
                    shipment.running_image = Some(current.image.id);
                    shipment.config = ships::config(&current.release.env, &env.unwrap_or_default());
                }
                Ok(_) => {}
            }
            // Also where nothing runs yet, or what lies between cannot be told.
            if let Some(commit) =
                origin.commit.as_ref().filter(|commit| !shipment.authors.contains(&commit.author))
                && !shipment.rollback
            {
                shipment.authors.push(commit.author.clone());
            }
            shipment.parent = image.as_ref().and_then(|image| image.parent.clone());
            shipment.image = image;
            let _ = ends.send(Box::new(End::Survey { environment, stage, shipment: Box::new(shipment) }));
        });
    }

    /// Ends attempts that were told to stop and did not in time.
    fn end_by_force(&mut self, input: &mut Input) {
        let now = Instant::now();
        for (i, active) in &mut self.active {
            let Some((time, bound)) = active.force_at.filter(|(time, _)| *time <= now) else { continue };
            if now - time > OVERSLEPT {
                // This process stood still meanwhile, and so did whoever was to stop.
                active.force_at = Some((now + bound, bound));
                continue;
            }
            active.task.abort();
            let failure = Failure::new(
                crate::run::event::Cause::Infrastructure,
                "it did not come to an end after it was told to stop, and was ended by force",
            );
            let (stage, attempt) = (*i, active.attempt);
            let known = input.ends.iter().any(|end| matches!(end, End::Attempt { stage: s, .. } if s == i));
            if !known {
                input.ends.push(End::Attempt { stage, attempt, events: Vec::new(), end: Err(failure) });
            }
        }
    }

    fn next_look(&self, decision: &Decision) -> Option<Instant> {
        let now = self.shared.parts.clock.now();
        // Whoever waits for the calendar also looks at every slow tick, and so sees that the clock was set.
        let due = decision.wake_at.map(|at| Instant::now() + between(now, at));
        let over = decision.wake_in.map(|left| Instant::now() + left);
        let forced = self.active.values().filter_map(|active| Some(active.force_at?.0));
        forced.chain(due).chain(over).min()
    }

    /// Shows the run to whoever looks. Drawn only when somebody does: it takes in every stage.
    pub(super) fn answer(&self, look: Look) {
        match look {
            Look::Whole(look) => {
                let mut view = view::view(&self.state, &self.waits);
                view.apply_policy(&policy(&self.settings));
                let _ = look.send(view);
            }
            Look::Glance(look) => drop(look.send(Glance::of(&self.state, &self.waits))),
        }
    }
}

/// A place in the queue for a slot.
type Queue = Pin<Box<dyn Future<Output = Slot> + Send>>;

/// Returns with a slot when it is the run's turn; never for one that is not in the queue.
async fn turn_of(queue: &mut Option<Queue>) -> Slot {
    match queue {
        Some(queue) => queue.await,
        None => std::future::pending().await,
    }
}

/// The image that stage `i` made before, if it is to start from the same again.
fn baked(state: &RunState, i: usize) -> Option<Image> {
    let name = &state.pipeline.stages[i].name;
    let starts = |edit: &Edit| match edit {
        Edit::With { stage, key, .. } => stage == name && (key == "from" || key == "base"),
        _ => false,
    };
    let edited = state.edits().any(starts);
    state.outcome(i).and_then(|outcome| outcome.image.clone()).filter(|_| !edited)
}

/// The ancestor of stage `i` that deployed to its environment.
fn deployed(state: &RunState, i: usize) -> Option<StageName> {
    let environment = state.pipeline.stages[i].environment.as_ref()?;
    let ancestors = state.graph.ancestors(i);
    let there = state.gates.get(environment)?.stages.iter().filter(|stage| ancestors.contains(**stage));
    let mut there = there.map(|stage| &state.pipeline.stages[*stage]);
    let deploy = there.find(|stage| matches!(stage.kind, Kind::Deploy))?;
    Some(deploy.name.clone())
}

/// What the running attempt of stage `i` works with.
fn work(shared: &Shared, state: &RunState, settings: &Arc<Settings>, i: usize) -> Work {
    let image = state.ancestor_image(i);
    let recorded = state.stages[i].attempts.last().map(|attempt| attempt.steps.clone()).unwrap_or_default();
    let inputs = state.stages[i].attempts.last().map(|attempt| attempt.inputs.clone()).unwrap_or_default();
    Work {
        id: state.attempt_id(i, state.attempt_number(i)),
        created_at: state.created_at,
        pipeline: state.pipeline.clone(),
        index: i,
        origin: state.origin.clone(),
        settings: settings.clone(),
        version: state.version(),
        inputs,
        artifacts: state.ancestor_artifacts(i),
        baked: baked(state, i),
        deployed: deployed(state, i),
        outdated: state.outdated_ancestor(i).map(|a| state.pipeline.stages[a].name.clone()),
        certified: image.as_ref().is_some_and(|image| state.is_certified(i, &image.id)),
        image,
        checked_out: state.is_checked_out(i),
        recorded,
        afterwards: match shared.kept.load(std::sync::atomic::Ordering::Acquire) {
            true => Afterwards::Kept,
            false => Afterwards::Nobody,
        },
    }
}
