//! A pipeline that is always legal. Only [`super::check`] makes one, from what the author wrote;
//! everything after it can rely on what is said here.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ArtifactName, EnvironmentName, PipelineName, StageName};
use crate::pipeline::expression::{Expression, Template};

/// The declared DAG of stages for one service.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: PipelineName,
    /// Where the commits come from, unless the command line says otherwise.
    pub source: Option<Source>,
    /// What starts a run by itself.
    pub on: Triggers,
    pub queue: Queue,
    pub params: BTreeMap<String, Param>,
    /// In the order of the file. At least one; names are unique; `needs` name stages of this list
    /// and make no cycle.
    pub stages: Vec<Stage>,
}

/// Where commits come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path (relative to the pipeline file), `file://`, `https://`, `ssh://` or `user@host:path`.
    Git(String),
    /// A repository on GitHub, `owner/name`; the settings may say where else it is cloned from.
    GitHub(String),
}

/// What starts a run by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Triggers {
    pub push: Option<Push>,
    pub pull_request: Option<PullRequest>,
    pub schedules: Vec<Schedule>,
}

/// Which pushes start a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Push {
    /// Of the branch's name. Without `branches` and `tags`: every branch and no tag. With `tags` alone:
    /// no branch.
    pub branches: Patterns,
    pub tags: Patterns,
    /// Of the files that the push changed: one has to match. Empty: whatever changed.
    pub paths: Patterns,
}

/// Which pull requests start a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullRequest {
    /// Of the branch that it is to be merged into. Empty: every one.
    pub branches: Patterns,
    pub paths: Patterns,
    /// The run goes as far as these stages. Never empty where a stage names an environment.
    pub until: Vec<StageName>,
}

/// When runs start by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields, checked: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// An IANA name, checked.
    pub timezone: String,
    /// The branch whose newest commit is taken; `None`: the one that the source has checked out.
    pub branch: Option<String>,
}

/// Patterns of names or paths, in the order of the file. `*` stands for anything but `/`, `**` for
/// anything, `?` for one character, `!` takes back what a pattern before it allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns(pub Vec<String>);

/// What a newer run does to the older ones of the same pipeline and ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Queue {
    /// It supersedes those that have not started, and those that wait at a gate that it reaches.
    #[default]
    Newest,
    /// Nothing: each takes its turn.
    Every,
}

/// A value that whoever starts a run may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Without a default the param must be given.
    pub default: Option<String>,
    pub description: String,
}

/// A node of the DAG.
#[derive(Debug, Clone)]
pub struct Stage {
    pub name: StageName,
    pub kind: Kind,
    /// No repeats.
    pub needs: Vec<StageName>,
    /// `if`. Without one the stage runs when everything it needs has succeeded.
    pub condition: Option<Expression>,
    pub environment: Option<EnvironmentName>,
    /// From the start of an attempt to its end. Time at a gate does not count.
    pub timeout: Duration,
    pub retry: Retry,
    pub env: BTreeMap<String, Template>,
    /// Secrets by the name that the settings give them; each becomes an environment variable.
    pub secrets: Vec<String>,
}

/// What a stage does.
#[derive(Debug, Clone)]
pub enum Kind {
    Checkout,
    Script(Script),
    Upload(Upload),
    Bake(Bake),
    Deploy,
    Certify,
}

impl Kind {
    /// The word behind `uses`; `script` for a stage that lists steps.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Script(_) => "script",
            Self::Upload(_) => "upload",
            Self::Bake(_) => "bake",
            Self::Deploy => "deploy",
            Self::Certify => "certify",
        }
    }

    /// Whether an attempt of it takes one of the runner's slots.
    pub fn takes_slot(&self) -> bool {
        matches!(self, Self::Script(_) | Self::Bake(_))
    }
}

/// Shell steps, one after the other, in one workspace.
#[derive(Debug, Clone)]
pub struct Script {
    /// At least one.
    pub steps: Vec<ShellStep>,
    /// What the stage produces: name → path in the workspace, relative, without `..`.
    pub artifacts: BTreeMap<ArtifactName, String>,
    pub reports: Reports,
}

/// Reports that a stage's steps leave in the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reports {
    /// Patterns of JUnit XML files; empty: none are read.
    pub junit: Patterns,
    pub coverage: Option<Coverage>,
}

/// How much of the code the tests ran through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    pub format: CoverageFormat,
    /// Patterns of the files.
    pub files: Patterns,
    /// In hundredths of a per cent: fewer covered lines fail the stage.
    pub at_least: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoverageFormat {
    Lcov,
    Cobertura,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellStep {
    /// As written, or the first line of `run`.
    pub name: String,
    pub run: String,
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    /// `sh -e`
    #[default]
    Sh,
    /// `bash -euo pipefail`
    Bash,
}

#[derive(Debug, Clone)]
pub struct Upload {
    /// Made by an ancestor.
    pub artifacts: Vec<ArtifactName>,
}

#[derive(Debug, Clone)]
pub struct Bake {
    /// The environment whose fleet's image is the parent. `None`: always `base`.
    pub from: Option<EnvironmentName>,
    /// What to start from where no fleet runs an image yet. `None`: an empty tree.
    pub base: Option<Base>,
    /// Uploaded by ancestors. At least one.
    pub artifacts: Vec<ArtifactName>,
    /// Paths of the commit that are at hand while provisioning.
    pub files: Vec<String>,
    pub provision: Vec<ShellStep>,
    /// The command that starts the service, run by `sh` in the app directory.
    pub start: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// A directory of the commit, or beside the pipeline file.
    Directory(String),
    /// The id of a machine image.
    Ami(String),
    /// The newest machine image of an owner by this name, in which `*` stands for anything.
    Newest { name: String, owner: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Only failures of these causes are tried again.
    pub on: Vec<RetryOn>,
}

/// The causes that a retry may name. What was cancelled or refused by policy is never retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    Task,
    Infrastructure,
    Timeout,
}

impl Pipeline {
    /// The stage of that name.
    pub fn stage(&self, name: &StageName) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == *name)
    }
}
