//! PURE. How far a run goes: all of its pipeline, or some stages and what they need.

use super::event::Trigger;
use super::state::{Phase, RunState};

/// The stages that the run does not come to and that have not been passed over yet, with the reason.
pub fn beyond(state: &RunState) -> Option<(Vec<usize>, String)> {
    if state.origin.until.is_empty() {
        return None;
    }
    let mut within = vec![false; state.stages.len()];
    for (i, stage) in state.pipeline.stages.iter().enumerate() {
        if state.origin.until.contains(&stage.name) {
            within[i] = true;
            state.graph.ancestors(i).iter().for_each(|ancestor| within[ancestor] = true);
        }
    }
    let pending = |i: &usize| !within[*i] && state.stages[*i].phase == Phase::Pending;
    let beyond: Vec<usize> = (0..state.stages.len()).filter(pending).collect();
    let stages: Vec<&str> = state.origin.until.iter().map(|stage| stage.as_str()).collect();
    let who = match state.origin.trigger {
        Trigger::PullRequest { .. } => "a pull request",
        _ => "this run",
    };
    (!beyond.is_empty()).then(|| (beyond, format!("{who} goes as far as {}", stages.join(", "))))
}
