//! A run: what happened, why it waits, what a promotion ships, and the forms to decide with.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;

use super::form::Who;
use super::{Base, Typed, page, text};
use crate::http::extract::{Asked, Run};
use crate::http::look::look;
use crate::http::{Api, Problem};
use crate::ids::RunId;
use crate::run::view::{AttemptView, GateView, RunView, StageStatus, StageView, Status};

/// `?said=…`: what was done before.
#[derive(Debug, Default, Deserialize)]
pub struct Said {
    pub said: Option<String>,
}

/// `?said=…&again=…`: also what is chosen in the form to replay, `from build`.
#[derive(Debug, Default, Deserialize)]
pub struct Asking {
    said: Option<String>,
    again: Option<String>,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    base: Base,
    run: RunView,
    path: String,
    /// What is chosen in the form to replay.
    again: Option<String>,
    now: Timestamp,
}

pub async fn show(
    State(api): State<Api>,
    who: Who,
    Run(run): Run,
    Asked(asking): Asked<Asking>,
) -> Result<Response, Problem> {
    let view = look(&api.engine, &api.data, &run).await?;
    let base = Base::new(run.to_string(), who).said(asking.said.as_deref());
    show_view(StatusCode::OK, base, view, asking.again)
}

/// The page of a run with what was refused above it.
pub async fn refused(
    api: &Api,
    who: Who,
    run: &RunId,
    problem: Problem,
    typed: Typed,
) -> Result<Response, Problem> {
    let Ok(view) = look(&api.engine, &api.data, run).await else { return Err(problem) };
    let again = typed.iter().find(|(field, _)| field == "replay.what").map(|(_, what)| what.clone());
    let (status, base) = Base::refusal(run.to_string(), who, problem, typed);
    show_view(status, base, view, again)
}

fn show_view(
    status: StatusCode,
    base: Base,
    run: RunView,
    again: Option<String>,
) -> Result<Response, Problem> {
    let path = path(&run.run);
    page(status, &RunPage { base, run, path, again, now: Timestamp::now() })
}

/// The address of a run's page.
pub fn path(run: &RunId) -> String {
    format!("/runs/{run}")
}

impl RunPage {
    /// In one sentence, what goes on.
    fn sentence(&self) -> String {
        let run = &self.run;
        let of = |wanted: StageStatus| -> Vec<&str> {
            let found = run.stages.iter().filter(|stage| stage.status == wanted);
            found.map(|stage| stage.name.as_str()).take(5).collect()
        };
        let (busy, failed) = (of(StageStatus::Running), of(StageStatus::Failed));
        match &run.waiting_for {
            Some(reason) => reason.clone(),
            None if !run.status.is_final() && !busy.is_empty() => format!("at work: {}", busy.join(", ")),
            None if !failed.is_empty() => format!("failed: {}", failed.join(", ")),
            None => String::new(),
        }
    }

    fn waiting(&self) -> Vec<&GateView> {
        self.run.gates.iter().filter(|gate| gate.status == "waiting").collect()
    }

    fn decided(&self) -> Vec<&GateView> {
        self.run.gates.iter().filter(|gate| gate.status != "waiting").collect()
    }

    /// Whether something failed that a replay would do again.
    fn has_failed(&self) -> bool {
        let again = |stage: &StageView| matches!(stage.status, StageStatus::Failed | StageStatus::Cancelled);
        self.run.stages.iter().any(again)
    }

    /// Stages that a replay may choose: those that have ended.
    fn ended(&self) -> Vec<&StageView> {
        self.run.stages.iter().filter(|stage| stage.status.is_final()).collect()
    }

    /// Whether a replay can be asked for at all.
    fn can_replay(&self) -> bool {
        self.run.status != Status::Cancelling && !self.ended().is_empty()
    }

    /// Whether the form to replay has this chosen, where nobody chose anything.
    fn chosen(&self, what: &str) -> bool {
        self.again.as_deref() == Some(what)
    }

    fn chosen_stage(&self, how: &str, stage: &StageView) -> bool {
        self.chosen(&format!("{how} {}", stage.name))
    }

    /// The attempts before the one that is shown.
    fn earlier<'a>(&self, stage: &'a StageView) -> Vec<&'a AttemptView> {
        stage.history.iter().filter(|attempt| attempt.attempt != stage.attempt).collect()
    }

    /// Whether the stage is shown with all it has from the beginning.
    fn is_open(&self, stage: &StageView) -> bool {
        matches!(stage.status, StageStatus::Running | StageStatus::Failed | StageStatus::Retrying)
    }
}
