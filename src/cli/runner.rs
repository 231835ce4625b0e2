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
    close_inherited()?;
    // Fails only for the leader of a group, which is where a person starts it in a shell.
    let _ = rustix::process::setsid();
    // Standard error is DATA/runner.log; standard output tells who started it that it is ready.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    abort_on_panic();
    let ready = || {
        use std::io::Write as _;
        // Whoever started it may be gone.
        let _ = writeln!(std::io::stdout(), "ready");
    };
    Ok(runner::serve(&args.data, Options { idle: IDLE, ready })?)
}

/// A runner with a defect must not go on with half of its steps watched: the next one, which clients
/// start at once, ends what it left and says so.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Closes what whoever started this left open: a runner stays longer, and its steps would get it too.
pub(super) fn close_inherited() -> std::io::Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        open.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    // The listing's own is gone by now.
    open.retain(|fd| *fd > 2 && std::fs::exists(format!("/proc/self/fdinfo/{fd}")).unwrap_or(false));
    for fd in open {
        // SAFETY: this is the first thing that the process does, so nothing here owns a descriptor
        // yet but the three standard ones.
        unsafe { rustix::io::close(fd) };
    }
    Ok(())
}
