//! What can happen to a run, a fleet and an environment. Events are facts in the past tense; they are stored as
//! JSON with the version of their format, and never changed afterwards.
//!
//! A field may be added when it has a default; anything else is a new version with a reader for the
//! old one, and a test with old data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::ids::{
    ArtifactName, CommitSha, Digest, EnvironmentName, ImageId, Key, PipelineName, RunId, StageName,
};

/// The version of the stored format of [`RunEvent`], [`FleetEvent`] and [`EnvironmentEvent`].
pub const FORMAT: u32 = 1;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Actor {
    pub name: String,
    /// Whether a credential proved the name. Names from `--as` or the operating system are not.
    pub verified: bool,
}

/// Why a text is not the name of who acts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActorError {
    #[error("a name of who acts has 1 to {} printable characters, not {name:?}", Actor::LIMIT)]
    Unprintable { name: String },
    #[error("{name:?} is not a person: names that start with `policy:` stand for rules")]
    Policy { name: String },
}

impl Actor {
    /// Longest name, in characters.
    pub const LIMIT: usize = 100;

    /// Somebody who says who they are, and nobody proved it.
    pub fn named(name: &str) -> Result<Self, ActorError> {
        let printable = |c: char| !c.is_control() && !is_invisible(c);
        if name.trim().is_empty() || name.chars().count() > Self::LIMIT || !name.chars().all(printable) {
            return Err(ActorError::Unprintable { name: name.to_owned() });
        }
        match name.starts_with("policy:") {
            true => Err(ActorError::Policy { name: name.to_owned() }),
            false => Ok(Self::unverified(name.trim())),
        }
    }

    pub fn unverified(name: impl Into<String>) -> Self {
        Self { name: name.into(), verified: false }
    }

    /// A decision that the command line took beforehand: `run --promote`, `demo --auto`.
    pub fn command_line_policy() -> Self {
        Self::unverified("policy:command-line")
    }
}

/// Characters that change how others are shown and show nothing themselves: with them a name can look
/// like another one (Unicode Technical Report 36).
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Why something failed: what decides whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The author's command ended with another exit code than 0, or did not do what it promised.
    Task,
    /// Something around it: the runner was lost, a disk was full, a cloud said no.
    Infrastructure,
    Timeout,
    Cancelled,
    /// A rule said no: a rejected promotion, an image that is not certified.
    Policy,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Infrastructure => "infrastructure",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Policy => "policy",
        }
    }
}

/// A failure with its cause and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }
    pub fn task(message: impl Into<String>) -> Self {
        Self::new(Cause::Task, message)
    }
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self::new(Cause::Infrastructure, message)
    }
    pub fn policy(message: impl Into<String>) -> Self {
        Self::new(Cause::Policy, message)
    }
}

/// What started a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trigger {
    /// A person, at a command line, a page or the API.
    Manual,
    /// Commits were pushed to a branch, or a tag was.
    Push {
        /// `X-GitHub-Delivery` of the webhook that told.
        delivery: String,
    },
    PullRequest {
        delivery: String,
        number: u64,
    },
    /// It was time.
    Schedule {
        due: Timestamp,
    },
    /// A person took a fleet back to what it ran before.
    Rollback {
        environment: EnvironmentName,
        /// What the fleet ran when it was asked for; quarantined as soon as the run holds the fleet.
        from: ImageId,
    },
}

impl Trigger {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Push { .. } => "push",
            Self::PullRequest { .. } => "pull_request",
            Self::Schedule { .. } => "schedule",
            Self::Rollback { .. } => "rollback",
        }
    }
}

/// The commit that a run takes along, as it was when the run was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Commit {
    pub sha: CommitSha,
    /// Empty when the commit was named directly and no branch is known.
    pub branch: String,
    /// `Name <address>`
    pub author: String,
    pub message: String,
}

/// Which manual gates a run passes by the word of the command line that started it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Promote {
    #[default]
    Nothing,
    Environments(Vec<EnvironmentName>),
    All,
}

impl Promote {
    pub fn covers(&self, environment: &EnvironmentName) -> bool {
        match self {
            Self::Nothing => false,
            Self::Environments(some) => some.contains(environment),
            Self::All => true,
        }
    }
}

/// Everything a run starts with; nothing of it changes later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Origin {
    /// The text of the pipeline file.
    pub pipeline: String,
    /// The pipeline file, for messages and for paths beside it. Absolute.
    pub pipeline_path: String,
    /// The settings file given with `--config`, absolute; read again by whoever carries on.
    pub settings_path: Option<String>,
    /// The address commits are fetched from: an absolute path or a URL, without credentials.
    pub source: Option<String>,
    pub commit: Option<Commit>,
    pub params: BTreeMap<String, String>,
    pub trigger: Trigger,
    pub actor: Actor,
    pub promote: Promote,
    /// The ref that the commit came from, whole: `refs/heads/main`, `refs/pull/12/head`. Runs of one
    /// pipeline and ref stand in one queue; a run without one stands in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The run goes as far as these stages and what they need; empty: to its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub until: Vec<StageName>,
    /// The image that a run of [`Trigger::Rollback`] deploys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
}

impl Origin {
    /// A run of this pipeline text that a person started, with nothing else to it.
    pub fn new(pipeline: impl Into<String>, pipeline_path: impl Into<String>, actor: Actor) -> Self {
        Self {
            pipeline: pipeline.into(),
            pipeline_path: pipeline_path.into(),
            settings_path: None,
            source: None,
            commit: None,
            params: BTreeMap::new(),
            trigger: Trigger::Manual,
            actor,
            promote: Promote::Nothing,
            reference: None,
            until: Vec::new(),
            image: None,
        }
    }
}

/// What one attempt of a stage works with: evaluated once, recorded, and never again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inputs {
    pub env: BTreeMap<String, String>,
}

/// An artifact that a stage produced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    pub name: ArtifactName,
    /// Where it came from and is restored to, relative to the workspace.
    pub path: String,
    /// Of its manifest: the same content has the same digest.
    pub digest: Digest,
    /// Sum of the sizes of its files, in bytes.
    pub bytes: u64,
}

/// An image as a run records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Image {
    pub id: ImageId,
    /// `{service}-{version}` of the run that baked it.
    pub name: String,
    /// The digest of parent, artifacts, files, provision and start.
    pub key: Digest,
    /// `None` for an image made from a base.
    pub parent: Option<ImageId>,
    pub commit: Option<CommitSha>,
    /// The run that baked it.
    pub run: RunId,
}

/// What a successful attempt hands on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// Names of artifacts that are now in the object store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uploaded: Vec<ArtifactName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Set by `certify`: the image that is now certified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<ImageId>,
}

impl Outcome {
    /// Whether there is more to it than values for expressions.
    pub fn hands_on(&self) -> bool {
        self.image.is_some() || self.certified.is_some() || !self.artifacts.is_empty()
    }
}

/// What a promotion will ship, as it was when the run reached the gate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Shipment {
    pub image: Option<Image>,
    /// What the fleet runs now; `None` the first time.
    pub running_image: Option<ImageId>,
    pub running_commit: Option<CommitSha>,
    /// Newest first, since the running commit; at most 100.
    pub commits: Vec<ShippedCommit>,
    /// Paths changed since the running commit; at most 500.
    pub files: Vec<String>,
    /// The commit is an ancestor of what runs: promoting it takes the fleet back.
    pub rollback: bool,
    /// Everybody who wrote one of the commits that ship, `Name <address>`, also beyond the first 100
    /// commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// Of the new image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ImageId>,
    /// What differs in the environment of the instances, `NAME: old → new`; values that look secret
    /// are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
    /// Why some of this is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ShippedCommit {
    pub sha: CommitSha,
    pub author: String,
    pub subject: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Succeeded,
    Failed,
    Cancelled,
    /// A newer run took its place before it did anything that counts.
    Superseded,
}

/// Something that a replay changes in the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Edit {
    /// `params.NAME=VALUE`
    Param { name: String, value: String },
    /// `STAGE.with.KEY=VALUE`; the value is YAML.
    With { stage: StageName, key: String, value: String },
    /// `STAGE.env.NAME=VALUE`
    Env { stage: StageName, name: String, value: String },
}

/// A fact of a run's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEvent {
    /// Always first, and only then.
    Created {
        run: RunId,
        origin: Box<Origin>,
    },
    /// A stage's attempt was decided, with what it works with. Recorded before anything of it runs.
    AttemptStarted {
        stage: StageName,
        attempt: u32,
        inputs: Inputs,
    },
    /// The intent of a step. Recorded before its effect.
    StepStarted {
        stage: StageName,
        attempt: u32,
        step: u32,
        name: String,
    },
    /// A fact that the step needs after a crash: what was chosen, what was observed.
    StepNoted {
        stage: StageName,
        attempt: u32,
        step: u32,
        key: String,
        value: serde_json::Value,
    },
    StepSucceeded {
        stage: StageName,
        attempt: u32,
        step: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(default)]
        log_bytes: u64,
        /// What the step found out, for the steps after it. Secrets never.
        #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
        result: serde_json::Value,
    },
    StepFailed {
        stage: StageName,
        attempt: u32,
        step: u32,
        failure: Failure,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(default)]
        log_bytes: u64,
    },
    AttemptSucceeded {
        stage: StageName,
        attempt: u32,
        outcome: Box<Outcome>,
    },
    AttemptFailed {
        stage: StageName,
        attempt: u32,
        failure: Failure,
    },
    /// An attempt that failed before anything of it ran: a rejected promotion, an expression without
    /// a value.
    AttemptRefused {
        stage: StageName,
        attempt: u32,
        failure: Failure,
    },
    /// A failure that the retry policy covers: the next attempt starts at `not_before`.
    RetryScheduled {
        stage: StageName,
        attempt: u32,
        not_before: Timestamp,
    },
    StageSkipped {
        stage: StageName,
        reason: String,
    },
    /// The run stands at an environment that asks for a promotion. Comes again when what runs there
    /// changes before anybody decides.
    GateReached {
        environment: EnvironmentName,
        stage: StageName,
        shipment: Box<Shipment>,
    },
    /// Somebody said yes where more than one has to; the last one's yes is [`Self::Promoted`].
    Approved {
        environment: EnvironmentName,
        actor: Actor,
    },
    Promoted {
        environment: EnvironmentName,
        actor: Actor,
    },
    Rejected {
        environment: EnvironmentName,
        actor: Actor,
        reason: String,
    },
    /// The run holds the environment's fleet, through its last stage there or its own end.
    EnvironmentEntered {
        environment: EnvironmentName,
        stage: StageName,
    },
    EnvironmentLeft {
        environment: EnvironmentName,
    },
    /// A deadline passed: the attempt is being stopped.
    TimeoutReached {
        stage: StageName,
        attempt: u32,
    },
    CancelRequested {
        actor: Actor,
        #[serde(default)]
        reason: String,
    },
    /// A newer run of the same pipeline and ref took its place; nothing more of it starts.
    Superseded {
        by: RunId,
        reason: String,
    },
    /// New attempts of these stages, with these changes. May follow [`Self::Ended`]: then the run goes
    /// on.
    Replayed {
        actor: Actor,
        /// As it was asked for: `--failed`, `--from build`.
        request: String,
        /// All that is pending again, in the order of the file.
        stages: Vec<StageName>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        edits: Vec<Edit>,
    },
    /// What the reports of an attempt say. Recorded before the attempt's end.
    Reported {
        stage: StageName,
        attempt: u32,
        report: Box<Report>,
    },
    Ended {
        ending: Ending,
    },
}

/// What every instance of a fleet is launched with, besides its port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub image: ImageId,
    pub env: BTreeMap<String, String>,
}

impl Release {
    /// Tells releases apart: the same id is the same image with the same environment.
    pub fn id(&self) -> Digest {
        let mut text = self.image.as_str().to_owned();
        for (name, value) in &self.env {
            text.push_str(&format!("\0{name}={value}"));
        }
        Digest::of(text.as_bytes())
    }
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RolloutEnd {
    /// The new release everywhere.
    Completed,
    /// The old release everywhere; after a failed first rollout, no instances.
    RolledBack { reason: String },
    /// Turned back, but the old release did not come up either: what was healthy keeps serving.
    Stranded { reason: String },
}

/// An instance that is to be launched outside a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaunch {
    /// The last part of its name.
    pub n: u32,
    pub key: Key,
}

/// A fact of a fleet's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FleetEvent {
    /// A run holds the fleet: no other rollout starts.
    Held {
        run: RunId,
        service: PipelineName,
    },
    Released {
        run: RunId,
    },
    /// The intent to move the fleet to `release`. `image` says where it came from.
    RolloutStarted {
        run: RunId,
        stage: StageName,
        attempt: u32,
        key: Key,
        image: Box<Image>,
        release: Release,
        size: u32,
        /// The ref that the run's commit came from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    RolloutEnded {
        key: Key,
        end: RolloutEnd,
    },
    /// The traffic was switched: what ran before stands by until then, for a way back at once.
    StandbyHeld {
        /// Of the rollout.
        key: Key,
        /// What stands by.
        image: Box<Image>,
        release: Release,
        until: Timestamp,
    },
    /// The intent to launch what is missing while no rollout is under way.
    RepairStarted {
        launches: Vec<Relaunch>,
        /// So many repairs in a row before this one came to nothing.
        strikes: u32,
    },
    /// What was launched came to nothing again: the next repair is put off.
    BackedOff {
        until: Timestamp,
        strikes: u32,
        /// What became of the last of them.
        reason: String,
    },
    /// The fleet was whole for a while after it had come to nothing.
    Recovered,
    /// Somebody takes the fleet down: from here on nobody keeps it alive.
    DownStarted {
        actor: Actor,
    },
    /// The fleet was taken down: no instances, no balancer.
    Ended {
        actor: Actor,
    },
    /// The image must not be deployed or built upon, by this service anywhere.
    Quarantined {
        image: ImageId,
        /// Of the image.
        name: String,
        actor: Actor,
        reason: String,
    },
    QuarantineLifted {
        image: ImageId,
        actor: Actor,
        reason: String,
    },
    /// No run enters until somebody unlocks it.
    Locked {
        actor: Actor,
        reason: String,
    },
    Unlocked {
        actor: Actor,
    },
}

/// A fact of an environment's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EnvironmentEvent {
    /// No run enters any fleet of it until somebody unlocks it.
    Locked {
        actor: Actor,
        reason: String,
    },
    Unlocked {
        actor: Actor,
    },
}

#[cfg(test)]
mod tests;
