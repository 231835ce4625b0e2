//! What lists show of the runs that are driven, however many stages each has: their drivers are asked.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::{Engine, fleets};
use crate::ids::{EnvironmentName, FleetId, PipelineName, RunId};
use crate::run::decide::Waits;
use crate::run::state::RunState;
use crate::run::view::{self, Status};
use crate::store::FleetRow;

/// What a list shows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    pub status: Status,
    pub waiting_for: Option<String>,
    /// Which environments its stages wait for, and why.
    at: Vec<(EnvironmentName, String)>,
}

impl Glance {
    pub(super) fn of(state: &RunState, waits: &Waits) -> Self {
        let at = waits.stages.iter().filter_map(|(i, wait)| {
            let environment = state.pipeline.stages.get(*i)?.environment.clone()?;
            Some((environment, wait.reason.clone()))
        });
        let status = view::status(state, waits);
        Self { status, waiting_for: view::waiting_for(status, waits), at: at.collect() }
    }
}

impl Engine {
    /// Which driven runs wait for which environments of these fleets' services, and why: of each pipeline and
    /// environment those that came first, and how many there are.
    pub(super) async fn waiting(&self, fleets: &[FleetRow]) -> fleets::Waiting {
        let mut waiting = fleets::Waiting::default();
        let mut asked = BTreeSet::new();
        let services: BTreeSet<&PipelineName> = fleets.iter().map(|row| &row.fleet.service).collect();
        self.0.lanes.ask_all(|pipeline, lanes| {
            if !services.contains(pipeline) {
                return;
            }
            let mut counts: BTreeMap<&EnvironmentName, u64> = BTreeMap::new();
            for (number, standing) in lanes.runs() {
                for (environment, _) in standing.places.iter().filter(|(_, stand)| stand.waits()) {
                    let count = counts.entry(environment).or_default();
                    *count += 1;
                    if *count <= fleets::NAMED {
                        asked.insert(RunId::new(pipeline.clone(), number));
                    }
                }
            }
            for (environment, count) in counts {
                waiting.add(FleetId::new(pipeline.clone(), environment.clone()), count);
            }
        });
        let asked: Vec<RunId> = asked.into_iter().collect();
        for (run, glance) in asked.iter().zip(self.glances(&asked).await) {
            for (environment, reason) in glance.map(|glance| glance.at).unwrap_or_default() {
                waiting.say(FleetId::new(run.pipeline.clone(), environment), format!("{run}: {reason}"));
            }
        }
        waiting
    }

    /// What a list shows of each of these runs; `None` of those that nobody drives. All drivers are asked
    /// before the first has answered.
    pub async fn glances(&self, runs: &[RunId]) -> Vec<Option<Glance>> {
        let glance = |run| {
            let handle = self.handle(run);
            async move { handle?.glance().await }
        };
        join_all(runs.iter().map(glance)).await
    }
}
