//! PURE. How far a run goes: all of its pipeline, or some stages and what they need.

use std::collections::BTreeSet;

use super::event::{RunEvent, Trigger};
use super::state::{Phase, RunState};

/// Skips the stages that the run does not come to, and that were not skipped yet.
pub fn beyond(state: &RunState) -> Option<Vec<RunEvent>> {
    let beyond = &state.index.beyond;
    if beyond.is_empty() {
        return None;
    }
    let stages: Vec<&str> = state.origin.until.iter().map(|stage| stage.as_str()).collect();
    let who = match state.origin.trigger {
        Trigger::PullRequest { .. } => "a pull request",
        _ => "this run",
    };
    let reason = format!("{who} goes as far as {}", stages.join(", "));
    let skip = |i: &usize| RunEvent::StageSkipped {
        stage: state.pipeline.stages[*i].name.clone(),
        reason: reason.clone(),
    };
    Some(beyond.iter().map(skip).collect())
}

/// The pending stages that the run does not come to, found by a look at all of them.
pub(super) fn outside(state: &RunState) -> BTreeSet<usize> {
    if state.origin.until.is_empty() {
        return BTreeSet::new();
    }
    let mut within = vec![false; state.stages.len()];
    for i in state.origin.until.iter().filter_map(|stage| state.names.get(stage)) {
        within[*i] = true;
        state.graph.ancestors(*i).iter().for_each(|ancestor| within[ancestor] = true);
    }
    let pending = |i: &usize| !within[*i] && state.stages[*i].phase == Phase::Pending;
    (0..state.stages.len()).filter(pending).collect()
}
