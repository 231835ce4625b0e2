//! The front page: fleets at a glance, and the newest runs.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::fleet::Holds;
use super::form::Who;
use super::runs::Line;
use super::{Base, page, runs, text};
use crate::engine::fleets::FleetView;
use crate::http::{Api, Problem};
use crate::ids::FleetId;
use crate::store::RunFilter;

/// So many runs are on the front page.
const NEWEST: u32 = 10;

#[derive(Template)]
#[template(path = "front.html")]
struct Front {
    base: Base,
    fleets: Vec<(FleetView, Holds)>,
    runs: Vec<Line>,
    now: Timestamp,
}

pub async fn show(State(api): State<Api>, who: Who) -> Result<Response, Problem> {
    let filter = RunFilter { limit: Some(NEWEST), ..RunFilter::default() };
    let mut fleets = Vec::new();
    for fleet in api.engine.fleets().await? {
        let id = FleetId::new(fleet.service.clone(), fleet.environment.clone());
        fleets.push((fleet, Holds::of(&api, &id).await?));
    }
    let page_ = Front {
        base: Base::new("Fleets", who),
        fleets,
        runs: runs::lines(&api, &filter).await?,
        now: Timestamp::now(),
    };
    page(StatusCode::OK, &page_)
}
