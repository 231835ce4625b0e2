//! The output of a step, also while it is written.

use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::extract::{Asked, Run};
use super::look::look;
use super::problem::Problems;
use super::{Api, Problem, changes};
use crate::engine::{self, Engine};
use crate::ids::{AttemptId, StageName, StepId};
use crate::log;
use crate::run::view::{RunView, StepStatus};

/// `?stage=…&step=…&attempt=…&follow=true&offset=…`
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The stage.
    stage: StageName,
    /// From 1.
    step: u32,
    /// From 1; without it, the newest.
    attempt: Option<u32>,
    /// Goes on until the step has ended.
    #[serde(default)]
    follow: bool,
    /// Begins behind so many bytes.
    #[serde(default)]
    offset: u64,
}

/// What a step said
///
/// With `follow`, also what it is saying, until it has ended.
#[utoipa::path(get, path = "/api/v1/runs/{pipeline}/{number}/logs", operation_id = "log", params(Run, Which),
    responses(
        (status = 200, description = "Its output, redacted", body = Vec<u8>, content_type = "application/octet-stream"),
        Problems))]
pub(super) async fn stream(
    State(api): State<Api>,
    Run(run): Run,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let view = look(&api.engine, &api.data, &run).await?;
    let Some(stage) = view.stages.iter().find(|stage| stage.name == which.stage) else {
        return Err(Problem::not_found(format!("{run} has no stage {:?}", which.stage)));
    };
    let attempt = which.attempt.unwrap_or(stage.attempt);
    let step = StepId { attempt: AttemptId { run, stage: which.stage, attempt }, step: which.step };
    let path = log::path(&api.data, &step);
    if has_ended(&view, &step) && !path.is_file() {
        return Err(Problem::not_found(format!("there is no log of {step}")));
    }
    let bytes = match which.follow {
        true => log::follow(
            path,
            which.offset,
            ended(api.engine.clone(), api.data.clone(), step, api.shutdown.clone()),
        )
        .boxed(),
        false => log::follow(path, which.offset, async {}).boxed(),
    };
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, Body::from_stream(bytes)).into_response())
}

/// Returns when the step writes no more.
pub(super) async fn ended(engine: Engine, data: Arc<Path>, step: StepId, stop: CancellationToken) {
    let views = changes(engine, data, step.attempt.run.clone(), stop);
    step_ended(views, &step).await;
}

/// Returns when the step writes no more, or when nothing more can be known about it.
async fn step_ended(views: impl Stream<Item = Result<RunView, engine::Error>> + Unpin, step: &StepId) {
    let mut views = views;
    while let Some(Ok(view)) = views.next().await {
        if has_ended(&view, step) {
            return;
        }
    }
}

/// Whether the step has ended, or will never begin.
pub(super) fn has_ended(view: &RunView, step: &StepId) -> bool {
    let Some(stage) = view.stages.iter().find(|stage| stage.name == step.attempt.stage) else { return true };
    let attempt = step.attempt.attempt;
    // Also the last one of a stage that is to be done again.
    let earlier = attempt <= stage.attempts && attempt != stage.attempt;
    if view.status.is_final() || earlier || stage.status.is_final() {
        return true;
    }
    let found = usize::try_from(step.step).ok().and_then(|n| stage.steps.get(n.checked_sub(1)?));
    let open = |status| matches!(status, StepStatus::Running | StepStatus::Pending);
    step.attempt.attempt == stage.attempt && found.is_some_and(|step| !open(step.status))
}
