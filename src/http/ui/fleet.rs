//! A fleet: what it runs, how its instances are, and what keeps runs out.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;

use super::form::Who;
use super::run::Said;
use super::{Base, Typed, page, text};
use crate::engine::{self, fleets::FleetView};
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
    path: String,
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
    match (found(&api, &id).await?, said.said) {
        (Some(fleet), said) => {
            let base = Base::new(id.to_string(), who).said(said.as_deref());
            show_fleet(&api, StatusCode::OK, base, &id, fleet).await
        }
        // Of a fleet that never was, a lock was all there was.
        (None, Some(said)) if said == "unlocked" => Ok(Redirect::to("/?said=unlocked").into_response()),
        (None, _) => Err(Problem::not_found(format!("there is no fleet {id}"))),
    }
}

/// The address of a fleet's page.
pub fn path(fleet: &FleetId) -> String {
    format!("/fleets/{}/{}", fleet.environment, fleet.service)
}

/// The page of a fleet with what was refused above it; of a fleet that is not there, the refusal alone.
pub async fn refused(
    api: &Api,
    who: Who,
    id: &FleetId,
    problem: Problem,
    typed: Typed,
) -> Result<Response, Problem> {
    let Ok(Some(fleet)) = found(api, id).await else { return Err(problem) };
    let (status, base) = Base::refusal(id.to_string(), who, problem, typed);
    show_fleet(api, status, base, id, fleet).await
}

async fn found(api: &Api, id: &FleetId) -> Result<Option<FleetView>, Problem> {
    let mut fleets = api.engine.fleets().await?.into_iter();
    Ok(fleets.find(|fleet| fleet.fleet == id.to_string()))
}

async fn show_fleet(
    api: &Api,
    status: StatusCode,
    base: Base,
    id: &FleetId,
    fleet: FleetView,
) -> Result<Response, Problem> {
    let state = load_fleet(api.engine.store().as_ref(), id).await.map_err(engine::Error::from)?;
    page(status, &FleetPage { base, fleet, path: path(id), state, now: Timestamp::now() })
}
