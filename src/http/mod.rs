//! The API of whoever holds a data directory, on the unix socket `DATA/windlass.sock` and, of
//! `windlass serve`, over TCP; and its client.
//!
//! Always true: the socket is this user's only (mode 0600), and over TCP every request passes the
//! [`guard`]; every error is a [`Problem`] (RFC 9457); a body has at most [`BODY_LIMIT`] bytes; every
//! stream ends when the run does or the holder leaves; what is routed under `/api/v1` is described in
//! `/api/v1/openapi.json`.
//!
//! Deliberately absent: TLS, which a proxy in front does better, and requests from other origins.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::engine::fleets::FleetView;
use crate::ids::{CommitSha, RunId};
use crate::intake::Intake;
use crate::run::event::Origin;
use crate::run::view::RunView;

pub mod client;

mod access;
mod acts;
mod changes;
mod deliveries;
mod extract;
mod fleets;
mod frame;
mod gc;
mod guard;
mod health;
mod logs;
mod look;
mod openapi;
mod peer;
mod pipelines;
mod problem;
mod routes;
mod runs;
#[cfg(test)]
mod tests;
mod ticks;
pub mod ui;
mod upload;
mod webhooks;

pub use access::{Access, AccessError};
pub use changes::changes;
pub use client::Client;
pub use health::Readiness;
pub use look::{interrupted, measure};
pub use problem::Problem;
pub use webhooks::Accepted;

/// The socket's name in the data directory.
pub const SOCKET: &str = "windlass.sock";

/// Most bytes of a request's body: a pipeline file of 1 MiB, escaped as JSON.
pub const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// What asks for a new run.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Submission {
    pub origin: Origin,
    /// The same key never creates a second run, so asking again is safe.
    #[serde(default)]
    pub trigger_key: Option<String>,
}

/// Runs, newest first: the public document of `windlass runs --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunList {
    pub runs: Vec<RunLine>,
}

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunLine {
    pub run: RunId,
    pub status: String,
    pub commit: Option<CommitSha>,
    pub waiting_for: Option<String>,
    pub created_at: Timestamp,
}

/// What came of an act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acted {
    /// The run right afterwards.
    pub run: RunView,
    /// Whether anybody drives the run, so that the act takes effect.
    pub driven: bool,
}

/// Fleets by name: the public document of `windlass status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetList {
    pub fleets: Vec<FleetView>,
}

/// A fleet was taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetDown {
    /// What happened meanwhile, a line each.
    pub said: Vec<String>,
}

/// What somebody locked or unlocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Locked {
    /// `ENV` or `ENV/SERVICE`.
    pub target: String,
    pub locked: bool,
}

/// An image that may be used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Lifted {
    /// As it was asked for.
    pub image: String,
    /// In whose journals its quarantine stood.
    pub fleets: Vec<String>,
}

/// Who holds the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HolderView {
    pub pid: u32,
    /// The command, as a person would type it.
    pub command: String,
    pub version: String,
    /// Where it serves TCP: `http://127.0.0.1:7430`.
    #[serde(default)]
    pub url: Option<String>,
    /// Whom the credential belongs to that this was asked with.
    #[serde(default)]
    pub you: Option<String>,
}

/// What every handler has at hand. One thing for all of them: each layer of the router copies it for each
/// request.
#[derive(Clone)]
struct Api(Arc<Parts>);

impl std::ops::Deref for Api {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[derive(Clone)]
struct Parts {
    engine: Engine,
    data: Arc<Path>,
    shutdown: CancellationToken,
    /// Where TCP is listened at.
    address: Option<SocketAddr>,
    readiness: Readiness,
    /// `None` of a holder that takes nothing in.
    intake: Option<Intake>,
}

impl Api {
    fn intake(&self) -> Result<&Intake, Problem> {
        self.intake.as_ref().ok_or_else(|| {
            Problem::not_set_up("this process takes nothing in: it drives one run")
                .hint("a server does: windlass serve --pipelines DIR")
        })
    }
}

/// What is served, on every socket the same.
pub struct Server {
    parts: Parts,
}

impl Server {
    /// Serves what `engine` does with `data` until `shutdown`.
    pub fn new(engine: Engine, data: PathBuf, shutdown: CancellationToken) -> Self {
        let readiness = Readiness::default();
        let data = data.into();
        Self { parts: Parts { engine, data, shutdown, address: None, readiness, intake: None } }
    }

    /// Says where TCP is listened at, for whoever asks on the socket.
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.parts.address = Some(address);
        self
    }

    /// Takes webhooks, and starts runs of pipelines by their names.
    pub fn with_intake(mut self, intake: Intake) -> Self {
        self.parts.intake = Some(intake);
        self
    }

    /// What has to be done before the server is ready.
    pub fn readiness(&self) -> &Readiness {
        &self.parts.readiness
    }

    /// Serves the data directory's socket until the shutdown; then ends what streams and removes the
    /// socket. To be called by whoever holds the directory, with a listener at its [`SOCKET`].
    pub async fn serve_socket(&self, listener: UnixListener) -> std::io::Result<()> {
        let router = routes::router(self.api(), None);
        frame::serve(listener, router, frame::Limits::default(), self.parts.shutdown.clone()).await;
        // Still ours: the data directory is held until this has returned.
        std::fs::remove_file(self.parts.data.join(SOCKET))
    }

    /// Serves TCP until the shutdown, to whoever passes the [`guard`].
    pub async fn serve_tcp(&self, listener: TcpListener, access: Access) -> std::io::Result<()> {
        let guard = guard::Guard { address: listener.local_addr()?, access };
        let router = routes::router(self.api(), Some(guard));
        frame::serve(listener, router, frame::Limits::default(), self.parts.shutdown.clone()).await;
        Ok(())
    }

    fn api(&self) -> Api {
        Api(Arc::new(self.parts.clone()))
    }
}

/// Serves the socket alone; see [`Server`].
pub async fn serve(
    listener: UnixListener,
    engine: Engine,
    data: PathBuf,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    Server::new(engine, data, shutdown).serve_socket(listener).await
}
