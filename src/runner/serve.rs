//! The runner's life: from taking its place to leaving it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::inotify::WatchFlags;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::family::{self, Family};
use super::journal::{self, Abandoned, Journal, Past};
use super::mark::Mark;
use super::place::{self, Place};
use super::protocol::{Answer, Ask, Hello, NO_REQUEST, Request, Response};
use super::server::{Listener, Runner};
use super::{Exit, ExitStatus, process};
use crate::ipc;
use crate::wake::Watch;

/// Between two syncs of the records: what a loss of power may take.
const SYNC_PAUSE: Duration = Duration::from_millis(250);

/// A client that does not say hello within this time is none.
const HELLO: Duration = Duration::from_secs(10);

/// How long steps have to end by themselves when the runner is told to (SIGTERM).
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How long clients have to take their answers when the runner leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a runner behaves.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long it stays when nobody is connected, no step runs and nobody holds the data directory.
    pub idle: Duration,
    /// Called when clients can connect, to this runner or to the one that was there already.
    pub ready: fn(),
}

/// Why a runner cannot serve.
#[derive(Debug, thiserror::Error)]
#[error("the runner cannot use {}: {error}", path.display())]
pub struct ServeError {
    path: PathBuf,
    error: io::Error,
}

/// Is the runner of the data directory `directory` until it is idle, or told to end; or returns at
/// once if there is one already. First ends what a runner that died has left.
///
/// Must be called on the process's main thread, outside of any async runtime: that is the thread to
/// which the kernel gives the processes that steps leave behind.
///
/// # Errors
/// The directory, its socket or its records cannot be used.
pub fn serve(directory: &Path, options: Options) -> Result<(), ServeError> {
    let wrong = |error| ServeError { path: directory.to_owned(), error };
    let thread = std::fs::read_link("/proc/thread-self").map_err(wrong)?;
    if thread.file_name() != Some(rustix::process::getpid().to_string().as_ref()) {
        return Err(wrong(io::Error::other("a runner works on its process's main thread only")));
    }
    let data = std::path::absolute(directory).map_err(wrong)?;
    // One thread for all but what blocks; a thread that writes output needs little stack.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_stack_size(512 * 1024)
        .max_blocking_threads(4096)
        .build()
        .map_err(wrong)?;
    let served = runtime.block_on(live(&data, options));
    // A thread that hangs on a dead disk must not keep the process.
    runtime.shutdown_timeout(FAREWELL);
    served
}

async fn live(data: &Path, options: Options) -> Result<(), ServeError> {
    let wrong = |path: &Path, error| ServeError { path: path.to_owned(), error };
    let Some(place) = Place::take(data).map_err(|error| wrong(data, error))? else {
        (options.ready)();
        return Ok(());
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| wrong(data, error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| wrong(data, error))?;
    let mut child = signal(SignalKind::child()).map_err(|error| wrong(data, error))?;
    let records = place::records(data);
    let runner = recover(&records, place.own()).await.map_err(|error| wrong(&records, error))?;
    (options.ready)();

    let work = async {
        let mut place = place;
        // Set while somebody holds the data directory: tells when that may be over.
        let mut holder: Option<Watch> = None;
        loop {
            let idle = runner.is_idle();
            tokio::select! {
                came = place.accept() => {
                    holder = None;
                    welcome(&runner, came).await;
                }
                _ = terminate.recv() => runner.shut_down(SHUTDOWN_GRACE),
                _ = interrupt.recv() => runner.shut_down(SHUTDOWN_GRACE),
                _ = child.recv() => runner.reap(),
                () = runner.changed.notified() => {}
                () = closed(holder.as_ref()), if idle && holder.is_some() => holder = None,
                () = tokio::time::sleep(options.idle), if idle && holder.is_none() => {
                    holder = Watch::new(&place::holder(data), WatchFlags::CLOSE).ok();
                    if !place::is_held(data) {
                        match place.leave() {
                            Ok(()) => return,
                            Err(kept) => {
                                let came;
                                (place, came) = *kept;
                                welcome(&runner, Ok(came)).await;
                            }
                        }
                        holder = None;
                    }
                }
            }
            if runner.has_drained() {
                runner.closing.cancel();
                let _ = tokio::time::timeout(FAREWELL, async {
                    while runner.has_clients() {
                        runner.changed.notified().await;
                    }
                })
                .await;
                // Whoever comes in now finds the door closed, and starts the next runner.
                let _ = place.leave();
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = runner.sync(SYNC_PAUSE) => {}
    }
    runner.sync_now().map_err(|error| wrong(&records, error))
}

/// Waits until somebody closed what is watched.
async fn closed(watch: Option<&Watch>) {
    match watch {
        Some(watch) => drop(watch.changed().await),
        None => std::future::pending().await,
    }
}

async fn welcome(runner: &Arc<Runner>, came: io::Result<UnixStream>) {
    match came {
        Ok(stream) => {
            let runner = Arc::clone(runner);
            // Counted here and not when the task first runs, or the runner could leave before.
            let present = runner.enter();
            tokio::spawn(async move {
                if let Err(error) = converse(&runner, stream).await {
                    tracing::debug!(%error, "a client went away");
                }
                drop(present);
            });
        }
        Err(error) => {
            // Too many open files: some will be closed, and there is nothing to wait for.
            tracing::error!(%error, "a client could not be let in");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Talks with one client until it hangs up.
async fn converse(runner: &Arc<Runner>, stream: UnixStream) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let (mut reader, mut writer) = (ipc::Reader::new(read), ipc::Writer::new(write));
    let hello = tokio::time::timeout(HELLO, reader.next::<Hello>()).await.map_err(io::Error::from)?;
    let theirs = match hello {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(&mut writer, &error).await;
        }
        hello => hello?,
    };
    writer.send(&Hello::OURS).await?;
    match theirs {
        None => return Ok(()),
        Some(theirs) if theirs.windlass_runner != Hello::OURS.windlass_runner => {
            tracing::info!(?theirs, ours = ?Hello::OURS, "another version came: leaving when all steps have ended");
            runner.drain();
            runner.closing.cancelled().await;
            return Ok(());
        }
        Some(_) => {}
    }
    let (answers, mut answered) = mpsc::unbounded_channel();
    loop {
        tokio::select! {
            asked = reader.next::<Request<'static>>() => match asked {
                Ok(Some(request)) => ask(runner, request, &answers),
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return refuse(&mut writer, &error).await,
                Err(error) => return Err(error),
            },
            Some(answer) = answered.recv() => writer.send(&answer).await?,
            () = runner.closing.cancelled() => {
                while let Ok(answer) = answered.try_recv() {
                    writer.send(&answer).await?;
                }
                return Ok(());
            }
        }
    }
}

fn ask(runner: &Arc<Runner>, request: Request<'static>, answers: &mpsc::UnboundedSender<Response>) {
    let listener = Listener { id: request.id, answers: answers.clone() };
    match request.ask {
        Ask::Start(start) => runner.start(start.into_owned(), listener),
        Ask::Wait(step) => runner.wait(&step, listener),
        Ask::Cancel { step, grace_ms } => runner.cancel(&step, Duration::from_millis(grace_ms), listener),
    }
}

async fn refuse<W>(writer: &mut ipc::Writer<W>, error: &io::Error) -> io::Result<()>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let message = format!("this is no message for a runner: {error}");
    writer.send(&Response { id: NO_REQUEST, answer: Answer::Refused(message) }).await
}

/// Reads the records, ends what the last runner left running, and says so of those steps.
async fn recover(records: &Path, own: &Path) -> io::Result<Arc<Runner>> {
    let boot = process::boot();
    let mut found = journal::read(records, &boot)?;
    for abandoned in std::mem::take(&mut found.abandoned) {
        let (step, born) = (abandoned.step.clone(), abandoned.born);
        let exit = end_abandoned(abandoned).await;
        tracing::warn!(%step, status = ?exit.status, "found a step whose runner had died");
        found.ended.insert(step, Past { born, exit });
    }
    let journal = Journal::create(records, boot, &mut found.ended)?;
    // Long scripts of steps; those of the dead need them no more.
    let scratch = own.join("scripts");
    match std::fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir(&scratch)?,
    }
    Ok(Runner::new(scratch, Family::new()?, journal, found.ended))
}

async fn end_abandoned(abandoned: Abandoned) -> Exit {
    let left = family::end_abandoned(abandoned.leader, &Mark::recorded(abandoned.mark)).await;
    let message = match left {
        Ok(()) => "the runner died while it ran; what was left of it has been ended".to_owned(),
        Err(pids) => format!("the runner died while it ran; these processes of it do not end: {pids:?}"),
    };
    Exit {
        status: ExitStatus::Lost { message },
        started_at: abandoned.started_at,
        finished_at: Timestamp::now(),
        log_bytes: std::fs::metadata(&abandoned.log).map_or(0, |log| log.len()),
    }
}
