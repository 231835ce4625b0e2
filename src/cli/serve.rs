//! `windlass serve`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::follow::Signals;
use super::reach::Where;
use super::{Error, Exit, upgrade};
use crate::app::House;
use crate::config::Settings;
use crate::{http, ipc};

/// What is still being answered when somebody wants the server to end gets so long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serve this machine: take webhooks, drive every run, keep fleets alive
///
/// Goes on with every unfinished run. SIGTERM and Ctrl-C pause: nothing is cancelled, steps and services
/// run on, and the next start goes on from there.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The settings with the environments, fleets and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the pipeline files
    #[arg(long, value_name = "DIR")]
    pipelines: Option<PathBuf>,
    /// Where pages, API and webhooks are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7430")]
    listen: SocketAddr,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let settings = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let mut signals = Signals::new()?;
    let house = House::open(&data, upgrade::SERVE, &settings).await?;
    let mut successor = upgrade::Successor::new(&house.data)?;
    let shutdown = CancellationToken::new();
    let socket = ipc::listen(&house.data, http::SOCKET)?;
    let listener = TcpListener::bind(args.listen).await?;
    let address = listener.local_addr()?;
    let serving =
        tokio::spawn(http::serve(socket, house.engine.clone(), house.data.clone(), shutdown.clone()));
    let pages =
        tokio::spawn(http::serve_tcp(listener, house.engine.clone(), house.data.clone(), shutdown.clone()));
    let keeper = house.engine.keep_fleets(settings);
    house.engine.drive_all().await?;
    anstream::println!("windlass serves {} at http://{address}", house.data.display());
    let successor = tokio::select! {
        () = signals.asked() => None,
        program = successor.named() => Some(program),
    };
    shutdown.cancel();
    drop(keeper);
    let _ = tokio::time::timeout(FAREWELL, async { tokio::join!(serving, pages) }).await;
    house.close().await?;
    match successor {
        None => Ok(Exit::Good),
        Some(program) => Err(upgrade::become_program(&program)),
    }
}
