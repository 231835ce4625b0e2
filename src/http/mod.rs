//! The API of whoever holds a data directory, on the unix socket `DATA/windlass.sock`, and its client.
//!
//! Always true: the socket is this user's only (mode 0600); every error is a [`Problem`] (RFC 9457);
//! a body has at most [`BODY_LIMIT`] bytes; every stream ends when the run does or the holder leaves.
//!
//! Deliberately absent: TCP, TLS and credentials. They come together with `serve`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::engine::fleets::FleetView;
use crate::ids::{CommitSha, RunId};
use crate::run::event::Origin;
use crate::run::view::RunView;

pub mod client;

mod changes;
mod extract;
mod fleets;
mod logs;
mod look;
mod problem;
mod runs;
#[cfg(test)]
mod tests;
mod ticks;
mod ui;

pub use changes::changes;
pub use client::Client;
pub use look::{interrupted, measure};
pub use problem::Problem;

/// The socket's name in the data directory.
pub const SOCKET: &str = "windlass.sock";

/// Most bytes of a request's body: a pipeline file of 1 MiB, escaped as JSON.
pub const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// What asks for a new run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submission {
    pub origin: Origin,
    /// The same key never creates a second run, so asking again is safe.
    #[serde(default)]
    pub trigger_key: Option<String>,
}

/// Runs, newest first: the public document of `windlass runs --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunList {
    pub runs: Vec<RunLine>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLine {
    pub run: RunId,
    pub status: String,
    pub commit: Option<CommitSha>,
    pub waiting_for: Option<String>,
    pub created_at: Timestamp,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acted {
    /// The run right afterwards.
    pub run: RunView,
    /// Whether anybody drives the run, so that the act takes effect.
    pub driven: bool,
}

/// Fleets by name: the public document of `windlass status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetList {
    pub fleets: Vec<FleetView>,
}

/// A fleet was taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetDown {
    /// What happened meanwhile, a line each.
    pub said: Vec<String>,
}

/// Who holds the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    pub pid: u32,
    /// The command, as a person would type it.
    pub command: String,
    pub version: String,
}

/// What every handler has at hand.
#[derive(Clone)]
struct Api {
    engine: Engine,
    data: Arc<Path>,
    shutdown: CancellationToken,
}

/// Serves the API until `shutdown`; then ends what streams and removes the socket. To be called by
/// whoever holds `data`, with a listener at its [`SOCKET`].
pub async fn serve(
    listener: UnixListener,
    engine: Engine,
    data: PathBuf,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let socket = data.join(SOCKET);
    let api = Api { engine, data: data.into(), shutdown: shutdown.clone() };
    let served = axum::serve(listener, router(api)).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    // Still ours: the data directory is held until this has returned.
    let removed = std::fs::remove_file(socket);
    served.and(removed)
}

/// Serves the same over TCP until `shutdown`.
pub async fn serve_tcp(
    listener: TcpListener,
    engine: Engine,
    data: PathBuf,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let api = Api { engine, data: data.into(), shutdown: shutdown.clone() };
    axum::serve(listener, router(api)).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(api: Api) -> Router {
    let run = Router::new()
        .route("/", get(runs::show))
        .route("/changes", get(runs::stream))
        .route("/acts", post(runs::act))
        .route("/resume", post(runs::resume))
        .route("/logs", get(logs::stream));
    Router::new()
        .route("/api/v1/holder", get(runs::holder))
        .route("/api/v1/runs", get(runs::list).post(runs::submit))
        .route("/api/v1/changes", get(ticks::stream))
        .route("/api/v1/fleets", get(fleets::list))
        .route("/api/v1/fleets/{environment}/{service}/down", post(fleets::down))
        .nest("/api/v1/runs/{pipeline}/{number}", run)
        .merge(ui::router())
        .fallback(ui::missing)
        .method_not_allowed_fallback(async || Problem::method())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(api)
}
