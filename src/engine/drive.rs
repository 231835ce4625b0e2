//! The task that drives one run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Error, Handle, Request, Shared, places, slots::Slot};
use crate::config::Settings;
use crate::ids::{EnvironmentName, FleetId, RunId};
use crate::journal::{self, fleet_append, load_fleet, load_run, run_append};
use crate::pipeline::model::Kind;
use crate::run::command;
use crate::run::decide::{self, Decision, Facts, Place, Stop, Wait, decide};
use crate::run::event::{Failure, FleetEvent, Outcome, RunEvent, Shipment};
use crate::run::fleet::FleetState;
use crate::run::state::{Hold, Illegal, RunState, StepPhase};
use crate::run::view::{self, RunView};
use crate::stage::{Attempt, Entry, Journal, Work};
use crate::store;

/// While a run waits for a fleet it looks again so often, should nobody wake it.
const SLOW_TICK: Duration = Duration::from_secs(5);

/// The pause before a store that failed is asked again, and the longest such pause.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Starts to drive a run.
pub fn spawn(shared: Arc<Shared>, state: RunState, settings: Arc<Settings>) -> Handle {
    let (acts, requests) = mpsc::unbounded_channel();
    let (entries_in, entries) = mpsc::unbounded_channel();
    let (ends_in, ends) = mpsc::unbounded_channel();
    let (revision, changes) = watch::channel(0);
    let (looks_in, looks) = mpsc::unbounded_channel();
    let handle = Handle { acts, looks: looks_in, changes };
    let places = places(&settings, &state.id.pipeline);
    let driver = Driver {
        run: state.id.clone(),
        places,
        settings,
        state,
        waits: BTreeMap::new(),
        fleets: BTreeMap::new(),
        active: HashMap::new(),
        surveys: BTreeSet::new(),
        entries_in,
        ends_in,
        revision,
        inbox: Inbox { requests, looks, entries, ends },
        shared,
    };
    tokio::spawn(driver.drive());
    handle
}

struct Driver {
    shared: Arc<Shared>,
    run: RunId,
    settings: Arc<Settings>,
    places: BTreeMap<EnvironmentName, Place>,
    state: RunState,
    waits: BTreeMap<usize, Wait>,
    /// The fleets that the run holds.
    fleets: BTreeMap<FleetId, FleetState>,
    /// Running attempts, by their stage.
    active: HashMap<usize, Active>,
    /// Gates that are being surveyed.
    surveys: BTreeSet<EnvironmentName>,
    entries_in: mpsc::UnboundedSender<Entry>,
    ends_in: mpsc::UnboundedSender<End>,
    revision: watch::Sender<u64>,
    inbox: Inbox,
}

struct Inbox {
    requests: mpsc::UnboundedReceiver<Request>,
    looks: mpsc::UnboundedReceiver<oneshot::Sender<RunView>>,
    entries: mpsc::UnboundedReceiver<Entry>,
    ends: mpsc::UnboundedReceiver<End>,
}

/// An attempt that a task of this process works on.
struct Active {
    attempt: u32,
    stop: watch::Sender<Option<Stop>>,
    /// When it is ended by force, once it was told to stop.
    force_at: Option<Instant>,
    task: AbortHandle,
    _slot: Option<Slot>,
}

/// Something that was started came to its end.
enum End {
    Attempt { stage: usize, attempt: u32, events: Vec<RunEvent>, end: Result<Outcome, Failure> },
    Survey { environment: EnvironmentName, stage: usize, shipment: Box<Shipment> },
}

/// What came in since the last turn.
#[derive(Default)]
struct Input {
    requests: Vec<Request>,
    entries: Vec<Entry>,
    ends: Vec<End>,
}

/// What a turn wants written.
#[derive(Default)]
struct Draft {
    events: Vec<(Timestamp, RunEvent)>,
    fleets: BTreeMap<FleetId, Vec<(Timestamp, FleetEvent)>>,
    /// The answers to the requests and entries, to be given when all is durable.
    answers: Vec<Result<(), command::Refusal>>,
    acknowledged: Vec<Result<(), Failure>>,
    decision: Decision,
    slots: Vec<Slot>,
}

impl Driver {
    async fn drive(mut self) {
        if let Err(error) = self.drive_to_end().await {
            tracing::error!(run = %self.run, %error, "the run cannot be driven any further");
        }
        for active in self.active.values() {
            active.task.abort();
        }
        self.shared.runs().remove(&self.run);
        self.shared.released.notify_waiters();
    }

    async fn drive_to_end(&mut self) -> Result<(), Error> {
        self.load_fleets().await?;
        let mut input = Input::default();
        let shared = self.shared.clone();
        loop {
            // Before looking, so that nothing that happens meanwhile is missed.
            let freed = shared.parts.slots.freed();
            let released = shared.released.notified();
            tokio::pin!(freed, released);
            freed.as_mut().enable();
            released.as_mut().enable();

            let decision = self.turn(&mut input).await?;
            self.revision.send_modify(|revision| *revision += 1);
            if self.state.ending.is_some() {
                return Ok(());
            }

            let wake_at = self.next_look(&decision);
            let for_slot = decision.slots_wanted > 0;
            let for_fleet = self.places.values().any(|place| place.held.is_some());
            tokio::select! {
                request = self.inbox.requests.recv() => input.requests.extend(request),
                entry = self.inbox.entries.recv() => input.entries.extend(entry),
                look = self.inbox.looks.recv() => self.answer(look),
                end = self.inbox.ends.recv() => input.ends.extend(end),
                () = tokio::time::sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => {}
                () = &mut freed, if for_slot => {}
                () = &mut released, if for_fleet => {}
                () = tokio::time::sleep(SLOW_TICK), if for_fleet => {}
            }
            while let Ok(request) = self.inbox.requests.try_recv() {
                input.requests.push(request);
            }
            while let Ok(entry) = self.inbox.entries.try_recv() {
                input.entries.push(entry);
            }
            while let Ok(end) = self.inbox.ends.try_recv() {
                input.ends.push(end);
            }
            self.end_by_force(&mut input);
        }
    }

    /// Takes in what happened, decides, writes it all down, and only then acts.
    async fn turn(&mut self, input: &mut Input) -> Result<Decision, Error> {
        let mut pause = STORE_PAUSE.0;
        let draft = loop {
            match self.write(input).await {
                Ok(draft) => break draft,
                Err(Error::Journal(journal::Error::Store(store::Error::Conflict { .. }))) => {}
                Err(Error::Journal(journal::Error::Store(
                    error @ (store::Error::Full { .. } | store::Error::Failed { .. }),
                ))) => {
                    tracing::error!(run = %self.run, %error, "the journal cannot be written; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(STORE_PAUSE.1);
                }
                Err(error) => return Err(error),
            }
            // What was folded in was not written, or somebody else wrote: start from what is stored.
            if let Err(error) = self.reload().await {
                tracing::error!(run = %self.run, %error, "the journal cannot be read; trying again");
            }
        };
        let answers = input.requests.drain(..).zip(draft.answers);
        answers.for_each(|(request, answer)| drop(request.answer.send(answer)));
        let acknowledged = input.entries.drain(..).zip(draft.acknowledged);
        acknowledged.for_each(|(entry, answer)| drop(entry.done.send(answer)));
        for end in input.ends.drain(..) {
            match end {
                End::Attempt { stage, attempt, .. } => {
                    if self.active.get(&stage).is_some_and(|active| active.attempt == attempt) {
                        self.active.remove(&stage);
                    }
                }
                End::Survey { environment, .. } => drop(self.surveys.remove(&environment)),
            }
        }
        if draft.fleets.values().flatten().any(|(_, event)| matches!(event, FleetEvent::Released { .. })) {
            self.shared.released.notify_waiters();
        }
        self.act(&draft.decision, draft.slots);
        Ok(draft.decision)
    }

    /// Folds in what happened and what `decide` says to it, and appends that. The state is ahead of
    /// the journal when this fails.
    async fn write(&mut self, input: &Input) -> Result<Draft, Error> {
        let now = self.shared.parts.clock.now();
        let expected = self.state.sequence;
        let before: BTreeMap<FleetId, u64> =
            self.fleets.iter().map(|(fleet, state)| (fleet.clone(), state.sequence)).collect();
        let mut draft = Draft::default();
        self.take_in(now, input, &mut draft);
        let mut entered: BTreeMap<FleetId, u64> = before;
        loop {
            self.decide(now, &mut draft)?;
            if !self.enter(now, &mut draft, &mut entered).await? {
                break;
            }
        }
        self.waits = draft.decision.waits.clone();
        let mut batch = Vec::new();
        if !draft.events.is_empty() {
            batch.push(run_append(&self.state, &self.waits, expected, draft.events.clone()));
        }
        for (fleet, events) in &draft.fleets {
            let expected = entered.get(fleet).copied().unwrap_or(0);
            batch.push(fleet_append(fleet, expected, events.clone()));
        }
        if !batch.is_empty() {
            self.shared.parts.store.append(batch).await?;
        }
        Ok(draft)
    }

    fn take_in(&mut self, now: Timestamp, input: &Input, draft: &mut Draft) {
        for entry in &input.entries {
            let mut done = self.fold_all(now, &entry.events, draft);
            if done.is_ok() {
                for (fleet, event) in &entry.fleet {
                    match self.fleets.get_mut(fleet) {
                        Some(state) => {
                            state.apply(now, event);
                            draft.fleets.entry(fleet.clone()).or_default().push((now, event.clone()));
                        }
                        None => done = Err(Failure::infrastructure(format!("the run does not hold {fleet}"))),
                    }
                }
            }
            draft.acknowledged.push(done);
        }
        for end in &input.ends {
            let taken = match end {
                End::Attempt { stage, attempt, events, end } => {
                    let settled = decide::settle(&self.state, *stage, *attempt, end.clone());
                    self.fold_all(now, events, draft).and_then(|()| self.fold_all(now, &[settled], draft))
                }
                End::Survey { environment, stage, shipment } => {
                    let stage = self.state.pipeline.stages[*stage].name.clone();
                    let (environment, shipment) = (environment.clone(), shipment.clone());
                    self.fold_all(now, &[RunEvent::GateReached { environment, stage, shipment }], draft)
                }
            };
            if let Err(failure) = taken {
                tracing::warn!(run = %self.run, %failure, "something that ended does not fit the journal");
            }
        }
        for request in &input.requests {
            let answer = command::carry_out(&self.state, &request.act, &request.actor);
            let answer = answer.map(|events| {
                if let Err(failure) = self.fold_all(now, &events, draft) {
                    tracing::warn!(run = %self.run, %failure, "an act does not fit the journal");
                }
            });
            draft.answers.push(answer);
        }
    }

    /// Folds in events, each unless it is there already.
    fn fold_all(&mut self, now: Timestamp, events: &[RunEvent], draft: &mut Draft) -> Result<(), Failure> {
        for event in events {
            if self.state.reflects(event) {
                continue;
            }
            self.state.apply(now, event).map_err(|illegal| Failure::infrastructure(illegal.to_string()))?;
            draft.events.push((now, event.clone()));
        }
        Ok(())
    }

    /// Asks `decide` until it has nothing more to say.
    fn decide(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Error> {
        let slots = self.shared.parts.slots.clone();
        loop {
            let taken = draft.slots.len() as u32;
            let mut facts = Facts { now, free_slots: 0, slots: slots.capacity(), places: &self.places };
            let mut decision = decide(&self.state, &facts);
            let granted = slots.take(decision.slots_wanted);
            if !granted.is_empty() {
                facts.free_slots = granted.len() as u32;
                decision = decide(&self.state, &facts);
            }
            for event in &decision.events {
                self.state.apply(now, event).map_err(|broken| illegal(&self.run, broken))?;
                if let RunEvent::EnvironmentLeft { environment } = event {
                    self.leave(now, environment, draft);
                }
                draft.events.push((now, event.clone()));
            }
            draft.slots.extend(granted);
            let more = !decision.events.is_empty();
            decision.slots_taken += taken;
            draft.decision = decision;
            if !more {
                return Ok(());
            }
        }
    }

    fn leave(&mut self, now: Timestamp, environment: &EnvironmentName, draft: &mut Draft) {
        let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
        if let Some(mut state) = self.fleets.remove(&fleet) {
            let event = FleetEvent::Released { run: self.run.clone() };
            state.apply(now, &event);
            draft.fleets.entry(fleet).or_default().push((now, event));
        }
    }

    /// Takes hold of the fleets that `decide` asks for. Answers whether there is more to decide.
    async fn enter(
        &mut self,
        now: Timestamp,
        draft: &mut Draft,
        expected: &mut BTreeMap<FleetId, u64>,
    ) -> Result<bool, Error> {
        for place in self.places.values_mut() {
            place.held = None;
        }
        let mut held = false;
        for (environment, stage) in std::mem::take(&mut draft.decision.enter) {
            let Some(place) = self.places.get(&environment) else { continue };
            let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
            if place.has_fleet && !self.fleets.contains_key(&fleet) {
                let mut state = load_fleet(self.shared.parts.store.as_ref(), &fleet).await?;
                if let Some(holder) = state.holder.clone().filter(|holder| *holder != self.run) {
                    let reason = self.held_by(&fleet, &holder).await;
                    if let Some(place) = self.places.get_mut(&environment) {
                        place.held = Some(reason);
                    }
                    held = true;
                    continue;
                }
                expected.insert(fleet.clone(), state.sequence);
                let event = FleetEvent::Held { run: self.run.clone(), service: self.run.pipeline.clone() };
                state.apply(now, &event);
                draft.fleets.entry(fleet.clone()).or_default().push((now, event));
                self.fleets.insert(fleet, state);
            }
            let stage = self.state.pipeline.stages[stage].name.clone();
            let event = RunEvent::EnvironmentEntered { environment, stage };
            self.state.apply(now, &event).map_err(|broken| illegal(&self.run, broken))?;
            draft.events.push((now, event));
            return Ok(true);
        }
        if held {
            // Once more, so that what waits says for whom. It asks for nothing that is held.
            self.decide(now, draft)?;
        }
        Ok(false)
    }

    /// Who holds the fleet, and what they are doing with it.
    async fn held_by(&self, fleet: &FleetId, holder: &RunId) -> String {
        let Ok(state) = load_run(self.shared.parts.store.as_ref(), holder).await else {
            return format!("waiting for {fleet}: {holder} holds it");
        };
        if self.shared.runs().get(holder).is_none() {
            return format!(
                "waiting for {fleet}: {holder} holds it and was interrupted; \
                 windlass resume {holder} carries it on"
            );
        }
        let doing = state.running().find_map(|i| {
            let step = state.stages[i].attempts.last()?.steps.last()?;
            (step.phase == StepPhase::Running).then(|| format!("is at “{}”", step.name))
        });
        let promoted = state.gates.get(&fleet.environment).and_then(|gate| gate.promoted.as_ref());
        let promoted = promoted.map(|(at, actor)| format!(", promoted by {} at {at:.0}", actor.name));
        format!(
            "waiting for {fleet}: {holder} {}{}",
            doing.unwrap_or_else(|| "holds it".to_owned()),
            promoted.unwrap_or_default()
        )
    }

    /// Starts and stops what the state says has to run or to stop.
    fn act(&mut self, decision: &Decision, mut slots: Vec<Slot>) {
        let running: Vec<usize> = self.state.running().collect();
        for i in running {
            if !self.active.contains_key(&i) {
                let takes_slot = self.state.pipeline.stages[i].kind.takes_slot();
                let slot =
                    takes_slot.then(|| slots.pop().unwrap_or_else(|| self.shared.parts.slots.take_anyway()));
                self.start(i, slot);
            }
            if let Some(why) = decide::stop_of(&self.state, i)
                && let Some(active) = self.active.get_mut(&i)
                && active.force_at.is_none()
            {
                active.stop.send_replace(Some(why));
                let bound = self
                    .shared
                    .parts
                    .stages
                    .get(self.state.pipeline.stages[i].kind.word())
                    .map_or(Duration::ZERO, |stage| stage.stop_bound(&work(&self.state, &self.settings, i)));
                active.force_at = Some(Instant::now() + bound);
            }
        }
        for (environment, stage) in &decision.survey {
            if self.surveys.insert(environment.clone()) {
                self.survey(environment.clone(), *stage);
            }
        }
    }

    fn start(&mut self, i: usize, slot: Option<Slot>) {
        let work = work(&self.state, &self.settings, i);
        let number = work.id.attempt;
        let (stop, stop_signal) = watch::channel(None);
        let journal = Journal::new(self.entries_in.clone());
        let stage = self.shared.parts.stages.get(work.stage().kind.word()).cloned();
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
            let events = attempt.into_deferred();
            let _ = ends.send(End::Attempt { stage: i, attempt: number, events, end });
        });
        let active = Active { attempt: number, stop, force_at: None, task: task.abort_handle(), _slot: slot };
        self.active.insert(i, active);
    }

    /// Finds out in the background what a promotion would ship.
    fn survey(&self, environment: EnvironmentName, stage: usize) {
        let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
        let image = self.state.ancestor_image(stage);
        let origin = self.state.origin.clone();
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
                }
                Ok(_) => {}
            }
            shipment.image = image;
            let _ = ends.send(End::Survey { environment, stage, shipment: Box::new(shipment) });
        });
    }

    /// Ends attempts that were told to stop and did not in time.
    fn end_by_force(&mut self, input: &mut Input) {
        let now = Instant::now();
        for (i, active) in &mut self.active {
            if active.force_at.is_none_or(|time| time > now) {
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
        let decided = decision.wake_at.map(|at| {
            let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
            Instant::now() + wait
        });
        let forced = self.active.values().filter_map(|active| active.force_at);
        forced.chain(decided).min()
    }

    /// Shows the run to whoever looks. Drawn only when somebody does: it takes in every stage.
    fn answer(&self, look: Option<oneshot::Sender<RunView>>) {
        if let Some(look) = look {
            let _ = look.send(view::view(&self.state, &self.waits));
        }
    }

    async fn reload(&mut self) -> Result<(), Error> {
        self.state = load_run(self.shared.parts.store.as_ref(), &self.run).await?;
        self.load_fleets().await
    }

    async fn load_fleets(&mut self) -> Result<(), Error> {
        self.fleets.clear();
        for (environment, gate) in &self.state.gates {
            let has_fleet = self.places.get(environment).is_some_and(|place| place.has_fleet);
            if gate.hold == Hold::Held && has_fleet {
                let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
                let state = load_fleet(self.shared.parts.store.as_ref(), &fleet).await?;
                if state.holder.as_ref() != Some(&self.run) {
                    let why = "the journal of the fleet that it holds does not say so";
                    let broken =
                        Illegal::Order { event: "environment_entered", what: fleet.to_string(), why };
                    return Err(illegal(&self.run, broken));
                }
                self.fleets.insert(fleet, state);
            }
        }
        Ok(())
    }
}

fn illegal(run: &RunId, illegal: Illegal) -> Error {
    Error::Journal(journal::Error::Illegal { run: run.clone(), illegal })
}

/// What the running attempt of stage `i` works with.
fn work(state: &RunState, settings: &Arc<Settings>, i: usize) -> Work {
    let image = state.ancestor_image(i);
    let recorded = state.stages[i].attempts.last().map(|attempt| attempt.steps.clone()).unwrap_or_default();
    let inputs = state.stages[i].attempts.last().map(|attempt| attempt.inputs.clone()).unwrap_or_default();
    let ancestors = state.graph.ancestors(i);
    Work {
        id: state.attempt_id(i, state.attempt_number(i)),
        pipeline: state.pipeline.clone(),
        index: i,
        origin: state.origin.clone(),
        settings: settings.clone(),
        version: state.version(),
        inputs,
        artifacts: state.ancestor_artifacts(i),
        certified: image.as_ref().is_some_and(|image| state.is_certified(i, &image.id)),
        image,
        checked_out: ancestors.iter().any(|a| matches!(state.pipeline.stages[a].kind, Kind::Checkout)),
        recorded,
    }
}
