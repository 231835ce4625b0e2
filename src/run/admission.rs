//! PURE. Whether a run may enter an environment now: from its place in the queue, what the fleet
//! runs, locks and freezes to a verdict.
//!
//! Always true: a run that is inside is never asked again; what a person decided is not taken back by
//! a run that nobody has decided on; a rollback passes freezes and queues, never locks.
//!
//! Deliberately absent: what a run ships, and to whom it belongs; see [`super::approval`].

use jiff::Timestamp;

use super::decide::Asks;
use super::environment::{EnvironmentState, Lock};
use super::event::{Failure, Shipment};
use super::fleet::{Deployed, FleetState, Quarantine};
use super::lanes::Lanes;
use super::state::{Hold, RunState};
use crate::ids::{EnvironmentName, FleetId, RunId};
use crate::pipeline::model::Queue;

/// A calendar's hold on an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    pub until: Timestamp,
    /// The same for people, by the clocks of the freeze's time zone.
    pub said: String,
    pub reason: String,
}

/// What the world has to say of a run that stands before an environment.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub state: &'a RunState,
    pub environment: &'a EnvironmentName,
    /// What the settings ask there.
    pub asks: Asks,
    /// Of the service there, where it has one.
    pub fleet: Option<&'a FleetState>,
    pub around: &'a EnvironmentState,
    pub frozen: Option<&'a Frozen>,
    /// Where the other runs of the pipeline stand.
    pub lanes: &'a Lanes,
    /// What entering would ship, as it was found out last.
    pub shipment: Option<&'a Shipment>,
    /// Why the run's image must not be deployed.
    pub quarantine: Option<&'a Quarantine>,
}

/// What admission says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Enter,
    /// Not now; look again at `until`, and when something changes.
    Wait {
        reason: String,
        until: Option<Timestamp>,
        /// One that is ahead of it in its lane has not passed.
        queued: bool,
    },
    /// That run holds the fleet.
    Held(RunId),
    /// It has to be known first what entering would ship.
    Survey,
    /// Nobody asks for a promotion there, but this one has to be decided by a person.
    Ask {
        why: String,
        /// It is certain that this takes the environment back.
        back: bool,
    },
    Superseded {
        by: RunId,
        reason: String,
    },
    Refuse(Failure),
}

/// Whether a newer run of the same pipeline and ref takes the run's place: which one, and why.
///
/// Never while anything of the run is under way, and never where people take their runs one by one.
pub fn superseded(state: &RunState, lanes: &Lanes) -> Option<(RunId, String)> {
    let reference = queue_of(state).filter(|_| state.pipeline.queue == Queue::Newest)?;
    let over = state.ending.is_some() || state.cancel.is_some() || state.superseded.is_some();
    // Whoever replays a run wants this one, whatever came later.
    let wanted = !state.replays.is_empty();
    let inside = state.gates.values().any(|gate| gate.hold == Hold::Held);
    if over || wanted || inside || state.running().next().is_some() || state.retrying().next().is_some() {
        return None;
    }
    let number = state.id.number;
    let run = |number| RunId::new(state.id.pipeline.clone(), number);
    if !state.has_started() {
        let newer = lanes.newer(reference, number)?;
        let reason = format!("{} came before anything of this run had started", run(newer));
        return Some((run(newer), reason));
    }
    state.gates.iter().find_map(|(environment, gate)| {
        if gate.hold != Hold::NotYet || !gate.stages.iter().any(|i| state.is_ready(*i)) {
            return None;
        }
        // What somebody has promoted gives way only to what was let through as well.
        let newer = match gate.promoted {
            Some(_) => lanes.newer_admitted(reference, number, environment)?,
            None => lanes.newer_at(reference, number, environment)?,
        };
        Some((run(newer), format!("{} came to {environment} while this run waited there", run(newer))))
    })
}

/// The ref whose queue the run stands in, if any.
fn queue_of(state: &RunState) -> Option<&str> {
    state.origin.reference.as_deref().filter(|_| state.rolls_back_from().is_none())
}

/// Whether the run may enter now.
pub fn admit(facts: &Facts) -> Verdict {
    let checks = [outrun, ahead, locked, frozen, held, goes_before, moved_on, quarantined, older];
    checks.iter().find_map(|check| check(facts)).unwrap_or(Verdict::Enter)
}

/// The run's place in the fleet was taken by a newer one of the same ref, which ran there.
fn outrun(facts: &Facts) -> Option<Verdict> {
    let state = facts.state;
    if state.pipeline.queue != Queue::Newest || is_decided(facts) || was_there(facts) {
        return None;
    }
    let current = newer_there(facts)?;
    let reason = format!("{} runs {} already", facts.environment, current.run);
    Some(Verdict::Superseded { by: current.run.clone(), reason })
}

/// Somebody decided that this run goes there.
fn is_decided(facts: &Facts) -> bool {
    let promoted = facts.state.gates.get(facts.environment).is_some_and(|gate| gate.promoted.is_some());
    promoted || facts.state.rolls_back_from().is_some()
}

/// The run worked there before: somebody replays it, and wants just this one.
fn was_there(facts: &Facts) -> bool {
    let gate = facts.state.gates.get(facts.environment);
    gate.is_some_and(|gate| gate.stages.iter().any(|i| facts.state.attempt_number(*i) > 0))
}

/// What the fleet runs, where that came later from the same ref.
fn newer_there<'a>(facts: &Facts<'a>) -> Option<&'a Deployed> {
    let reference = queue_of(facts.state)?;
    let current = facts.fleet?.current.as_ref()?;
    let same = current.reference.as_deref() == Some(reference)
        && current.run.pipeline == facts.state.id.pipeline
        && current.run.number > facts.state.id.number;
    same.then_some(current)
}

fn ahead(facts: &Facts) -> Option<Verdict> {
    let state = facts.state;
    if state.pipeline.queue != Queue::Every || is_decided(facts) || facts.asks == Asks::Promotion {
        return None;
    }
    let ahead = facts.lanes.ahead(queue_of(state)?, state.id.number, facts.environment)?;
    let ahead = RunId::new(state.id.pipeline.clone(), ahead);
    let reason = format!("waiting for {ahead}, which is ahead of it for {}", facts.environment);
    Some(Verdict::Wait { reason, until: None, queued: true })
}

fn locked(facts: &Facts) -> Option<Verdict> {
    let environment = facts.environment;
    let service = &facts.state.id.pipeline;
    let said = |what: String, lock: &Lock, unlock: String| {
        let (name, at, reason) = (&lock.actor.name, lock.at, &lock.reason);
        let reason =
            format!("waiting for {what}: locked by {name} at {at:.0} ({reason}); windlass unlock {unlock}");
        Verdict::Wait { reason, until: None, queued: false }
    };
    if let Some(lock) = &facts.around.lock {
        return Some(said(environment.to_string(), lock, environment.to_string()));
    }
    let lock = facts.fleet?.lock.as_ref()?;
    let fleet = FleetId::new(service.clone(), environment.clone());
    Some(said(fleet.to_string(), lock, format!("{environment}/{service}")))
}

fn frozen(facts: &Facts) -> Option<Verdict> {
    let frozen = facts.frozen.filter(|_| facts.state.rolls_back_from().is_none())?;
    let reason = match frozen.reason.as_str() {
        "" => format!("{} is frozen until {}", facts.environment, frozen.said),
        reason => format!("{} is frozen until {} ({reason})", facts.environment, frozen.said),
    };
    Some(Verdict::Wait { reason, until: Some(frozen.until), queued: false })
}

fn held(facts: &Facts) -> Option<Verdict> {
    let holder = facts.fleet?.holder.as_ref().filter(|holder| **holder != facts.state.id)?;
    Some(Verdict::Held(holder.clone()))
}

/// Others wait for the same fleet: rollbacks go first, then lower numbers.
fn goes_before(facts: &Facts) -> Option<Verdict> {
    facts.fleet?;
    let state = facts.state;
    let rollback = state.rolls_back_from().is_some();
    let first = facts.lanes.goes_before(rollback, state.id.number, facts.environment)?;
    let fleet = FleetId::new(state.id.pipeline.clone(), facts.environment.clone());
    let kind = facts.lanes.standing(first).is_some_and(|standing| standing.rollback);
    let kind = if kind { "the rollback " } else { "" };
    let first = RunId::new(state.id.pipeline.clone(), first);
    let reason = format!("waiting for {fleet}: {kind}{first} goes first");
    Some(Verdict::Wait { reason, until: None, queued: false })
}

/// A rollback goes back from what somebody saw there, and from nothing else.
fn moved_on(facts: &Facts) -> Option<Verdict> {
    let from = facts.state.rolls_back_from()?;
    let current = facts.fleet?.current.as_ref();
    if current.is_some_and(|current| current.image.id == *from) {
        return None;
    }
    let runs = current.map_or("nothing", |current| current.image.name.as_str());
    Some(Verdict::Refuse(Failure::policy(format!(
        "{environment} runs {runs} by now, which is not what this was to roll back from: \
         look at windlass status, then ask again: windlass rollback {service} {environment}",
        environment = facts.environment,
        service = facts.state.id.pipeline,
    ))))
}

fn quarantined(facts: &Facts) -> Option<Verdict> {
    let quarantine = facts.quarantine?;
    Some(Verdict::Refuse(Failure::policy(quarantine.refusal(&facts.state.id.pipeline))))
}

/// Nothing older than what runs goes in by itself.
fn older(facts: &Facts) -> Option<Verdict> {
    let (state, environment) = (facts.state, facts.environment);
    // A replay is the word of a person: whoever asks for it wants just this there.
    if is_decided(facts) || was_there(facts) || facts.asks == Asks::Promotion {
        return None;
    }
    let current = facts.fleet?.current.as_ref()?;
    let (Some(commit), Some(running)) = (state.commit_sha(), &current.image.commit) else { return None };
    let newer = newer_there(facts);
    if commit == running && newer.is_none() {
        return None;
    }
    let known = facts.shipment.filter(|known| known.running_image.as_ref() == Some(&current.image.id));
    let Some(known) = known else { return Some(Verdict::Survey) };
    let why = match (known.rollback, newer, &known.note) {
        (true, _, _) => {
            format!("its commit is older than what {environment} runs: promoting it takes {environment} back")
        }
        (false, Some(current), _) => {
            format!(
                "{environment} runs {}, which came later: promoting it takes {environment} back",
                current.run
            )
        }
        (false, None, Some(note)) => {
            format!("whether its commit is older than what {environment} runs cannot be told: {note}")
        }
        (false, None, None) => return None,
    };
    Some(Verdict::Ask { why, back: known.rollback || newer.is_some() })
}

#[cfg(test)]
mod tests;
