//! The settings of a server, `windlass.yaml`: read once, checked eagerly, all problems at once.
//!
//! Environments hold the policy, so no pipeline can talk itself past it. Secrets are named here and
//! looked up when a stage needs them: their values never stand in the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::cloud::{HealthCheck, setup};
use crate::ids::{EnvironmentName, PipelineName};
use crate::pipeline::{self, Surroundings};
use crate::rollout::Strategy;

mod aws;
mod file;
pub mod freeze;
mod keys;
mod meaning;
mod read;
mod secrets;
#[cfg(test)]
mod tests;

pub use file::read_file;
pub use freeze::Freeze;
pub use secrets::SecretError;

/// Settings that are always legal.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The file they came from, absolute; `None` when there was none.
    pub path: Option<PathBuf>,
    pub environments: BTreeMap<EnvironmentName, Environment>,
    pub secrets: BTreeMap<String, SecretSource>,
    pub runner: Runner,
    pub server: Server,
    /// By the name that they act under.
    pub people: BTreeMap<String, Person>,
    pub github: GitHub,
    /// The account on AWS, and the machine that images are made on.
    pub aws: Option<(setup::Account, Option<setup::Builder>)>,
}

/// How `windlass serve` is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Names under which browsers reach it besides its own address, in lower case, without a port.
    pub hosts: Vec<String>,
}

/// Somebody who acts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    pub roles: BTreeSet<String>,
    /// The addresses they commit with, in lower case.
    pub emails: BTreeSet<String>,
    /// Their login there.
    pub github: Option<String>,
    /// Proves who they are to a server that listens beyond this machine.
    pub token: Option<SecretSource>,
}

/// What GitHub and this server know of each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GitHub {
    /// What webhooks are signed with: one, or while it is changed two. Empty: none are taken.
    pub webhook_secrets: Vec<SecretSource>,
    /// By `owner/name`.
    pub repositories: BTreeMap<String, Repository>,
}

/// A repository on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repository {
    /// Where it is cloned from, instead of `https://github.com/owner/name.git`: a path (relative to the
    /// settings) or an address.
    pub url: Option<String>,
}

/// Policy for a place where services run.
#[derive(Debug, Clone)]
pub struct Environment {
    pub group: Group,
    pub promotion: Promotion,
    pub approvals: Approvals,
    pub freezes: Vec<Freeze>,
    pub fleets: BTreeMap<PipelineName, Fleet>,
}

/// Who may promote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    /// So many different people, at least 1.
    pub count: u32,
    /// Each of them has one of these; empty: anybody may.
    pub roles: BTreeSet<String>,
    /// Whether somebody who wrote a commit that ships may be one of them.
    pub author: bool,
    /// Whether `run --promote` and `demo --auto` may stand in for people.
    pub automation: bool,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { count: 1, roles: BTreeSet::new(), author: true, automation: true }
    }
}

/// The kind of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    Dev,
    Qa,
    Canary,
    Production,
    /// The one more that settings may name.
    Other(String),
}

impl Group {
    /// As it is written.
    pub fn word(&self) -> &str {
        match self {
            Self::Dev => "dev",
            Self::Qa => "qa",
            Self::Canary => "canary",
            Self::Production => "production",
            Self::Other(word) => word,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Promotion {
    #[default]
    Automatic,
    Manual,
}

/// The instances of one service in one environment.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub place: Place,
    pub size: u32,
    /// Where its balancer listens, on loopback, and no two fleets have one port; on AWS where its
    /// instances listen.
    pub port: u16,
    /// On AWS it has no meaning: the target group knows.
    pub health: HealthCheck,
    /// On AWS a bound, and the target group knows.
    pub drain: Duration,
    /// Asked of each new instance itself: the answer has to name the version.
    pub version: Option<String>,
    pub strategy: Strategy,
    /// A new instance that is not healthy so long after its launch has failed.
    pub patience: Duration,
    pub env: BTreeMap<String, String>,
}

/// Where a fleet's instances run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Local,
    Aws(Box<setup::Fleet>),
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// This environment variable of whoever runs the engine.
    Env(String),
    /// The content of this file, without one final newline. Absolute.
    File(PathBuf),
}

#[derive(Debug, Clone)]
pub struct Runner {
    /// Attempts that run shell at the same time.
    pub slots: u32,
    /// Environment variables that steps inherit.
    pub pass: Vec<String>,
    /// Longest output of a step, in bytes.
    pub log_limit: u64,
}

/// Longest output of a step unless the settings say otherwise: far more than anybody reads, and less than
/// the disk of whoever did not think of it has.
const LOG_LIMIT: u64 = 1024 * 1024 * 1024;

impl Default for Runner {
    fn default() -> Self {
        let slots = std::thread::available_parallelism().map_or(2, |n| n.get() as u32);
        Self { slots, pass: Vec::new(), log_limit: LOG_LIMIT }
    }
}

impl GitHub {
    /// Where the settings say that this repository, `owner/name`, is cloned from. GitHub tells no upper
    /// from lower case.
    pub fn url(&self, repository: &str) -> Option<&str> {
        let mut all = self.repositories.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(repository))?.1.url.as_deref()
    }
}

impl Environment {
    /// Whether only a certified image may go there: where somebody must promote a run, what they
    /// promote has passed what its pipeline asks.
    pub fn certified_only(&self) -> bool {
        self.promotion == Promotion::Manual
    }
}

impl Settings {
    /// The fleet of a service in an environment.
    pub fn fleet(&self, environment: &EnvironmentName, service: &PipelineName) -> Option<&Fleet> {
        self.environments.get(environment)?.fleets.get(service)
    }

    /// What pipelines see of them.
    pub fn surroundings(&self) -> Surroundings {
        let environments = self.environments.iter().map(|(name, environment)| {
            let services = environment.fleets.keys().cloned().collect();
            (name.clone(), pipeline::Place { services, certified_only: environment.certified_only() })
        });
        let file = self.path.as_deref().and_then(|path| path.file_name());
        Surroundings {
            settings: file.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            environments: environments.collect(),
            secrets: self.secrets.keys().cloned().collect(),
            machines: self.aws.as_ref().map(|(_, builder)| pipeline::Machines {
                builder: builder.is_some(),
                except: self.local_services(),
            }),
        }
    }

    /// The services that are in the local cloud whatever else the settings know.
    fn local_services(&self) -> BTreeSet<PipelineName> {
        let fleets = self.environments.values().flat_map(|environment| &environment.fleets);
        let local = fleets.filter(|(_, fleet)| matches!(fleet.place, Place::Local));
        local.map(|(service, _)| service.clone()).collect()
    }
}
