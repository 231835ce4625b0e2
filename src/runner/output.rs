//! What a step writes, on its way from the pipe through the redactor into its log.
//!
//! A step that writes nothing costs no thread and no file. From the first byte on a thread of its own takes the
//! output over: a disk that is slow or stuck holds up that step, by way of the full pipe, and never
//! the runner, so that it can still be cancelled. Memory is bounded: one buffer, and no more held
//! back than the longest secret.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::log::{self, Redactor};
use crate::space;

/// So much the pipe of a step that writes may hold: four times what it does unless told otherwise, so that
/// the step waits less often for who takes it in. See pipe(7), also for the limits of a user.
const BUFFER: usize = 256 * 1024;

/// The reading side of a step's output.
pub struct Output {
    log: PathBuf,
    state: State,
}

enum State {
    /// Nothing has come yet.
    Quiet {
        pipe: AsyncFd<OwnedFd>,
        mask: Vec<String>,
        limit: Option<u64>,
    },
    Pumping {
        pump: JoinHandle<io::Result<u64>>,
        stop: Arc<OwnedFd>,
    },
    /// The length of the log.
    Closed(u64),
}

/// A step's log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the disk is full: the log {} could not be written", .0.display())]
    DiskFull(PathBuf),
    #[error("the log {} could not be written: {error}", path.display())]
    Log { path: PathBuf, error: io::Error },
    /// It would be longer than that, in bytes. What came before is in it.
    #[error("the log {} has reached its limit", path.display())]
    Limit { path: PathBuf, limit: u64 },
}

/// More was written than a log may have, in bytes.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct Flooded(u64);

impl Error {
    fn new(path: &Path, error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Flooded>());
        if let Some(Flooded(limit)) = inner {
            return Self::Limit { path: path.to_owned(), limit: *limit };
        }
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            _ => Self::Log { path: path.to_owned(), error },
        }
    }
}

impl Output {
    /// Makes a pipe for what is to go into `log`; the other value is its end for the step. The log
    /// is made when something comes, and has at most `limit` bytes and a line that says so.
    pub fn open(log: PathBuf, mask: Vec<String>, limit: Option<u64>) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // Only our end: the step's must block, as programs expect.
        rustix::io::ioctl_fionbio(&read, true)?;
        let pipe = crate::wake::readable(read)?;
        Ok((Self { log, state: State::Quiet { pipe, mask, limit } }, write))
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// The log's length in bytes, once it is closed.
    pub fn length(&self) -> u64 {
        match self.state {
            State::Closed(length) => length,
            _ => 0,
        }
    }

    /// Waits until nobody can write any more and everything is in the log. May be dropped and
    /// called again.
    pub async fn closed(&mut self) -> Result<(), Error> {
        loop {
            match &mut self.state {
                State::Closed(_) => return Ok(()),
                State::Quiet { pipe, .. } => {
                    let mut first = [0; 1024];
                    let mut ready = pipe.readable().await.map_err(|error| Error::new(&self.log, error))?;
                    let Ok(read) = ready.try_io(|pipe| Ok(rustix::io::read(pipe.get_ref(), &mut first)?))
                    else {
                        continue;
                    };
                    let read = read.map(|count| first.get(..count).unwrap_or_default());
                    self.begin(read)?;
                }
                State::Pumping { pump, .. } => {
                    let ended = pump.await.map_err(io::Error::other).flatten();
                    match ended {
                        Ok(length) => self.state = State::Closed(length),
                        Err(error) => return Err(self.failed(error)),
                    }
                }
            }
        }
    }

    /// The first read came back: with the end, or with bytes, of which there will be more.
    fn begin(&mut self, read: io::Result<&[u8]>) -> Result<(), Error> {
        let first = read.map_err(|error| self.failed(error))?;
        if first.is_empty() {
            self.state = State::Closed(self.log_length());
            return Ok(());
        }
        let State::Quiet { pipe, mask, limit } = std::mem::replace(&mut self.state, State::Closed(0)) else {
            return Ok(());
        };
        self.state = pump_on_a_thread(pipe.into_inner(), first.to_vec(), self.log.clone(), mask, limit)
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Takes what is in the pipe by now and no more, whoever still holds its other end.
    pub fn stop(&mut self) {
        match &mut self.state {
            State::Quiet { .. } => self.state = State::Closed(self.log_length()),
            State::Pumping { stop, .. } => {
                // Cannot fail before it was written 2^64 times.
                let _ = rustix::io::write(&**stop, &1u64.to_ne_bytes());
            }
            State::Closed(_) => {}
        }
    }

    /// Nothing more is written after a failure; the length is what is there.
    fn failed(&mut self, error: io::Error) -> Error {
        self.state = State::Closed(self.log_length());
        Error::new(&self.log, error)
    }

    fn log_length(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }
}

fn pump_on_a_thread(
    pipe: OwnedFd,
    first: Vec<u8>,
    log: PathBuf,
    mask: Vec<String>,
    limit: Option<u64>,
) -> io::Result<State> {
    // Where the system gives no more, it stays as it is.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, BUFFER);
    let stop = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
    let stopped = Arc::clone(&stop);
    let pump = tokio::task::spawn_blocking(move || pump(&pipe, &first, &stopped, &log, mask, limit));
    Ok(State::Pumping { pump, stop })
}

/// Moves bytes until the pipe's other end is closed, or `stop` is told. Answers the log's length.
fn pump(
    pipe: &OwnedFd,
    first: &[u8],
    stop: &OwnedFd,
    log: &Path,
    mask: Vec<String>,
    limit: Option<u64>,
) -> io::Result<u64> {
    let (mut file, mut length) = log::open(log)?;
    let mut redactor = Redactor::new(mask);
    let mut buffer = vec![0; BUFFER];
    let mut out = Vec::with_capacity(BUFFER);
    let mut write = |out: &mut Vec<u8>| {
        let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(length));
        if out.len() as u64 > left {
            let fits = out.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or_default();
            file.write_all(fits)?;
            let limit = limit.unwrap_or_default();
            let most = space::size(limit);
            writeln!(file, "\n[windlass] the log ends here: it has the {most} that runner.log_limit allows")?;
            return Err(io::Error::other(Flooded(limit)));
        }
        file.write_all(out)?;
        length += out.len() as u64;
        out.clear();
        io::Result::Ok(length)
    };
    redactor.push(first, &mut out);
    write(&mut out)?;
    loop {
        let mut polled = [PollFd::new(pipe, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let [_, stop] = polled;
        let last = !stop.revents().is_empty();
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                redactor.push(buffer.get(..count).unwrap_or_default(), &mut out);
                write(&mut out)?;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        // One read takes all that a pipe holds.
        if last {
            break;
        }
    }
    redactor.finish(&mut out);
    write(&mut out)
}
