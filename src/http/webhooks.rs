//! GitHub's webhooks: taken in, and answered as soon as they are stored.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::problem::Problems;
use super::{Api, Problem};
use crate::github;
use crate::intake::{Hook, Refused};
use crate::store::{self, Receipt};

/// A webhook that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Accepted {
    /// `X-GitHub-Delivery`.
    pub delivery: String,
    /// Whether it was there already: then nothing more happens.
    pub known: bool,
}

/// Takes a webhook of GitHub in
///
/// Answers as soon as it is stored; what it starts is started from there.
#[utoipa::path(post, path = "/webhooks/github", operation_id = "webhook",
    params(("x-github-event" = String, Header), ("x-github-delivery" = String, Header),
        ("x-hub-signature-256" = String, Header)),
    request_body = serde_json::Value,
    responses((status = 202, description = "It is stored", body = Accepted), Problems))]
pub(super) async fn github(
    State(api): State<Api>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let intake = api.intake()?;
    let hook = hook(request.headers());
    let body = Bytes::from_request(request, &()).await.map_err(unread)?;
    let (key, receipt) = intake.receive(Hook { body, ..hook }).await?;
    let accepted = Accepted { delivery: key.id, known: receipt == Receipt::Known };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

fn hook(headers: &HeaderMap) -> Hook<Bytes> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Hook {
        id: text("x-github-delivery"),
        event: text("x-github-event"),
        signature: headers.get("x-hub-signature-256").map(|value| value.as_bytes().to_vec()),
        content_type: text(header::CONTENT_TYPE.as_str()),
        body: Bytes::new(),
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    let text = rejection.body_text();
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("a webhook's body has at most {} bytes", github::BODY_LIMIT))
        }
        _ => Problem::request(text),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let hint = "GitHub and the settings must have the same secret; while it is changed, name both there";
        match refused {
            Refused::NoSecret => Self::not_set_up(refused).hint(
                "name the webhook's secret in the settings of windlass serve: \
                 github: { webhook_secrets: [{ env: GITHUB_WEBHOOK_SECRET }] }",
            ),
            Refused::Secret(_) => Self::not_set_up(refused).hint(hint),
            Refused::Unsigned(_) => Self::unproved(refused).hint(hint),
            Refused::Header(_) | Refused::Body(_) => Self::request(refused),
            Refused::Store(error) => error.into(),
            Refused::Broken => Self::failed(refused),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoDelivery(_) => Self::not_found(error),
            error => crate::engine::Error::from(error).into(),
        }
    }
}
