//! What came in: listed, shown, handled again.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::extract::{Asked, Segments};
use super::problem::Problems;
use super::{Api, Problem};
use crate::intake::{AgainError, DeliveryList, DeliveryView};
use crate::store::{DeliveryFilter, DeliveryStatus, Error};

/// `?status=…&limit=…`
#[derive(Debug, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only deliveries that are as far as this.
    pub status: Option<DeliveryStatus>,
    /// At most so many; 100 where it is left out, 10,000 at most.
    #[param(maximum = 10_000)]
    pub limit: Option<u32>,
}

/// Most deliveries of one answer.
const LIMIT: u32 = 10_000;

/// What came in, newest first
#[utoipa::path(get, path = "/api/v1/deliveries", operation_id = "deliveries", params(Filter),
    responses((status = 200, description = "Deliveries", body = DeliveryList), Problems))]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(filter): Asked<Filter>,
) -> Result<Json<DeliveryList>, Problem> {
    if filter.limit.is_some_and(|limit| limit > LIMIT) {
        return Err(Problem::request(format!("limit is at most {LIMIT}")));
    }
    let filter = DeliveryFilter { status: filter.status, limit: filter.limit };
    Ok(Json(DeliveryList::of(api.engine.store().as_ref(), &filter).await?))
}

/// A delivery
#[utoipa::path(get, path = "/api/v1/deliveries/{id}", operation_id = "delivery",
    params(("id" = String, Path)),
    responses((status = 200, description = "The delivery", body = DeliveryView), Problems))]
pub(super) async fn show(
    State(api): State<Api>,
    Segments(id): Segments<String>,
) -> Result<Json<DeliveryView>, Problem> {
    let found = api.engine.store().delivery(&id).await?;
    Ok(Json(found.ok_or(Error::NoDelivery(id))?.into()))
}

/// Handles a delivery again
///
/// A run that it started already is answered again, and not started twice.
#[utoipa::path(post, path = "/api/v1/deliveries/{id}/again", operation_id = "again",
    params(("id" = String, Path)),
    responses((status = 200, description = "What came of it", body = DeliveryView), Problems))]
pub(super) async fn again(
    State(api): State<Api>,
    Segments(id): Segments<String>,
) -> Result<Json<DeliveryView>, Problem> {
    Ok(Json(api.intake()?.again(&id).await?.into()))
}

impl From<AgainError> for Problem {
    fn from(error: AgainError) -> Self {
        match error {
            AgainError::Unknown(_) => Self::not_found(error),
            AgainError::Dropped(_) => Self::refused(error),
            AgainError::Store(error) => error.into(),
        }
    }
}
