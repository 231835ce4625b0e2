//! PURE. What the pipeline of a run says, read once: thousands of runs of the same text share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Origin, Trigger};
use super::fold::Illegal;
use crate::ids::{RunId, StageName};
use crate::pipeline::graph::Graph;
use crate::pipeline::model::{Kind, Pipeline};

/// A rollback that has not ended by then is stopped, and leaves the fleet in a safe state: half an hour
/// is several times what a fleet of dozens takes with minutes to drain.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A pipeline with what can be told of it beforehand.
#[derive(Debug, Clone)]
pub struct Outline {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) graph: Arc<Graph>,
    pub(super) names: Arc<HashMap<StageName, usize>>,
    /// Stages that check the commit out, in the order of the file.
    pub(super) checkouts: Arc<[usize]>,
}

impl Outline {
    /// Reads the pipeline of a run.
    pub fn of(run: &RunId, origin: &Origin) -> Result<Self, Illegal> {
        let pipeline = match &origin.trigger {
            Trigger::Rollback { environment, .. } => {
                crate::pipeline::rollback(&run.pipeline, environment, ROLLBACK_TIMEOUT)
            }
            _ => crate::pipeline::read(&origin.pipeline, &origin.pipeline_path)
                .map_err(|problems| Illegal::Pipeline(problems.to_string()))?,
        };
        let graph = Graph::new(&pipeline);
        let stages = || pipeline.stages.iter().enumerate();
        let names = stages().map(|(i, stage)| (stage.name.clone(), i)).collect();
        let checkouts = stages().filter(|(_, stage)| matches!(stage.kind, Kind::Checkout)).map(|(i, _)| i);
        Ok(Self {
            checkouts: checkouts.collect(),
            names: Arc::new(names),
            graph: Arc::new(graph),
            pipeline: Arc::new(pipeline),
        })
    }

    /// Whether anybody else has it.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.graph) > 1
    }
}
