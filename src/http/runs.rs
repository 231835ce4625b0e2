//! Runs: listed, shown, submitted, followed, acted upon.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

use super::changes::SentEvent;
use super::extract::{Asked, Body, Run};
use super::guard::Caller;
use super::look::{idle, look};
use super::problem::Problems;
use super::{Acted, Api, HolderView, Parts, Problem, RunLine, RunList, Submission, changes};
use crate::config::Settings;
use crate::ids::{PipelineName, RunId};
use crate::run::command::Act;
use crate::run::event::{Origin, Trigger};
use crate::run::view::{RunView, Status};
use crate::store::RunFilter;
use crate::store::hold::Hold;

/// A comment is sent so often on a quiet stream, so that whoever reads notices a holder that died.
const ALIVE: Duration = Duration::from_secs(15);

/// `?pipeline=…&status=…&limit=…`
#[derive(Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only runs of this pipeline.
    pub pipeline: Option<PipelineName>,
    /// Only runs with this status.
    pub status: Option<Status>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// What somebody asks of a run, and who.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RunOrder)]
pub(super) struct Order {
    #[serde(flatten)]
    pub act: Act,
    /// May be left out by whoever has a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Who holds the data directory
#[utoipa::path(get, path = "/api/v1/holder", operation_id = "holder",
    responses((status = 200, description = "The process that answers", body = HolderView), Problems))]
pub(super) async fn holder(State(api): State<Api>, caller: Caller) -> Result<Json<HolderView>, Problem> {
    let holder = Hold::holder(&api.data).map_err(Problem::failed)?;
    let command = holder.map_or_else(|| "windlass".to_owned(), |holder| holder.what);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let url = api.address.map(|address| format!("http://{address}"));
    let you = match caller {
        Caller::Person(name) => Some(name),
        Caller::Somebody => None,
    };
    Ok(Json(HolderView { pid: std::process::id(), command, version, url, you }))
}

/// Runs, newest first
#[utoipa::path(get, path = "/api/v1/runs", operation_id = "runs", params(Filter),
    responses((status = 200, description = "The runs", body = RunList), Problems))]
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
    let unfinished: Vec<RunId> = rows.iter().filter(|row| !row.ended).map(|row| row.run.clone()).collect();
    let mut glances = api.engine.glances(&unfinished).await.into_iter();
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
            match glances.next().flatten() {
                Some(glance) => {
                    line.status = glance.status.as_str().to_owned();
                    line.waiting_for = glance.waiting_for;
                }
                None if api.engine.handle(&line.run).is_some() => {}
                None => line.waiting_for = Some(idle(&api.engine, &line.run)),
            }
        }
        runs.push(line);
    }
    Ok(Json(RunList { runs }))
}

/// Creates a run, and drives it
///
/// The same trigger key never creates a second run.
#[utoipa::path(post, path = "/api/v1/runs", operation_id = "submit", request_body = Submission,
    responses((status = 201, description = "The run, also one that was there", body = RunView), Problems))]
pub(super) async fn submit(
    State(api): State<Api>,
    caller: Caller,
    Body(submission): Body<Submission>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let mut origin = submission.origin;
    if matches!(origin.trigger, Trigger::Rollback { .. }) || origin.image.is_some() {
        return Err(Problem::request("a rollback is asked of its fleet: it brings no image along"));
    }
    origin.actor = caller.actor(Some(&origin.actor.name))?;
    if let Some(settings) = api.engine.settings() {
        by_these_settings(&origin, &settings)?;
    }
    let pipeline =
        crate::pipeline::read(&origin.pipeline, &origin.pipeline_path).map_err(Problem::pipeline)?;
    let run = api.engine.create(pipeline.name, origin, submission.trigger_key).await?;
    let view = drive(&api, run).await?;
    Ok((StatusCode::CREATED, view))
}

/// Where every run is driven by the server's settings, none is taken that counts on others.
fn by_these_settings(origin: &Origin, settings: &Settings) -> Result<(), Problem> {
    let ours = settings.path.as_deref();
    if let Some(theirs) = &origin.settings_path
        && ours != Some(Path::new(theirs))
    {
        let ours = ours.map_or_else(|| "settings of its own".to_owned(), |path| path.display().to_string());
        let detail = format!("this server drives every run by {ours}, and the run was to have {theirs}");
        return Err(Problem::settings(detail).hint("leave out --config, or give the server that file"));
    }
    let surroundings = settings.surroundings();
    let (_, problems) =
        crate::pipeline::examine(&origin.pipeline, &origin.pipeline_path, Some(&surroundings));
    match problems.has_errors() {
        true => Err(Problem::pipeline(problems)),
        false => Ok(()),
    }
}

/// Drives a run that nobody drives
#[utoipa::path(post, path = "/api/v1/runs/{pipeline}/{number}/resume", operation_id = "resume", params(Run),
    responses((status = 200, description = "The run", body = RunView), Problems))]
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

/// A run
#[utoipa::path(get, path = "/api/v1/runs/{pipeline}/{number}", operation_id = "run", params(Run),
    responses((status = 200, description = "The run", body = RunView), Problems))]
pub(super) async fn show(State(api): State<Api>, Run(run): Run) -> Result<Json<RunView>, Problem> {
    Ok(Json(look(&api.engine, &api.data, &run).await?))
}

/// Promotes, rejects or cancels a run
///
/// What is asked for is durable when this answers.
#[utoipa::path(post, path = "/api/v1/runs/{pipeline}/{number}/acts", operation_id = "act", params(Run),
    request_body = Order, responses((status = 200, description = "The run afterwards", body = Acted), Problems))]
pub(super) async fn act(
    State(api): State<Api>,
    Run(run): Run,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Acted>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let driven = api.engine.handle(&run).is_some();
    // A replayed run is driven from then on.
    let driven = driven || matches!(order.act, Act::Replay { .. });
    api.engine.act(&run, order.act, actor).await?;
    Ok(Json(Acted { run: look(&api.engine, &api.data, &run).await?, driven }))
}

/// A run as it is now, and again whenever it changed
///
/// Server-sent events: `run` with a RunView, `problem` with a Problem. Ends with the run.
#[utoipa::path(get, path = "/api/v1/runs/{pipeline}/{number}/changes", operation_id = "changes", params(Run),
    responses(
        (status = 200, description = "Views of the run", body = SentEvent, content_type = "text/event-stream"),
        Problems))]
pub(super) async fn stream(
    State(api): State<Api>,
    Run(run): Run,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    // So that a run that does not exist is an error and not a stream.
    look(&api.engine, &api.data, &run).await?;
    let Parts { engine, data, shutdown, .. } = &*api;
    let views = changes(engine.clone(), data.clone(), run, shutdown.clone()).map(|view| {
        let event = match view {
            Ok(view) => Event::default().event("run").json_data(&view),
            Err(error) => Event::default().event("problem").json_data(Problem::from(error)),
        };
        Ok(event.unwrap_or_else(|error| Event::default().comment(error.to_string())))
    });
    Ok(Sse::new(views).keep_alive(KeepAlive::new().interval(ALIVE)))
}
