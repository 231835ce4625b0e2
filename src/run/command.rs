//! PURE. What people may ask of a run, and what answers them.

use super::approval::{Policy, approve};
use super::event::{Actor, Edit, RunEvent};
use super::replay::{self, Selection};
use super::state::{Gate, RunState};
use crate::ids::{EnvironmentName, ImageId, RunId};

/// What somebody asks of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    Promote {
        environment: EnvironmentName,
    },
    Reject {
        environment: EnvironmentName,
        reason: String,
    },
    Cancel {
        reason: String,
    },
    /// New attempts of chosen stages, with these changes; an ended run goes on.
    Replay {
        selection: Selection,
        #[serde(default)]
        edits: Vec<Edit>,
    },
}

/// Why it cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} has ended already: windlass replay {0} does stages of it again")]
    Ended(RunId),
    #[error("{0} is being cancelled")]
    Cancelling(RunId),
    #[error("no stage of {run} names the environment {environment}; it has {known}")]
    Unknown { run: RunId, environment: EnvironmentName, known: String },
    #[error("{run} does not stand at the gate of {environment}: {why}")]
    NotAtGate { run: RunId, environment: EnvironmentName, why: String },
    #[error(
        "what runs in {environment} has changed since {run} came to its gate: \
         look at what a promotion ships now, with windlass show {run}, then promote it again"
    )]
    Changed { run: RunId, environment: EnvironmentName },
    #[error("{actor} may not promote to {environment}: {why}")]
    NotAllowed { environment: EnvironmentName, actor: String, why: String },
    #[error(
        "{actor} has approved {run} for {environment} already; \
         so many other people still have to: {missing}"
    )]
    Twice { run: RunId, environment: EnvironmentName, actor: String, missing: usize },
    #[error("the journal cannot be written now, so nothing was done: {0}")]
    Unwritable(String),
    #[error(transparent)]
    Replay(#[from] replay::Refusal),
    #[error("a reason is needed, so that whoever reads the history knows why: --reason \"…\"")]
    NoReason,
}

/// Whether the act would decide on something else than what the gate shows: `running` is the image
/// that the environment's fleet runs now.
pub fn is_outdated(state: &RunState, environment: &EnvironmentName, running: Option<&ImageId>) -> bool {
    let shown = state.gates.get(environment).and_then(Gate::undecided);
    shown.is_some_and(|shipment| shipment.running_image.as_ref() != running)
}

/// The events that carry it out; none where it is the case already.
pub fn carry_out(
    state: &RunState,
    act: &Act,
    actor: &Actor,
    policy: &Policy,
) -> Result<Vec<RunEvent>, Refusal> {
    let actor = actor.clone();
    if let Act::Promote { environment } | Act::Reject { environment, .. } = act {
        known(state, environment)?;
    }
    match act {
        Act::Replay { .. } if state.cancel.is_some() && state.ending.is_none() => {
            Err(Refusal::Cancelling(state.id.clone()))
        }
        Act::Replay { selection, edits } => Ok(replay::carry_out(state, selection, edits, &actor)?),
        _ if state.ending.is_some() => Err(Refusal::Ended(state.id.clone())),
        Act::Cancel { reason } => match state.cancel {
            Some(_) => Ok(Vec::new()),
            None => Ok(vec![RunEvent::CancelRequested { actor, reason: reason.clone() }]),
        },
        _ if state.cancel.is_some() => Err(Refusal::Cancelling(state.id.clone())),
        Act::Promote { environment } => {
            at_gate(state, environment)?;
            Ok(vec![approve(state, environment, &actor, policy)?])
        }
        Act::Reject { environment, reason } => {
            if reason.trim().is_empty() {
                return Err(Refusal::NoReason);
            }
            at_gate(state, environment)?;
            let reason = reason.trim().to_owned();
            Ok(vec![RunEvent::Rejected { environment: environment.clone(), actor, reason }])
        }
    }
}

fn known<'a>(state: &'a RunState, environment: &EnvironmentName) -> Result<&'a Gate, Refusal> {
    state.gates.get(environment).ok_or_else(|| {
        let known: Vec<String> = state.gates.keys().map(ToString::to_string).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Refusal::Unknown { run: state.id.clone(), environment: environment.clone(), known }
    })
}

fn at_gate(state: &RunState, environment: &EnvironmentName) -> Result<(), Refusal> {
    let gate = known(state, environment)?;
    let why = match (&gate.rejected, &gate.promoted, &gate.reached) {
        (Some((at, actor, _)), _, _) => format!("{} rejected it at {at:.0}", actor.name),
        (None, Some((at, actor)), _) => format!("{} promoted it at {at:.0}", actor.name),
        (None, None, None) => "it has not come so far, or nothing asks for a promotion there".to_owned(),
        (None, None, Some(_)) => return Ok(()),
    };
    Err(Refusal::NotAtGate { run: state.id.clone(), environment: environment.clone(), why })
}
