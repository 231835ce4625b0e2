//! Runs, newest first.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;

use super::form::Who;
use super::{Base, page, text};
use crate::engine;
use crate::http::extract::Asked;
use crate::http::{Api, Problem, interrupted};
use crate::ids::{PipelineName, RunId};
use crate::run::view::Status;
use crate::store::{RunFilter, RunRow};

/// So many runs are on a page.
const PAGE: u32 = 50;

/// `?pipeline=…&status=…&before=…`, as the form sends it: a choice not made is empty.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    status: String,
    /// Only runs created before this one.
    #[serde(default)]
    before: String,
}

/// A run in a list.
pub struct Line {
    pub row: RunRow,
    pub waiting_for: Option<String>,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct Runs {
    base: Base,
    runs: Vec<Line>,
    pipelines: Vec<PipelineName>,
    choice: Choice,
    /// Where the next page begins.
    older: Option<String>,
    now: Timestamp,
}

pub async fn show(
    State(api): State<Api>,
    who: Who,
    Asked(choice): Asked<Choice>,
) -> Result<Response, Problem> {
    let wrong = |what: &str, text: &str| Problem::request(format!("{text:?} is not {what}"));
    let pipeline = match choice.pipeline.as_str() {
        "" => None,
        name => Some(name.parse().map_err(|_| wrong("the name of a pipeline", name))?),
    };
    let status = match choice.status.as_str() {
        "" => None,
        word if Status::ALL.iter().any(|status| status.as_str() == word) => Some(word.to_owned()),
        word => return Err(wrong("a status", word)),
    };
    let before = match choice.before.as_str() {
        "" => None,
        run => Some(run.parse::<RunId>().map_err(|_| wrong("a run", run))?),
    };
    // One more than is shown tells whether there are older ones.
    let filter = RunFilter { pipeline, status, before, limit: Some(PAGE + 1), unfinished: false };
    let mut runs = lines(&api, &filter).await?;
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    let last = runs.last().filter(|_| more);
    let older = last.map(|line| {
        format!("/runs?pipeline={}&status={}&before={}", choice.pipeline, choice.status, line.row.run)
    });
    let pipelines = api.engine.store().pipelines().await.map_err(engine::Error::from)?;
    let base = Base::new("Runs", who);
    page(StatusCode::OK, &Runs { base, runs, pipelines, choice, older, now: Timestamp::now() })
}

/// The rows of a list, with what is known only of runs that somebody drives.
pub async fn lines(api: &Api, filter: &RunFilter) -> Result<Vec<Line>, Problem> {
    let rows = api.engine.store().runs(filter).await.map_err(engine::Error::from)?;
    let line = |row: RunRow| {
        let idle = !row.ended && api.engine.handle(&row.run).is_none();
        let waiting_for = if idle { Some(interrupted(&row.run)) } else { row.waiting_for.clone() };
        Line { row, waiting_for }
    };
    Ok(rows.into_iter().map(line).collect())
}
