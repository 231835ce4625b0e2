//! PURE. What is next for a run: a function from its state and a few facts to a decision.
//!
//! Level-triggered: it says what should be, and is asked again after every change until it has
//! nothing more to say. So starting a run, going on with it and resuming it after a crash are one
//! path. What runs already is not its concern: the engine compares [`RunState::running`] with what
//! it drives.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::approval::Rules;
use super::event::{Cause, Ending, Failure, Inputs, RunEvent};
use super::extent;
use super::gate::{decided_beforehand, wait_for_promotion};
use super::state::{Gate, Hold, Phase, RunState};
use crate::ids::{Digest, EnvironmentName};
use crate::pipeline::expression::{Context, Reference, StageContext, Template};
use crate::pipeline::model::{Kind, Stage};

/// While a stage waits for room on the disk, of which nobody tells, it is looked for so often.
const SPACE_BEAT: Duration = Duration::from_secs(2);

/// What the world has to say, besides the journal.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub now: Timestamp,
    /// How long what is [`timed`] has lasted, by its stage. What is missing has begun this moment.
    pub lasted: &'a BTreeMap<usize, Duration>,
    /// Slots of the runner that new attempts may take.
    pub free_slots: u32,
    /// All slots there are, for messages.
    pub slots: u32,
    /// Why nothing that writes to the disk is to be begun now: one sentence, without a period.
    pub wanting: Option<&'a str>,
    pub places: &'a BTreeMap<EnvironmentName, Place>,
}

/// What the settings say of an environment, as far as this pipeline's service goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub group: String,
    pub asks: Asks,
    /// Whether the service has a fleet there, which a run has to hold.
    pub has_fleet: bool,
    /// Why the run cannot enter now, as [`super::admission`] says.
    pub held: Option<Held>,
    /// Who may promote.
    pub rules: Rules,
}

/// Why a run cannot enter an environment now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub kind: WaitKind,
    /// One sentence, without a period.
    pub reason: String,
    /// Look again then.
    pub until: Option<Timestamp>,
}

/// What an environment asks before a run enters it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Nothing,
    Promotion,
}

/// What should be done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// To be appended before anything else is done.
    pub events: Vec<RunEvent>,
    /// Gates that the run has come to: find out what a promotion would ship.
    pub survey: Vec<(EnvironmentName, usize)>,
    /// Fleets to be held, together with [`RunEvent::EnvironmentEntered`].
    pub enter: Vec<(EnvironmentName, usize)>,
    pub waits: Waits,
    /// Look again at this time of the calendar.
    pub wake_at: Option<Timestamp>,
    /// Look again when so much more time has passed, whatever the clock is set to meanwhile.
    pub wake_in: Option<Duration>,
    /// How many of the free slots the events take.
    pub slots_taken: u32,
    /// How many more would be taken if they were free.
    pub slots_wanted: u32,
}

/// Why stages that could start do not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// By their index.
    pub stages: BTreeMap<usize, Wait>,
    /// Why those of [`RunState::plain`] do not: they all wait for the same, and may be thousands.
    pub plain: Option<Wait>,
}

impl Waits {
    /// Why stage `i` waits, if it does.
    pub fn of(&self, state: &RunState, i: usize) -> Option<&Wait> {
        self.stages.get(&i).or_else(|| self.plain.as_ref().filter(|_| state.is_plain(i)))
    }

    /// What the journal alone tells, without anybody who decides: at which gates the run stands.
    pub fn at_gates(state: &RunState) -> Self {
        let mut waits = Self::default();
        for i in state.ready() {
            let Some(environment) = &state.pipeline.stages[i].environment else { continue };
            if state.gates.get(environment).and_then(Gate::undecided).is_some() {
                let wait = wait_for_promotion(state, environment, None);
                waits.stages.insert(i, wait);
            }
        }
        waits
    }

    /// What the run as a whole waits for.
    pub fn first(&self) -> Option<&Wait> {
        self.stages.values().next().or(self.plain.as_ref())
    }
}

/// Why a stage waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub kind: WaitKind,
    /// One sentence, without a period.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// For a slot.
    Slot,
    /// For room on the disk.
    Space,
    /// Until it is known what a promotion would ship: nobody can decide before that.
    Survey,
    /// At a gate, or for a fleet.
    Gate,
    /// For the next attempt's time.
    Retry,
}

/// Why a running attempt is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    TimedOut,
}

/// Whether the running attempt of stage `i` has to stop, and why.
pub fn stop_of(state: &RunState, i: usize) -> Option<Stop> {
    let attempt = state.stages[i].attempts.last()?;
    match (attempt.timed_out_at, &state.cancel) {
        (Some(_), _) => Some(Stop::TimedOut),
        (None, Some(_)) => Some(Stop::Cancelled),
        (None, None) => None,
    }
}

/// What is next for the run.
pub fn decide(state: &RunState, facts: &Facts) -> Decision {
    let mut decision = Decision::default();
    if state.ending.is_some() {
        return decision;
    }
    expire(state, facts, &mut decision);
    if let Some(cancel) = &state.cancel {
        skip_what_has_not_started(state, &format!("{} cancelled the run", cancel.actor.name), &mut decision);
    } else if let Some(superseded) = &state.superseded {
        skip_what_has_not_started(state, &format!("{} superseded it", superseded.by), &mut decision);
    } else if let Some(skipped) = extent::beyond(state) {
        decision.events.extend(skipped);
        return decision;
    } else {
        retry(state, facts, &mut decision);
        for i in state.ready() {
            consider(state, facts, i, &mut decision);
        }
        start_plain(state, facts, &mut decision);
    }
    leave(state, &mut decision);
    end(state, &mut decision);
    decision
}

/// Attempts that have a timeout before them and pauses between attempts, by their stage, and when each began
/// by the clock on the wall.
pub fn timed(state: &RunState) -> impl Iterator<Item = (usize, Timestamp)> {
    let attempts = state.running().filter_map(|i| {
        let attempt = state.stages[i].attempts.last()?;
        attempt.timed_out_at.is_none().then_some((i, attempt.started_at))
    });
    let pauses = state.retrying().filter_map(|i| match state.stages[i].phase {
        // What is recorded is when it ends, by the clock of then.
        Phase::Retrying { not_before: Some(end) } => {
            Some((i, end.saturating_sub(backoff(state, i)).unwrap_or(Timestamp::MIN)))
        }
        _ => None,
    });
    attempts.chain(pauses)
}

/// Deadlines that have passed, and the next one that will.
fn expire(state: &RunState, facts: &Facts, decision: &mut Decision) {
    for i in state.running() {
        let (stage, stage_state) = state.stage(i);
        let Some(attempt) = stage_state.attempts.last() else { continue };
        if attempt.timed_out_at.is_some() {
            continue;
        }
        match facts.left(i, stage.timeout) {
            None => decision.events.push(RunEvent::TimeoutReached {
                stage: stage.name.clone(),
                attempt: state.attempt_number(i),
            }),
            Some(left) => decision.wake_within(left),
        }
    }
}

fn skip_what_has_not_started(state: &RunState, reason: &str, decision: &mut Decision) {
    for (i, stage) in state.pipeline.stages.iter().enumerate() {
        if matches!(state.stages[i].phase, Phase::Pending | Phase::Retrying { .. }) {
            let (stage, reason) = (stage.name.clone(), reason.to_owned());
            decision.events.push(RunEvent::StageSkipped { stage, reason });
        }
    }
}

fn retry(state: &RunState, facts: &Facts, decision: &mut Decision) {
    for i in state.retrying() {
        let (stage, stage_state) = state.stage(i);
        let attempt = state.attempt_number(i) + 1;
        if stage_state.phase == (Phase::Retrying { not_before: None }) {
            decision.events.push(RunEvent::RetryScheduled {
                stage: stage.name.clone(),
                attempt,
                not_before: later(facts.now, backoff(state, i)),
            });
            continue;
        }
        match facts.left(i, backoff(state, i)) {
            Some(left) => {
                decision.wake_within(left);
                let last = stage_state.attempts.last().and_then(|attempt| attempt.end.as_ref());
                let why = match last {
                    Some(Err(failure)) => format!(": {}", failure.message),
                    _ => String::new(),
                };
                decision.wait(
                    i,
                    WaitKind::Retry,
                    format!("attempt {attempt} starts soon, after a pause{why}"),
                );
            }
            None => start(state, facts, i, decision),
        }
    }
}

/// Starts as many of the stages that wait for nothing but a slot as there are slots.
fn start_plain(state: &RunState, facts: &Facts, decision: &mut Decision) {
    let mut left = state.plain().len() as u32;
    if let Some(reason) = facts.wanting.filter(|_| left > 0) {
        decision.wake_by(later(facts.now, SPACE_BEAT));
        decision.waits.plain = Some(Wait { kind: WaitKind::Space, reason: reason.to_owned() });
        return;
    }
    for i in state.plain() {
        if decision.slots_taken >= facts.free_slots {
            decision.slots_wanted += left;
            decision.waits.plain = Some(wait_for_slot(facts));
            return;
        }
        start(state, facts, *i, decision);
        left -= 1;
    }
}

fn wait_for_slot(facts: &Facts) -> Wait {
    let reason = format!("waiting for a free slot: all {} are in use", facts.slots);
    Wait { kind: WaitKind::Slot, reason }
}

/// A stage whose needs have all ended: skip it, let it wait, or start it.
fn consider(state: &RunState, facts: &Facts, i: usize, decision: &mut Decision) {
    let (stage, _) = state.stage(i);
    match admits(state, facts, i) {
        Ok(None) => {}
        Ok(Some(reason)) => {
            return decision.events.push(RunEvent::StageSkipped { stage: stage.name.clone(), reason });
        }
        Err(failure) => return refuse(state, i, failure, decision),
    }
    if let Some(environment) = &stage.environment
        && !passes(state, facts, i, environment, decision)
    {
        return;
    }
    start(state, facts, i, decision);
}

/// Whether the stage's `if`, or its needs where it has none, let it run; the reason if not.
fn admits(state: &RunState, facts: &Facts, i: usize) -> Result<Option<String>, Failure> {
    let (stage, _) = state.stage(i);
    let Some(condition) = &stage.condition else {
        let blocked = state.blocker(i).map(|blocker| {
            let name = &state.pipeline.stages[blocker].name;
            match &state.stages[blocker].phase {
                Phase::Skipped { .. } => format!("{name} was skipped"),
                Phase::Cancelled => format!("{name} was cancelled"),
                _ => format!("{name} failed"),
            }
        });
        return Ok(blocked);
    };
    match condition.holds(&context(state, facts.places, i, condition.references())) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some("its `if` does not hold".to_owned())),
        Err(error) => Err(Failure::task(format!("`if` of {} cannot be evaluated: {error}", stage.name))),
    }
}

/// Whether the run may work in the environment now; if not, what has to be done for it.
fn passes(
    state: &RunState,
    facts: &Facts,
    i: usize,
    environment: &EnvironmentName,
    decision: &mut Decision,
) -> bool {
    let Some(gate) = state.gates.get(environment) else { return true };
    if let Some((_, actor, reason)) = &gate.rejected {
        let failure = Failure::policy(format!("{} rejected {environment}: {reason}", actor.name));
        refuse(state, i, failure, decision);
        return false;
    }
    let image = state.gate_image(gate).map(|image| image.id);
    let decided = gate.reached.is_none() || gate.promoted.is_some();
    let inside = gate.hold != Hold::NotYet;
    if inside && decided && !gate.shows_another(image.as_ref()) {
        return true;
    }
    let Some(place) = facts.places.get(environment) else {
        let failure = Failure::policy(format!(
            "the settings name no environment {environment}: give the file that does with --config"
        ));
        refuse(state, i, failure, decision);
        return false;
    };
    // Also where nobody asks in general, but this run has to be decided on.
    let asks = place.asks == Asks::Promotion || gate.needs_a_person();
    let shown = gate.shows(image.as_ref());
    if asks && !(shown && gate.promoted.is_some()) {
        if !shown {
            decision.survey.push((environment.clone(), i));
            let reason = format!("waiting to know what a promotion to {environment} would ship");
            decision.wait(i, WaitKind::Survey, reason);
            return false;
        }
        if let Some(actor) = decided_beforehand(state, environment, place) {
            let promoted = RunEvent::Promoted { environment: environment.clone(), actor };
            if !decision.events.contains(&promoted) {
                decision.events.push(promoted);
            }
            return false;
        }
        decision.waits.stages.insert(i, wait_for_promotion(state, environment, Some(place)));
        return false;
    }
    if inside {
        return true;
    }
    let asked = decision.enter.iter().any(|(other, _)| other == environment);
    match &place.held {
        Some(held) => {
            held.until.into_iter().for_each(|until| decision.wake_by(until));
            decision.wait(i, held.kind, held.reason.clone());
        }
        _ if asked => {}
        _ => decision.enter.push((environment.clone(), i)),
    }
    false
}

fn start(state: &RunState, facts: &Facts, i: usize, decision: &mut Decision) {
    let (stage, _) = state.stage(i);
    if let Some(reason) = facts.wanting.filter(|_| writes(&stage.kind)) {
        decision.wake_by(later(facts.now, SPACE_BEAT));
        decision.wait(i, WaitKind::Space, reason.to_owned());
        return;
    }
    if stage.kind.takes_slot() {
        if decision.slots_taken >= facts.free_slots {
            decision.slots_wanted += 1;
            decision.waits.stages.insert(i, wait_for_slot(facts));
            return;
        }
        decision.slots_taken += 1;
    }
    let attempt = state.attempt_number(i) + 1;
    match inputs(state, facts, i, stage) {
        Err(failure) => refuse(state, i, failure, decision),
        Ok(inputs) => {
            decision.events.push(RunEvent::AttemptStarted { stage: stage.name.clone(), attempt, inputs });
            // The steps of a script are known beforehand: its first intent goes with the attempt's.
            if let Kind::Script(script) = &stage.kind
                && let Some(first) = script.steps.first()
            {
                let name = first.name.clone();
                decision.events.push(RunEvent::StepStarted {
                    stage: stage.name.clone(),
                    attempt,
                    step: 1,
                    name,
                });
            }
        }
    }
}

/// Whether a stage fills the disk of the data directory. What goes to a fleet goes there, also back to
/// what ran before, and waits for room by itself where its cloud has none.
fn writes(kind: &Kind) -> bool {
    !matches!(kind, Kind::Deploy | Kind::Certify)
}

fn inputs(state: &RunState, facts: &Facts, i: usize, stage: &Stage) -> Result<Inputs, Failure> {
    if stage.env.is_empty() && state.stages[i].env.is_empty() {
        return Ok(Inputs::default());
    }
    let references = stage.env.values().flat_map(Template::references);
    let context = context(state, facts.places, i, references);
    let mut env = state.stages[i].env.clone();
    for (name, template) in &stage.env {
        if env.contains_key(name) {
            continue;
        }
        let value = template.evaluate(&context).map_err(|error| {
            Failure::task(format!("env {name} of {} cannot be evaluated: {error}", stage.name))
        })?;
        env.insert(name.clone(), value);
    }
    Ok(Inputs { env })
}

/// The attempt fails before it does anything.
fn refuse(state: &RunState, i: usize, failure: Failure, decision: &mut Decision) {
    let stage = state.pipeline.stages[i].name.clone();
    let attempt = state.attempt_number(i) + 1;
    decision.events.push(RunEvent::AttemptRefused { stage, attempt, failure });
}

/// Environments whose last stage has ended.
fn leave(state: &RunState, decision: &mut Decision) {
    for (environment, gate) in &state.gates {
        if gate.hold == Hold::Held && gate.open == 0 {
            decision.events.push(RunEvent::EnvironmentLeft { environment: environment.clone() });
        }
    }
}

fn end(state: &RunState, decision: &mut Decision) {
    if state.open() > 0 || state.gates.values().any(|gate| gate.hold == Hold::Held) {
        return;
    }
    let ending = match (&state.cancel, state.has_failed()) {
        _ if state.superseded.is_some() => Ending::Superseded,
        (Some(_), _) => Ending::Cancelled,
        (None, true) => Ending::Failed,
        (None, false) => Ending::Succeeded,
    };
    decision.events.push(RunEvent::Ended { ending });
}

/// The pause before the next attempt: 1 s, doubled for each attempt up to 60 s, and between half
/// and one and a half of that. The spread comes from the attempt's key, so that the same journal
/// always decides the same.
fn backoff(state: &RunState, i: usize) -> Duration {
    let attempt = state.attempt_number(i);
    let base =
        Duration::from_secs(1 << state.attempts_now(i).saturating_sub(1).min(6)).min(Duration::from_secs(60));
    let digest = Digest::of(state.attempt_id(i, attempt).key().as_str().as_bytes());
    let spread = u32::from_str_radix(&digest.as_str()[..4], 16).unwrap_or(0);
    base / 2 + base * spread / 0xffff
}

/// What expressions of stage `i` speak of: of its ancestors those that are referred to.
pub fn context<'a>(
    state: &RunState,
    places: &BTreeMap<EnvironmentName, Place>,
    i: usize,
    references: impl IntoIterator<Item = (&'a Reference, Range<usize>)>,
) -> Context {
    let (stage, _) = state.stage(i);
    let mut context = Context::default();
    context.run.insert("number".into(), state.id.number.to_string());
    context.run.insert("version".into(), state.version());
    context.run.insert("trigger".into(), state.origin.trigger.word().into());
    if let Some(commit) = &state.origin.commit {
        context.commit.insert("sha".into(), commit.sha.to_string());
        context.commit.insert("branch".into(), commit.branch.clone());
        context.commit.insert("author".into(), commit.author.clone());
        context.commit.insert("message".into(), commit.message.clone());
    }
    context.params = state.params.clone();
    let ancestors = state.graph.ancestors(i);
    context.failure =
        state.unwell().any(|a| ancestors.contains(a) && matches!(state.stages[a].phase, Phase::Failed));
    for (reference, _) in references {
        let (Reference::Output { stage, .. } | Reference::Status { stage }) = reference else { continue };
        let Some(ancestor) = state.names.get(stage.as_str()).filter(|a| ancestors.contains(**a)) else {
            continue;
        };
        let ancestor = *ancestor;
        let status = match state.stages[ancestor].phase {
            Phase::Succeeded => "succeeded",
            Phase::Failed => "failed",
            Phase::Cancelled => "cancelled",
            _ => "skipped",
        };
        let outputs = state.outcome(ancestor).map(|outcome| outcome.outputs.clone()).unwrap_or_default();
        let name = state.pipeline.stages[ancestor].name.clone();
        context.stages.insert(name, StageContext { status: status.to_owned(), outputs });
    }
    context.success = state.blocker(i).is_none();
    if let Some(environment) = &stage.environment {
        context.environment.insert("name".into(), environment.to_string());
        if let Some(place) = places.get(environment) {
            context.environment.insert("group".into(), place.group.clone());
        }
    }
    context
}

/// What happens when an attempt's driver reports its end: the events that say so.
pub fn settle(
    state: &RunState,
    i: usize,
    attempt: u32,
    end: Result<Box<super::event::Outcome>, Failure>,
) -> RunEvent {
    let stage = state.pipeline.stages[i].name.clone();
    match end {
        Ok(outcome) => RunEvent::AttemptSucceeded { stage, attempt, outcome },
        Err(mut failure) => {
            // Whatever the driver says of it: what was stopped, failed because it was stopped.
            match stop_of(state, i) {
                Some(Stop::TimedOut) if failure.cause != Cause::Timeout => {
                    let limit = state.pipeline.stages[i].timeout;
                    failure = Failure::new(
                        Cause::Timeout,
                        format!("it took longer than its timeout of {limit:?} ({})", failure.message),
                    );
                }
                Some(Stop::Cancelled) => failure.cause = Cause::Cancelled,
                _ => {}
            }
            RunEvent::AttemptFailed { stage, attempt, failure }
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl Facts<'_> {
    /// What is left of `time` for the stage; nothing when it is over.
    fn left(&self, i: usize, time: Duration) -> Option<Duration> {
        let lasted = self.lasted.get(&i).copied().unwrap_or_default();
        time.checked_sub(lasted).filter(|left| !left.is_zero())
    }
}

impl Decision {
    fn wake_within(&mut self, time: Duration) {
        self.wake_in = Some(self.wake_in.map_or(time, |sooner| sooner.min(time)));
    }

    fn wake_by(&mut self, time: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(time, |earlier| earlier.min(time)));
    }

    fn wait(&mut self, i: usize, kind: WaitKind, reason: String) {
        self.waits.stages.insert(i, Wait { kind, reason });
    }
}
