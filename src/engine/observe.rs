//! Says in the log of the process what happens to a run, beside its journal. Called where events are
//! appended, right after; nothing depends on it.

use crate::ids::RunId;
use crate::run::decide::{Wait, WaitKind, Waits};
use crate::run::event::RunEvent;
use crate::run::state::RunState;

/// Logs what was appended.
pub(super) fn appended<'a>(run: &RunId, events: impl IntoIterator<Item = &'a RunEvent>) {
    for event in events {
        one(run, event);
    }
}

fn one(run: &RunId, event: &RunEvent) {
    use RunEvent as E;
    match event {
        E::Created { origin, .. } => {
            tracing::info!(%run, actor = origin.actor.name, trigger = origin.trigger.word(), "run created");
        }
        E::AttemptStarted { stage, attempt, .. } => tracing::info!(%run, %stage, attempt, "stage started"),
        E::StepStarted { stage, attempt, step, name } => {
            tracing::info!(%run, %stage, attempt, step, name, "step started");
        }
        E::StepNoted { .. } => {}
        E::StepSucceeded { stage, attempt, step, exit_code, log_bytes, .. } => {
            tracing::info!(%run, %stage, attempt, step, exit_code, log_bytes, "step succeeded");
        }
        E::StepFailed { stage, attempt, step, failure, exit_code, .. } => {
            let cause = failure.cause.as_str();
            tracing::info!(%run, %stage, attempt, step, cause, exit_code, reason = failure.message, "step failed");
        }
        E::AttemptSucceeded { stage, attempt, .. } => {
            tracing::info!(%run, %stage, attempt, "stage succeeded");
        }
        E::AttemptFailed { stage, attempt, failure } | E::AttemptRefused { stage, attempt, failure } => {
            let cause = failure.cause.as_str();
            tracing::info!(%run, %stage, attempt, cause, reason = failure.message, "stage failed");
        }
        E::RetryScheduled { stage, attempt, not_before } => {
            tracing::info!(%run, %stage, attempt, %not_before, "stage is tried again");
        }
        E::StageSkipped { stage, reason } => tracing::info!(%run, %stage, reason, "stage skipped"),
        E::GateReached { environment, stage, .. } => {
            tracing::info!(%run, %stage, %environment, "gate reached");
        }
        E::Approved { environment, actor } => {
            tracing::info!(%run, %environment, actor = actor.name, "approved");
        }
        E::Promoted { environment, actor } => {
            tracing::info!(%run, %environment, actor = actor.name, "promoted");
        }
        E::Rejected { environment, actor, reason } => {
            tracing::info!(%run, %environment, actor = actor.name, reason, "rejected");
        }
        E::EnvironmentEntered { environment, stage } => {
            tracing::info!(%run, %stage, %environment, "environment entered");
        }
        E::EnvironmentLeft { environment } => tracing::info!(%run, %environment, "environment left"),
        E::TimeoutReached { stage, attempt } => tracing::info!(%run, %stage, attempt, "stage timed out"),
        E::CancelRequested { actor, reason } => {
            tracing::info!(%run, actor = actor.name, reason, "cancel requested");
        }
        E::Superseded { by, reason } => tracing::info!(%run, %by, reason, "run superseded"),
        E::Replayed { actor, request, .. } => {
            tracing::info!(%run, actor = actor.name, request, "replay requested");
        }
        E::Reported { stage, attempt, .. } => tracing::info!(%run, %stage, attempt, "reports read"),
        E::Ended { ending } => tracing::info!(%run, ?ending, "run ended"),
    }
}

/// Logs what is waited for that was not waited for before.
pub(super) fn waits(state: &RunState, before: &Waits, now: &Waits) {
    let run = &state.id;
    for (i, wait) in &now.stages {
        if is_news(before.stages.get(i), wait)
            && let Some(stage) = state.pipeline.stages.get(*i)
        {
            tracing::info!(%run, stage = %stage.name, reason = wait.reason, "stage waits");
        }
    }
    if let Some(wait) = &now.plain
        && is_news(before.plain.as_ref(), wait)
    {
        tracing::info!(%run, reason = wait.reason, "stages wait");
    }
}

/// How much room there is on a disk changes all the time: that it is waited for is said once.
fn is_news(before: Option<&Wait>, now: &Wait) -> bool {
    match before {
        Some(before) if before.kind == WaitKind::Space => now.kind != WaitKind::Space,
        before => before != Some(now),
    }
}
