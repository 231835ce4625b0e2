//! Where services run: the contract with a cloud, in three small parts, and what each promises.
//!
//! - Everything is found again by its key or its tags: asking twice for the same key makes one thing.
//! - An observation may be old; nothing is concluded from one that finds nothing.
//! - Errors say what a caller can do ([`Error`]), not which call failed.
//!
//! Every implementation passes [`conformance`]. The stages know only this file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{CommitSha, Digest, FleetId, ImageId, InstanceId, Key, PipelineName, RunId};

pub mod conformance;
pub mod fault;
pub mod local;

/// What can go wrong, by meaning.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{0} was not found")]
    NotFound(String),
    /// The key is in use for something else, or a name or port is taken.
    #[error("{0}")]
    Conflict(String),
    /// Asked too often: waiting is enough.
    #[error("the cloud asks to slow down for {} ms", .after.as_millis())]
    Throttled { after: Duration },
    #[error("no capacity: {0}")]
    NoCapacity(String),
    #[error("denied: {0}")]
    Denied(String),
    /// The cloud did not answer, or not in time: the effect may have happened or not. Observe.
    #[error("no clear answer: {0}")]
    Ambiguous(String),
    #[error("{0}")]
    Failed(String),
}

/// What everything in a cloud carries, so that no instance is without a record that explains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    pub service: PipelineName,
    pub run: RunId,
    pub stage: String,
    /// The intent that asked for it.
    pub key: Key,
}

/// What an image is made of. `key` is the digest of all of it.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Finds the builder again; one for each attempt.
    pub key: Key,
    pub parent: Parent,
    /// Directories and files whose contents fill the app directory.
    pub contents: Vec<PathBuf>,
    /// At hand in the app directory while provisioning: (path relative to it, where it lies now).
    pub files: Vec<(String, PathBuf)>,
    pub tags: Tags,
}

/// What a build starts from.
#[derive(Debug, Clone)]
pub enum Parent {
    Image(ImageId),
    /// The tree below a directory.
    Directory(PathBuf),
    Empty,
}

/// A machine, or a place on one, where an image is being made.
#[derive(Debug, Clone)]
pub struct Builder {
    pub key: Key,
    pub provisioning: Provisioning,
}

/// Where the provision commands run.
#[derive(Debug, Clone)]
pub enum Provisioning {
    /// In this directory of this machine, through the runner like any other step.
    Here { directory: PathBuf },
}

/// What is known of a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub id: ImageId,
    /// `{service}-{version}`
    pub name: String,
    /// The digest of parent, artifacts, files, provision and start.
    pub key: Digest,
    pub parent: Option<ImageId>,
    pub commit: Option<CommitSha>,
    pub run: RunId,
    pub service: PipelineName,
    /// The command that starts the service.
    pub start: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub certified: bool,
}

/// What a finished build is to become.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    pub name: String,
    pub key: Digest,
    pub parent: Option<ImageId>,
    pub commit: Option<CommitSha>,
    pub start: String,
}

/// An instance to be launched.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Launching the same key again finds the instance that the first launch made, whatever became
    /// of it.
    pub key: Key,
    /// `{service}-{environment}-{version}-{n}`
    pub name: String,
    pub fleet: FleetId,
    pub image: ImageId,
    /// Besides `PORT`.
    pub env: BTreeMap<String, String>,
    /// [`crate::run::event::Release::id`] of what it runs.
    pub release: Digest,
    pub tags: Tags,
}

/// An instance as it was observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: InstanceId,
    pub name: String,
    pub fleet: FleetId,
    pub image: ImageId,
    pub release: Digest,
    pub key: Key,
    pub state: InstanceState,
    /// Where it answers, `127.0.0.1:20321`.
    pub address: std::net::SocketAddr,
    pub launched_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InstanceState {
    Pending,
    Running,
    /// It ended by itself; the end of what it said, for people.
    Failed {
        reason: String,
    },
    /// We ended it.
    Terminated,
}

/// Images and instances.
#[async_trait]
pub trait Compute: Send + Sync {
    /// The image with that key, if it was ever finished.
    async fn find_image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error>;
    async fn image(&self, id: &ImageId) -> Result<ImageRecord, Error>;
    async fn certify_image(&self, id: &ImageId) -> Result<(), Error>;
    /// Starts a build, afresh: what an earlier call with the same key left half done is removed.
    async fn launch_builder(&self, request: &BuildRequest) -> Result<Builder, Error>;
    /// Makes an image of what the builder holds (without the request's `files`) and ends it. The
    /// image appears whole or not at all. When the image key exists already, that image is answered.
    async fn create_image(&self, request: &BuildRequest, image: &ImageRequest) -> Result<ImageRecord, Error>;
    /// Launches an instance; answers as soon as it exists, long before it is healthy.
    async fn launch(&self, launch: &Launch) -> Result<Instance, Error>;
    /// Every instance of the fleet that has not been terminated, failed ones too.
    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error>;
    /// Ends an instance; answers when it is gone. One that is gone already is fine.
    async fn terminate(&self, id: &InstanceId) -> Result<(), Error>;
    /// Returns when one of these does not run any more, at once where that is so already; at the
    /// latest after `patience`.
    async fn ended(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error>;
}

/// How a fleet is reached and how its health is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub fleet: FleetId,
    /// On loopback for the local cloud.
    pub port: u16,
    pub health: HealthCheck,
    /// How long open requests of a draining target may take at most.
    pub drain: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Answered with 2xx by a healthy target.
    pub path: String,
    pub interval: Duration,
    /// No answer within this time counts as a failure.
    pub timeout: Duration,
    /// So many good answers in a row make a target healthy.
    pub healthy: u32,
    /// So many bad ones make it unhealthy.
    pub unhealthy: u32,
}

/// A target as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub id: InstanceId,
    pub address: std::net::SocketAddr,
    pub state: TargetState,
    #[serde(default)]
    pub role: Role,
    /// What the last failed health check said.
    pub reason: Option<String>,
}

/// What a target is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    #[default]
    Serving,
    /// It is checked, and gets no new request before it is switched to.
    Standby,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TargetState {
    /// Not checked often enough yet; gets no traffic.
    Initial,
    Healthy,
    Unhealthy,
    /// Gets no new requests.
    Draining {
        open_requests: u64,
        since: Timestamp,
    },
    /// No open requests are left, or the drain time is over: it may be terminated.
    Drained,
}

/// The load balancer of fleets.
#[async_trait]
pub trait Balancer: Send + Sync {
    /// Makes the listener as described, or changes it to be so; targets stay as they are.
    async fn put_listener(&self, listener: &Listener) -> Result<(), Error>;
    /// Removes the listener and all its targets. One that does not exist is fine.
    async fn remove_listener(&self, fleet: &FleetId) -> Result<(), Error>;
    /// Adds targets; those that are there already stay as they are.
    async fn register(
        &self,
        fleet: &FleetId,
        targets: &[(InstanceId, std::net::SocketAddr)],
    ) -> Result<(), Error>;
    /// Adds targets that stand by: they are checked and get no request. Those that are there already
    /// stay as they are.
    async fn stand_by(
        &self,
        fleet: &FleetId,
        targets: &[(InstanceId, std::net::SocketAddr)],
    ) -> Result<(), Error>;
    /// In one step: these targets serve, and all others that served stand by; requests that are open
    /// at those are finished. From the answer on no other target gets a new request. When one of these
    /// is not there or not healthy, nothing changes and the answer is [`Error::Conflict`].
    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), Error>;
    /// Starts draining targets, also those that stand by. From the answer on they get no new request.
    async fn deregister(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error>;
    /// Forgets targets, drained or not, as when their instance is gone.
    async fn forget(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error>;
    /// All targets of the fleet. A fleet without a listener has none.
    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, Error>;
    /// Returns when something about the fleet's targets may have changed, at the latest after
    /// `patience`.
    async fn changed(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error>;
    /// The address that people and tests use: `http://127.0.0.1:7432`.
    fn url(&self, listener: &Listener) -> String;
}

/// A store of objects by name.
#[async_trait]
pub trait Objects: Send + Sync {
    /// Stores the file's content under `key`, whole or not at all. The same key with the same
    /// digest is not sent again.
    async fn put(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error>;
    async fn get(&self, key: &str, to: &Path) -> Result<(), Error>;
    /// The digest of what is stored under `key`.
    async fn digest(&self, key: &str) -> Result<Option<Digest>, Error>;
    /// Keys that start with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;
    /// Where `key` is, for people: `file:///…`, `s3://…`.
    fn location(&self, key: &str) -> String;
}

/// A cloud: the three together.
#[derive(Clone)]
pub struct Cloud {
    pub compute: std::sync::Arc<dyn Compute>,
    pub balancer: std::sync::Arc<dyn Balancer>,
    pub objects: std::sync::Arc<dyn Objects>,
}
