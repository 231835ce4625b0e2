//! What outlives the process: the listeners and their targets, in `DATA/balancer.json`.
//!
//! The file is replaced as a whole, so that it is never half written. Only the process that serves
//! writes it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cloud::{Listener, Role};
use crate::ids::InstanceId;

/// The version of the format. A field may be added when it has a default.
const FORMAT: u32 = 1;

/// How the names of files begin that are being written.
const UNFINISHED: &str = ".balancer.json";

/// The pause before a state that could not be written is written again.
const AGAIN: Duration = Duration::from_secs(1);

/// Everything a new process goes on from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Saved {
    pub format: u32,
    pub fleets: Vec<SavedFleet>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedFleet {
    pub listener: Listener,
    pub targets: Vec<SavedTarget>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedTarget {
    pub id: InstanceId,
    pub address: SocketAddr,
    pub state: State,
    #[serde(default)]
    pub role: Role,
    /// Whether it ever was healthy.
    #[serde(default)]
    pub proven: bool,
    #[serde(default)]
    pub reason: Option<String>,
}

/// What a target is, without what only the running process can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    Initial,
    Healthy,
    Unhealthy,
    Draining { since: Timestamp },
    Drained,
}

impl Saved {
    pub fn new(fleets: Vec<SavedFleet>) -> Self {
        Self { format: FORMAT, fleets }
    }

    /// What a file or another process said, if this program understands it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let saved: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match saved.format {
            FORMAT => Ok(saved),
            other => Err(format!("it has format {other}, this program reads format {FORMAT}")),
        }
    }

    /// What the data directory holds; nothing when no balancer ever ran there.
    pub fn read(data: &Path) -> Result<Self, String> {
        let path = data.join(super::STATE);
        match std::fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes).map_err(|why| {
                format!(
                    "{} cannot be read: {why}. Use the program that wrote it, or move the file away and deploy again",
                    path.display()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::new(Vec::new())),
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// Removes what was being written when a process was killed. To be called by the only one who writes.
    pub fn sweep(data: &Path) {
        for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    pub fn write(&self, data: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::with_prefix_in(UNFINISHED, data)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(data.join(super::STATE)).map_err(|error| error.error)?;
        std::fs::File::open(data)?.sync_all()
    }
}

/// Writes the file, once for all changes that happened meanwhile.
pub(super) struct Saver {
    data: PathBuf,
    /// Counts changes.
    wanted: watch::Sender<u64>,
    /// The change up to which was written, and why that failed if it did.
    written: watch::Sender<(u64, Option<String>)>,
    /// Held while the file is written.
    stopped: tokio::sync::Mutex<bool>,
}

impl Saver {
    pub fn new(data: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            data,
            wanted: watch::Sender::new(0),
            written: watch::Sender::new((0, None)),
            stopped: tokio::sync::Mutex::new(false),
        })
    }

    /// Something changed that should be written soon.
    pub fn soon(&self) {
        self.wanted.send_modify(|change| *change += 1);
    }

    /// Returns when this change, and every earlier one, was written.
    pub async fn now(&self) -> Result<(), String> {
        self.soon();
        self.settled().await
    }

    /// Returns when everything that changed so far was written.
    pub async fn settled(&self) -> Result<(), String> {
        let mut written = self.written.subscribe();
        let change = *self.wanted.borrow();
        match written.wait_for(|(upto, _)| *upto >= change).await {
            Ok(outcome) => match &outcome.1 {
                None => Ok(()),
                Some(why) => {
                    Err(format!("{} cannot be written: {why}", self.data.join(super::STATE).display()))
                }
            },
            Err(_) => Err("the balancer is ending".to_owned()),
        }
    }

    /// Writes what `snapshot` gives after each change; never returns.
    pub async fn run(self: Arc<Self>, snapshot: impl Fn() -> Saved) {
        let mut wanted = self.wanted.subscribe();
        wanted.mark_changed();
        let mut behind = false;
        loop {
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                // Nobody tells when a full disk has room again.
                () = tokio::time::sleep(AGAIN), if behind => {}
            }
            let change = *wanted.borrow_and_update();
            let stopped = self.stopped.lock().await;
            if *stopped {
                return;
            }
            let (saved, data) = (snapshot(), self.data.clone());
            let outcome = tokio::task::spawn_blocking(move || saved.write(&data)).await;
            drop(stopped);
            let problem = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            match (&problem, behind) {
                (Some(why), false) => {
                    tracing::error!("the state cannot be written, and is tried again: {why}")
                }
                (None, true) => tracing::info!("the state can be written again"),
                _ => {}
            }
            behind = problem.is_some();
            self.written.send_replace((change, problem));
        }
    }

    /// Returns when nothing is being written, and nothing will be.
    pub async fn stop(&self) {
        *self.stopped.lock().await = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the first version wrote it. Never change this text.
    const FIRST: &str = r#"{"format":1,"fleets":[{"listener":{"fleet":{"service":"storefront","environment":"production"},
        "port":7432,"health":{"path":"/healthz","interval":{"secs":0,"nanos":500000000},"timeout":{"secs":2,"nanos":0},
        "healthy":2,"unhealthy":2},"drain":{"secs":10,"nanos":0}},"targets":[
        {"id":"storefront-production-1-1","address":"127.0.0.1:20001","state":{"kind":"healthy"},"proven":true,"reason":null},
        {"id":"storefront-production-1-2","address":"127.0.0.1:20002",
         "state":{"kind":"draining","since":"2026-11-21T10:00:00Z"},"proven":true,"reason":"answered 500"}]}]}"#;

    #[test]
    fn the_first_format_can_still_be_read() {
        let saved = Saved::parse(FIRST.as_bytes()).unwrap();
        let fleet = &saved.fleets[0];
        assert_eq!(fleet.listener.port, 7432);
        assert_eq!((fleet.targets[0].state, fleet.targets[0].role), (State::Healthy, Role::Serving));
        let since = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(fleet.targets[1].state, State::Draining { since });
    }

    #[test]
    fn a_later_format_is_refused() {
        let why = Saved::parse(FIRST.replace("\"format\":1", "\"format\":2").as_bytes()).unwrap_err();
        assert!(why.contains("format 2"), "{why}");
    }

    #[tokio::test]
    async fn a_change_is_on_disk_when_it_was_awaited_and_nothing_after_the_stop() {
        let data = tempfile::tempdir().unwrap();
        let saver = Saver::new(data.path().to_owned());
        let task = tokio::spawn(saver.clone().run(|| Saved::parse(FIRST.as_bytes()).unwrap()));
        saver.now().await.unwrap();
        assert_eq!(Saved::read(data.path()).unwrap().fleets.len(), 1);
        std::fs::remove_file(data.path().join(crate::balancer::STATE)).unwrap();
        saver.stop().await;
        saver.soon();
        task.await.unwrap();
        assert!(Saved::read(data.path()).unwrap().fleets.is_empty());
    }
}
