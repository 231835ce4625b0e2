//! From the pipeline as it was written to one that is always legal. Every check adds what it finds
//! and goes on, so that all problems come out at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use crate::ids::{EnvironmentName, PipelineName};

use super::graph::Graph;
use super::model;
use super::problem::Problems;
use super::spec;

mod build;
mod expressions;
mod flow;
mod needs;
mod places;
mod reports;
mod triggers;

/// Most stages that a pipeline may have.
pub const STAGES_LIMIT: usize = 5_000;

/// What a pipeline may count on around it: a small view of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The settings file, for messages; empty when there is none.
    pub settings: String,
    pub environments: BTreeMap<EnvironmentName, Place>,
    /// The names of the secrets.
    pub secrets: BTreeSet<String>,
    /// Where images are machine images. `None`: nowhere.
    pub machines: Option<Machines>,
}

/// A cloud whose images are machine images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machines {
    /// Whether it is said what machine they are made on.
    pub builder: bool,
    /// The services that are elsewhere.
    pub except: BTreeSet<PipelineName>,
}

/// An environment, as pipelines see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The services that have a fleet there.
    pub services: BTreeSet<PipelineName>,
    /// Whether only a certified image may go there.
    pub certified_only: bool,
}

/// A pipeline that is being checked.
struct Check<'a> {
    spec: &'a spec::Pipeline<'a>,
    /// The text of the file, for places inside of values.
    source: &'a str,
    /// Stages by name, the first of a name.
    stages: HashMap<&'a str, usize>,
    params: HashSet<&'a str>,
    graph: Graph,
    problems: &'a mut Problems,
}

/// Checks what was written, adding to `problems`. Answers the pipeline if there is no error.
pub(super) fn check(
    spec: &spec::Pipeline<'_>,
    source: &str,
    surroundings: Option<&Surroundings>,
    problems: &mut Problems,
) -> Option<model::Pipeline> {
    if let Some(beyond) = spec.stages.get(STAGES_LIMIT) {
        let message = format!("a pipeline has at most {STAGES_LIMIT} stages, this one {}", spec.stages.len());
        problems.error(beyond.name.at.clone(), message);
        return None;
    }
    let stages = spec.stages.iter().enumerate().map(|(place, stage)| (stage.name.text, place)).collect();
    let params = spec.params.iter().map(|param| param.name.text).collect();
    let mut check = Check { spec, source, stages, params, graph: Graph::of(Vec::new()), problems };
    check.needs();
    check.flow();
    check.expressions();
    check.triggers();
    check.reports();
    if let Some(surroundings) = surroundings {
        check.places(surroundings);
    }
    match check.problems.has_errors() {
        true => None,
        false => build::pipeline(spec, &check.graph),
    }
}

impl<'a> Check<'a> {
    fn error(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut super::problem::Problem {
        self.problems.error(at, message)
    }

    fn stage(&self, place: usize) -> &'a spec::Stage<'a> {
        &self.spec.stages[place]
    }

    fn stage_names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.spec.stages.iter().map(|stage| stage.name.text)
    }

    /// Whether it is known what comes before the stage. It is not for those in and behind a cycle or
    /// an unknown name, and no more is said about these.
    fn is_ordered(&self, place: usize, tangled: &[bool]) -> bool {
        !tangled.get(place).copied().unwrap_or(true)
    }
}
