//! The pipelines that runs start from: what starts each, what is wrong with it, and a form to start one.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use serde::Deserialize;

use super::form::{Posted, Who};
use super::{Base, page, run, text};
use crate::http::{Api, Problem};
use crate::ids::{PipelineName, RunId};
use crate::intake::{Ask, PipelineList};

#[derive(Template)]
#[template(path = "pipelines.html")]
struct Pipelines {
    base: Base,
    list: PipelineList,
    /// Why none can be started here.
    idle: Option<Problem>,
}

/// What a run is started with.
#[derive(Debug, Deserialize)]
pub struct Order {
    #[serde(default, rename = "ref")]
    reference: String,
    /// `name=value`, one on each line.
    #[serde(default)]
    params: String,
}

impl Order {
    fn params(&self) -> Result<BTreeMap<String, String>, Problem> {
        let mut params = BTreeMap::new();
        for line in self.params.lines().map(|line| line.trim_end_matches('\r')) {
            if line.trim().is_empty() {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else {
                return Err(Problem::request(format!(
                    "{line:?} is no param: write name=value, one on each line"
                )));
            };
            if params.insert(name.trim().to_owned(), value.to_owned()).is_some() {
                return Err(Problem::request(format!(
                    "the param {:?} is there twice: say it once",
                    name.trim()
                )));
            }
        }
        Ok(params)
    }
}

pub async fn show(State(api): State<Api>, who: Who) -> Result<Response, Problem> {
    list(&api, StatusCode::OK, Base::new("Pipelines", who))
}

fn list(api: &Api, status: StatusCode, base: Base) -> Result<Response, Problem> {
    let (list, idle) = match api.intake() {
        Ok(intake) => (intake.pipelines(), None),
        Err(problem) => (PipelineList { pipelines: Vec::new(), error: None }, Some(problem)),
    };
    page(status, &Pipelines { base, list, idle })
}

/// A form's own address, opened again, is the page the form stands on.
pub async fn back() -> Redirect {
    Redirect::to("/pipelines")
}

/// Starts a run; to its page, or back with the refusal.
pub async fn trigger(
    State(api): State<Api>,
    Path(name): Path<String>,
    posted: Posted<Order>,
) -> Result<Response, Problem> {
    match start(&api, &name, &posted).await {
        Ok(run) => Ok(posted.back(&run::path(&run), "triggered")),
        Err(problem) => {
            let Order { reference, params } = &posted.form;
            let typed =
                vec![(format!("ref.{name}"), reference.clone()), (format!("params.{name}"), params.clone())];
            let (status, base) = Base::refusal("Pipelines", posted.who(), problem, typed);
            list(&api, status, base)
        }
    }
}

async fn start(api: &Api, name: &str, posted: &Posted<Order>) -> Result<RunId, Problem> {
    let actor = posted.actor()?;
    let pipeline: PipelineName = name.parse().map_err(Problem::not_found)?;
    let params = posted.form.params()?;
    let reference = Some(posted.form.reference.trim().to_owned()).filter(|text| !text.is_empty());
    let intake = api.intake()?.clone();
    let ask = Ask { pipeline, reference, params, actor, key: None };
    // On a task of its own: a browser that goes away does not leave half a start behind.
    let started = tokio::spawn(async move { intake.trigger(ask).await });
    Ok(started.await.map_err(Problem::failed)??)
}
