//! Every route. What stands under `/api/v1` is described where its handler is, and enters the router
//! by that description alone, so that the two cannot differ.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::guard::{self, Guard};
use super::{
    Api, BODY_LIMIT, Problem, acts, deliveries, fleets, frame, gc, health, logs, openapi, pipelines, runs,
    ticks, ui, upload, webhooks,
};
use crate::github;

/// The API. A route is a line here, and `#[utoipa::path]` at its handler.
pub(super) fn api() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::frame()).merge(prompt()).merge(lasting()).merge(large())
}

/// What is answered at once, or within 30 seconds.
fn prompt() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(openapi::document))
        .routes(routes!(runs::holder))
        .routes(routes!(runs::list, runs::submit))
        .routes(routes!(runs::show))
        .routes(routes!(runs::act))
        .routes(routes!(runs::resume))
        .routes(routes!(fleets::list))
        .routes(routes!(acts::rollback))
        .routes(routes!(acts::lock_fleet))
        .routes(routes!(acts::unlock_fleet))
        .routes(routes!(acts::lock_environment))
        .routes(routes!(acts::unlock_environment))
        .routes(routes!(acts::lift))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(pipelines::list))
        .layer(from_fn(frame::in_time))
}

/// Streams, and what takes as long as it takes.
fn lasting() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(runs::stream))
        .routes(routes!(ticks::stream))
        .routes(routes!(logs::stream))
        .routes(routes!(fleets::down))
        .routes(routes!(gc::gc))
        .routes(routes!(deliveries::again))
        .routes(routes!(pipelines::trigger))
}

/// Webhooks, whose bodies are larger than any other.
fn large() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(webhooks::github))
        .layer(DefaultBodyLimit::max(github::BODY_LIMIT))
        .layer(from_fn(frame::in_time))
}

/// All routes. With a guard, as over TCP.
pub(super) fn router(api: Api, guard: Option<Guard>) -> Router {
    let (routes, _) = self::api().split_for_parts();
    let routes = routes
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .merge(ui::router())
        .fallback(ui::missing)
        .method_not_allowed_fallback(async || Problem::method())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(upload::in_time))
        .with_state(api);
    let routes = match guard {
        Some(guard) => routes.layer(from_fn_with_state(guard, guard::check)),
        None => routes,
    };
    routes.layer(from_fn(guard::headers)).layer(from_fn(frame::logged))
}
