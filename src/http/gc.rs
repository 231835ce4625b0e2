//! What nobody needs any more is listed, and ended.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::extract::Body;
use super::guard::Caller;
use super::problem::Problems;
use super::{Api, Problem};
use crate::engine::gc::{self, GcView};
use crate::ids::PipelineName;

/// What is to be ended, and who wants it.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GcOrder)]
pub(super) struct Order {
    /// May be left out by whoever has a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Nothing is ended; what would be is told.
    #[serde(default)]
    pub dry_run: bool,
    /// Only what is of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<PipelineName>,
}

/// Ends what nobody needs any more
///
/// Builders, instances, uploads, images and snapshots of runs that ended. Answers when they are gone.
#[utoipa::path(post, path = "/api/v1/gc", operation_id = "gc", request_body = Order,
    responses((status = 200, description = "What there is, and what became of it", body = GcView), Problems))]
pub(super) async fn gc(
    State(api): State<Api>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<GcView>, Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let engine = api.engine.clone();
    let order = gc::Order { dry_run: order.dry_run, service: order.service };
    // On a task of its own: a client that goes away leaves nothing half done.
    let done = tokio::spawn(async move { engine.gc(&order, &actor).await });
    Ok(Json(done.await.map_err(Problem::failed)??))
}
