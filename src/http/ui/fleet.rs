//! A fleet: what it runs, how its instances are, and who may enter.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::form::Who;
use super::run::Said;
use super::{Base, page, text};
use crate::engine::fleets::FleetView;
use crate::http::extract::Asked;
use crate::http::{Api, Problem};
use crate::ids::FleetId;
use crate::journal::load_fleet;
use crate::run::fleet::FleetState;

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    base: Base,
    fleet: FleetView,
    state: FleetState,
    now: Timestamp,
}

/// The fleet that the path names, environment first.
pub fn named((environment, service): (String, String)) -> Result<FleetId, Problem> {
    let service = service.parse().map_err(Problem::not_found)?;
    Ok(FleetId::new(service, environment.parse().map_err(Problem::not_found)?))
}

pub async fn show(
    State(api): State<Api>,
    who: Who,
    Path(names): Path<(String, String)>,
    Asked(said): Asked<Said>,
) -> Result<Response, Problem> {
    let id = named(names)?;
    let base = Base::new(id.to_string(), who).said(said.said.as_deref());
    show_fleet(&api, StatusCode::OK, base, &id).await
}

async fn show_fleet(api: &Api, status: StatusCode, base: Base, id: &FleetId) -> Result<Response, Problem> {
    let fleets = api.engine.fleets().await?;
    let found = fleets.into_iter().find(|fleet| fleet.fleet == id.to_string());
    let fleet = found.ok_or_else(|| Problem::not_found(format!("there is no fleet {id}")))?;
    let state = load_fleet(api.engine.store().as_ref(), id).await.map_err(crate::engine::Error::from)?;
    page(status, &FleetPage { base, fleet, state, now: Timestamp::now() })
}
