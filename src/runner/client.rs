//! The side that asks.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::place::GUARD;
use super::protocol::{Answer, Ask, Hello, NO_REQUEST, Request, Response, SOCKET};
use super::watchdog::{self, PATIENCE};
use super::{Error, Exit, Runner, StartStep};
use crate::ids::StepId;
use crate::ipc;

/// What a runner says on its standard output when clients can connect.
pub(super) const READY: &str = "ready";

/// Where a runner's own messages go, in the data directory.
const LOG: &str = "runner.log";

/// How long after the grace of a cancel the runner has to say that the step has ended. Then the step is
/// ended without it. With that it is over within [`super::LATE`].
const OVERDUE: Duration = Duration::from_millis(1700);

/// The shortest time in which it is expected to say that it is there.
const AT_LEAST: Duration = Duration::from_secs(1);

/// So many times in a row a runner may go away at once before it is given up.
const TRIES: u32 = 5;

/// A runner that stayed this long did not go away at once.
const STAYED: Duration = Duration::from_secs(5);

/// Asks the runner of one data directory; starts it when it is not there. Cheap to make and to
/// clone: connects when it is first asked, and all clones use one connection, for any number of
/// steps at once. When the connection breaks, what was asked is asked again.
///
/// It works in the tokio runtime in which it is used.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    data: PathBuf,
    program: PathBuf,
    held: tokio::sync::Mutex<Option<Held>>,
    /// A runner of another version is there, which ends when its steps have: nothing can be asked of it.
    draining: watch::Sender<bool>,
}

/// A connection, and who looks after the runner at its other end.
struct Held {
    connection: Arc<Connection>,
    _guard: AbortOnDropHandle<()>,
}

impl Client {
    /// A client for the runner of the data directory `data`, which is there; `program` is the
    /// windlass binary, run as `program guard --data DIR`.
    pub fn new(data: PathBuf, program: PathBuf) -> Self {
        let (draining, _) = watch::channel(false);
        Self(Arc::new(Inner { data, program, held: tokio::sync::Mutex::default(), draining }))
    }

    async fn ask(&self, ask: Ask<'_>, step: &StepId) -> Result<Exit, Error> {
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let connection = self.connection().await?;
            match connection.ask(ask.clone()).await? {
                Some(Answer::Ended(exit)) => return Ok(exit),
                Some(Answer::Unknown) => return Err(Error::Unknown(step.clone())),
                Some(Answer::Refused(message)) => return Err(Error::Refused(message)),
                Some(Answer::Leaving) => connection.until_closed().await,
                None => {}
            }
            tries = if begun.elapsed() > STAYED { 0 } else { tries + 1 };
            if tries == TRIES {
                return Err(self.0.unreachable("it went away each time it was asked"));
            }
        }
    }

    /// The connection; a new one if there is none or it broke.
    async fn connection(&self) -> Result<Arc<Connection>, Error> {
        let mut held = self.0.held.lock().await;
        if let Some(Held { connection, .. }) = held.as_ref().filter(|held| held.connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(self.0.connect().await?);
        let guard = tokio::spawn(look_after(self.0.data.clone(), Arc::clone(&connection)));
        *held = Some(Held { connection: Arc::clone(&connection), _guard: AbortOnDropHandle::new(guard) });
        Ok(connection)
    }

    /// Sees to it that the runner answers about `step` for as long as this is polled. One that does not
    /// is killed at `by`. Never returns.
    async fn insist(&self, step: &StepId, by: Instant) -> Infallible {
        loop {
            let by = by.max(Instant::now() + AT_LEAST);
            let mut draining = self.0.draining.subscribe();
            let asked = async { self.connection().await.ok()?.is_there(step).await };
            // That one is well, and has steps of others.
            let drains = async { draining.wait_for(|draining| *draining).await.map(drop) };
            let there = async {
                tokio::select! {
                    _ = asked => {}
                    _ = drains => {}
                }
            };
            watchdog::answer(&self.0.data, by, there).await;
            tokio::time::sleep(AT_LEAST).await;
        }
    }
}

/// Sees to it that the runner answers for as long as somebody waits for it to.
async fn look_after(data: PathBuf, connection: Arc<Connection>) {
    loop {
        let asked = connection.asked.notified();
        match connection.awaited() {
            None => asked.await,
            Some(step) => {
                tokio::time::sleep(watchdog::BEAT).await;
                let by = Instant::now() + PATIENCE;
                watchdog::answer(&data, by, connection.is_there(&step)).await;
            }
        }
    }
}

#[async_trait]
impl Runner for Client {
    async fn run(&self, start: &StartStep) -> Result<Exit, Error> {
        self.ask(Ask::Start(Cow::Borrowed(start)), &start.step).await
    }

    async fn wait(&self, step: &StepId) -> Result<Exit, Error> {
        self.ask(Ask::Wait(step.clone()), step).await
    }

    async fn cancel(&self, step: &StepId, grace: Duration) -> Result<Exit, Error> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let by = Instant::now() + grace;
        tokio::select! {
            ended = self.ask(Ask::Cancel { step: step.clone(), grace_ms }, step) => ended,
            never = self.insist(step, by) => match never {},
            () = tokio::time::sleep_until(by + OVERDUE) => {
                Err(self.0.unreachable(&watchdog::end_from_outside(&self.0.data, step).await))
            }
        }
    }
}

impl Inner {
    async fn connect(&self) -> Result<Connection, Error> {
        let mut tries = 0;
        loop {
            self.draining.send_replace(false);
            if let Ok(stream) = ipc::connect(&self.data, SOCKET).await {
                let by = Instant::now() + PATIENCE;
                match watchdog::answer(&self.data, by, Connection::greet(stream)).await {
                    Some(Ok(Greeted::Welcome(connection))) => return Ok(connection),
                    // It drains; when it has ended, the next one may be started.
                    Some(Ok(Greeted::Other { hello, mut reader })) => {
                        tracing::info!(
                            version = hello.windlass_runner,
                            "waiting for another version's runner to end its steps"
                        );
                        self.draining.send_replace(true);
                        while let Ok(Some(_)) = reader.next::<serde::de::IgnoredAny>().await {}
                        continue;
                    }
                    // It was just leaving, or hung and was ended.
                    Some(Err(_)) | None => {}
                }
            }
            if tries == TRIES {
                return Err(self.unreachable("it ends as soon as it was started"));
            }
            tries += 1;
            // What ended before it was ready may have been killed: another one can tell.
            if let Begun::Ended(why) = self.start().await?
                && tries == TRIES
            {
                return Err(self.unreachable(&format!("it could not start: {why}")));
            }
        }
    }

    /// Starts a runner and waits until it, or another that was faster, can be reached. It survives
    /// this process: it makes a session of its own.
    async fn start(&self) -> Result<Begun, Error> {
        let failed = |error: io::Error| self.unreachable(&format!("it could not be started: {error}"));
        let data = std::path::absolute(&self.data).map_err(failed)?;
        let log =
            OpenOptions::new().create(true).append(true).mode(0o600).open(data.join(LOG)).map_err(failed)?;
        let mut child = tokio::process::Command::new(&self.program)
            .arg(GUARD)
            .arg("--data")
            .arg(&data)
            .env_clear()
            .envs(ipc::environment())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let stdout = child.stdout.take().map(BufReader::new);
        // So that it is no zombie when it ends before we do.
        tokio::spawn(async move { child.wait().await });
        let mut line = String::new();
        if let Some(mut stdout) = stdout {
            let reading = stdout.read_line(&mut line);
            let said = tokio::select! {
                said = reading => said,
                () = tokio::time::sleep(PATIENCE) => return Err(self.unreachable("it does not get ready")),
                // Another may have taken the place and been stopped before it listened.
                never = watchdog::wake(&self.data) => match never {},
            };
            said.map_err(failed)?;
        }
        match line.trim_end() == READY {
            true => Ok(Begun::Ready),
            false => Ok(Begun::Ended(last_line(&data.join(LOG)))),
        }
    }

    fn unreachable(&self, what: &str) -> Error {
        Error::Unreachable(format!("{what}; see {}", self.data.join(LOG).display()))
    }
}

/// What came of starting a runner.
enum Begun {
    Ready,
    /// It ended before; this is what it said last.
    Ended(String),
}

/// What a runner said last.
fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().last().unwrap_or("it said nothing").to_owned()
}

enum Greeted {
    Welcome(Connection),
    /// It speaks another version.
    Other {
        hello: Hello,
        reader: ipc::Reader<OwnedReadHalf>,
    },
}

/// Who waits for which answer; `None` once the connection has closed.
type Waiting = Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>;

struct Connection {
    writer: tokio::sync::Mutex<ipc::Writer<OwnedWriteHalf>>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    closed: watch::Receiver<bool>,
    /// Somebody waits for one more answer.
    asked: Notify,
    /// The step that was asked about last.
    last: Mutex<Option<StepId>>,
    reading: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Connection {
    /// Exchanges hellos.
    async fn greet(stream: UnixStream) -> io::Result<Greeted> {
        let (read, write) = stream.into_split();
        let (mut reader, mut writer) = (ipc::Reader::new(read), ipc::Writer::new(write));
        writer.send(&Hello::OURS).await?;
        let hello = reader.next::<Hello>().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if hello.windlass_runner != Hello::OURS.windlass_runner {
            return Ok(Greeted::Other { hello, reader });
        }
        let waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let (closing, closed) = watch::channel(false);
        let reading = tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                read_answers(reader, &waiting).await;
                closing.send_replace(true);
            }
        });
        let writer = tokio::sync::Mutex::new(writer);
        let next = AtomicU64::new(NO_REQUEST + 1);
        let (asked, last) = (Notify::new(), Mutex::default());
        Ok(Greeted::Welcome(Self { writer, next, waiting, closed, asked, last, reading }))
    }

    /// A step, if somebody waits for one to end.
    fn awaited(&self) -> Option<StepId> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_ref().filter(|waiting| !waiting.is_empty())?;
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when the runner has answered anything: that it knows no such step, as no attempt has so
    /// many. `None` when it is gone.
    async fn is_there(&self, step: &StepId) -> Option<Answer> {
        let none = StepId { step: u32::MAX, ..step.clone() };
        self.ask(Ask::Wait(none)).await.ok().flatten()
    }

    fn is_open(&self) -> bool {
        !*self.closed.borrow() && self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn until_closed(&self) {
        // An error means that the reading task is gone, which is the same.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Asks, and waits for the answer; `None` if the connection broke.
    async fn ask(&self, ask: Ask<'_>) -> Result<Option<Answer>, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let request = Request { id, ask };
        check_size(&request)?;
        let (answer, answered) = oneshot::channel();
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, answer),
            None => return Ok(None),
        };
        let step = match &request.ask {
            Ask::Start(start) => &start.step,
            Ask::Wait(step) | Ask::Cancel { step, .. } => step,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(step.clone());
        self.asked.notify_one();
        let sent = self.writer.lock().await.send(&request).await;
        match sent {
            Ok(()) => Ok(answered.await.ok()),
            Err(_) => {
                // Nobody is there any more; what was answered before is still read.
                self.until_closed().await;
                Ok(None)
            }
        }
    }
}

/// What is too long the runner could not even answer by id.
fn check_size(request: &Request<'_>) -> Result<(), Error> {
    let Ask::Start(start) = &request.ask else { return Ok(()) };
    let env: usize = start.env.iter().map(|(name, value)| name.len() + value.len()).sum();
    let mask: usize = start.mask.iter().map(String::len).sum();
    // JSON takes at most six characters for one; the rest is far below what that leaves.
    if start.run.len() + env + mask < ipc::MESSAGE_LIMIT / 8 {
        return Ok(());
    }
    let size = serde_json::to_vec(request).map_or(usize::MAX, |text| text.len());
    match size < ipc::MESSAGE_LIMIT {
        true => Ok(()),
        false => Err(Error::Refused(format!(
            "the step's text, environment and secrets take {size} bytes, and the limit is {}",
            ipc::MESSAGE_LIMIT
        ))),
    }
}

/// Hands out answers until the connection breaks; then nobody waits any more.
async fn read_answers(mut reader: ipc::Reader<OwnedReadHalf>, waiting: &Waiting) {
    let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
    while let Ok(Some(Response { id, answer })) = reader.next().await {
        if let (NO_REQUEST, Answer::Refused(message)) = (id, &answer) {
            // It understood one of our messages not at all, and does not know which.
            for waiting in lock().take().into_iter().flatten() {
                let _ = waiting.1.send(Answer::Refused(message.clone()));
            }
            break;
        }
        if let Some(waiting) = lock().as_mut().and_then(|waiting| waiting.remove(&id)) {
            let _ = waiting.send(answer);
        }
    }
    lock().take();
}
