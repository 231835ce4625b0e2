//! `windlass serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::diagnostics::{self, Form};
use super::reach::Where;
use super::server::{Server, Start};
use super::{Error, Exit, upgrade};
use crate::config::Settings;

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
    let mut signals = Signals::new()?;
    let mut successor = upgrade::Successor::new(&data)?;
    let (listen, pipelines) = ([args.listen], args.pipelines);
    let mut server =
        Server::start(Start { data: &data, what: upgrade::SERVE, settings, listen: &listen, pipelines })
            .await?;
    match args.log {
        Form::Text => {
            anstream::println!("windlass serves {} at {}", server.house.data.display(), server.url());
        }
        Form::Json => tracing::info!(url = server.url(), data = %server.house.data.display(), "serving"),
    }
    let program = loop {
        tokio::select! {
            wish = signals.next() => match (wish, args.config.as_deref()) {
                (Wish::End, _) => break None,
                (Wish::Reload, Some(path)) => server.reload(path),
                (Wish::Reload, None) => tracing::warn!(
                    "there are no settings to read again: the server was started without --config"
                ),
            },
            program = successor.named() => break Some(program),
            why = server.broken() => return Err(why),
        }
    };
    tracing::info!("pausing: what runs goes on, and the next start carries it on");
    tokio::select! {
        closed = async { server.pause().await.close().await } => closed?,
        // What is recorded is durable; the rest is what a crash would leave.
        () = signals.end() => {}
    }
    match program {
        None => Ok(Exit::Good),
        Some(program) => Err(upgrade::become_program(&program)),
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
