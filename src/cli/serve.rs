//! `windlass serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::diagnostics::{self, Form};
use super::reach::Where;
use super::{Error, Exit};
use crate::app::House;
use crate::config::Settings;
use crate::engine::Engine;
use crate::http::{self, Access, Readiness, Server};
use crate::ipc;

/// What is still being answered when somebody wants the server to end gets so long.
const FAREWELL: Duration = Duration::from_millis(900);

/// Serve this machine: drive every run, and answer the API and its pages
///
/// Goes on with every unfinished run. SIGTERM and Ctrl-C pause: nothing is cancelled, steps and services
/// run on, and the next start goes on from there; a second one leaves at once. SIGHUP reads the settings
/// again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Every run is driven by the settings of --config, whatever file it was started with. Beyond this machine \
the server listens only when the settings have a token for somebody: people: { octocat: { token: { env: \
OCTOCAT_TOKEN } } }. Who has one asks with --server http://HOST:PORT and WINDLASS_TOKEN.")]
pub struct Args {
    /// The settings with the environments, fleets, secrets and people
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the pipeline files
    #[arg(long, value_name = "DIR")]
    pipelines: Option<PathBuf>,
    /// Where the API and its pages are served; with port 0, at a port that is free
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7430")]
    listen: SocketAddr,
    /// How the log is written, on the standard error
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: Form,
    #[command(flatten)]
    place: Where,
}

/// The log of a server says what happens to runs.
const LEVEL: &str = "warn,windlass=info";

pub async fn run(args: Args) -> Result<Exit, Error> {
    diagnostics::start(args.log, LEVEL);
    let data = args.place.data()?;
    let settings = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let access = Access::new(&settings).map_err(|error| Error::input(error).hint(CREDENTIAL))?;
    if !args.listen.ip().is_loopback() && !access.asks() {
        return Err(Error::input(format!(
            "{} can be reached from other machines, and the settings have no token for anybody, so that \
             whoever finds it could deploy",
            args.listen
        ))
        .hint(CREDENTIAL)
        .hint("or listen on this machine alone: --listen 127.0.0.1:7430"));
    }
    let mut signals = Signals::new()?;
    // Before the directory is taken: whoever cannot listen leaves it alone.
    let house = House::open(&data, "windlass serve", &settings).await?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Error::world(format!("cannot listen at {}: {error}", args.listen))
            .hint("--listen 127.0.0.1:0 takes a port that is free")
    })?;
    let address = listener.local_addr()?;
    raise_limit();
    let shutdown = CancellationToken::new();
    let server = Server::new(house.engine.clone(), house.data.clone(), shutdown.clone()).at(address);
    let ready = Readiness::clone(server.readiness());
    let server = Arc::new(server);
    if args.config.is_some() {
        house.engine.use_settings(Arc::new(settings));
    }
    ready.awaits("runs", "the unfinished runs are being taken up");
    let socket = ipc::listen(&house.data, http::SOCKET)?;
    let (on_socket, on_tcp) = (server.clone(), server.clone());
    let tcp_access = access.clone();
    let mut local = tokio::spawn(async move { on_socket.serve_socket(socket).await });
    let mut tcp = tokio::spawn(async move { on_tcp.serve_tcp(listener, tcp_access).await });
    let engine = house.engine.clone();
    let driving =
        AbortOnDropHandle::new(tokio::spawn(async move { engine.take_up(|| ready.done("runs")).await }));
    match args.log {
        Form::Text => anstream::println!("windlass serves {} at http://{address}", house.data.display()),
        Form::Json => {
            tracing::info!(url = format!("http://{address}"), data = %house.data.display(), "serving")
        }
    }
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::End => break,
                Wish::Reload => reload(args.config.as_deref(), &house.engine, &access),
            },
            // Neither ends by itself.
            ended = &mut local => return Err(Error::world(format!("the socket is not served any more: {ended:?}"))),
            ended = &mut tcp => return Err(Error::world(format!("{address} is not served any more: {ended:?}"))),
        }
    }
    tracing::info!("pausing: what runs goes on, and the next start carries it on");
    shutdown.cancel();
    drop(driving);
    let leave = async {
        let _ = tokio::time::timeout(FAREWELL, async { tokio::join!(local, tcp) }).await;
        house.close().await
    };
    tokio::select! {
        closed = leave => closed?,
        // What is recorded is durable; the rest is what a crash would leave.
        () = signals.end() => {}
    }
    Ok(Exit::Good)
}

/// How a credential is made.
const CREDENTIAL: &str = "a token is made with: openssl rand -hex 32; give it to the server as an environment \
     variable or a file, and name that in the settings: people: { octocat: { token: { env: OCTOCAT_TOKEN } } }";

/// Reads the settings again. What is broken is said, and changes nothing.
fn reload(path: Option<&std::path::Path>, engine: &Engine, access: &Access) {
    let Some(path) = path else {
        return tracing::warn!(
            "there are no settings to read again: the server was started without --config"
        );
    };
    let settings = match Settings::read(path) {
        Ok(settings) => settings,
        Err(problems) => {
            return tracing::error!("the settings stay as they were; the file cannot be used:\n{problems}");
        }
    };
    if let Err(error) = access.replace(&settings) {
        return tracing::error!(%error, "the settings stay as they were");
    }
    engine.use_settings(Arc::new(settings));
    tracing::info!(path = %path.display(), "settings read again");
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

/// The signals that a server takes.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not end this process by themselves.
    fn new() -> Result<Self, Error> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::End,
            _ = self.terminate.recv() => Wish::End,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    /// Returns when somebody wants this process to end.
    async fn end(&mut self) {
        while self.next().await != Wish::End {}
    }
}

/// What a signal asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Pause, and leave.
    End,
    /// Read the settings again.
    Reload,
}
