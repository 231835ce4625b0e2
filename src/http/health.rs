//! Whether the process answers, and whether it does its work: for whoever watches it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Api;
use crate::space;
use crate::store::RunFilter;

/// What must be done before the server is ready. Each thing that is begun is named here until it is
/// done.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// The server is not ready until `what` is done: `why` is a sentence without a period.
    pub fn awaits(&self, what: &'static str, why: impl Into<String>) {
        self.reasons().insert(what, why.into());
    }

    pub fn done(&self, what: &'static str) {
        self.reasons().remove(what);
    }

    fn reasons(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether the server does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, `ready` or `not ready`.
    pub status: String,
    /// Why it is not ready, or what it should not be left alone with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned(), reasons: Vec::new() })
}

pub(super) async fn readyz(State(api): State<Api>) -> (StatusCode, Json<Health>) {
    let mut reasons: Vec<String> = api.readiness.reasons().values().cloned().collect();
    let one = RunFilter { limit: Some(1), ..RunFilter::default() };
    if let Err(error) = api.engine.store().runs(&one).await {
        reasons.push(format!("the journal does not answer: {error}"));
    }
    if api.shutdown.is_cancelled() {
        reasons.push("the server is ending".to_owned());
    }
    let is_ready = reasons.is_empty();
    let mut is_full = false;
    if let Some(disk) = space::of(&api.data).ok().filter(space::Space::is_short) {
        is_full = disk.is_full();
        reasons.push(match is_full {
            true => format!("the disk is full: {disk} at {}", api.data.display()),
            false => format!(
                "the disk is nearly full: {disk} at {}; runs wait until there are {}",
                api.data.display(),
                space::size(disk.wanted())
            ),
        });
    }
    match is_ready && !is_full {
        true => (StatusCode::OK, Json(Health { status: "ready".to_owned(), reasons })),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not ready".to_owned(), reasons })),
    }
}
