//! The balancer as the rest of Windlass sees it: [`Client`] asks the process over its admin socket,
//! starts it when it is needed and gone, and has an older one replaced.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::handover::{ended, watch_end};
use super::process::Start;
use super::protocol::{Answer, Build, Hello, PROTOCOL, Request};
use super::saved::Saved;
use super::{LOG, SOCKET, START_LOCK, lock};
use crate::cloud::{Balancer, Error, Listener, Target};
use crate::ids::{FleetId, InstanceId};
use crate::ipc::{self, Reader, Writer};

/// Everything but a watch is answered within milliseconds; this is for a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever has not answered after this time may have been stopped (SIGSTOP).
const LOOK: Duration = Duration::from_millis(500);

/// A process that is not ready by then will not be.
const START: Duration = Duration::from_secs(30);

/// How often a request is asked again of a new process when the old one went away meanwhile.
const TRIES: usize = 5;

/// The one line that a balancer process says on its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstWord {
    /// Connections are taken, by this process.
    Ready { pid: u32 },
    /// It did not start.
    Failed { message: String },
}

/// What [`Client::renew`] came to, with the process that serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// There is nothing to serve.
    Nothing,
    /// It was not older than this client's program.
    Kept(u32),
    Replaced(u32),
}

/// Speaks to the balancer of a data directory. Cheap; each request has its own connection.
pub struct Client {
    data: PathBuf,
    program: PathBuf,
    /// The revision of each fleet that the last observation showed.
    seen: Mutex<BTreeMap<FleetId, u64>>,
    /// The build for which the running process was replaced: never twice.
    replaced_for: Mutex<Option<Build>>,
}

struct Connection {
    hello: Hello,
    reader: Reader<OwnedReadHalf>,
    writer: Writer<OwnedWriteHalf>,
}

/// Whether a request is worth starting a process for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    /// Only when there is a listener to serve.
    Listeners,
}

impl Client {
    /// For the balancer of the data directory `data`; `program` is this binary, which is started as
    /// `program balancer --data DATA`.
    pub fn new(data: PathBuf, program: PathBuf) -> Self {
        let data = std::path::absolute(&data).unwrap_or(data);
        Self { data, program, seen: Mutex::default(), replaced_for: Mutex::default() }
    }

    /// Ends the balancer process and those that still finish what they had open when they were
    /// replaced; open requests get a few seconds. Answers when they are gone. What it served stays
    /// known: the next request starts it again. No process is fine.
    pub async fn stop(&self) -> Result<(), Error> {
        let Some(mut connection) = self.connect().await? else { return Ok(()) };
        let pid = connection.hello.pid;
        let Ok(process_end) = watch_end(pid) else { return Ok(()) };
        match connection.ask(&Request::Stop, PATIENCE).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            Err(error) => tracing::debug!("the balancer closed the connection: {error}"),
        }
        match ended(process_end, START).await {
            true => Ok(()),
            false => Err(Error::Failed(format!(
                "the balancer, process {pid}, does not end; end it with `kill -9 {pid}`"
            ))),
        }
    }

    /// Puts a new process of this client's program in the place of the running one, without losing a
    /// connection; starts one when none runs. Answers the new process's id.
    pub async fn replace(&self) -> Result<u32, Error> {
        let _starting = self.start_lock().await?;
        self.start(Start::TakeOver).await
    }

    /// Puts a process of this client's program in the place of an older one, without losing a
    /// connection. One that was killed is started again.
    pub async fn renew(&self) -> Result<Renewed, Error> {
        let before = self.connect().await?.map(|connection| connection.hello.pid);
        Ok(match self.reach(Need::Listeners).await? {
            None => Renewed::Nothing,
            Some(connection) if Some(connection.hello.pid) == before => Renewed::Kept(connection.hello.pid),
            Some(connection) => Renewed::Replaced(connection.hello.pid),
        })
    }

    /// Asks, of a new process when the old one went away meanwhile. `None` when no process runs and
    /// none is needed.
    async fn ask(&self, request: &Request, need: Need, patience: Duration) -> Result<Option<Answer>, Error> {
        let mut last = String::new();
        for _ in 0..TRIES {
            let Some(mut connection) = self.reach(need).await? else { return Ok(None) };
            match connection.ask(request, patience).await {
                Ok(Answer::Refused { fault, message }) => return Err(fault.error(message)),
                Ok(answer) => return Ok(Some(answer)),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let pid = connection.hello.pid;
                    return Err(Error::Ambiguous(format!(
                        "the balancer, process {pid}, does not answer; if that goes on, end it with `kill -9 {pid}`"
                    )));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(Error::Ambiguous(format!(
            "the balancer went away {TRIES} times while it was asked ({last}); its log is {}",
            self.data.join(LOG).display()
        )))
    }

    /// A connection to a process that can be asked: started when that is needed, replaced when it is
    /// older than this client's program.
    async fn reach(&self, need: Need) -> Result<Option<Connection>, Error> {
        if let Some(connection) = self.connect().await?
            && !self.outdated(&connection.hello)
        {
            return Ok(Some(connection.compatible()?));
        }
        let _starting = match need {
            Need::Listeners if !self.serves_something()? => return Ok(None),
            Need::Listeners | Need::Always => self.start_lock().await?,
        };
        // Somebody else may have been faster.
        match self.connect().await? {
            Some(connection) if !self.outdated(&connection.hello) => {
                return Ok(Some(connection.compatible()?));
            }
            Some(connection) => {
                tracing::info!("the balancer, process {}, is replaced by this program", connection.hello.pid);
                drop(connection);
                self.start(Start::TakeOver).await?;
            }
            None => {
                self.start(Start::Fresh).await?;
            }
        }
        match self.connect().await? {
            Some(connection) => Ok(Some(connection.compatible()?)),
            None => Err(Error::Failed(format!(
                "the balancer ended as soon as it had started; its log is {}",
                self.data.join(LOG).display()
            ))),
        }
    }

    fn outdated(&self, hello: &Hello) -> bool {
        let Some(own) = Build::of(&self.program) else { return false };
        own.replaces(&hello.build) && lock(&self.replaced_for).as_ref() != Some(&own)
    }

    /// Whether the last process left listeners, as when it was killed.
    fn serves_something(&self) -> Result<bool, Error> {
        Saved::read(&self.data).map(|saved| !saved.fleets.is_empty()).map_err(Error::Failed)
    }

    /// Connects to the process that runs, if one does.
    async fn connect(&self) -> Result<Option<Connection>, Error> {
        let stream = match ipc::connect(&self.data, SOCKET).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => {
                let socket = self.data.join(SOCKET);
                return Err(Error::Failed(format!("{} cannot be reached: {error}", socket.display())));
            }
        };
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
        let (reader, writer) = stream.into_split();
        let (mut reader, mut writer) = (Reader::new(reader), Writer::new(writer));
        let greeting = async {
            writer.send(&Hello::own()).await?;
            reader.next::<Hello>().await
        };
        match awake(pid, LOOK, PATIENCE, greeting).await {
            Err(_) => Err(Error::Ambiguous(format!(
                "the balancer does not answer on {}; its log is {}",
                self.data.join(SOCKET).display(),
                self.data.join(LOG).display()
            ))),
            // It was about to end.
            Ok(Err(_) | Ok(None)) => Ok(None),
            Ok(Ok(Some(hello))) => Ok(Some(Connection { hello, reader, writer })),
        }
    }

    /// Only one client at a time starts a process, so that the second finds the first's.
    async fn start_lock(&self) -> Result<File, Error> {
        let path = self.data.join(START_LOCK);
        let told = format!("{} cannot be locked", path.display());
        let locked = tokio::task::spawn_blocking(move || {
            let file = File::options().create(true).append(true).open(path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok::<_, io::Error>(file)
        });
        match tokio::time::timeout(START, locked).await {
            Ok(Ok(Ok(file))) => Ok(file),
            Ok(Ok(Err(error))) => Err(Error::Failed(format!("{told}: {error}"))),
            Ok(Err(error)) => Err(Error::Failed(format!("{told}: {error}"))),
            Err(_) => {
                Err(Error::Ambiguous(format!("{told}: somebody else has been starting a balancer for long")))
            }
        }
    }

    /// Starts a process and waits until it is ready; answers its id. The caller holds the start lock.
    async fn start(&self, start: Start) -> Result<u32, Error> {
        let log = self.data.join(LOG);
        let failed = |error: io::Error| Error::Failed(format!("the balancer cannot be started: {error}"));
        if start == Start::TakeOver {
            *lock(&self.replaced_for) = Build::of(&self.program);
        }
        let stderr = File::options().create(true).append(true).open(&log).map_err(failed)?;
        let mut command = tokio::process::Command::new(&self.program);
        command.arg("balancer").arg("--data").arg(&self.data);
        command.env_clear().envs(ipc::environment());
        if start == Start::TakeOver {
            command.arg("--take-over");
        }
        // It makes itself a session of its own, and keeps no directory busy.
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(|error| {
            Error::Failed(format!("the balancer cannot be started: {}: {error}", self.program.display()))
        })?;
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let mut lines = BufReader::new(stdout).lines();
        let word = match tokio::time::timeout(START, lines.next_line()).await {
            Ok(line) => line.map_err(failed)?.and_then(|line| serde_json::from_str(&line).ok()),
            Err(_) => None,
        };
        if let Some(FirstWord::Ready { pid }) = word {
            return Ok(pid);
        }
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        Err(Error::Failed(match word {
            Some(FirstWord::Failed { message }) => format!("the balancer did not start: {message}"),
            Some(FirstWord::Ready { .. }) | None => {
                format!("the balancer did not start; its log {} says why", log.display())
            }
        }))
    }

    async fn change(&self, request: Request, need: Need) -> Result<(), Error> {
        self.ask(&request, need, PATIENCE).await.map(|_| ())
    }
}

impl Connection {
    /// Refuses to go on with a process that is newer than this program and speaks otherwise.
    fn compatible(self) -> Result<Self, Error> {
        match self.hello.protocol {
            PROTOCOL => Ok(self),
            other => Err(Error::Conflict(format!(
                "the running balancer, process {}, is of version {} and speaks protocol {other}, this program \
                 protocol {PROTOCOL}; use the newer program, or put this one in its place with \
                 `windlass balancer --replace`",
                self.hello.pid, self.hello.build.version
            ))),
        }
    }

    async fn ask(&mut self, request: &Request, patience: Duration) -> io::Result<Answer> {
        let asked = async {
            self.writer.send(request).await?;
            self.reader.next().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        // A watch is silent for long, and nothing is wrong then.
        let usual = patience.saturating_sub(PATIENCE) + LOOK;
        let pid = i32::try_from(self.hello.pid).ok().and_then(Pid::from_raw);
        let answer = awake(pid, usual, patience, asked).await;
        answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Waits for an answer of the process `pid` for so long as `patience`. When the `usual` time is over it is
/// seen to it that it was not stopped.
async fn awake<T>(
    pid: Option<Pid>,
    usual: Duration,
    patience: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, tokio::time::error::Elapsed> {
    let looks = async {
        tokio::time::sleep(usual).await;
        loop {
            pid.map(ipc::go_on);
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(patience, async {
        tokio::select! {
            answer = answer => answer,
            never = looks => never,
        }
    })
    .await
}

#[async_trait]
impl Balancer for Client {
    async fn put_listener(&self, listener: &Listener) -> Result<(), Error> {
        self.change(Request::PutListener { listener: listener.clone() }, Need::Always).await
    }

    async fn remove_listener(&self, fleet: &FleetId) -> Result<(), Error> {
        lock(&self.seen).remove(fleet);
        self.change(Request::RemoveListener { fleet: fleet.clone() }, Need::Listeners).await
    }

    async fn register(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        let request = Request::Register { fleet: fleet.clone(), targets: targets.to_vec() };
        match self.ask(&request, Need::Listeners, PATIENCE).await? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(format!("the listener of {fleet}"))),
        }
    }

    async fn stand_by(&self, fleet: &FleetId, targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        let request = Request::StandBy { fleet: fleet.clone(), targets: targets.to_vec() };
        match self.ask(&request, Need::Listeners, PATIENCE).await? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(format!("the listener of {fleet}"))),
        }
    }

    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), Error> {
        let request = Request::Switch { fleet: fleet.clone(), to: to.to_vec() };
        match self.ask(&request, Need::Listeners, PATIENCE).await? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(format!("the listener of {fleet}"))),
        }
    }

    async fn deregister(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let request = Request::Deregister { fleet: fleet.clone(), targets: targets.to_vec() };
        self.change(request, Need::Listeners).await
    }

    async fn forget(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let request = Request::Forget { fleet: fleet.clone(), targets: targets.to_vec() };
        self.change(request, Need::Listeners).await
    }

    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, Error> {
        let request = Request::Targets { fleet: fleet.clone() };
        match self.ask(&request, Need::Listeners, PATIENCE).await? {
            Some(Answer::Targets { targets, revision }) => {
                lock(&self.seen).insert(fleet.clone(), revision);
                Ok(targets)
            }
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// Also returns when something changed since this client last observed the fleet, and when the
    /// balancer process went away.
    async fn changed(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error> {
        let seen = lock(&self.seen).get(fleet).copied();
        let request = Request::Watch { fleet: fleet.clone(), seen, patience };
        let Some(mut connection) = self.reach(Need::Listeners).await? else {
            // Nothing is served that could change; a listener made meanwhile is seen afterwards.
            tokio::time::sleep(patience).await;
            return Ok(());
        };
        match connection.ask(&request, patience.saturating_add(PATIENCE)).await {
            Ok(Answer::Refused { fault, message }) => Err(fault.error(message)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn url(&self, listener: &Listener) -> Result<String, Error> {
        Ok(format!("http://127.0.0.1:{}", listener.port))
    }
}

impl Client {
    /// Where the data directory is.
    pub fn data(&self) -> &Path {
        &self.data
    }
}
