//! `windlass guard`: the parent of `windlass runner`. Started by the program itself, never by a person.

use std::path::PathBuf;

use super::{Error, Exit};
use crate::runner;

/// Start the runner of a data directory, and end what it leaves when it dies
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Guards a runner until that has ended. To be called on the main thread, outside of any async runtime.
pub fn run(args: &Args) -> Result<Exit, Error> {
    super::runner::close_inherited()?;
    // Fails only for the leader of a group, which is where a person starts it in a shell.
    let _ = rustix::process::setsid();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let status = runner::guard(&std::env::current_exe()?, &args.data)?;
    Ok(if status.success() { Exit::Good } else { Exit::World })
}
