//! PURE. From a journal to the state of a run.
//!
//! [`RunState::apply`] is the only way state changes. An event that cannot have happened is
//! [`Illegal`], an error value: the journal is damaged, or two engines wrote to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::decide::context;
use super::event::{Cause, Failure, Inputs, Origin, RunEvent};
use super::extent;
use super::outline::Outline;
use super::replay::Replay;
use super::state::{
    AttemptState, Cancel, Gate, Hold, Indexes, Phase, RunState, StageState, StepPhase, StepState, Superseded,
};
use crate::ids::{EnvironmentName, ImageId, RunId, StageName};
use crate::pipeline::model::{Kind, RetryOn};

/// An event that cannot follow what happened before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    #[error("the journal does not begin with `created`")]
    NoBeginning,
    #[error("`created` stands in the middle of the journal")]
    BeganTwice,
    #[error("the pipeline that the run started with cannot be read any more: {0}")]
    Pipeline(String),
    #[error("there is no stage {0}")]
    Stage(StageName),
    #[error("{event} of {what} cannot follow: {why}")]
    Order { event: &'static str, what: String, why: &'static str },
    #[error("the run has ended already")]
    Ended,
}

impl AttemptState {
    fn new(inputs: Inputs, started_at: Timestamp) -> Self {
        Self {
            inputs,
            image: None,
            started_at,
            finished_at: None,
            timed_out_at: None,
            steps: Vec::new(),
            report: None,
            end: None,
        }
    }
}

impl StageState {
    fn new() -> Self {
        Self { phase: Phase::Pending, attempts: Vec::new(), before: 0, env: BTreeMap::new() }
    }
}

impl RunState {
    /// The state after the journal's first event.
    pub fn begin(at: Timestamp, first: &RunEvent) -> Result<Self, Illegal> {
        Self::begin_by(at, first, Outline::of)
    }

    /// The same, by an outline that may be known already.
    fn begin_by(
        at: Timestamp,
        first: &RunEvent,
        outline: impl FnOnce(&RunId, &Origin) -> Result<Outline, Illegal>,
    ) -> Result<Self, Illegal> {
        let RunEvent::Created { run, origin } = first else { return Err(Illegal::NoBeginning) };
        let Outline { pipeline, graph, names, checkouts } = outline(run, origin)?;
        let count = pipeline.stages.len();
        let unmet: Vec<u32> = (0..count).map(|i| graph.needs(i).len() as u32).collect();
        let index = Indexes { unmet, open: count, ..Indexes::default() };
        let mut gates = BTreeMap::new();
        for (i, stage) in pipeline.stages.iter().enumerate() {
            if let Some(environment) = &stage.environment {
                let gate = gates.entry(environment.clone()).or_insert_with(|| Gate {
                    stages: Vec::new(),
                    open: 0,
                    reached: None,
                    approvals: Vec::new(),
                    promoted: None,
                    rejected: None,
                    hold: Hold::NotYet,
                    spent: false,
                    shipped: false,
                });
                gate.stages.push(i);
                gate.open += 1;
            }
        }
        let mut state = Self {
            id: run.clone(),
            origin: Arc::new((**origin).clone()),
            params: origin.params.clone(),
            stages: vec![StageState::new(); count],
            pipeline,
            graph,
            names,
            checkouts,
            gates,
            cancel: None,
            superseded: None,
            ending: None,
            replays: Vec::new(),
            sequence: 1,
            created_at: at,
            updated_at: at,
            index,
        };
        state.index.beyond = extent::outside(&state);
        for i in (0..count).filter(|i| state.index.unmet[*i] == 0).collect::<Vec<_>>() {
            state.becomes_ready(i);
        }
        Ok(state)
    }

    /// All that comes before the stage has ended. What its `if` may ask is known from now on, but for its
    /// environment.
    pub(super) fn becomes_ready(&mut self, i: usize) {
        let stage = &self.pipeline.stages[i];
        let runs = || match &stage.condition {
            None => self.blocker(i).is_none(),
            Some(condition) => {
                let context = context(self, &BTreeMap::new(), i, condition.references());
                condition.holds(&context) == Ok(true)
            }
        };
        let plain = stage.kind.takes_slot() && stage.environment.is_none() && runs();
        match plain {
            true => self.index.plain.insert(i),
            false => self.index.ready.insert(i),
        };
    }

    /// Folds a whole journal.
    pub fn fold<'a>(events: impl IntoIterator<Item = (Timestamp, &'a RunEvent)>) -> Result<Self, Illegal> {
        Self::fold_by(events, Outline::of)
    }

    /// The same, by an outline that may be known already.
    pub fn fold_by<'a>(
        events: impl IntoIterator<Item = (Timestamp, &'a RunEvent)>,
        outline: impl FnOnce(&RunId, &Origin) -> Result<Outline, Illegal>,
    ) -> Result<Self, Illegal> {
        let mut events = events.into_iter();
        let (at, first) = events.next().ok_or(Illegal::NoBeginning)?;
        let mut state = Self::begin_by(at, first, outline)?;
        for (at, event) in events {
            state.apply(at, event)?;
        }
        Ok(state)
    }

    /// Takes in one more event. On an error the state is as it was.
    pub fn apply(&mut self, at: Timestamp, event: &RunEvent) -> Result<(), Illegal> {
        if self.ending.is_some() && !matches!(event, RunEvent::Replayed { .. }) {
            return Err(Illegal::Ended);
        }
        self.transition(at, event)?;
        self.sequence += 1;
        self.updated_at = at;
        Ok(())
    }

    fn transition(&mut self, at: Timestamp, event: &RunEvent) -> Result<(), Illegal> {
        match event {
            RunEvent::Created { .. } => return Err(Illegal::BeganTwice),
            RunEvent::AttemptStarted { stage, attempt, inputs } => {
                let mut started = AttemptState::new(inputs.clone(), at);
                started.image = self.find(stage).ok().and_then(|i| self.image_tried(i));
                let i = self.push_attempt("attempt_started", stage, *attempt, started)?;
                self.move_to(i, Phase::Running);
            }
            RunEvent::AttemptRefused { stage, attempt, failure } => {
                let mut refused = AttemptState::new(Inputs::default(), at);
                refused.finished_at = Some(at);
                refused.end = Some(Err(failure.clone()));
                let i = self.push_attempt("attempt_refused", stage, *attempt, refused)?;
                self.move_to(i, self.phase_after(i, failure));
            }
            RunEvent::StepStarted { stage, attempt, step, name } => {
                let attempt = self.running_attempt("step_started", stage, *attempt)?;
                if *step as usize != attempt.steps.len() + 1 {
                    return Err(order("step_started", stage, "it is not the next step"));
                }
                if attempt.steps.last().is_some_and(|last| last.phase == StepPhase::Running) {
                    return Err(order("step_started", stage, "the step before it has not ended"));
                }
                attempt.steps.push(StepState {
                    name: name.clone(),
                    phase: StepPhase::Running,
                    started_at: at,
                    finished_at: None,
                    exit_code: None,
                    log_bytes: 0,
                    notes: BTreeMap::new(),
                });
            }
            RunEvent::StepNoted { stage, attempt, step, key, value } => {
                let step = self.running_step("step_noted", stage, *attempt, *step)?;
                step.notes.insert(key.clone(), value.clone());
            }
            RunEvent::StepSucceeded { stage, attempt, step, exit_code, log_bytes, result } => {
                let step = self.running_step("step_succeeded", stage, *attempt, *step)?;
                step.phase = StepPhase::Succeeded { result: result.clone() };
                step.finished_at = Some(at);
                step.exit_code = *exit_code;
                step.log_bytes = *log_bytes;
            }
            RunEvent::StepFailed { stage, attempt, step, failure, exit_code, log_bytes } => {
                let step = self.running_step("step_failed", stage, *attempt, *step)?;
                step.phase = StepPhase::Failed(failure.clone());
                step.finished_at = Some(at);
                step.exit_code = *exit_code;
                step.log_bytes = *log_bytes;
            }
            RunEvent::AttemptSucceeded { stage, attempt, outcome } => {
                let attempt = self.running_attempt("attempt_succeeded", stage, *attempt)?;
                if attempt.steps.iter().any(|step| !matches!(step.phase, StepPhase::Succeeded { .. })) {
                    return Err(order("attempt_succeeded", stage, "one of its steps has not succeeded"));
                }
                attempt.finished_at = Some(at);
                attempt.end = Some(Ok((**outcome).clone()));
                let i = self.find(stage)?;
                if outcome.hands_on() {
                    self.index.givers.insert(i);
                }
                self.spend_promotion(i);
                self.move_to(i, Phase::Succeeded);
            }
            RunEvent::AttemptFailed { stage, attempt, failure } => {
                let attempt = self.running_attempt("attempt_failed", stage, *attempt)?;
                attempt.finished_at = Some(at);
                attempt.end = Some(Err(failure.clone()));
                // A step that was running when its attempt failed failed with it.
                if let Some(step) = attempt.steps.last_mut().filter(|step| step.phase == StepPhase::Running) {
                    step.phase = StepPhase::Failed(failure.clone());
                    step.finished_at = Some(at);
                }
                let i = self.find(stage)?;
                self.move_to(i, self.phase_after(i, failure));
            }
            RunEvent::RetryScheduled { stage, attempt, not_before } => {
                let i = self.find(stage)?;
                let state = &self.stages[i];
                if state.phase != (Phase::Retrying { not_before: None })
                    || *attempt as usize != state.attempts.len() + 1
                {
                    return Err(order("retry_scheduled", stage, "no retry of it is due"));
                }
                self.move_to(i, Phase::Retrying { not_before: Some(*not_before) });
            }
            RunEvent::StageSkipped { stage, reason } => {
                let i = self.find(stage)?;
                match self.stages[i].phase {
                    Phase::Pending => self.move_to(i, Phase::Skipped { reason: reason.clone() }),
                    Phase::Retrying { .. } => self.move_to(i, Phase::Cancelled),
                    _ => return Err(order("stage_skipped", stage, "it has started or ended")),
                }
            }
            RunEvent::GateReached { environment, shipment, .. } => {
                let gate = self.gate("gate_reached", environment)?;
                let image = shipment.image.as_ref().map(|image| &image.id);
                let inside = gate.hold != Hold::NotYet;
                let another = if inside { gate.shows_another(image) } else { !gate.shows(image) };
                if gate.rejected.is_none() && another {
                    // What was promoted was another image.
                    gate.ask_again();
                }
                if gate.promoted.is_some() || gate.rejected.is_some() {
                    return Err(order("gate_reached", environment, "it was decided already"));
                }
                // Looked at again: what runs there has changed, and so has what a promotion ships.
                let since = gate.reached.as_ref().map_or(at, |(since, _)| *since);
                gate.reached = Some((since, shipment.clone()));
                gate.approvals.clear();
            }
            RunEvent::Promoted { environment, actor } => {
                let gate = self.open_gate("promoted", environment)?;
                gate.promoted = Some((at, actor.clone()));
            }
            RunEvent::Rejected { environment, actor, reason } => {
                let gate = self.open_gate("rejected", environment)?;
                gate.rejected = Some((at, actor.clone(), reason.clone()));
            }
            RunEvent::EnvironmentEntered { environment, .. } => {
                let gate = self.gate("environment_entered", environment)?;
                if gate.hold != Hold::NotYet || gate.rejected.is_some() {
                    return Err(order(
                        "environment_entered",
                        environment,
                        "it was entered or rejected before",
                    ));
                }
                gate.hold = Hold::Held;
                // Somebody was to be asked, and the settings want that no more.
                if gate.promoted.is_none() {
                    gate.ask_again();
                }
            }
            RunEvent::EnvironmentLeft { environment } => {
                let gate = self.gate("environment_left", environment)?;
                if gate.hold != Hold::Held {
                    return Err(order("environment_left", environment, "the run does not hold it"));
                }
                gate.hold = Hold::Left;
            }
            RunEvent::TimeoutReached { stage, attempt } => {
                let attempt = self.running_attempt("timeout_reached", stage, *attempt)?;
                attempt.timed_out_at.get_or_insert(at);
            }
            RunEvent::CancelRequested { actor, reason } => {
                if self.cancel.is_none() {
                    self.cancel = Some(Cancel { actor: actor.clone(), reason: reason.clone(), at });
                }
            }
            RunEvent::Approved { environment, actor } => {
                let gate = self.open_gate("approved", environment)?;
                gate.approvals.push((at, actor.clone()));
            }
            RunEvent::Superseded { by, reason } => {
                let inside = self.gates.values().any(|gate| gate.hold == Hold::Held);
                if inside || !self.index.running.is_empty() || self.cancel.is_some() {
                    return Err(order("superseded", &self.id, "something of it is under way"));
                }
                self.superseded = Some(Superseded { by: by.clone(), reason: reason.clone(), at });
            }
            RunEvent::Replayed { actor, request, stages, edits } => {
                let (actor, request) = (actor.clone(), request.clone());
                let (stages, edits) = (stages.clone(), edits.clone());
                self.replay(Replay { at, actor, request, stages, edits })?;
            }
            RunEvent::Reported { stage, attempt, report } => {
                let attempt = self.running_attempt("reported", stage, *attempt)?;
                attempt.report = Some((**report).clone());
            }
            RunEvent::Ended { ending } => {
                if self.index.open > 0 {
                    return Err(order("ended", &self.id, "a stage of it has not ended"));
                }
                if self.gates.values().any(|gate| gate.hold == Hold::Held) {
                    return Err(order("ended", &self.id, "it still holds an environment"));
                }
                self.ending = Some(*ending);
            }
        }
        Ok(())
    }

    /// Whether the state has taken in such an event already: for whoever cannot know whether a write
    /// that was cut off took place.
    pub fn reflects(&self, event: &RunEvent) -> bool {
        let attempt = |stage: &StageName, attempt: u32| {
            let i = *self.names.get(stage)?;
            self.stages[i].attempts.get((attempt as usize).checked_sub(1)?)
        };
        let step_of = |stage: &StageName, number: u32, step: u32| {
            attempt(stage, number)?.steps.get((step as usize).checked_sub(1)?)
        };
        match event {
            RunEvent::AttemptStarted { stage, attempt: number, .. }
            | RunEvent::AttemptRefused { stage, attempt: number, .. } => attempt(stage, *number).is_some(),
            RunEvent::StepStarted { stage, attempt, step, .. } => step_of(stage, *attempt, *step).is_some(),
            RunEvent::StepNoted { stage, attempt, step, key, value } => {
                step_of(stage, *attempt, *step).is_some_and(|step| step.notes.get(key) == Some(value))
            }
            RunEvent::StepSucceeded { stage, attempt, step, .. }
            | RunEvent::StepFailed { stage, attempt, step, .. } => {
                step_of(stage, *attempt, *step).is_some_and(|step| step.phase != StepPhase::Running)
            }
            RunEvent::AttemptSucceeded { stage, attempt: number, .. }
            | RunEvent::AttemptFailed { stage, attempt: number, .. } => {
                attempt(stage, *number).is_some_and(|attempt| attempt.end.is_some())
            }
            RunEvent::Reported { stage, attempt: number, report } => {
                attempt(stage, *number).is_some_and(|attempt| attempt.report.as_ref() == Some(&**report))
            }
            RunEvent::GateReached { environment, shipment, .. } => {
                let reached = self.gates.get(environment).and_then(|gate| gate.reached.as_ref());
                reached.is_some_and(|(_, known)| known == shipment)
            }
            _ => false,
        }
    }

    /// The image that an attempt of the stage tries out, if it does that.
    fn image_tried(&self, i: usize) -> Option<ImageId> {
        self.pipeline.stages[i].environment.as_ref()?;
        self.ancestor_image(i).map(|image| image.id)
    }

    /// Notes that what a promotion let through has succeeded.
    fn spend_promotion(&mut self, i: usize) {
        let deploys = |i: usize| matches!(self.pipeline.stages[i].kind, Kind::Deploy);
        let Some(environment) = &self.pipeline.stages[i].environment else { return };
        if let Some(gate) = self.gates.get_mut(environment)
            && (deploys(i) || !gate.stages.iter().any(|other| deploys(*other)))
        {
            gate.spent = true;
            gate.shipped = true;
        }
    }

    /// Moves a stage to a phase and keeps the indexes true.
    fn move_to(&mut self, i: usize, phase: Phase) {
        let was_final = self.stages[i].phase.is_final();
        self.index.ready.remove(&i);
        self.index.plain.remove(&i);
        self.index.running.remove(&i);
        self.index.retrying.remove(&i);
        self.index.beyond.remove(&i);
        match &phase {
            Phase::Running => drop(self.index.running.insert(i)),
            Phase::Retrying { .. } => drop(self.index.retrying.insert(i)),
            Phase::Failed => self.index.failed = true,
            _ => {}
        }
        let is_final = phase.is_final();
        if is_final && phase != Phase::Succeeded {
            self.index.unwell.insert(i);
        }
        self.stages[i].phase = phase;
        if is_final && !was_final {
            self.index.open -= 1;
            let environment = self.pipeline.stages[i].environment.as_ref();
            if let Some(gate) = environment.and_then(|environment| self.gates.get_mut(environment)) {
                gate.open -= 1;
            }
            self.settle(i);
        }
    }

    /// A stage is settled when it and all before it has ended: tells that to those that come next. After
    /// a replay a stage may have succeeded long before one that it needs.
    fn settle(&mut self, i: usize) {
        let graph = self.graph.clone();
        let mut next = vec![i];
        while let Some(i) = next.pop() {
            if self.index.unmet[i] > 0 {
                continue;
            }
            for dependent in graph.dependents(i) {
                self.index.unmet[*dependent] -= 1;
                match &self.stages[*dependent].phase {
                    _ if self.index.unmet[*dependent] > 0 => {}
                    Phase::Pending => self.becomes_ready(*dependent),
                    phase if phase.is_final() => next.push(*dependent),
                    _ => {}
                }
            }
        }
    }

    fn find(&self, stage: &StageName) -> Result<usize, Illegal> {
        self.names.get(stage).copied().ok_or_else(|| Illegal::Stage(stage.clone()))
    }

    fn running_attempt(
        &mut self,
        event: &'static str,
        stage: &StageName,
        attempt: u32,
    ) -> Result<&mut AttemptState, Illegal> {
        let i = self.find(stage)?;
        let state = &mut self.stages[i];
        if state.phase != Phase::Running || attempt as usize != state.attempts.len() {
            return Err(order(event, stage, "that attempt is not running"));
        }
        state.attempts.last_mut().ok_or_else(|| order(event, stage, "that attempt is not running"))
    }

    fn running_step(
        &mut self,
        event: &'static str,
        stage: &StageName,
        attempt: u32,
        step: u32,
    ) -> Result<&mut StepState, Illegal> {
        let attempt = self.running_attempt(event, stage, attempt)?;
        let last = step as usize == attempt.steps.len();
        match attempt.steps.last_mut() {
            Some(found) if last && found.phase == StepPhase::Running => Ok(found),
            _ => Err(order(event, stage, "that step is not running")),
        }
    }

    fn gate(&mut self, event: &'static str, environment: &EnvironmentName) -> Result<&mut Gate, Illegal> {
        self.gates.get_mut(environment).ok_or_else(|| order(event, environment, "no stage names it"))
    }

    fn open_gate(
        &mut self,
        event: &'static str,
        environment: &EnvironmentName,
    ) -> Result<&mut Gate, Illegal> {
        let gate = self.gate(event, environment)?;
        if gate.reached.is_none() || gate.promoted.is_some() || gate.rejected.is_some() {
            return Err(order(event, environment, "the run does not stand at its gate"));
        }
        Ok(gate)
    }

    fn push_attempt(
        &mut self,
        event: &'static str,
        stage: &StageName,
        number: u32,
        attempt: AttemptState,
    ) -> Result<usize, Illegal> {
        let i = self.find(stage)?;
        let state = &mut self.stages[i];
        let startable = matches!(state.phase, Phase::Pending | Phase::Retrying { .. });
        if !startable || number as usize != state.attempts.len() + 1 {
            return Err(order(event, stage, "the stage is not about to start it"));
        }
        state.attempts.push(attempt);
        self.index.started = true;
        Ok(i)
    }

    /// Where a stage stands after its last attempt failed.
    fn phase_after(&self, i: usize, failure: &Failure) -> Phase {
        match failure.cause {
            Cause::Cancelled => Phase::Cancelled,
            cause if self.cancel.is_none() && self.may_retry(i, cause) => {
                Phase::Retrying { not_before: None }
            }
            _ => Phase::Failed,
        }
    }

    fn may_retry(&self, i: usize, cause: Cause) -> bool {
        let retry = &self.pipeline.stages[i].retry;
        let named = match cause {
            Cause::Task => retry.on.contains(&RetryOn::Task),
            Cause::Infrastructure => retry.on.contains(&RetryOn::Infrastructure),
            Cause::Timeout => retry.on.contains(&RetryOn::Timeout),
            Cause::Cancelled | Cause::Policy => false,
        };
        named && self.attempts_now(i) < retry.attempts
    }
}

fn order(event: &'static str, what: impl ToString, why: &'static str) -> Illegal {
    Illegal::Order { event, what: what.to_string(), why }
}
