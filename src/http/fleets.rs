//! Fleets: listed, and taken down.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::extract::Body;
use super::{Api, FleetDown, FleetList, Problem};
use crate::ids::FleetId;
use crate::run::event::Actor;

/// Who takes the fleet down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub actor: String,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<FleetList>, Problem> {
    Ok(Json(FleetList { fleets: api.engine.fleets().await? }))
}

pub(super) async fn down(
    State(api): State<Api>,
    Path((environment, service)): Path<(String, String)>,
    Body(order): Body<Order>,
) -> Result<Json<FleetDown>, Problem> {
    let actor = Actor::named(&order.actor).map_err(Problem::request)?;
    let service = service.parse().map_err(Problem::not_found)?;
    let fleet = FleetId::new(service, environment.parse().map_err(Problem::not_found)?);
    let engine = api.engine.clone();
    // On a task of its own: a client that goes away does not leave half a fleet behind.
    let done = tokio::spawn(async move {
        let mut said = Vec::new();
        engine.down(&fleet, actor, |line| said.push(line)).await.map(|()| said)
    });
    let said = done.await.map_err(Problem::failed)??;
    Ok(Json(FleetDown { said }))
}
