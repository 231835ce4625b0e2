//! One turn of a run's driver: what happened is folded in, `decide` has its say, and all of it is
//! written down. Nothing here acts on the world outside the store.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::Error;
use super::drive::{Driver, End, Input, STORE_PAUSE};
use super::observe;
use super::policy::policy;
use super::room;
use super::slots::Slot;
use crate::ids::{EnvironmentName, FleetId, RunId};
use crate::journal::{self, fleet_append, load_fleet, load_run, run_append};
use crate::run::command::{self, Act};
use crate::run::decide::{self, Asks, Decision, Facts, decide};
use crate::run::event::{Failure, FleetEvent, RolloutEnd, RunEvent};
use crate::run::fleet::FleetState;
use crate::run::fold::Illegal;
use crate::run::state::{Gate, Hold, Phase};
use crate::store;

/// What a turn wants written.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) events: Vec<(Timestamp, RunEvent)>,
    pub(super) fleets: BTreeMap<FleetId, Vec<(Timestamp, FleetEvent)>>,
    /// Environments that have to be known better before the run may enter them.
    pub(super) survey: Vec<(EnvironmentName, usize)>,
    /// The answers to the requests and entries, to be given when all is durable.
    answers: Vec<Result<(), command::Refusal>>,
    acknowledged: Vec<Result<(), Failure>>,
    pub(super) decision: Decision,
    slots: Vec<Slot>,
}

impl Driver {
    /// Takes in what happened, decides, writes it all down, and only then acts.
    pub(super) async fn turn(&mut self, input: &mut Input) -> Result<Decision, Error> {
        let mut pause = STORE_PAUSE.0;
        let mut draft = loop {
            match self.write(input).await {
                Ok(draft) => break draft,
                Err(Error::Journal(journal::Error::Store(store::Error::Conflict { .. }))) => {}
                Err(Error::Journal(journal::Error::Store(
                    error @ (store::Error::Full { .. } | store::Error::Failed { .. }),
                ))) => {
                    tracing::error!(run = %self.run, %error, "the journal cannot be written; trying again");
                    // Nobody is kept waiting for what cannot be done now.
                    for request in input.requests.drain(..) {
                        let refusal = command::Refusal::Unwritable(error.to_string());
                        let _ = request.answer.send(Err(refusal));
                    }
                    self.pause(pause, input).await;
                    pause = (pause * 2).min(STORE_PAUSE.1);
                }
                Err(error) => return Err(error),
            }
            // What was folded in was not written, or somebody else wrote: start from what is stored.
            if let Err(error) = self.reload().await {
                tracing::error!(run = %self.run, %error, "the journal cannot be read; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(STORE_PAUSE.1);
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
        self.publish();
        for (fleet, events) in &draft.fleets {
            self.shared.written.say(fleet);
            if events.iter().any(|(_, event)| matches!(event, FleetEvent::Released { .. })) {
                self.shared.lanes.released(&fleet.service, &fleet.environment);
            }
        }
        draft.decision.survey.append(&mut draft.survey);
        self.act(&draft.decision, draft.slots);
        // What no attempt took is for those who come next in the queue.
        self.granted.clear();
        Ok(draft.decision)
    }

    /// Folds in what happened and what `decide` says to it, and appends that. The state is ahead of
    /// the journal when this fails.
    async fn write(&mut self, input: &Input) -> Result<Draft, Error> {
        let now = self.shared.parts.clock.now();
        let expected = self.state.sequence;
        let before: BTreeMap<FleetId, u64> =
            self.fleets.iter().map(|(fleet, state)| (fleet.clone(), state.sequence)).collect();
        // Who holds a fleet is found out anew in each turn: it may have been let go of meanwhile.
        for place in self.places.values_mut() {
            place.held = None;
        }
        let mut draft = Draft::default();
        let outdated = self.outdated(input).await?;
        self.take_in(now, input, &outdated, &mut draft);
        let mut entered: BTreeMap<FleetId, u64> = before;
        loop {
            self.give_way(now, &mut draft)?;
            self.decide(now, &mut draft)?;
            if !self.enter(now, &mut draft, &mut entered).await? {
                break;
            }
        }
        let before_waits = std::mem::replace(&mut self.waits, draft.decision.waits.clone());
        let mut batch = Vec::new();
        if !draft.events.is_empty() {
            batch.push(run_append(&self.state, &self.waits, expected, draft.events.clone()));
        }
        for (fleet, events) in &draft.fleets {
            let expected = entered.get(fleet).copied().unwrap_or(0);
            batch.push(fleet_append(fleet, expected, events.clone()));
        }
        if !batch.is_empty() {
            let foreseeing = async {
                // The disk has more to do for the journal.
                tokio::task::yield_now().await;
                self.foresee();
            };
            tokio::join!(self.shared.parts.store.append(batch), foreseeing).0?;
        }
        self.let_go(&draft.events);
        observe::appended(&self.run, draft.events.iter().map(|(_, event)| event));
        observe::waits(&self.state, &before_waits, &self.waits);
        self.told |= !draft.events.is_empty() || before_waits != self.waits;
        Ok(draft)
    }

    /// Tells stages of attempts that begin when what is being written is durable.
    fn foresee(&self) {
        for i in self.state.running().filter(|i| !self.active.contains_key(i)) {
            if let Some(kind) = self.kind(i) {
                kind.foreseen(&self.work(i));
            }
        }
    }

    /// Tells stages of attempts whose success is durable now.
    fn let_go(&self, recorded: &[(Timestamp, RunEvent)]) {
        for (_, event) in recorded {
            if let RunEvent::AttemptSucceeded { stage, attempt, .. } = event
                && let Some(i) = self.state.position(stage)
                && let Some(kind) = self.kind(i)
            {
                kind.recorded(&self.state.attempt_id(i, *attempt));
            }
        }
    }

    /// The environments that somebody wants to promote to and that run something else by now than
    /// what they were shown.
    async fn outdated(&self, input: &Input) -> Result<Vec<EnvironmentName>, Error> {
        let mut outdated = Vec::new();
        for request in &input.requests {
            if let Act::Promote { environment } = &request.act
                && self.is_outdated(environment).await?
            {
                outdated.push(environment.clone());
            }
        }
        Ok(outdated)
    }

    /// Waits before the store is asked again; whoever looks or asks meanwhile gets an answer.
    async fn pause(&mut self, pause: Duration, input: &mut Input) {
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until) => return,
                request = self.inbox.requests.recv() => {
                    input.requests.extend(request.map(|request| *request));
                    return;
                }
                Some(look) = self.inbox.looks.recv() => self.answer(look),
            }
        }
    }

    fn take_in(&mut self, now: Timestamp, input: &Input, outdated: &[EnvironmentName], draft: &mut Draft) {
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
                // Nobody asks for a promotion there: it is to be known before the run enters.
                End::Survey { environment, shipment, .. } if !self.asks(environment) => {
                    self.looked.insert(environment.clone(), (**shipment).clone());
                    Ok(())
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
            if let Act::Promote { environment } = &request.act
                && outdated.contains(environment)
            {
                let environment = environment.clone();
                draft.answers.push(Err(command::Refusal::Changed { run: self.run.clone(), environment }));
                continue;
            }
            let answer =
                command::carry_out(&self.state, &request.act, &request.actor, &policy(&self.settings));
            let answer = answer.map(|events| {
                if let Err(failure) = self.fold_all(now, &events, draft) {
                    tracing::warn!(run = %self.run, %failure, "an act does not fit the journal");
                }
            });
            draft.answers.push(answer);
        }
    }

    /// Whether somebody has to decide before the run enters.
    fn asks(&self, environment: &EnvironmentName) -> bool {
        let asks = self.places.get(environment).is_some_and(|place| place.asks == Asks::Promotion);
        asks || self.state.gates.get(environment).is_some_and(Gate::needs_a_person)
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
    pub(super) fn decide(&mut self, now: Timestamp, draft: &mut Draft) -> Result<(), Error> {
        let slots = self.shared.parts.slots.clone();
        let lasted = self.lasted();
        let wanting = room::wanting(&self.shared.parts.data);
        loop {
            let taken = draft.slots.len() as u32;
            let free_slots = self.granted.len() as u32;
            let mut facts = Facts {
                now,
                lasted: &lasted,
                free_slots,
                slots: slots.capacity(),
                wanting: wanting.as_deref(),
                places: &self.places,
            };
            let mut decision = decide(&self.state, &facts);
            self.granted.extend(slots.take(decision.slots_wanted));
            if self.granted.len() as u32 > free_slots {
                facts.free_slots = self.granted.len() as u32;
                decision = decide(&self.state, &facts);
            }
            for event in &decision.events {
                self.state.apply(now, event).map_err(|broken| illegal(&self.run, broken))?;
                if let RunEvent::EnvironmentLeft { environment } = event {
                    self.leave(now, environment, draft);
                }
                draft.events.push((now, event.clone()));
            }
            draft.slots.extend(self.granted.drain(..decision.slots_taken as usize));
            let more = !decision.events.is_empty();
            decision.slots_taken += taken;
            draft.decision = decision;
            if !more {
                // What began in this turn is heard of now, and counted from now on.
                self.lasted();
                return Ok(());
            }
        }
    }

    /// How long what is timed has lasted. Of what an earlier process began the journal tells it: the time in
    /// which nobody was there to take in how it ended does not count.
    fn lasted(&mut self) -> BTreeMap<usize, Duration> {
        let (state, ages) = (&self.state, &mut self.ages);
        let now = state.updated_at;
        let name = |i: usize| (i, state.attempt_number(i), matches!(state.stages[i].phase, Phase::Running));
        let lasted = decide::timed(state).map(|(i, began)| (i, ages.of(name(i), began, now))).collect();
        ages.retain(|thing| state.stages.get(thing.0).is_some_and(|_| name(thing.0) == *thing));
        lasted
    }

    fn leave(&mut self, now: Timestamp, environment: &EnvironmentName, draft: &mut Draft) {
        let fleet = FleetId::new(self.run.pipeline.clone(), environment.clone());
        if let Some(mut state) = self.fleets.remove(&fleet) {
            let left = self.left_in_the_middle(&state);
            for event in left.into_iter().chain([FleetEvent::Released { run: self.run.clone() }]) {
                state.apply(now, &event);
                draft.fleets.entry(fleet.clone()).or_default().push((now, event));
            }
        }
    }

    /// The end of a rollout of which its stage did not record one: it was ended by force, or the cloud
    /// failed it. Nobody goes on with it, and the fleet's journal must not say that somebody does: the
    /// keeper would leave the fleet alone for ever.
    fn left_in_the_middle(&self, fleet: &FleetState) -> Option<FleetEvent> {
        let rollout = fleet.rollout.as_ref().filter(|rollout| rollout.end.is_none())?;
        if rollout.run != self.run {
            return None;
        }
        let stages = self.state.pipeline.stages.iter().zip(&self.state.stages);
        let mut attempts = stages.filter(|(stage, _)| stage.name == rollout.stage);
        let last = attempts.next().and_then(|(_, state)| state.attempts.last()?.end.as_ref()?.as_ref().err());
        let why = last.map_or("its stage came to no end", |failure| failure.message.as_str());
        let reason = format!("the rollout to {} was left in the middle: {why}", rollout.to.image.name);
        Some(FleetEvent::RolloutEnded { key: rollout.key.clone(), end: RolloutEnd::Stranded { reason } })
    }

    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        self.state = load_run(self.shared.parts.store.as_ref(), &self.run).await?;
        // What somebody else wrote is news as well.
        self.told = true;
        self.load_fleets().await
    }

    pub(super) async fn load_fleets(&mut self) -> Result<(), Error> {
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

pub(super) fn illegal(run: &RunId, illegal: Illegal) -> Error {
    Error::Journal(journal::Error::Illegal { run: run.clone(), illegal })
}
