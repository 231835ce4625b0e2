//! Pipelines of the server's directory: listed, and triggered by name.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::extract::{Body, Segments};
use super::guard::Caller;
use super::look::look;
use super::problem::Problems;
use super::{Api, Problem};
use crate::ids::PipelineName;
use crate::intake::{Ask, PipelineList, TriggerError};
use crate::run::view::RunView;

/// Every pipeline file of the server
///
/// With what is wrong with each now.
#[utoipa::path(get, path = "/api/v1/pipelines", operation_id = "pipelines",
    responses((status = 200, description = "The files", body = PipelineList), Problems))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<PipelineList>, Problem> {
    let none = || PipelineList { pipelines: Vec::new(), error: None };
    Ok(Json(api.intake.as_ref().map_or_else(none, |intake| intake.pipelines())))
}

/// What a run is started with.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TriggerOrder)]
pub(super) struct Order {
    /// A branch, a tag or a commit; left out, what the source has checked out.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Params that shall not have their defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// May be left out by whoever has a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The same key never starts a second run, so asking again is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Starts a run of a pipeline
#[utoipa::path(post, path = "/api/v1/pipelines/{name}/trigger", operation_id = "trigger",
    params(("name" = PipelineName, Path)), request_body = Order,
    responses((status = 201, description = "The run", body = RunView), Problems))]
pub(super) async fn trigger(
    State(api): State<Api>,
    Segments(name): Segments<String>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let actor = caller.actor(order.actor.as_deref())?;
    let pipeline = name.parse().map_err(Problem::not_found)?;
    let Order { reference, params, key, .. } = order;
    let intake = api.intake()?.clone();
    let ask = Ask { pipeline, reference, params, actor, key };
    // On a task of its own: a client that goes away does not leave half a start behind.
    let run = tokio::spawn(async move { intake.trigger(ask).await }).await.map_err(Problem::failed)??;
    Ok((StatusCode::CREATED, Json(look(&api.engine, &api.data, &run).await?)))
}

impl From<TriggerError> for Problem {
    fn from(error: TriggerError) -> Self {
        use TriggerError as Error;
        match error {
            Error::NoPipeline { .. } => Self::not_found(error),
            Error::Params(_) | Error::NoSource(_) | Error::NotThere(_) => Self::request(error),
            Error::Address(_) => Self::pipeline(error),
            Error::Unreachable(_) => Self::failed(error),
            Error::Engine(error) => error.into(),
        }
    }
}
