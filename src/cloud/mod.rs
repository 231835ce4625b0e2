//! Where services run: the contract with a cloud, in three small parts, and what each promises.
//!
//! - Everything is found again by its key or its tags: asking twice for the same key makes one thing.
//! - An observation may be old; nothing is concluded from one that finds nothing.
//! - Errors say what a caller can do ([`Error`]), not which call failed.
//!
//! Every implementation passes [`conformance`]. The stages know only this file; which cloud a service
//! is in says [`Setup`], which the settings make, and [`Clouds`] opens it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{CommitSha, Digest, FleetId, ImageId, InstanceId, Key, PipelineName, RunId};

#[cfg(feature = "aws")]
pub mod aws;
pub mod conformance;
pub mod fault;
pub mod hearing;
pub mod local;
pub mod objects;
pub mod setup;

pub use setup::Setup;

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
    /// A command on a builder failed.
    #[error("{message}")]
    Provision { message: String, exit_code: Option<i32> },
    /// It took longer than the settings allow.
    #[error("{0}")]
    TooLate(String),
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
    /// What a builder that provisions itself runs; see [`Provisioning::There`].
    pub provision: Vec<Provision>,
    /// The environment of those commands.
    pub env: BTreeMap<String, String>,
    pub tags: Tags,
}

/// A command that provisions a builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provision {
    pub name: String,
    pub run: String,
    /// `sh -e`, or `bash -euo pipefail`.
    pub bash: bool,
}

/// What a build starts from.
#[derive(Debug, Clone)]
pub enum Parent {
    Image(ImageId),
    /// The tree below a directory.
    Directory(PathBuf),
    /// An image of the cloud that is none of ours, as [`Compute::find_base`] found it.
    Machine(ImageId),
    Empty,
}

/// An image of the cloud that is none of ours, as people name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    Id(String),
    /// The newest by this name, in which `*` stands for anything.
    Newest {
        name: String,
        owner: String,
    },
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
    /// On the builder, which begins by itself: [`Compute::provisioned`] follows it.
    There,
}

/// A part of making an image of what a builder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The builder is stopped, so that nothing changes any more.
    Stop,
    /// The image is asked for, or made where that takes no time.
    Create,
    /// It is waited for.
    Await,
    /// It says what it is.
    Describe,
    /// The builder is ended.
    End,
}

impl Phase {
    /// The name of the step that does it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Stop => "Stop builder",
            Self::Create => "Create image",
            Self::Await => "Wait for image",
            Self::Describe => "Tag image",
            Self::End => "End builder",
        }
    }
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
    /// The image that is meant by `base`.
    async fn find_base(&self, base: &Base) -> Result<ImageId, Error> {
        let named = match base {
            Base::Id(id) => id,
            Base::Newest { name, .. } => name,
        };
        Err(Error::Denied(format!(
            "{named} is a machine image, and there are none of them here: base: {{ directory: base/ }} names a \
             directory of the commit"
        )))
    }
    /// Finished images of the service that may know more than the journal does, certified ones, newest
    /// first. None where nobody else makes images.
    async fn certified_images(&self, _service: &PipelineName) -> Result<Vec<ImageRecord>, Error> {
        Ok(Vec::new())
    }
    /// Starts a build. One that provisions here starts afresh: what an earlier call with the same key
    /// left half done is removed. One that provisions there is found again by the image's key, whoever
    /// began it.
    async fn launch_builder(&self, request: &BuildRequest, image: &ImageRequest) -> Result<Builder, Error>;
    /// Follows a builder that provisions itself to the end of it, and says what it says
    /// ([`hearing::say`]). A command that failed is [`Error::Provision`].
    async fn provisioned(&self, _request: &BuildRequest, _image: &ImageRequest) -> Result<(), Error> {
        Ok(())
    }
    /// Ends the builder of a build that came to nothing, unless it is somebody else's too. None is fine.
    async fn abandon(&self, _request: &BuildRequest, _image: &ImageRequest) -> Result<(), Error> {
        Ok(())
    }
    /// What has to be done to make an image of a builder, in this order.
    fn phases(&self) -> &'static [Phase] {
        &[Phase::Create]
    }
    /// Does one of [`Compute::phases`]; done again it changes nothing. The image has what the builder
    /// holds without the request's `files`, and appears whole or not at all. When the image key exists
    /// already, nothing more is made.
    async fn carry_out(
        &self,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Error>;
    /// All phases, and the image that came of them.
    async fn create_image(&self, request: &BuildRequest, image: &ImageRequest) -> Result<ImageRecord, Error> {
        for phase in self.phases() {
            self.carry_out(*phase, request, image).await?;
        }
        let made = self.find_image(&image.key).await?;
        made.ok_or_else(|| Error::NotFound(format!("the image {}", image.name)))
    }
    /// Whether there is room for so many more instances like this one: [`Error::NoCapacity`] says what
    /// is missing.
    async fn room_for(&self, _launch: &Launch, _more: u32) -> Result<(), Error> {
        Ok(())
    }
    /// Keeps the cloud's own hands off the fleet while it is turned over. Done again it changes nothing.
    async fn begin_rollout(&self, _fleet: &FleetId) -> Result<(), Error> {
        Ok(())
    }
    /// Gives the fleet back to the cloud: whatever that launches by itself from now on is like `last`.
    /// `None`: the fleet is empty. Done again it changes nothing.
    async fn end_rollout(&self, _fleet: &FleetId, _last: Option<&Launch>) -> Result<(), Error> {
        Ok(())
    }
    /// Whether the cloud itself keeps the fleet at its size.
    fn keeps(&self, _fleet: &FleetId) -> bool {
        false
    }
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
    /// How long a fleet under way may be left alone when [`Balancer::changed`] says nothing.
    fn pace(&self) -> Duration {
        Duration::from_secs(1)
    }
    /// How long things take by what is configured: for saying what to expect. `None`: too short to say.
    async fn timing(&self, _fleet: &FleetId) -> Result<Option<Timing>, Error> {
        Ok(None)
    }
    /// The address that people and tests use: `http://127.0.0.1:7432`.
    async fn url(&self, listener: &Listener) -> Result<String, Error>;
}

/// What a balancer's settings make a member wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From running to taking its full share of the traffic.
    pub in_service: Duration,
    /// From the last new request to its end.
    pub drain: Duration,
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

/// The clouds that this process reaches.
pub trait Clouds: Send + Sync {
    /// The cloud that is described. Opened again with an equal description it is the same one.
    ///
    /// # Errors
    /// This program was built without it.
    fn open(&self, setup: &Setup) -> Result<Cloud, Error>;
}
