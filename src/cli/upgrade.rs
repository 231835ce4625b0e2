//! `windlass upgrade`, and the server's side of it.
//!
//! The balancer is handed over first: its listening sockets go to a process of this program, and no
//! connection is lost. Then a running `windlass serve` is told by a signal: it pauses as for SIGTERM, and
//! becomes the program that is named in the data directory, with its own arguments, environment and
//! process number; so whoever supervises it sees one process all the time. Neither a path nor an order
//! travels over the API: only this user writes into the directory and signals the process.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal as Kill, kill_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::reach::Where;
use super::{Error, Exit};
use crate::app;
use crate::balancer::{Build, Renewed};
use crate::http;
use crate::ipc;
use crate::store::hold::{Hold, Holder};

/// What `windlass serve` says it is to whoever asks who holds a directory.
pub const SERVE: &str = "windlass serve";

/// Names the program that a server is to become.
const FILE: &str = "upgrade";

/// A server pauses within a second or two; this is for a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at whether the server is back. A person waits.
const BEAT: Duration = Duration::from_millis(20);

/// Put this program in the place of the processes that run: the balancer and the server
///
/// No request is lost. The server pauses, as for SIGTERM, and goes on as this program with the arguments
/// it was started with. Steps and services run on. Starting a newer `windlass serve` after the older one
/// has ended does the same.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let (_, balancer) = app::clouds(&data)?;
    let mut out = anstream::stdout();
    match balancer.renew().await.map_err(Error::world)? {
        Renewed::Nothing => writeln!(out, "no balancer runs in {}", data.display())?,
        Renewed::Kept(pid) => writeln!(out, "the balancer, process {pid}, is not older than this program")?,
        Renewed::Replaced(pid) => writeln!(out, "the balancer is process {pid} of this program now")?,
    }
    let holder = Hold::holder(&data).map_err(Error::world)?;
    let Some(holder) = holder else {
        writeln!(out, "nobody serves {}: windlass serve starts this program", data.display())?;
        return Ok(Exit::Good);
    };
    if holder.what != SERVE {
        writeln!(out, "{holder} goes on with its own program, until its run has ended")?;
        return Ok(Exit::Good);
    }
    let own = Build::own();
    match build(&holder) {
        Some(theirs) if !own.replaces(&theirs) => {
            writeln!(out, "the server, process {}, is not older than this program", holder.pid)?;
        }
        _ => {
            replace(&data, &holder, &own).await?;
            writeln!(out, "the server, process {}, is this program now", holder.pid)?;
        }
    }
    Ok(Exit::Good)
}

fn build(holder: &Holder) -> Option<Build> {
    Build::of(&PathBuf::from(format!("/proc/{}/exe", holder.pid)))
}

/// Has the server become this program, and waits until it serves again.
async fn replace(data: &Path, holder: &Holder, own: &Build) -> Result<(), Error> {
    let program = std::env::current_exe()?;
    let mut file = tempfile::NamedTempFile::with_prefix_in(".upgrade", data)?;
    file.write_all(program.as_os_str().as_encoded_bytes())?;
    file.persist(data.join(FILE)).map_err(|error| error.error)?;
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::world(format!("{holder} has no process here")))?;
    kill_process(pid, Kill::USR2).map_err(|error| {
        Error::world(format!("{holder} cannot be told to go on as this program: {error}"))
    })?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let now = Hold::holder(data).map_err(Error::world)?;
        let back = now.is_some_and(|now| now.since != holder.since && build(&now).as_ref() == Some(own));
        if back && ipc::connect(data, http::SOCKET).await.is_ok() {
            return Ok(());
        }
        if build(holder).is_none() {
            return Err(Error::world(format!("the server, process {}, has ended", holder.pid))
                .hint("windlass serve starts it again; nothing is lost meanwhile"));
        }
        tokio::time::sleep(BEAT).await;
    }
    Err(Error::world(format!("{holder} did not become this program within {} s", PATIENCE.as_secs()))
        .hint("windlass status tells whether it serves"))
}

/// The server's side: tells when another program is to take its place.
pub struct Successor {
    asked: Signal,
    file: PathBuf,
}

impl Successor {
    pub fn new(data: &Path) -> io::Result<Self> {
        Ok(Self { asked: signal(SignalKind::user_defined2())?, file: data.join(FILE) })
    }

    /// Waits until one is named, and answers its path.
    pub async fn named(&mut self) -> PathBuf {
        use std::os::unix::ffi::OsStringExt as _;
        loop {
            self.asked.recv().await;
            match std::fs::read(&self.file) {
                Ok(path) if !path.is_empty() => {
                    let _ = std::fs::remove_file(&self.file);
                    return PathBuf::from(std::ffi::OsString::from_vec(path));
                }
                _ => tracing::warn!("asked to go on as another program, and none is named"),
            }
        }
    }
}

/// Becomes `program`, with the arguments this process was started with. Returns only when that fails.
pub fn become_program(program: &Path) -> Error {
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
    Error::world(format!("the server paused and cannot go on as {}: {error}", program.display()))
        .hint("windlass serve starts it again; nothing is lost meanwhile")
}
