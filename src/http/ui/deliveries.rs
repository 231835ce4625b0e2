//! What came in, newest first: what came of it, and why.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use jiff::Timestamp;
use serde::Deserialize;

use super::form::{Posted, Who};
use super::{Base, page, text};
use crate::engine;
use crate::http::extract::Asked;
use crate::http::{Api, Problem};
use crate::intake::{DeliveryList, DeliveryView};
use crate::store::{DeliveryFilter, DeliveryStatus};

/// So many deliveries are on the page; `windlass deliveries` lists more.
const NEWEST: u32 = 100;

/// `?status=…&said=…`, as the form sends it: a choice not made is empty.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    #[serde(default)]
    status: String,
    said: Option<String>,
}

/// What is to be handled again.
#[derive(Debug, Deserialize)]
pub struct Again {
    delivery: String,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Deliveries {
    base: Base,
    deliveries: Vec<DeliveryView>,
    chosen: Option<DeliveryStatus>,
    /// Why nothing can be handled again here.
    idle: Option<Problem>,
    now: Timestamp,
}

impl Deliveries {
    fn is_chosen(&self, status: &DeliveryStatus) -> bool {
        self.chosen.as_ref() == Some(status)
    }
}

pub async fn show(
    State(api): State<Api>,
    who: Who,
    Asked(choice): Asked<Choice>,
) -> Result<Response, Problem> {
    let known = |word: &str| DeliveryStatus::ALL.into_iter().find(|status| status.as_str() == word);
    let chosen = match choice.status.as_str() {
        "" => None,
        word => Some(known(word).ok_or_else(|| Problem::request(format!("{word:?} is not a status")))?),
    };
    let base = Base::new("Deliveries", who).said(choice.said.as_deref());
    list(&api, StatusCode::OK, base, chosen).await
}

async fn list(
    api: &Api,
    status: StatusCode,
    base: Base,
    chosen: Option<DeliveryStatus>,
) -> Result<Response, Problem> {
    let filter = DeliveryFilter { status: chosen, limit: Some(NEWEST) };
    let found = DeliveryList::of(api.engine.store().as_ref(), &filter).await.map_err(engine::Error::from)?;
    let (deliveries, idle) = (found.deliveries, api.intake().err());
    page(status, &Deliveries { base, deliveries, chosen, idle, now: Timestamp::now() })
}

/// The form's own address, opened again, is the page the form stands on.
pub async fn back() -> Redirect {
    Redirect::to("/deliveries")
}

pub async fn again(State(api): State<Api>, posted: Posted<Again>) -> Result<Response, Problem> {
    let handled = match api.intake() {
        Ok(intake) => intake.again(&posted.form.delivery).await.map_err(Problem::from),
        Err(problem) => Err(problem),
    };
    match handled {
        Ok(_) => Ok(posted.back("/deliveries", "again")),
        Err(problem) => {
            let (status, base) = Base::refusal("Deliveries", posted.who(), problem, Vec::new());
            list(&api, status, base, None).await
        }
    }
}
