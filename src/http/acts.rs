//! What people do to fleets, environments and images, besides taking a fleet down.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::extract::{Body, Segments};
use super::guard::Caller;
use super::look::look;
use super::problem::Problems;
use super::{Api, Lifted, Locked, Problem};
use crate::engine::Target;
use crate::ids::{EnvironmentName, FleetId, PipelineName};
use crate::run::view::RunView;

/// Who does it, and why.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReasonedOrder)]
pub(super) struct Order {
    /// May be left out by whoever has a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default)]
    pub reason: String,
}

fn fleet((environment, service): (String, String)) -> Result<FleetId, Problem> {
    let service: PipelineName = service.parse().map_err(Problem::not_found)?;
    Ok(FleetId::new(service, environment.parse().map_err(Problem::not_found)?))
}

async fn lock(api: &Api, caller: Caller, target: Target, order: Order) -> Result<Json<Locked>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    api.engine.lock(&target, &actor, &order.reason).await?;
    Ok(Json(Locked { target: target.to_string(), locked: true }))
}

async fn unlock(api: &Api, caller: Caller, target: Target, order: Order) -> Result<Json<Locked>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    api.engine.unlock(&target, &actor).await?;
    Ok(Json(Locked { target: target.to_string(), locked: false }))
}

/// Lets no run enter a fleet
#[utoipa::path(post, path = "/api/v1/fleets/{environment}/{service}/lock", operation_id = "lock_fleet",
    params(("environment" = EnvironmentName, Path), ("service" = PipelineName, Path)), request_body = Order,
    responses((status = 200, description = "It is locked", body = Locked), Problems))]
pub(super) async fn lock_fleet(
    State(api): State<Api>,
    Segments(path): Segments<(String, String)>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    lock(&api, caller, Target::Fleet(fleet(path)?), order).await
}

/// Lets runs enter a fleet again
#[utoipa::path(post, path = "/api/v1/fleets/{environment}/{service}/unlock", operation_id = "unlock_fleet",
    params(("environment" = EnvironmentName, Path), ("service" = PipelineName, Path)), request_body = Order,
    responses((status = 200, description = "It is not locked any more", body = Locked), Problems))]
pub(super) async fn unlock_fleet(
    State(api): State<Api>,
    Segments(path): Segments<(String, String)>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    unlock(&api, caller, Target::Fleet(fleet(path)?), order).await
}

/// Lets no run enter any fleet of an environment
#[utoipa::path(post, path = "/api/v1/environments/{environment}/lock", operation_id = "lock_environment",
    params(("environment" = EnvironmentName, Path)), request_body = Order,
    responses((status = 200, description = "It is locked", body = Locked), Problems))]
pub(super) async fn lock_environment(
    State(api): State<Api>,
    Segments(environment): Segments<String>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    let environment = environment.parse().map_err(Problem::not_found)?;
    lock(&api, caller, Target::Environment(environment), order).await
}

/// Lets runs enter an environment again
#[utoipa::path(post, path = "/api/v1/environments/{environment}/unlock", operation_id = "unlock_environment",
    params(("environment" = EnvironmentName, Path)), request_body = Order,
    responses((status = 200, description = "It is not locked any more", body = Locked), Problems))]
pub(super) async fn unlock_environment(
    State(api): State<Api>,
    Segments(environment): Segments<String>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    let environment = environment.parse().map_err(Problem::not_found)?;
    unlock(&api, caller, Target::Environment(environment), order).await
}

/// Allows an image again that is in quarantine
///
/// The image is named by its id or its name.
#[utoipa::path(post, path = "/api/v1/services/{service}/images/{image}/lift", operation_id = "lift",
    params(("service" = PipelineName, Path), ("image" = String, Path)), request_body = Order,
    responses((status = 200, description = "It may be used", body = Lifted), Problems))]
pub(super) async fn lift(
    State(api): State<Api>,
    Segments((service, image)): Segments<(String, String)>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<Lifted>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let service: PipelineName = service.parse().map_err(Problem::not_found)?;
    let fleets = api.engine.lift(&service, &image, &actor, &order.reason).await?;
    Ok(Json(Lifted { image, fleets: fleets.iter().map(ToString::to_string).collect() }))
}

/// Takes a fleet back to what it ran before
#[utoipa::path(post, path = "/api/v1/fleets/{environment}/{service}/rollback", operation_id = "rollback",
    params(("environment" = EnvironmentName, Path), ("service" = PipelineName, Path)), request_body = Order,
    responses((status = 201, description = "The run that does it", body = RunView), Problems))]
pub(super) async fn rollback(
    State(api): State<Api>,
    Segments(path): Segments<(String, String)>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let run = api.engine.rollback(&fleet(path)?, &actor, &order.reason).await?;
    api.engine.drive(&run).await?;
    Ok((StatusCode::CREATED, Json(look(&api.engine, &api.data, &run).await?)))
}
