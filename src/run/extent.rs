//! PURE. How far a run goes: all of its pipeline, or some stages and what they need.

use super::event::{RunEvent, Trigger};
use super::state::{Phase, RunState};

/// Skips the stages that the run does not come to, and that were not skipped yet.
pub fn beyond(state: &RunState) -> Option<Vec<RunEvent>> {
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
    let stages: Vec<&str> = state.origin.until.iter().map(|stage| stage.as_str()).collect();
    let who = match state.origin.trigger {
        Trigger::PullRequest { .. } => "a pull request",
        _ => "this run",
    };
    let reason = format!("{who} goes as far as {}", stages.join(", "));
    let skip = |i: usize| RunEvent::StageSkipped {
        stage: state.pipeline.stages[i].name.clone(),
        reason: reason.clone(),
    };
    let beyond: Vec<RunEvent> = (0..state.stages.len()).filter(pending).map(skip).collect();
    (!beyond.is_empty()).then_some(beyond)
}
