//! Errors as the API says them: problem details, RFC 9457.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{self, RefOr};

use crate::engine;
use crate::journal;
use crate::run::command::Refusal;
use crate::run::replay;
use crate::store;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error, utoipa::ToSchema)]
#[error("{detail}")]
pub struct Problem {
    /// A name for this kind of problem, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind, for people: the same for every problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This one, for people.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, word: &str, title: &str, detail: impl ToString) -> Self {
        Self {
            kind: format!("urn:windlass:problem:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.to_string(),
            hint: None,
        }
    }

    /// Says what to do about it.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn unproved(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unproved", "Nothing proves who asks", detail)
    }

    pub(super) fn forbidden(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "That is not for whoever asks", detail)
    }

    /// RFC 9110, 15.5.20.
    pub(super) fn misdirected(detail: impl ToString) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "The request is for somebody else", detail)
    }

    pub(super) fn media(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media", "Not that kind of content", detail)
    }

    pub(super) fn late() -> Self {
        let detail = "there is no answer within the time that one may take; ask again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "late", "It takes too long", detail)
    }

    pub(super) fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail)
    }

    pub(super) fn method() -> Self {
        let detail = "this path does not take this method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "Not that method", detail)
    }

    pub(super) fn request(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request", "The request cannot be understood", detail)
    }

    pub(super) fn too_large(detail: impl ToString) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    pub(super) fn pipeline(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "pipeline", "The pipeline is not valid", detail)
    }

    pub(super) fn settings(detail: impl ToString) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "settings", "The settings are not valid", detail)
    }

    pub(super) fn refused(detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, "refused", "That is not allowed as things are", detail)
    }

    pub(super) fn not_set_up(detail: impl ToString) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-set-up", "That is not set up here", detail)
    }

    pub(super) fn failed(detail: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "The holder could not do it", detail)
    }

    /// Whether whoever asked is wrong, and not the world.
    pub fn is_request(&self) -> bool {
        (400..500).contains(&self.status)
    }
}

impl From<engine::Error> for Problem {
    fn from(error: engine::Error) -> Self {
        use engine::Error;
        match &error {
            Error::Journal(journal::Error::NoRun(_)) | Error::NoFleet(_) => Self::not_found(error),
            Error::Refused(Refusal::NoReason) => Self::request(error),
            Error::Refused(Refusal::Unknown { .. }) => Self::not_found(error),
            Error::Refused(Refusal::Replay(replay::Refusal::Invalid { .. })) => Self::pipeline(error),
            Error::Refused(Refusal::Replay(refusal)) if refusal.is_unknown() => Self::not_found(error),
            Error::Refused(Refusal::Replay(
                replay::Refusal::Twice { .. } | replay::Refusal::Value { .. },
            )) => Self::request(error),
            Error::Refused(Refusal::NotAllowed { .. }) => {
                Self::new(StatusCode::FORBIDDEN, "forbidden", "Not by you", error)
            }
            Error::Refused(Refusal::Unwritable(_)) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "unwritable",
                "The journal cannot be written",
                error,
            ),
            Error::Refused(_) | Error::Held { .. } | Error::NotNow(_) => {
                Self::new(StatusCode::CONFLICT, "refused", "That is not allowed as things are", error)
            }
            Error::Settings(_) => Self::settings(error),
            Error::Journal(journal::Error::Store(store::Error::Full { .. })) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", "The disk is full", error)
            }
            _ => Self::failed(error),
        }
    }
}

/// Every error of the API, for its description: a route adds this to its `responses`.
pub(super) struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let problem = || {
            let schema = openapi::Ref::from_schema_name("Problem");
            let content = openapi::ContentBuilder::new().schema(Some(schema)).build();
            openapi::ResponseBuilder::new().content("application/problem+json", content)
        };
        let of =
            |status: &str, what: &str| (status.to_owned(), RefOr::T(problem().description(what).build()));
        BTreeMap::from([
            of("4XX", "Whoever asks is wrong, or may not; RFC 9457"),
            of("5XX", "The server could not do it; RFC 9457"),
        ])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        // For the pages, which show it to people.
        response.extensions_mut().insert(self);
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
