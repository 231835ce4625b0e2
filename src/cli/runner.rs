//! `windlass runner`: the process that runs steps. Started by the program itself, never by a person.

use std::path::PathBuf;
use std::time::Duration;

use crate::runner::{self, Options};

/// How long a runner that nobody needs stays: a client that comes back soon, as one command does
/// after another, finds it there.
const IDLE: Duration = Duration::from_secs(2);

/// Run the steps of a data directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Is the runner of a data directory until nobody needs it. To be called on the main thread,
/// outside of any async runtime.
pub fn run(args: &Args) -> anyhow::Result<()> {
    // Fails only for the leader of a group, which is where a person starts it in a shell.
    let _ = rustix::process::setsid();
    // Standard error is DATA/runner.log; standard output tells who started it that it is ready.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let ready = || {
        use std::io::Write as _;
        // Whoever started it may be gone.
        let _ = writeln!(std::io::stdout(), "ready");
    };
    Ok(runner::serve(&args.data, Options { idle: IDLE, ready })?)
}
