//! What is known of a run beside its journal: whether anybody drives it, and how far its logs are.

use std::path::Path;

use crate::engine::{self, Engine};
use crate::ids::{AttemptId, RunId, StepId};
use crate::log;
use crate::run::view::{RunView, StageStatus, StepStatus};

/// What an unfinished run waits for when nobody drives it.
pub fn interrupted(run: &RunId) -> String {
    format!("interrupted: windlass resume {run} carries it on")
}

/// What an unfinished run waits for that this process does not drive.
pub(super) fn idle(engine: &Engine, run: &RunId) -> String {
    engine.idle(run).unwrap_or_else(|| interrupted(run))
}

/// Fills in how many bytes the running steps have written so far: their logs grow without events.
pub fn measure(view: &mut RunView, data: &Path) {
    for stage in view.stages.iter_mut().filter(|stage| stage.status == StageStatus::Running) {
        for (step, number) in stage.steps.iter_mut().zip(1..) {
            if step.status != StepStatus::Running {
                continue;
            }
            let attempt =
                AttemptId { run: view.run.clone(), stage: stage.name.clone(), attempt: stage.attempt };
            let log = log::path(data, &StepId { attempt, step: number });
            step.log_bytes = std::fs::metadata(log).map_or(step.log_bytes, |metadata| metadata.len());
        }
    }
}

/// The run as it is now.
pub(super) async fn look(engine: &Engine, data: &Path, run: &RunId) -> Result<RunView, engine::Error> {
    let driven = engine.handle(run).is_some();
    let mut view = engine.view(run).await?;
    if !driven && !view.status.is_final() {
        view.waiting_for = Some(idle(engine, run));
    }
    measure(&mut view, data);
    Ok(view)
}
