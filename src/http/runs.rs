//! Runs: listed, shown, submitted, followed, acted upon.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::extract::{Asked, Body, Run};
use super::look::look;
use super::{Acted, Api, HolderView, Problem, RunLine, RunList, Submission, changes, interrupted};
use crate::ids::PipelineName;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::{RunView, Status};
use crate::store::RunFilter;
use crate::store::hold::Hold;

/// A comment is sent so often on a quiet stream, so that whoever reads notices a holder that died.
const ALIVE: Duration = Duration::from_secs(15);

/// `?pipeline=…&status=…&limit=…`
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub pipeline: Option<PipelineName>,
    pub status: Option<Status>,
    pub limit: Option<u32>,
}

/// What somebody asks of a run, and who.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    #[serde(flatten)]
    pub act: Act,
    pub actor: String,
}

pub(super) async fn holder(State(api): State<Api>) -> Result<Json<HolderView>, Problem> {
    let holder = Hold::holder(&api.data).map_err(Problem::failed)?;
    let command = holder.map_or_else(|| "windlass".to_owned(), |holder| holder.what);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Json(HolderView { pid: std::process::id(), command, version }))
}

pub(super) async fn list(
    State(api): State<Api>,
    Asked(filter): Asked<Filter>,
) -> Result<Json<RunList>, Problem> {
    let filter = RunFilter {
        pipeline: filter.pipeline,
        status: filter.status.map(|status| status.as_str().to_owned()),
        limit: filter.limit,
        ..RunFilter::default()
    };
    let rows = api
        .engine
        .store()
        .runs(&filter)
        .await
        .map_err(|error| Problem::from(crate::engine::Error::from(error)))?;
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = RunLine {
            run: row.run,
            status: row.status,
            commit: row.commit,
            waiting_for: row.waiting_for,
            created_at: row.created_at,
        };
        if !row.ended {
            // What a run waits for changes without an event; its driver knows.
            match api.engine.handle(&line.run) {
                None => line.waiting_for = Some(interrupted(&line.run)),
                Some(handle) => {
                    if let Some(view) = handle.view().await {
                        line.status = view.status.as_str().to_owned();
                        line.waiting_for = view.waiting_for;
                    }
                }
            }
        }
        runs.push(line);
    }
    Ok(Json(RunList { runs }))
}

pub(super) async fn submit(
    State(api): State<Api>,
    Body(submission): Body<Submission>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let origin = submission.origin;
    Actor::named(&origin.actor.name).map_err(Problem::request)?;
    let pipeline =
        crate::pipeline::read(&origin.pipeline, &origin.pipeline_path).map_err(Problem::pipeline)?;
    let run = api.engine.create(pipeline.name, origin, submission.trigger_key).await?;
    let view = drive(&api, run).await?;
    Ok((StatusCode::CREATED, view))
}

pub(super) async fn resume(State(api): State<Api>, Run(run): Run) -> Result<Json<RunView>, Problem> {
    drive(&api, run).await
}

async fn drive(api: &Api, run: crate::ids::RunId) -> Result<Json<RunView>, Problem> {
    let view = look(&api.engine, &api.data, &run).await?;
    if view.status.is_final() {
        return Ok(Json(view));
    }
    api.engine.drive(&run).await?;
    Ok(Json(look(&api.engine, &api.data, &run).await?))
}

pub(super) async fn show(State(api): State<Api>, Run(run): Run) -> Result<Json<RunView>, Problem> {
    Ok(Json(look(&api.engine, &api.data, &run).await?))
}

pub(super) async fn act(
    State(api): State<Api>,
    Run(run): Run,
    Body(order): Body<Order>,
) -> Result<Json<Acted>, Problem> {
    let actor = Actor::named(&order.actor).map_err(Problem::request)?;
    let driven = api.engine.handle(&run).is_some();
    api.engine.act(&run, order.act, actor).await?;
    Ok(Json(Acted { run: look(&api.engine, &api.data, &run).await?, driven }))
}

pub(super) async fn stream(
    State(api): State<Api>,
    Run(run): Run,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    // So that a run that does not exist is an error and not a stream.
    look(&api.engine, &api.data, &run).await?;
    let views = changes(api.engine, api.data, run, api.shutdown).map(|view| {
        let event = match view {
            Ok(view) => Event::default().event("run").json_data(&view),
            Err(error) => Event::default().event("problem").json_data(Problem::from(error)),
        };
        Ok(event.unwrap_or_else(|error| Event::default().comment(error.to_string())))
    });
    Ok(Sse::new(views).keep_alive(KeepAlive::new().interval(ALIVE)))
}
