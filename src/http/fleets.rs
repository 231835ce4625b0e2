//! Fleets: listed, and taken down.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::extract::{Body, Segments};
use super::guard::Caller;
use super::problem::Problems;
use super::{Api, FleetDown, FleetList, Problem};
use crate::ids::{EnvironmentName, FleetId, PipelineName};

/// Who takes the fleet down.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FleetOrder)]
pub(super) struct Order {
    /// May be left out by whoever has a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Fleets, by name
#[utoipa::path(get, path = "/api/v1/fleets", operation_id = "fleets",
    responses((status = 200, description = "The fleets", body = FleetList), Problems))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<FleetList>, Problem> {
    Ok(Json(FleetList { fleets: api.engine.fleets().await? }))
}

/// Takes a fleet down
///
/// Answers when its instances are drained and gone.
#[utoipa::path(post, path = "/api/v1/fleets/{environment}/{service}/down", operation_id = "down",
    params(("environment" = EnvironmentName, Path), ("service" = PipelineName, Path)), request_body = Order,
    responses((status = 200, description = "What happened", body = FleetDown), Problems))]
pub(super) async fn down(
    State(api): State<Api>,
    Segments((environment, service)): Segments<(String, String)>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<FleetDown>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let service: PipelineName = service.parse().map_err(Problem::not_found)?;
    let environment: EnvironmentName = environment.parse().map_err(Problem::not_found)?;
    let fleet = FleetId::new(service, environment);
    let engine = api.engine.clone();
    // On a task of its own: a client that goes away does not leave half a fleet behind.
    let done = tokio::spawn(async move {
        let mut said = Vec::new();
        engine.down(&fleet, actor, |line| said.push(line)).await.map(|()| said)
    });
    let said = done.await.map_err(Problem::failed)??;
    Ok(Json(FleetDown { said }))
}
