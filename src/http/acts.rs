//! What people do to fleets, environments and images, besides taking a fleet down.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::extract::Body;
use super::look::look;
use super::{Api, Lifted, Locked, Problem};
use crate::engine::Target;
use crate::ids::{FleetId, PipelineName};
use crate::run::event::Actor;
use crate::run::view::RunView;

/// Who does it, and why.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    pub actor: String,
    #[serde(default)]
    pub reason: String,
}

impl Order {
    fn actor(&self) -> Result<Actor, Problem> {
        Actor::named(&self.actor).map_err(Problem::request)
    }
}

fn fleet(environment: &str, service: &str) -> Result<FleetId, Problem> {
    let service = service.parse().map_err(Problem::not_found)?;
    Ok(FleetId::new(service, environment.parse().map_err(Problem::not_found)?))
}

async fn lock(api: &Api, target: Target, order: Order) -> Result<Json<Locked>, Problem> {
    api.engine.lock(&target, &order.actor()?, &order.reason).await?;
    Ok(Json(Locked { target: target.to_string(), locked: true }))
}

async fn unlock(api: &Api, target: Target, order: Order) -> Result<Json<Locked>, Problem> {
    api.engine.unlock(&target, &order.actor()?).await?;
    Ok(Json(Locked { target: target.to_string(), locked: false }))
}

pub(super) async fn lock_fleet(
    State(api): State<Api>,
    Path((environment, service)): Path<(String, String)>,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    lock(&api, Target::Fleet(fleet(&environment, &service)?), order).await
}

pub(super) async fn unlock_fleet(
    State(api): State<Api>,
    Path((environment, service)): Path<(String, String)>,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    unlock(&api, Target::Fleet(fleet(&environment, &service)?), order).await
}

pub(super) async fn lock_environment(
    State(api): State<Api>,
    Path(environment): Path<String>,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    let environment = environment.parse().map_err(Problem::not_found)?;
    lock(&api, Target::Environment(environment), order).await
}

pub(super) async fn unlock_environment(
    State(api): State<Api>,
    Path(environment): Path<String>,
    Body(order): Body<Order>,
) -> Result<Json<Locked>, Problem> {
    let environment = environment.parse().map_err(Problem::not_found)?;
    unlock(&api, Target::Environment(environment), order).await
}

pub(super) async fn lift(
    State(api): State<Api>,
    Path((service, image)): Path<(String, String)>,
    Body(order): Body<Order>,
) -> Result<Json<Lifted>, Problem> {
    let service: PipelineName = service.parse().map_err(Problem::not_found)?;
    let fleets = api.engine.lift(&service, &image, &order.actor()?, &order.reason).await?;
    Ok(Json(Lifted { image, fleets: fleets.iter().map(ToString::to_string).collect() }))
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Path((environment, service)): Path<(String, String)>,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let fleet = fleet(&environment, &service)?;
    let run = api.engine.rollback(&fleet, &order.actor()?, &order.reason).await?;
    api.engine.drive(&run).await?;
    Ok((StatusCode::CREATED, Json(look(&api.engine, &api.data, &run).await?)))
}
