//! Which logs of a run are meant.

use std::path::Path;

use jiff::Timestamp;

use crate::cli::{Error, nearest};
use crate::ids::{AttemptId, RunId, StageName, StepId};
use crate::log;
use crate::run::view::{RunView, StageView};

/// What the command line asks for.
pub struct Which {
    pub stage: Option<StageName>,
    /// A number or a name.
    pub step: Option<String>,
    pub attempt: Option<u32>,
}

/// The log of one step.
#[derive(Debug, Clone)]
pub struct Piece {
    pub id: StepId,
    pub name: String,
    pub started_at: Option<Timestamp>,
}

impl Which {
    /// Whether the run has what is asked for; what may still come is good when it is waited for.
    pub fn check(&self, view: &RunView, follow: bool) -> Result<(), Error> {
        let Some(name) = &self.stage else { return Ok(()) };
        let Some(stage) = view.stages.iter().find(|stage| stage.name == *name) else {
            let known: Vec<&str> = view.stages.iter().map(|stage| stage.name.as_str()).collect();
            let error = Error::input(format!("{} has no stage {:?}", view.run, name.as_str()));
            return Err(match nearest(name.as_str(), known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error.hint(format!("it has {}", known.join(", "))),
            });
        };
        let may_come = follow && !view.status.is_final() && !stage.status.is_final();
        if let Some(attempt) = self.attempt
            && attempt > stage.attempts
            && !may_come
        {
            return Err(Error::input(format!("{name} has had {} attempts, not {attempt}", stage.attempts)));
        }
        if let Some(step) = &self.step
            && self.attempt.is_none_or(|attempt| attempt == stage.attempt)
            && !may_come
            && !(1..).zip(&stage.steps).any(|(number, known)| is_step(step, number, &known.name))
        {
            let names: Vec<String> =
                (1..).zip(&stage.steps).map(|(number, step)| format!("{number} ({})", step.name)).collect();
            let error = Error::input(format!("{name} has no step {step:?}"));
            return Err(match names.is_empty() {
                true => error.hint("it has had no steps so far"),
                false => error.hint(format!("it has {}", names.join(", "))),
            });
        }
        Ok(())
    }

    /// The logs that there are, in the order of the stages. Without the data directory, of an older
    /// attempt as many are looked for as the newest one has steps.
    pub fn pieces(&self, view: &RunView, data: Option<&Path>) -> Vec<Piece> {
        let wanted = |stage: &&StageView| self.stage.as_ref().is_none_or(|name| stage.name == *name);
        let over = view.status.is_final();
        let stages = view.stages.iter().filter(wanted);
        stages.flat_map(|stage| self.of_stage(&view.run, over, stage, data)).collect()
    }

    fn of_stage(&self, run: &RunId, over: bool, stage: &StageView, data: Option<&Path>) -> Vec<Piece> {
        // A stage that was to be done again and never was has only what it did before.
        let newest = if over && stage.attempt == 0 { stage.attempts } else { stage.attempt };
        let attempt = self.attempt.unwrap_or(newest);
        let id = AttemptId { run: run.clone(), stage: stage.name.clone(), attempt };
        let mut pieces = Vec::new();
        for number in 1.. {
            let id = StepId { attempt: id.clone(), step: number };
            let step = usize::try_from(number).ok().and_then(|n| stage.steps.get(n - 1));
            let known = step.filter(|_| attempt == stage.attempt);
            // The view shows the newest attempt only; of an older one there are its logs.
            let began = match attempt == stage.attempt {
                true => known.is_some_and(|step| step.started_at.is_some()),
                false => data.map_or(step.is_some(), |data| log::path(data, &id).is_file()),
            };
            if !began {
                break;
            }
            let name = step.map_or_else(|| format!("step {number}"), |step| step.name.clone());
            if self.step.as_ref().is_none_or(|wanted| is_step(wanted, number, &name)) {
                pieces.push(Piece { id, name, started_at: known.and_then(|step| step.started_at) });
            }
        }
        pieces
    }

    /// Whether nothing more will come of what is asked for.
    pub fn is_over(&self, view: &RunView) -> bool {
        let stage = self.stage.as_ref().and_then(|name| view.stages.iter().find(|stage| stage.name == *name));
        let Some(stage) = stage.filter(|_| !view.status.is_final()) else { return view.status.is_final() };
        if stage.status.is_final() || self.attempt.is_some_and(|attempt| attempt < stage.attempt) {
            return true;
        }
        self.step.as_ref().is_some_and(|wanted| {
            let step = (1..).zip(&stage.steps).find(|(number, step)| is_step(wanted, *number, &step.name));
            step.is_some_and(|(_, step)| step.finished_at.is_some())
        })
    }
}

fn is_step(wanted: &str, number: u32, name: &str) -> bool {
    wanted.parse() == Ok(number) || wanted == name
}
