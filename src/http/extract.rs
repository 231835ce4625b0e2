//! Takes requests apart; what does not fit is a [`Problem`].

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, Required};

use super::{BODY_LIMIT, Problem};
use crate::ids::{PipelineName, RunId};

/// A body of JSON.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(refused)?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| Problem::request(format!("the body is not what this path takes: {error}")))
    }
}

fn refused(rejection: BytesRejection) -> Problem {
    let text = rejection.body_text();
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("a body has at most {BODY_LIMIT} bytes here"))
        }
        _ => Problem::request(text),
    }
}

/// What stands behind the question mark.
pub(super) struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::request(rejection.body_text())),
        }
    }
}

/// What stands in the path.
pub(super) struct Segments<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(segments) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| Problem::not_found(rejection.body_text()))?;
        Ok(Self(segments))
    }
}

/// The part of a path that names a run.
#[derive(serde::Deserialize)]
struct Named {
    pipeline: String,
    number: String,
}

/// The run that the path names.
pub(super) struct Run(pub RunId);

impl utoipa::IntoParams for Run {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new()
            .schema_type(SchemaType::new(Type::Integer))
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(1));
        [("pipeline", PipelineName::schema()), ("number", number.into())]
            .map(|(name, schema)| {
                let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path);
                parameter.required(Required::True).schema(Some(schema)).build()
            })
            .into()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Run {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Segments(Named { pipeline, number }) =
            Segments::<Named>::from_request_parts(parts, state).await?;
        format!("{pipeline}/{number}").parse().map(Self).map_err(Problem::not_found)
    }
}
