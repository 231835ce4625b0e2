//! Pipelines and deliveries as documents. Fields are only ever added.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use crate::ids::{PipelineName, RunId};
use crate::pipeline::model::{Patterns, Triggers};
use crate::store::{self, Delivery, DeliveryFilter, DeliveryStatus, Inbox};

/// Every pipeline file of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PipelineList {
    /// By the file's name.
    pub pipelines: Vec<PipelineView>,
    /// Why the directory cannot be read now.
    pub error: Option<String>,
}

impl PipelineList {
    /// What is wrong, a text each.
    pub fn problems(&self) -> Vec<String> {
        let file = |view: &PipelineView| {
            let error = view.error.as_ref()?;
            Some(match &view.pipeline {
                Some(name) => format!("{}: the last good version of {name} stays in use: {error}", view.file),
                None => format!("{}: no run can start from it: {error}", view.file),
            })
        };
        self.error.iter().cloned().chain(self.pipelines.iter().filter_map(file)).collect()
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PipelineView {
    /// `None` for a file that was never good.
    pub pipeline: Option<PipelineName>,
    /// Its name in the directory.
    pub file: String,
    /// What is wrong with it now; runs start from its last good version, where there is one.
    pub error: Option<String>,
    /// When its schedules are due next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_due: Option<Timestamp>,
    /// What starts a run by itself, a few words each: `a push to main`.
    #[serde(default)]
    pub starts: Vec<String>,
    /// The params that a run can be given; those without a default have to be.
    #[serde(default)]
    pub params: Vec<ParamView>,
}

/// A param of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ParamView {
    pub name: String,
    pub default: Option<String>,
    pub description: String,
}

/// Deliveries, newest first: the public document of `windlass deliveries --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryList {
    pub deliveries: Vec<DeliveryView>,
}

/// What came in, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeliveryView {
    pub id: String,
    /// `github` or `schedule`.
    pub source: String,
    pub event: String,
    #[schema(value_type = String, format = DateTime)]
    pub received_at: Timestamp,
    pub status: DeliveryStatus,
    /// Why it is not handled yet, why it starts nothing, or what else is to be said.
    pub reason: Option<String>,
    /// Those that it started.
    pub runs: Vec<RunId>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.key.id,
            source: delivery.key.source,
            event: delivery.event,
            received_at: delivery.received_at,
            status: delivery.settlement.status,
            reason: delivery.settlement.reason,
            runs: delivery.settlement.runs,
        }
    }
}

impl DeliveryList {
    /// What is in a store, newest first.
    pub async fn of<S: Inbox + ?Sized>(store: &S, filter: &DeliveryFilter) -> Result<Self, store::Error> {
        let deliveries = store.deliveries(filter).await?;
        Ok(Self { deliveries: deliveries.into_iter().map(DeliveryView::from).collect() })
    }
}

pub(super) fn pipelines(catalog: &Catalog, now: Timestamp) -> PipelineList {
    let view = |(file, entry): (&String, &super::Entry)| {
        let pipeline = entry.listed.as_ref().map(|listed| &listed.pipeline);
        let schedules = pipeline.map(|pipeline| pipeline.on.schedules.as_slice()).unwrap_or_default();
        let params = pipeline.map(|pipeline| {
            pipeline.params.iter().map(|(name, param)| ParamView {
                name: name.clone(),
                default: param.default.clone(),
                description: param.description.clone(),
            })
        });
        PipelineView {
            pipeline: pipeline.map(|pipeline| pipeline.name.clone()),
            file: file.clone(),
            error: entry.problem.clone(),
            next_due: schedules.iter().filter_map(|schedule| schedule.after(now)).min(),
            starts: pipeline.map(|pipeline| starts(&pipeline.on)).unwrap_or_default(),
            params: params.into_iter().flatten().collect(),
        }
    };
    PipelineList { pipelines: catalog.files.iter().map(view).collect(), error: catalog.problem.clone() }
}

/// `a push to main or release/*, of files src/**`
fn starts(on: &Triggers) -> Vec<String> {
    let of = |what: &str, patterns: &Patterns| match patterns.is_empty() {
        true => String::new(),
        false => format!("{what}{}", patterns.0.join(", ")),
    };
    let mut starts = Vec::new();
    if let Some(push) = &on.push {
        let paths = of(", of files ", &push.paths);
        match (push.branches.is_empty(), push.tags.is_empty()) {
            (true, true) => starts.push(format!("a push to any branch{paths}")),
            (false, true) => starts.push(format!("a push{}{paths}", of(" to ", &push.branches))),
            (true, false) => starts.push(format!("a push{}{paths}", of(" of the tag ", &push.tags))),
            (false, false) => starts.push(format!(
                "a push{}{}{paths}",
                of(" to ", &push.branches),
                of(", or of the tag ", &push.tags)
            )),
        }
    }
    if let Some(request) = &on.pull_request {
        let until: Vec<&str> = request.until.iter().map(|stage| stage.as_str()).collect();
        let until = match until.is_empty() {
            true => String::new(),
            false => format!(", as far as {}", until.join(", ")),
        };
        let (into, paths) = (of(" into ", &request.branches), of(", of files ", &request.paths));
        starts.push(format!("a pull request{into}{paths}{until}"));
    }
    starts.extend(on.schedules.iter().map(|schedule| {
        let branch = schedule.branch.as_ref().map(|branch| format!(", of {branch}")).unwrap_or_default();
        format!("the schedule {} ({}){branch}", schedule.cron, schedule.timezone)
    }));
    starts
}
