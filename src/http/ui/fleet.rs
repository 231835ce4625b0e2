//! A fleet: what it runs, how its instances are, and who may enter.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::form::Who;
use super::run::Said;
use super::{Base, Notice, page, text};
use crate::engine::{self, fleets::FleetView};
use crate::http::extract::Asked;
use crate::http::{Api, Problem};
use crate::ids::{FleetId, ImageId};
use crate::journal::{load_environment, load_fleet};
use crate::run::environment::Lock;
use crate::run::fleet::{FleetState, Quarantine};

#[derive(Template)]
#[template(path = "fleet.html")]
struct FleetPage {
    base: Base,
    fleet: FleetView,
    path: String,
    holds: Holds,
    state: FleetState,
    now: Timestamp,
}

/// What keeps runs out of a fleet, and what it goes back to.
pub struct Holds {
    pub lock: Option<Lock>,
    pub environment_lock: Option<Lock>,
    /// Images that the service must not use, in whatever fleet of it that was said.
    pub quarantined: BTreeMap<ImageId, Quarantine>,
    /// The name of the image that a rollback goes back to.
    pub previous: Option<String>,
}

impl Holds {
    pub async fn of(api: &Api, id: &FleetId) -> Result<Self, Problem> {
        let store = api.engine.store().as_ref();
        let rows = store.fleets().await.map_err(engine::Error::from)?;
        let mut quarantined = BTreeMap::new();
        for row in rows.into_iter().filter(|row| row.fleet.service == id.service) {
            let state = load_fleet(store, &row.fleet).await.map_err(engine::Error::from)?;
            quarantined.extend(state.quarantined);
        }
        let state = load_fleet(store, id).await.map_err(engine::Error::from)?;
        let around = load_environment(store, &id.environment).await.map_err(engine::Error::from)?;
        let previous = state.previous(|image| quarantined.contains_key(image));
        let previous = previous.map(|previous| previous.image.name.clone());
        Ok(Self { lock: state.lock, environment_lock: around.lock, quarantined, previous })
    }
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

/// The address of a fleet's page.
pub fn path(fleet: &FleetId) -> String {
    format!("/fleets/{}/{}", fleet.environment, fleet.service)
}

/// The page of a fleet with what was refused above it.
pub async fn refused(
    api: &Api,
    who: Who,
    id: &FleetId,
    problem: Problem,
    (form, typed): (&'static str, String),
) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let notice = Some(Notice::Refused { problem, form, typed });
    show_fleet(api, status, Base { title: id.to_string(), who, notice }, id).await
}

async fn show_fleet(api: &Api, status: StatusCode, base: Base, id: &FleetId) -> Result<Response, Problem> {
    let fleets = api.engine.fleets().await?;
    let found = fleets.into_iter().find(|fleet| fleet.fleet == id.to_string());
    let fleet = found.ok_or_else(|| Problem::not_found(format!("there is no fleet {id}")))?;
    let state = load_fleet(api.engine.store().as_ref(), id).await.map_err(engine::Error::from)?;
    let path = path(id);
    let holds = Holds::of(api, id).await?;
    page(status, &FleetPage { base, fleet, path, holds, state, now: Timestamp::now() })
}
