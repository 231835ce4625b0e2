//! The server: a data directory with all that works on it, and whoever asks answered. `windlass serve`
//! keeps one until it is told to end, `windlass demo` as long as its story takes; there is no other way
//! to start one.
//!
//! Always true: beyond this machine it listens only where everybody has to prove who they are; it is
//! ready when every unfinished run was taken up; pausing it cancels nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Error;
use crate::app::House;
use crate::config::Settings;
use crate::engine::Keeper;
use crate::http::{self, Access, Readiness};
use crate::intake::Intake;
use crate::ipc;

/// Connections that wait to be accepted, as many as of webhooks that come at once; the kernel lowers it to
/// `net.core.somaxconn`. Tokio asks for 128, and whoever finds no place there is back a second later.
const BACKLOG: i32 = 4096;

/// What is still being answered when somebody wants the server to end gets so long.
const FAREWELL: Duration = Duration::from_millis(900);

/// How a credential is made.
const CREDENTIAL: &str = "a token is made with: openssl rand -hex 32; give it to the server as an environment \
     variable or a file, and name that in the settings: people: { octocat: { token: { env: OCTOCAT_TOKEN } } }";

/// What a server is started with.
pub struct Start<'a> {
    pub data: &'a Path,
    /// What others read about who holds the directory: `windlass serve`.
    pub what: &'a str,
    pub settings: Settings,
    /// Where it listens: at the first of these that is free.
    pub listen: &'a [SocketAddr],
    /// The directory of the pipeline files.
    pub pipelines: Option<PathBuf>,
}

/// A server that runs.
pub struct Server {
    pub house: House,
    pub intake: Intake,
    /// Where it listens.
    pub address: SocketAddr,
    access: Access,
    shutdown: CancellationToken,
    socket: JoinHandle<std::io::Result<()>>,
    tcp: JoinHandle<std::io::Result<()>>,
    keeper: Keeper,
    driving: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn start(start: Start<'_>) -> Result<Self, Error> {
        let Start { data, what, settings, listen, pipelines } = start;
        let access = Access::new(&settings).map_err(|error| Error::input(error).hint(CREDENTIAL))?;
        if let Some(open) = listen.iter().find(|address| !address.ip().is_loopback() && !access.asks()) {
            return Err(Error::input(format!(
                "{open} can be reached from other machines, and the settings have no token for anybody, so \
                 that whoever finds it could deploy"
            ))
            .hint(CREDENTIAL)
            .hint("or listen on this machine alone: --listen 127.0.0.1:7430"));
        }
        let house = House::open(data, what, &settings).await?;
        let listener = TcpListener::bind(listen).await.map_err(|error| {
            let places: Vec<String> = listen.iter().map(ToString::to_string).collect();
            Error::world(format!("cannot listen at {}: {error}", places.join(" or ")))
                .hint("--listen 127.0.0.1:0 takes a port that is free")
        })?;
        rustix::net::listen(&listener, BACKLOG).map_err(std::io::Error::from)?;
        let address = listener.local_addr()?;
        raise_limit();
        let settings = Arc::new(settings);
        // Without a file every run keeps the settings it was started with.
        if settings.path.is_some() {
            house.engine.use_settings(settings.clone());
        }
        let intake = house.intake(pipelines, settings.clone()).await.map_err(Error::input)?;
        let shutdown = CancellationToken::new();
        let server = http::Server::new(house.engine.clone(), house.data.clone(), shutdown.clone())
            .at(address)
            .with_intake(intake.clone());
        let ready = Readiness::clone(server.readiness());
        ready.awaits("runs", "the unfinished runs are being taken up");
        let socket = ipc::listen(&house.data, http::SOCKET)?;
        let server = Arc::new(server);
        let (on_socket, on_tcp, on_tcp_access) = (server.clone(), server, access.clone());
        let socket = tokio::spawn(async move { on_socket.serve_socket(socket).await });
        let tcp = tokio::spawn(async move { on_tcp.serve_tcp(listener, on_tcp_access).await });
        // Before the runs are taken up, so that their rollouts know who keeps what they leave behind.
        let keeper = house.engine.keep_fleets(settings);
        let engine = house.engine.clone();
        let driving = tokio::spawn(async move { engine.take_up(|| ready.done("runs")).await });
        let driving = AbortOnDropHandle::new(driving);
        Ok(Self { house, intake, address, access, shutdown, socket, tcp, keeper, driving })
    }

    /// Where its pages are.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns why it does not serve any more; neither of its sockets ends by itself.
    pub async fn broken(&mut self) -> Error {
        tokio::select! {
            ended = &mut self.socket => Error::world(format!("the socket is not served any more: {ended:?}")),
            ended = &mut self.tcp => {
                Error::world(format!("{} is not served any more: {ended:?}", self.address))
            }
        }
    }

    /// Reads the settings again. What is broken is said, and changes nothing.
    pub fn reload(&self, path: &Path) {
        let settings = match Settings::read(path) {
            Ok(settings) => settings,
            Err(problems) => {
                let why = "the settings stay as they were; the file cannot be used";
                return tracing::error!("{why}:\n{problems}");
            }
        };
        if let Err(error) = self.access.replace(&settings) {
            return tracing::error!(%error, "the settings stay as they were");
        }
        let settings = Arc::new(settings);
        self.house.engine.use_settings(settings.clone());
        self.intake.use_settings(settings);
        tracing::info!(path = %path.display(), "settings read again");
    }

    /// Takes nothing in any more, answers what is still being asked, and leaves the directory to whoever
    /// closes it. Runs are not cancelled, and fleets run on.
    pub async fn pause(self) -> House {
        self.shutdown.cancel();
        drop(self.driving);
        drop(self.keeper);
        self.intake.stop().await;
        let _ = tokio::time::timeout(FAREWELL, async { tokio::join!(self.socket, self.tcp) }).await;
        self.house
    }
}

/// So many connections and steps need more descriptors than the usual 1,024.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 8_192;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED, |most| most.min(WANTED));
    if limit.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    }
}
