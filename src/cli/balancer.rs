//! `windlass balancer`: the load balancer's own process, and its replacement by a newer program.

use std::io::Write;
use std::path::PathBuf;

use crate::balancer::{self, Client, FirstWord, Options, Start};

/// Serve the load balancer of a data directory.
///
/// Windlass starts this process itself, and ends it when no fleet is left. With --replace, this
/// program takes the place of the running process: the new one takes the listening sockets over, and
/// the old one finishes what it has open. No connection is lost.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory.
    #[arg(long, env = "WINDLASS_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Replace the running balancer by this program, and return when the new one serves.
    #[arg(long)]
    replace: bool,
    /// Take over from the running process, in this process.
    #[arg(long, hide = true, conflicts_with = "replace")]
    take_over: bool,
}

/// Runs it, on a runtime of its own.
pub fn run(args: Args) -> anyhow::Result<()> {
    if !args.replace {
        // A session of its own, so that no terminal ends it. It fails when a shell started it as a
        // job; then it is the shell's.
        let _ = rustix::process::setsid();
    }
    // Requests have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match args.replace {
            true => replace(args).await,
            false => serve(args).await,
        }
    });
    // Nothing that may still run is worth waiting for.
    runtime.shutdown_background();
    outcome
}

async fn replace(args: Args) -> anyhow::Result<()> {
    let client = Client::new(args.data, std::env::current_exe()?);
    let pid = client.replace().await?;
    anstream::println!(
        "process {pid} of this program now serves the balancer of {}",
        client.data().display()
    );
    Ok(())
}

async fn serve(args: Args) -> anyhow::Result<()> {
    // The standard error is the log, or a terminal.
    let filter = tracing_subscriber::EnvFilter::try_from_env("WINDLASS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,hyper=error"));
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(filter)
        .try_init();
    let start = if args.take_over { Start::TakeOver } else { Start::Fresh };
    let ready = || say(&FirstWord::Ready { pid: std::process::id() });
    match balancer::run(Options { data: args.data, start }, ready).await {
        Ok(()) => Ok(()),
        Err(error) => {
            say(&FirstWord::Failed { message: error.to_string() });
            Err(error.into())
        }
    }
}

/// Tells whoever started the process; nobody may be listening.
fn say(word: &FirstWord) {
    if let Ok(line) = serde_json::to_string(word) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}
