//! PURE. A run as people and programs see it. This is the public, stable document of
//! `windlass show --json`: fields are only ever added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::approval::Policy;
use super::decide::{Wait, WaitKind, Waits};
use super::event::{Cause, Ending, Failure, Image, Shipment};
use super::replay::Replay;
use super::report::{Coverage, Report};
use super::state::{AttemptState, Phase, RunState, StepPhase, WAITING_FOR};
use crate::ids::{CommitSha, EnvironmentName, PipelineName, RunId, StageName};
use crate::pipeline::model::{Kind, Stage};

/// The version of the document.
pub const SCHEMA: u32 = 1;

/// A run's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Waiting,
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    Superseded,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Superseded)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageStatus {
    Pending,
    Queued,
    Running,
    Retrying,
    Waiting,
    Succeeded,
    Failed,
    Skipped,
    Cancelled,
}

impl StageStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to the stage.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Cancelled)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    Pending,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
}

impl StepStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunView {
    pub schema: u32,
    pub run: RunId,
    pub pipeline: PipelineName,
    pub number: u64,
    pub version: String,
    pub commit: Option<CommitSha>,
    pub branch: Option<String>,
    pub author: Option<String>,
    pub message: Option<String>,
    pub status: Status,
    pub actor: String,
    /// Whether a credential proved who the actor is.
    pub actor_verified: bool,
    /// As replays have edited them.
    pub params: BTreeMap<String, String>,
    /// Why nothing moves, in one sentence; `null` while something runs.
    pub waiting_for: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// Who cancelled it, and why.
    pub cancelled_by: Option<String>,
    /// The newer run that took its place.
    #[serde(default)]
    pub superseded_by: Option<RunId>,
    pub stages: Vec<StageView>,
    pub gates: Vec<GateView>,
    /// The oldest first.
    #[serde(default)]
    pub replays: Vec<ReplayView>,
}

/// Stages that were done again, and what was changed for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReplayView {
    pub at: Timestamp,
    pub actor: String,
    /// Whether a credential proved who the actor is.
    pub actor_verified: bool,
    /// As it was asked for: `--failed`, `--from build`.
    pub request: String,
    pub stages: Vec<StageName>,
    /// `params.flavour=fancy`
    pub edits: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StageView {
    pub name: StageName,
    pub uses: String,
    pub needs: Vec<StageName>,
    pub environment: Option<EnvironmentName>,
    pub status: StageStatus,
    /// The number of the attempt that is shown; 0 before the first, and before the first of a replay.
    pub attempt: u32,
    /// How many there were, those before a replay too.
    pub attempts: u32,
    pub waiting_for: Option<String>,
    /// Why it failed, as a word and as a sentence; for a skipped stage the sentence alone.
    pub cause: Option<Cause>,
    pub reason: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub steps: Vec<StepView>,
    pub outputs: BTreeMap<String, String>,
    pub artifacts: BTreeMap<String, String>,
    pub image: Option<Image>,
    /// What the reports of the attempt that is shown say.
    pub report: Option<Report>,
    /// The share of the lines that tests ran through: `86.20 %`.
    pub coverage: Option<String>,
    /// Every attempt, the oldest first.
    #[serde(default)]
    pub history: Vec<AttemptView>,
}

/// One try of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptView {
    pub attempt: u32,
    pub status: StageStatus,
    pub cause: Option<Cause>,
    pub reason: Option<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub steps: Vec<StepView>,
    /// What its reports say.
    pub report: Option<Report>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepView {
    pub name: String,
    pub status: StepStatus,
    pub exit_code: Option<i32>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub log_bytes: u64,
    pub reason: Option<String>,
}

/// A decision that the run waited for, or waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GateView {
    pub environment: EnvironmentName,
    /// `waiting`, `promoted` or `rejected`.
    pub status: String,
    pub reached_at: Timestamp,
    /// When it was promoted or rejected.
    pub decided_at: Option<Timestamp>,
    pub actor: Option<String>,
    pub reason: Option<String>,
    pub ships: Shipment,
    /// Who said yes so far, where more than one has to, but for the last one.
    #[serde(default)]
    pub approvals: Vec<ApprovalView>,
    /// How many different people have to say yes.
    #[serde(default = "one")]
    pub approvals_needed: u32,
    /// Each of them has one of these roles; empty: anybody may.
    #[serde(default)]
    pub roles: Vec<String>,
}

fn one() -> u32 {
    1
}

/// Somebody's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApprovalView {
    pub actor: String,
    pub at: Timestamp,
}

impl RunView {
    /// Fills in what the settings ask at the gates, which no journal knows.
    pub fn apply_policy(&mut self, policy: &Policy) {
        for gate in &mut self.gates {
            let rules = policy.rules(&gate.environment);
            gate.approvals_needed = rules.count;
            gate.roles = rules.roles.into_iter().collect();
        }
    }
}

/// Draws the run. `waits` is what `decide` said last; a run that nobody drives has none.
pub fn view(state: &RunState, waits: &Waits) -> RunView {
    let status = status(state, waits);
    let commit = state.origin.commit.as_ref();
    RunView {
        schema: SCHEMA,
        run: state.id.clone(),
        pipeline: state.id.pipeline.clone(),
        number: state.id.number,
        version: state.version(),
        commit: state.commit_sha().cloned(),
        branch: commit.map(|commit| commit.branch.clone()).filter(|branch| !branch.is_empty()),
        author: commit.map(|commit| commit.author.clone()),
        message: commit.map(|commit| commit.message.clone()),
        status,
        actor: state.origin.actor.name.clone(),
        actor_verified: state.origin.actor.verified,
        params: state.params.clone(),
        waiting_for: waiting_for(status, waits),
        created_at: state.created_at,
        finished_at: state.ending.map(|_| state.updated_at),
        cancelled_by: state.cancel.as_ref().map(|cancel| match cancel.reason.as_str() {
            "" => cancel.actor.name.clone(),
            reason => format!("{}: {reason}", cancel.actor.name),
        }),
        superseded_by: state.superseded.as_ref().map(|superseded| superseded.by.clone()),
        stages: (0..state.stages.len()).map(|i| stage_view(state, waits, i)).collect(),
        gates: gates(state),
        replays: state.replays.iter().map(replay_view).collect(),
    }
}

/// What a run with this status waits for.
pub fn waiting_for(status: Status, waits: &Waits) -> Option<String> {
    let waits_for = matches!(status, Status::Waiting | Status::Queued).then(|| waits.first()).flatten();
    waits_for.map(|wait| wait.reason.clone())
}

/// The run's status.
pub fn status(state: &RunState, waits: &Waits) -> Status {
    match state.ending {
        Some(Ending::Succeeded) => return Status::Succeeded,
        Some(Ending::Failed) => return Status::Failed,
        Some(Ending::Cancelled) => return Status::Cancelled,
        Some(Ending::Superseded) => return Status::Superseded,
        None => {}
    }
    if state.cancel.is_some() {
        return Status::Cancelling;
    }
    if state.running().next().is_some() {
        return Status::Running;
    }
    let at_a_gate = state.gates.values().any(|gate| gate.undecided().is_some());
    let long = |wait: &Wait| matches!(wait.kind, WaitKind::Gate | WaitKind::Retry | WaitKind::Space);
    let for_long = waits.stages.values().chain(&waits.plain).any(long);
    let soon = waits.plain.is_some() || waits.stages.values().any(|wait| !long(wait));
    match (state.has_started(), at_a_gate || for_long, soon) {
        (_, true, _) => Status::Waiting,
        (false, false, _) => Status::Queued,
        (true, false, true) => Status::Running,
        // Nothing runs and nothing says why: nobody drives it, or it is just about to go on.
        (true, false, false) => Status::Waiting,
    }
}

/// What the step under way says that it waits for.
fn awaited(attempt: &AttemptState) -> Option<String> {
    let step = attempt.steps.last().filter(|step| step.phase == StepPhase::Running)?;
    step.notes.get(WAITING_FOR)?.as_str().map(str::to_owned)
}

fn stage_view(state: &RunState, waits: &Waits, i: usize) -> StageView {
    let (stage, stage_state) = state.stage(i);
    let wait = waits.of(state, i);
    let status = match (&stage_state.phase, wait.map(|wait| wait.kind)) {
        (Phase::Pending, Some(WaitKind::Slot)) => StageStatus::Queued,
        (Phase::Pending, Some(WaitKind::Gate | WaitKind::Retry | WaitKind::Space)) => StageStatus::Waiting,
        (Phase::Pending, Some(WaitKind::Survey) | None) => StageStatus::Pending,
        (Phase::Running, _) => StageStatus::Running,
        (Phase::Retrying { .. }, _) => StageStatus::Retrying,
        (Phase::Succeeded, _) => StageStatus::Succeeded,
        (Phase::Failed, _) => StageStatus::Failed,
        (Phase::Cancelled, _) => StageStatus::Cancelled,
        (Phase::Skipped { .. }, _) => StageStatus::Skipped,
    };
    // A stage that has to be done again has nothing to show yet: what it did before is its history.
    let ahead = matches!(stage_state.phase, Phase::Pending | Phase::Skipped { .. });
    let attempt = stage_state.attempts.last().filter(|_| !ahead);
    let failure = attempt.and_then(failure_of);
    let outcome = state.outcome(i);
    let report = attempt.and_then(|attempt| attempt.report.as_ref());
    let reason = match &stage_state.phase {
        Phase::Skipped { reason } => Some(reason.clone()),
        _ => failure.map(|failure| failure.message.clone()),
    };
    StageView {
        name: stage.name.clone(),
        uses: stage.kind.word().to_owned(),
        needs: stage.needs.clone(),
        environment: stage.environment.clone(),
        status,
        attempt: attempt.map_or(0, |_| state.attempt_number(i)),
        attempts: state.attempt_number(i),
        waiting_for: wait.map(|wait| wait.reason.clone()).or_else(|| attempt.and_then(awaited)),
        cause: failure.map(|failure| failure.cause),
        reason,
        started_at: attempt.map(|attempt| attempt.started_at),
        finished_at: attempt.and_then(|attempt| attempt.finished_at),
        steps: steps(stage, attempt, stage_state.phase.is_final()),
        outputs: outcome.map(|outcome| outcome.outputs.clone()).unwrap_or_default(),
        artifacts: outcome
            .map(|outcome| {
                outcome.artifacts.iter().map(|a| (a.name.to_string(), a.digest.to_string())).collect()
            })
            .unwrap_or_default(),
        image: outcome.and_then(|outcome| outcome.image.clone()),
        coverage: report.and_then(|report| report.coverage.as_ref()).map(Coverage::percent),
        report: report.cloned(),
        history: (1..)
            .zip(&stage_state.attempts)
            .map(|(n, attempt)| attempt_view(stage, n, attempt))
            .collect(),
    }
}

fn failure_of(attempt: &AttemptState) -> Option<&Failure> {
    attempt.end.as_ref()?.as_ref().err()
}

fn attempt_view(stage: &Stage, number: u32, attempt: &AttemptState) -> AttemptView {
    let failure = failure_of(attempt);
    AttemptView {
        attempt: number,
        status: match (&attempt.end, failure) {
            (None, _) => StageStatus::Running,
            (Some(_), None) => StageStatus::Succeeded,
            (Some(_), Some(Failure { cause: Cause::Cancelled, .. })) => StageStatus::Cancelled,
            (Some(_), Some(_)) => StageStatus::Failed,
        },
        cause: failure.map(|failure| failure.cause),
        reason: failure.map(|failure| failure.message.clone()),
        started_at: attempt.started_at,
        finished_at: attempt.finished_at,
        steps: steps(stage, Some(attempt), attempt.end.is_some()),
        report: attempt.report.clone(),
    }
}

fn replay_view(replay: &Replay) -> ReplayView {
    ReplayView {
        at: replay.at,
        actor: replay.actor.name.clone(),
        actor_verified: replay.actor.verified,
        request: replay.request.clone(),
        stages: replay.stages.clone(),
        edits: replay.edits.iter().map(ToString::to_string).collect(),
    }
}

/// The steps of the last attempt; for a script also those that have not started.
fn steps(stage: &Stage, attempt: Option<&AttemptState>, ended: bool) -> Vec<StepView> {
    let mut steps: Vec<StepView> = Vec::new();
    for step in attempt.map(|attempt| attempt.steps.as_slice()).unwrap_or_default() {
        let (status, reason) = match &step.phase {
            StepPhase::Running => (StepStatus::Running, None),
            StepPhase::Succeeded { .. } => (StepStatus::Succeeded, None),
            StepPhase::Failed(failure) if failure.cause == Cause::Cancelled => {
                (StepStatus::Cancelled, Some(failure.message.clone()))
            }
            StepPhase::Failed(failure) => (StepStatus::Failed, Some(failure.message.clone())),
        };
        steps.push(StepView {
            name: step.name.clone(),
            status,
            exit_code: step.exit_code,
            started_at: Some(step.started_at),
            finished_at: step.finished_at,
            log_bytes: step.log_bytes,
            reason,
        });
    }
    if let Kind::Script(script) = &stage.kind {
        let status = if ended { StepStatus::Skipped } else { StepStatus::Pending };
        for step in script.steps.iter().skip(steps.len()) {
            steps.push(StepView {
                name: step.name.clone(),
                status,
                exit_code: None,
                started_at: None,
                finished_at: None,
                log_bytes: 0,
                reason: None,
            });
        }
    }
    steps
}

fn gates(state: &RunState) -> Vec<GateView> {
    let mut gates = Vec::new();
    for (environment, gate) in &state.gates {
        let Some((reached_at, ships)) = &gate.reached else { continue };
        let (status, by, reason) = match (&gate.promoted, &gate.rejected) {
            (_, Some((at, actor, reason))) => ("rejected", Some((at, actor)), Some(reason.clone())),
            (Some((at, actor)), None) => ("promoted", Some((at, actor)), None),
            (None, None) => ("waiting", None, None),
        };
        gates.push(GateView {
            environment: environment.clone(),
            status: status.to_owned(),
            reached_at: *reached_at,
            decided_at: by.map(|(at, _)| *at),
            actor: by.map(|(_, actor)| actor.name.clone()),
            reason,
            ships: (**ships).clone(),
            approvals: gate
                .approvals
                .iter()
                .map(|(at, by)| ApprovalView { actor: by.name.clone(), at: *at })
                .collect(),
            approvals_needed: one(),
            roles: Vec::new(),
        });
    }
    gates
}
