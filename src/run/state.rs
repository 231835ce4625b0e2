//! PURE. The state of a run, and what can be read off it. It changes by [`RunState::apply`] alone,
//! which is in [`super::fold`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::event::{Actor, Artifact, Ending, Failure, Image, Inputs, Origin, Outcome, Shipment, Trigger};
use super::replay::Replay;
use super::report::Report;
use crate::ids::{AttemptId, CommitSha, EnvironmentName, ImageId, RunId, StageName};
use crate::pipeline::graph::Graph;
use crate::pipeline::model::{Kind, Pipeline, Stage};

/// Everything known of a run.
#[derive(Debug, Clone)]
pub struct RunState {
    pub id: RunId,
    pub origin: Arc<Origin>,
    /// The origin's, as replays have edited them since.
    pub params: BTreeMap<String, String>,
    /// As replays have edited it; names, needs and environments are those of the origin's.
    pub pipeline: Arc<Pipeline>,
    pub graph: Arc<Graph>,
    pub(super) names: Arc<HashMap<StageName, usize>>,
    pub(super) checkouts: Arc<[usize]>,
    /// By the stage's index in the pipeline.
    pub stages: Vec<StageState>,
    /// The environments that stages name.
    pub gates: BTreeMap<EnvironmentName, Gate>,
    pub cancel: Option<Cancel>,
    pub superseded: Option<Superseded>,
    pub ending: Option<Ending>,
    /// The oldest first.
    pub replays: Vec<Replay>,
    /// Of the last event.
    pub sequence: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub(super) index: Indexes,
}

/// What `decide` looks at, kept up to date so that it never walks all stages.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    /// Needs that have not ended yet, or that come after one that has not, by stage.
    pub unmet: Vec<u32>,
    /// Pending stages before which all has ended, but for the plain ones.
    pub ready: BTreeSet<usize>,
    /// Of these, the ones that need nothing but a slot.
    pub plain: BTreeSet<usize>,
    pub running: BTreeSet<usize>,
    pub retrying: BTreeSet<usize>,
    /// Pending stages that the run does not come to.
    pub beyond: BTreeSet<usize>,
    /// Stages of which an attempt handed on an image, artifacts or a certificate.
    pub givers: BTreeSet<usize>,
    /// Stages that have ended without success.
    pub unwell: BTreeSet<usize>,
    /// Stages that have not ended.
    pub open: usize,
    pub failed: bool,
    /// Whether any attempt was ever recorded.
    pub started: bool,
}

#[derive(Debug, Clone)]
pub struct Cancel {
    pub actor: Actor,
    pub reason: String,
    pub at: Timestamp,
}

/// A newer run took its place.
#[derive(Debug, Clone)]
pub struct Superseded {
    pub by: RunId,
    pub reason: String,
    pub at: Timestamp,
}

/// Where a run stands with an environment that its stages name.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Indexes of the stages that name it, in the order of the file.
    pub stages: Vec<usize>,
    /// How many of these have not ended.
    pub(super) open: usize,
    /// When it asked for a promotion, and what that would ship.
    pub reached: Option<(Timestamp, Box<Shipment>)>,
    /// Who said yes where more than one has to, but for the last one.
    pub approvals: Vec<(Timestamp, Actor)>,
    pub promoted: Option<(Timestamp, Actor)>,
    pub rejected: Option<(Timestamp, Actor, String)>,
    pub hold: Hold,
    /// A rollout that the promotion let through has succeeded: a replay asks for another one. Where
    /// no stage is a deploy, any stage's success counts.
    pub spent: bool,
    /// That has happened at least once: what the command line decided beforehand counts no longer.
    pub shipped: bool,
}

impl Gate {
    /// What a promotion would ship, while the run stands here and nobody has decided.
    pub fn undecided(&self) -> Option<&Shipment> {
        let open = self.promoted.is_none() && self.rejected.is_none();
        self.reached.as_ref().filter(|_| open).map(|(_, shipment)| &**shipment)
    }

    /// Whether what it shows, or showed when somebody decided, is this image.
    pub fn shows(&self, image: Option<&ImageId>) -> bool {
        let shown = self.reached.as_ref().map(|(_, shipment)| shipment.image.as_ref().map(|i| &i.id));
        shown.is_some_and(|shown| shown == image)
    }

    /// Whether it shows an image, and another one than this.
    pub fn shows_another(&self, image: Option<&ImageId>) -> bool {
        let shown = self.reached.as_ref().and_then(|(_, shipment)| shipment.image.as_ref());
        shown.is_some_and(|shown| Some(&shown.id) != image)
    }

    /// Nobody has decided, and nobody knows yet what there is to decide on.
    /// Whether what it shows wants a person to decide, also where nobody asks for a promotion: it goes
    /// back, or not all of it is known.
    pub fn needs_a_person(&self) -> bool {
        self.reached.as_ref().is_some_and(|(_, ships)| ships.rollback || ships.note.is_some())
    }

    pub(super) fn ask_again(&mut self) {
        self.reached = None;
        self.approvals.clear();
        self.promoted = None;
        self.rejected = None;
        self.spent = false;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    NotYet,
    Held,
    Left,
}

/// A stage: its attempts, and where it stands.
#[derive(Debug, Clone)]
pub struct StageState {
    pub phase: Phase,
    /// All of them, also those before a replay.
    pub attempts: Vec<AttemptState>,
    /// How many of them were made before the last replay of the stage: retries count from there.
    pub before: u32,
    /// Edited by replays: wins over what the pipeline says.
    pub env: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    /// The last attempt failed in a way that the retry policy covers. Without a time, the next
    /// attempt has not been scheduled yet.
    Retrying {
        not_before: Option<Timestamp>,
    },
    Succeeded,
    Failed,
    Cancelled,
    Skipped {
        reason: String,
    },
}

impl Phase {
    /// Whether nothing more will happen to the stage by itself.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped { .. })
    }
}

/// One try of a stage.
#[derive(Debug, Clone)]
pub struct AttemptState {
    pub inputs: Inputs,
    /// What it worked with, where its stage names an environment and comes after a bake.
    pub image: Option<ImageId>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// When its deadline passed.
    pub timed_out_at: Option<Timestamp>,
    pub steps: Vec<StepState>,
    /// What its reports say.
    pub report: Option<Report>,
    pub end: Option<Result<Outcome, Failure>>,
}

/// The note of a step under way that says what it waits for; `null` when it goes on.
pub const WAITING_FOR: &str = "waiting_for";

#[derive(Debug, Clone)]
pub struct StepState {
    pub name: String,
    pub phase: StepPhase,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub exit_code: Option<i32>,
    pub log_bytes: u64,
    pub notes: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepPhase {
    Running,
    Succeeded { result: serde_json::Value },
    Failed(Failure),
}

impl RunState {
    /// Pending stages whose needs have all succeeded, and that need nothing but one of the runner's
    /// slots: there may be thousands, and looking at as many as there are slots is enough.
    pub fn plain(&self) -> &BTreeSet<usize> {
        &self.index.plain
    }

    /// Whether stage `i` is one of [`Self::plain`].
    pub fn is_plain(&self, i: usize) -> bool {
        self.index.plain.contains(&i)
    }

    /// Whether all that stage `i` needs has ended, and it has not started.
    pub fn is_ready(&self, i: usize) -> bool {
        self.index.ready.contains(&i) || self.is_plain(i)
    }

    /// The other pending stages whose needs have all ended.
    pub fn ready(&self) -> impl Iterator<Item = usize> + '_ {
        self.index.ready.iter().copied()
    }

    /// Stages with a running attempt.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        self.index.running.iter().copied()
    }

    /// Where the stage stands in the pipeline.
    pub fn position(&self, stage: &StageName) -> Option<usize> {
        self.names.get(stage).copied()
    }

    /// Stages between two attempts.
    pub fn retrying(&self) -> impl Iterator<Item = usize> + '_ {
        self.index.retrying.iter().copied()
    }

    /// Stages that have ended without success.
    pub fn unwell(&self) -> impl Iterator<Item = usize> + '_ {
        self.index.unwell.iter().copied()
    }

    /// How many stages have not ended.
    pub fn open(&self) -> usize {
        self.index.open
    }

    /// Whether anything of it was ever tried.
    pub fn has_started(&self) -> bool {
        self.index.started
    }

    /// What a run that takes a fleet back is to take it back from.
    pub fn rolls_back_from(&self) -> Option<&ImageId> {
        match &self.origin.trigger {
            Trigger::Rollback { from, .. } => Some(from),
            _ => None,
        }
    }

    /// Whether a stage has failed for good.
    pub fn has_failed(&self) -> bool {
        self.index.failed
    }

    pub fn stage(&self, i: usize) -> (&Stage, &StageState) {
        (&self.pipeline.stages[i], &self.stages[i])
    }

    /// The number of the last attempt, 0 before the first.
    pub fn attempt_number(&self, i: usize) -> u32 {
        self.stages[i].attempts.len() as u32
    }

    pub fn attempt_id(&self, i: usize, attempt: u32) -> AttemptId {
        AttemptId { run: self.id.clone(), stage: self.pipeline.stages[i].name.clone(), attempt }
    }

    /// What the stage's newest successful attempt handed on.
    pub fn outcome(&self, i: usize) -> Option<&Outcome> {
        let attempts = self.stages[i].attempts.iter().rev();
        attempts.filter_map(|attempt| attempt.end.as_ref()).find_map(|end| end.as_ref().ok())
    }

    pub fn commit_sha(&self) -> Option<&CommitSha> {
        self.origin.commit.as_ref().map(|commit| &commit.sha)
    }

    /// Number and short commit: `42-9f3c2a1b`.
    pub fn version(&self) -> String {
        self.id.version(self.commit_sha())
    }

    /// What the stage's ancestors handed on that more than their dependents' expressions may need, in the
    /// order of the file. Of thousands of ancestors few do.
    fn given(&self, i: usize) -> impl Iterator<Item = &Outcome> {
        let ancestors = self.graph.ancestors(i);
        let givers = self.index.givers.iter().filter(|giver| ancestors.contains(**giver));
        givers.filter_map(|giver| self.outcome(*giver))
    }

    /// The artifacts that the stage's ancestors produced.
    pub fn ancestor_artifacts(&self, i: usize) -> Vec<Artifact> {
        self.given(i).flat_map(|outcome| outcome.artifacts.iter().cloned()).collect()
    }

    /// Whether an ancestor of the stage checks the commit out.
    pub fn is_checked_out(&self, i: usize) -> bool {
        let ancestors = self.graph.ancestors(i);
        self.checkouts.iter().any(|checkout| ancestors.contains(*checkout))
    }

    /// The one image among the stage's ancestors; in a rollback the one it was started with.
    pub fn ancestor_image(&self, i: usize) -> Option<Image> {
        let baked = self.given(i).find_map(|outcome| outcome.image.clone());
        baked.or_else(|| self.origin.image.clone().filter(|_| self.rolls_back_from().is_some()))
    }

    /// An ancestor that names an environment and last succeeded with another image than stage `i` has:
    /// what it found out says nothing about this one.
    pub fn outdated_ancestor(&self, i: usize) -> Option<usize> {
        let image = self.ancestor_image(i)?.id;
        let ancestors = self.graph.ancestors(i);
        // Only there does an attempt note what it worked with.
        let in_environments = self.gates.values().flat_map(|gate| &gate.stages).copied();
        let outdated = in_environments.filter(|a| ancestors.contains(*a)).filter(|a| {
            let mut attempts = self.stages[*a].attempts.iter().rev();
            let last = attempts.find(|attempt| matches!(attempt.end, Some(Ok(_))));
            last.and_then(|attempt| attempt.image.as_ref()).is_some_and(|worked_with| *worked_with != image)
        });
        outdated.min()
    }

    /// The image that a promotion to the environment lets in: that of its first deploy, or of its
    /// first stage where none is one.
    pub fn gate_image(&self, gate: &Gate) -> Option<Image> {
        let deploys = |i: &&usize| matches!(self.pipeline.stages[**i].kind, Kind::Deploy);
        let stage = gate.stages.iter().find(deploys).or(gate.stages.first())?;
        self.ancestor_image(*stage)
    }

    /// The stage because of which this one does not run: a need that has ended without success, or one
    /// that a need came after. A stage that succeeded before what it needs was replayed, and failed, is
    /// as good as skipped, unless its `if` says for itself when it runs.
    pub fn blocker(&self, i: usize) -> Option<usize> {
        let mut seen = BTreeSet::new();
        let mut next = vec![i];
        while let Some(i) = next.pop() {
            for need in self.graph.needs(i) {
                match &self.stages[*need].phase {
                    Phase::Succeeded => {
                        // Without a replay, all that a success needs has succeeded before it.
                        let own_word = self.pipeline.stages[*need].condition.is_some();
                        if !self.replays.is_empty() && !own_word && seen.insert(*need) {
                            next.push(*need);
                        }
                    }
                    phase if phase.is_final() => return Some(*need),
                    _ => {}
                }
            }
        }
        None
    }

    /// Attempts of the stage since its last replay.
    pub fn attempts_now(&self, i: usize) -> u32 {
        self.attempt_number(i) - self.stages[i].before
    }

    /// Whether an ancestor of the stage certified the image. One that a rollback goes back to went in
    /// under the rules before.
    pub fn is_certified(&self, i: usize, image: &ImageId) -> bool {
        if self.rolls_back_from().is_some() {
            return self.origin.image.as_ref().is_some_and(|own| own.id == *image);
        }
        self.given(i).any(|outcome| outcome.certified.as_ref() == Some(image))
    }
}
