//! PURE. Replay: new attempts of chosen stages inside the same run, and what is changed for them.
//!
//! Always true: what has succeeded and was not asked for stays as it is; attempts are history and are
//! never taken back; what the run started with ([`super::event::Origin`]) never changes, edits live
//! beside it. Commit, artifacts and images are the recorded ones.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::event::{Actor, Edit, Ending, Origin, Outcome, RunEvent};
use super::extent;
use super::fold::Illegal;
use super::state::{Gate, Hold, Indexes, Phase, RunState};
use crate::ids::{EnvironmentName, RunId, StageName};
use crate::pipeline::model::Pipeline;
use crate::pipeline::{Problems, WithEdit};

#[cfg(test)]
mod tests;

/// Longest value of an edit, in bytes: what Linux lets one environment variable have
/// (`MAX_ARG_STRLEN`, execve(2)).
const VALUE_LIMIT: usize = 128 * 1024 - 1;

/// Which stages get a new attempt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Every stage that failed or was cancelled, and then what was skipped because of it.
    Failed,
    /// This one, and then what comes after it and has not succeeded.
    Stage(StageName),
    /// This one and all that comes after it.
    From(StageName),
}

impl Selection {
    /// As the command line says it.
    pub fn request(&self) -> String {
        match self {
            Self::Failed => "--failed".to_owned(),
            Self::Stage(stage) => format!("--stage {stage}"),
            Self::From(stage) => format!("--from {stage}"),
        }
    }
}

/// A replay that took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    pub at: Timestamp,
    pub actor: Actor,
    pub request: String,
    pub stages: Vec<StageName>,
    pub edits: Vec<Edit>,
}

/// Why a replay cannot be done. `run` is there for the commands to type next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{run} has no stage {stage}{hint}")]
    UnknownStage { run: RunId, stage: StageName, hint: String },
    #[error(
        "{stage} of {run} has not ended yet: wait until it has, or end it with windlass cancel {run} first"
    )]
    NotEnded { run: RunId, stage: StageName },
    #[error(
        "{stage} of {run} cannot be replayed while {user}, which works with what it made, is under way: \
         wait until that has ended, or end it with windlass cancel {run} first"
    )]
    InUse { run: RunId, stage: StageName, user: StageName },
    #[error(
        "{run} is still in {environment}, under a promotion that has done what it was given for: \
         replay {stage} when it has left, then somebody promotes it again"
    )]
    StillInside { run: RunId, environment: EnvironmentName, stage: StageName },
    #[error(
        "nothing of {run} has failed: windlass replay {run} --stage STAGE does one again that has succeeded, \
         --from STAGE also all that comes after it"
    )]
    NothingFailed { run: RunId },
    #[error(
        "{stage} of {run} needs {need}, which has not succeeded: replay {root} first, \
         and what comes after it follows: windlass replay {run} --stage {root}"
    )]
    NeedsMore { run: RunId, stage: StageName, need: StageName, root: StageName },
    #[error("the pipeline of {run} has no param {name:?}{hint}")]
    UnknownParam { run: RunId, name: String, hint: String },
    #[error("{stage} of {run} has no {name:?} in its env{hint}")]
    UnknownEnv { run: RunId, stage: StageName, name: String, hint: String },
    #[error(
        "{edit} would change nothing: {stage} is not among what {request} replays; \
         windlass replay {run} --from {stage} does that stage again"
    )]
    NotReplayed { run: RunId, stage: StageName, edit: String, request: String },
    #[error("{target} is set twice: say it once")]
    Twice { target: String },
    #[error("the value of {target} {why}")]
    Value { target: String, why: &'static str },
    #[error("with these edits the pipeline of {run} is not valid:\n{problems}")]
    Invalid { run: RunId, problems: String },
}

impl Refusal {
    /// Whether it names something that is not there.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::UnknownStage { .. } | Self::UnknownParam { .. } | Self::UnknownEnv { .. })
    }
}

/// The events of a replay, or why there is none.
pub fn carry_out(
    state: &RunState,
    selection: &Selection,
    edits: &[Edit],
    actor: &Actor,
) -> Result<Vec<RunEvent>, Refusal> {
    let chosen = select(state, selection)?;
    check_edits(state, selection, &chosen, edits)?;
    Ok(vec![RunEvent::Replayed {
        actor: actor.clone(),
        request: selection.request(),
        stages: chosen.iter().map(|i| state.pipeline.stages[*i].name.clone()).collect(),
        edits: edits.to_vec(),
    }])
}

/// The stages that get a new attempt, in the order of the file.
fn select(state: &RunState, selection: &Selection) -> Result<BTreeSet<usize>, Refusal> {
    let run = &state.id;
    let phase = |i: usize| &state.stages[i].phase;
    let chosen: BTreeSet<usize> = match selection {
        Selection::Failed => {
            // What a cancelled run never came to was skipped because of the cancel.
            let cut_off = matches!(state.ending, Some(Ending::Cancelled | Ending::Superseded));
            let failed = (0..state.stages.len()).filter(|i| match phase(*i) {
                Phase::Failed | Phase::Cancelled => true,
                Phase::Skipped { .. } => cut_off,
                _ => false,
            });
            let failed: BTreeSet<usize> = failed.collect();
            let mut after = descendants(state, &failed);
            after.retain(|i| matches!(phase(*i), Phase::Skipped { .. }));
            &failed | &after
        }
        Selection::Stage(name) | Selection::From(name) => {
            let first = BTreeSet::from([named(state, name)?]);
            let all = matches!(selection, Selection::From(_));
            let mut after = descendants(state, &first);
            after.retain(|i| phase(*i).is_final() && (all || *phase(*i) != Phase::Succeeded));
            &first | &after
        }
    };
    if chosen.is_empty() {
        return Err(Refusal::NothingFailed { run: run.clone() });
    }
    let name = |i: usize| state.pipeline.stages[i].name.clone();
    if let Some((stage, user)) = under_way(state, &chosen) {
        return Err(Refusal::InUse { run: run.clone(), stage: name(stage), user: name(user) });
    }
    match still_inside(state, &chosen) {
        None => Ok(chosen),
        Some((environment, stage)) => {
            let (environment, stage) = (environment.clone(), name(stage));
            Err(Refusal::StillInside { run: run.clone(), environment, stage })
        }
    }
}

/// The stage of that name, if it can be replayed by itself.
fn named(state: &RunState, name: &StageName) -> Result<usize, Refusal> {
    let (run, stage) = (state.id.clone(), name.clone());
    let Some(i) = state.names.get(name).copied() else {
        let hint = near(name.as_str(), state.pipeline.stages.iter().map(|stage| stage.name.as_str()));
        return Err(Refusal::UnknownStage { run, stage, hint });
    };
    if !state.stages[i].phase.is_final() {
        return Err(Refusal::NotEnded { run, stage });
    }
    // A stage with an `if` says for itself when it runs.
    let blocker = |i: usize| match state.pipeline.stages[i].condition {
        Some(_) => None,
        None => state.blocker(i),
    };
    if let Some(need) = blocker(i) {
        // The first on the way up that could run: replaying it carries on to the one asked for.
        let mut root = need;
        while let Some(next) = blocker(root) {
            root = next;
        }
        let name = |i: usize| state.pipeline.stages[i].name.clone();
        return Err(Refusal::NeedsMore { run, stage, need: name(need), root: name(root) });
    }
    Ok(i)
}

/// All that comes after these stages, without them.
fn descendants(state: &RunState, of: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next: Vec<usize> = of.iter().copied().collect();
    while let Some(i) = next.pop() {
        for dependent in state.graph.dependents(i) {
            if !of.contains(dependent) && found.insert(*dependent) {
                next.push(*dependent);
            }
        }
    }
    found
}

/// A stage after one of `chosen` that has an attempt under way or coming: it works with what that
/// one made.
fn under_way(state: &RunState, chosen: &BTreeSet<usize>) -> Option<(usize, usize)> {
    if state.index.running.is_empty() && state.index.retrying.is_empty() {
        return None;
    }
    let after = descendants(state, chosen);
    let user = state.running().chain(state.retrying()).find(|i| after.contains(i))?;
    let stage = chosen.iter().copied().find(|i| state.graph.ancestors(user).contains(*i))?;
    Some((stage, user))
}

/// One of `chosen` in an environment that the run has not left, and where it would need another
/// promotion: while it is inside, nobody is asked.
fn still_inside<'a>(state: &'a RunState, chosen: &BTreeSet<usize>) -> Option<(&'a EnvironmentName, usize)> {
    let spent = |gate: &Gate| gate.hold == Hold::Held && gate.spent && gate.promoted.is_some();
    let inside = state.gates.iter().filter(|(_, gate)| spent(gate));
    let mut found = inside.filter_map(|(environment, gate)| {
        Some((environment, gate.stages.iter().copied().find(|i| chosen.contains(i))?))
    });
    found.next()
}

fn check_edits(
    state: &RunState,
    selection: &Selection,
    chosen: &BTreeSet<usize>,
    edits: &[Edit],
) -> Result<(), Refusal> {
    let run = || state.id.clone();
    let mut targets = BTreeSet::new();
    for edit in edits {
        let target = edit.target();
        if edit.value().contains('\0') {
            return Err(Refusal::Value { target, why: "has a NUL character, which no program takes" });
        }
        if edit.value().len() > VALUE_LIMIT {
            return Err(Refusal::Value { target, why: "is too long: at most 131,071 bytes are taken" });
        }
        if let Edit::Param { name, .. } = edit
            && !state.pipeline.params.contains_key(name)
        {
            let hint = near(name, state.pipeline.params.keys().map(String::as_str));
            return Err(Refusal::UnknownParam { run: run(), name: name.clone(), hint });
        }
        if let Edit::With { stage, .. } | Edit::Env { stage, .. } = edit {
            let Some(i) = state.names.get(stage).copied() else {
                let names = state.pipeline.stages.iter().map(|stage| stage.name.as_str());
                let hint = near(stage.as_str(), names);
                return Err(Refusal::UnknownStage { run: run(), stage: stage.clone(), hint });
            };
            if let Edit::Env { name, .. } = edit {
                let env = &state.pipeline.stages[i].env;
                if !env.contains_key(name) {
                    let hint = near(name, env.keys().map(String::as_str));
                    let (stage, name) = (stage.clone(), name.clone());
                    return Err(Refusal::UnknownEnv { run: run(), stage, name, hint });
                }
            }
            if !chosen.contains(&i) && state.stages[i].phase != Phase::Pending {
                let (stage, edit, request) = (stage.clone(), edit.target(), selection.request());
                return Err(Refusal::NotReplayed { run: run(), stage, edit, request });
            }
        }
        if !targets.insert(target.clone()) {
            return Err(Refusal::Twice { target });
        }
    }
    if edits.iter().any(|edit| matches!(edit, Edit::With { .. })) {
        let edited = read(&state.origin, state.edits().chain(edits));
        edited.map_err(|problems| Refusal::Invalid { run: run(), problems: problems.to_string() })?;
    }
    Ok(())
}

/// The pipeline that the run started with, with the edits of its `with`.
fn read<'a>(origin: &Origin, edits: impl Iterator<Item = &'a Edit>) -> Result<Pipeline, Problems> {
    let mut with: Vec<WithEdit> = Vec::new();
    for edit in edits {
        let Edit::With { stage, key, value } = edit else { continue };
        // The last word counts.
        with.retain(|other| (&other.stage, &other.key) != (stage, key));
        with.push(WithEdit { stage: stage.clone(), key: key.clone(), value: value.clone() });
    }
    crate::pipeline::read_edited(&origin.pipeline, &origin.pipeline_path, &with)
}

/// What was probably meant, or all that there is.
fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    let nearest = known.iter().map(|known| (distance(known), *known)).min();
    match nearest.filter(|(distance, _)| *distance <= 1 + word.chars().count() / 4) {
        Some((_, near)) => format!("; did you mean {near}?"),
        None if known.is_empty() => "; it has none at all".to_owned(),
        None => format!("; it has {}", known.join(", ")),
    }
}

impl RunState {
    /// Every edit so far, the oldest first.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.replays.iter().flat_map(|replay| &replay.edits)
    }

    /// Takes in a replay: its stages are pending again, and the run goes on if it had ended. On an
    /// error the state is as it was.
    pub(super) fn replay(&mut self, replay: Replay) -> Result<(), Illegal> {
        let illegal =
            |what: &dyn ToString, why| Illegal::Order { event: "replayed", what: what.to_string(), why };
        if self.cancel.is_some() && self.ending.is_none() {
            return Err(illegal(&self.id, "it is being cancelled"));
        }
        if replay.stages.is_empty() {
            return Err(illegal(&self.id, "it names no stage"));
        }
        let mut chosen = BTreeSet::new();
        for stage in &replay.stages {
            let i = self.names.get(stage).copied().ok_or_else(|| Illegal::Stage(stage.clone()))?;
            if !self.stages[i].phase.is_final() {
                return Err(illegal(stage, "it has not ended"));
            }
            chosen.insert(i);
        }
        if let Some((stage, _)) = under_way(self, &chosen) {
            return Err(illegal(&self.pipeline.stages[stage].name, "what comes after it is under way"));
        }
        if let Some((environment, _)) = still_inside(self, &chosen) {
            return Err(illegal(environment, "the run is there under a promotion that is spent"));
        }
        let edits = replay.edits.iter();
        if edits.clone().any(|edit| matches!(edit, Edit::With { .. })) {
            let pipeline = read(&self.origin, self.edits().chain(edits.clone()))
                .map_err(|problems| Illegal::Pipeline(problems.to_string()))?;
            let same = |(new, old): (&_, &_)| Self::is_same_place(new, old);
            if pipeline.stages.len() != self.pipeline.stages.len()
                || !pipeline.stages.iter().zip(&self.pipeline.stages).all(same)
            {
                return Err(illegal(&self.id, "its edits make another pipeline"));
            }
            self.pipeline = Arc::new(pipeline);
        }
        for edit in edits {
            match edit {
                Edit::Param { name, value } => drop(self.params.insert(name.clone(), value.clone())),
                Edit::Env { stage, name, value } => {
                    if let Some(i) = self.names.get(stage) {
                        self.stages[*i].env.insert(name.clone(), value.clone());
                    }
                }
                Edit::With { .. } => {}
            }
        }
        for i in &chosen {
            let stage = &mut self.stages[*i];
            stage.phase = Phase::Pending;
            stage.before = stage.attempts.len() as u32;
        }
        self.ending = None;
        self.cancel = None;
        self.superseded = None;
        self.replays.push(replay);
        self.reindex();
        self.reopen_gates(&chosen);
        Ok(())
    }

    /// Edits change what a stage works with, never where it stands.
    fn is_same_place(new: &crate::pipeline::model::Stage, old: &crate::pipeline::model::Stage) -> bool {
        new.name == old.name && new.needs == old.needs && new.environment == old.environment
    }

    /// The run has to enter the environments of these stages again. What a person decided stays,
    /// until a rollout that it let through has succeeded: so a deploy that failed is tried again
    /// without a second click.
    fn reopen_gates(&mut self, chosen: &BTreeSet<usize>) {
        let ready = &self.index.ready;
        for gate in self.gates.values_mut() {
            let replayed = gate.stages.iter().any(|i| chosen.contains(i));
            // The run does not stand there any more: something before it is to be done again.
            let moved_back = gate.undecided().is_some() && !gate.stages.iter().any(|i| ready.contains(i));
            if moved_back || (replayed && (gate.spent || gate.rejected.is_some())) {
                gate.ask_again();
            }
            if replayed && gate.hold == Hold::Left {
                gate.hold = Hold::NotYet;
            }
        }
    }

    /// Makes the indexes anew from the phases of the stages alone.
    pub fn reindex(&mut self) {
        let count = self.stages.len();
        let started = self.stages.iter().any(|stage| !stage.attempts.is_empty());
        let mut index = Indexes { unmet: vec![0; count], started, ..Indexes::default() };
        let graph = self.graph.clone();
        for i in graph.order() {
            let settled = |need: &&usize| self.stages[**need].phase.is_final() && index.unmet[**need] == 0;
            let open = graph.needs(*i).iter().filter(|need| !settled(need)).count();
            index.unmet[*i] = open as u32;
        }
        self.gates.values_mut().for_each(|gate| gate.open = 0);
        for (i, stage) in self.stages.iter().enumerate() {
            if !stage.phase.is_final() {
                index.open += 1;
                let environment = self.pipeline.stages[i].environment.as_ref();
                if let Some(gate) = environment.and_then(|environment| self.gates.get_mut(environment)) {
                    gate.open += 1;
                }
            } else if stage.phase != Phase::Succeeded {
                index.unwell.insert(i);
            }
            let mut ends = stage.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
            if ends.any(|end| end.as_ref().is_ok_and(Outcome::hands_on)) {
                index.givers.insert(i);
            }
            match stage.phase {
                Phase::Running => drop(index.running.insert(i)),
                Phase::Retrying { .. } => drop(index.retrying.insert(i)),
                Phase::Failed => index.failed = true,
                _ => {}
            }
        }
        self.index = index;
        self.index.beyond = extent::outside(self);
        for i in 0..count {
            if self.stages[i].phase == Phase::Pending && self.index.unmet[i] == 0 {
                self.becomes_ready(i);
            }
        }
    }
}

impl Edit {
    /// What it changes: `params.flavour`, `build.env.FLAVOUR`.
    pub fn target(&self) -> String {
        match self {
            Self::Param { name, .. } => format!("params.{name}"),
            Self::With { stage, key, .. } => format!("{stage}.with.{key}"),
            Self::Env { stage, name, .. } => format!("{stage}.env.{name}"),
        }
    }

    pub fn value(&self) -> &str {
        match self {
            Self::Param { value, .. } | Self::With { value, .. } | Self::Env { value, .. } => value,
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.target(), self.value())
    }
}

/// Why a text is no edit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an edit is params.NAME=VALUE, STAGE.with.KEY=VALUE or STAGE.env.NAME=VALUE, not {text:?}")]
pub struct EditError {
    text: String,
}

impl FromStr for Edit {
    type Err = EditError;

    fn from_str(text: &str) -> Result<Self, EditError> {
        let wrong = || EditError { text: text.to_owned() };
        let (target, value) = text.split_once('=').ok_or_else(wrong)?;
        let value = value.to_owned();
        let (first, rest) = target.split_once('.').ok_or_else(wrong)?;
        let edit = match rest.split_once('.') {
            None if first == "params" => Self::Param { name: rest.to_owned(), value },
            Some((word, name)) if !name.is_empty() => {
                let (stage, name) = (first.parse().map_err(|_| wrong())?, name.to_owned());
                match word {
                    "with" => Self::With { stage, key: name, value },
                    "env" => Self::Env { stage, name, value },
                    _ => return Err(wrong()),
                }
            }
            _ => return Err(wrong()),
        };
        match edit.target() == "params." {
            true => Err(wrong()),
            false => Ok(edit),
        }
    }
}
