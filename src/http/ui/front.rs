//! The front page: fleets at a glance, and the newest runs.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::form::Who;
use super::run::Said;
use super::runs::Line;
use super::{Base, page, runs, text};
use crate::engine::fleets::FleetView;
use crate::http::extract::Asked;
use crate::http::{Api, Problem};
use crate::store::RunFilter;

/// So many runs are on the front page.
const NEWEST: u32 = 10;

#[derive(Template)]
#[template(path = "front.html")]
struct Front {
    base: Base,
    fleets: Vec<FleetView>,
    runs: Vec<Line>,
    now: Timestamp,
}

pub async fn show(State(api): State<Api>, who: Who, Asked(said): Asked<Said>) -> Result<Response, Problem> {
    let filter = RunFilter { limit: Some(NEWEST), ..RunFilter::default() };
    let fleets = async { api.engine.fleets().await.map_err(Problem::from) };
    let (fleets, runs) = tokio::try_join!(fleets, runs::lines(&api, &filter))?;
    let base = Base::new("Fleets", who).said(said.said.as_deref());
    let page_ = Front { base, fleets, runs, now: Timestamp::now() };
    page(StatusCode::OK, &page_)
}
