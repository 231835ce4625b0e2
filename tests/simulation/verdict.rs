//! What has to be true when all is over.

use std::sync::Arc;
use std::time::Duration;

use windlass::cloud::InstanceState;
use windlass::ids::RunId;
use windlass::run::decide::Waits;
use windlass::run::event::RolloutEnd;
use windlass::run::view;
use windlass::store::{RunFilter, Store};

use crate::people::Person;
use crate::world::World;

/// How long whoever keeps fleets alive may take to make one whole.
const REPAIR: Duration = Duration::from_secs(3600);

/// Runs that neither end nor wait for anybody.
pub async fn stands_still(world: &Arc<World>, person: &Person, unfinished: Vec<RunId>) {
    let process = person.process.borrow().clone();
    for run in unfinished {
        let view = match &process {
            Some(process) => process.ask(process.engine.view(&run)).await,
            None => None,
        };
        let told = match view {
            Some(Ok(view)) => {
                let stages: Vec<String> = view
                    .stages
                    .iter()
                    .map(|s| format!("{} {:?} {:?}", s.name, s.status, s.waiting_for))
                    .collect();
                format!("{:?}, waiting for {:?}: {}", view.status, view.waiting_for, stages.join("; "))
            }
            Some(Err(error)) => error.to_string(),
            None => "nobody answers".to_owned(),
        };
        world.broken(format!("{run} does not end: {told}"));
    }
}

/// Lists agree with journals, and fleets with their records.
pub async fn at_the_end(world: &Arc<World>) {
    let rows = world.memory.runs(&RunFilter { limit: Some(u32::MAX), ..RunFilter::default() }).await;
    let rows = rows.unwrap_or_default();
    let runs = world.ledger().runs.clone();
    if rows.len() != runs.len() {
        world.broken(format!("{} runs are listed, and {} were created", rows.len(), runs.len()));
    }
    for row in rows {
        let Some(state) = runs.get(&row.run) else { continue };
        let status = view::status(state, &Waits::at_gates(state));
        if state.ending.is_some() && (row.status != status.as_str() || row.updated_at != state.updated_at) {
            world.broken(format!("the list says {} of {}, and its journal {status:?}", row.status, row.run));
        }
    }
    let starts =
        world.scenario.whims.iter().filter(|(_, whim)| matches!(whim, crate::draft::Whim::Start { .. }));
    let triggered = runs.values().filter(|run| run.rolls_back_from().is_none()).count();
    if triggered != starts.clone().count() {
        world.broken(format!("{triggered} runs were created of {} triggers", starts.count()));
    }
    for step in world.machine.running(|_| true) {
        world.broken(format!("{step} goes on running when all is over"));
    }
    fleets(world).await;
}

async fn fleets(world: &Arc<World>) {
    if world.scenario.keeps {
        tokio::time::sleep(REPAIR).await;
    }
    for fleet in world.ground.fleets() {
        let state = world.ledger().fleets.get(&fleet).cloned().unwrap_or_default();
        if let Some(holder) = &state.holder {
            world.broken(format!("{fleet} is held by {holder}, and all is over"));
        }
        if state.is_rolling() {
            world.broken(format!("the rollout of {fleet} has no end"));
            continue;
        }
        let standing = world.ground.standing(&fleet);
        let end = state.rollout.as_ref().and_then(|rollout| rollout.end.clone());
        let told = || {
            let told = standing
                .iter()
                .map(|(i, healthy)| format!("{} of {} {:?} {healthy}", i.id, i.release.short(), i.state));
            format!("{:?}: {}", end, told.collect::<Vec<_>>().join(", "))
        };
        let alive = || standing.iter().filter(|(i, _)| !matches!(i.state, InstanceState::Failed { .. }));
        let Some(current) = &state.current else {
            let stranded = matches!(end, Some(RolloutEnd::Stranded { .. }));
            if alive().next().is_some() && !stranded {
                world.broken(format!("{fleet} runs nothing by its record, and there is {}", told()));
            }
            continue;
        };
        let release = current.release.id();
        let held = state.standby.as_ref().map(|standby| standby.release.id());
        let strange = alive().any(|(i, _)| i.release != release && Some(&i.release) != held.as_ref());
        let stranded = matches!(end, Some(RolloutEnd::Stranded { .. }));
        if strange && (world.scenario.keeps || !stranded) {
            world.broken(format!("{fleet} runs {} by its record, and there is {}", release.short(), told()));
        }
        let well = alive().filter(|(i, healthy)| i.release == release && *healthy).count();
        // What comes to nothing again and again is put off, and its record says so.
        let failing = state.keeping.strikes > 0
            || standing.iter().any(|(i, _)| matches!(i.state, InstanceState::Failed { .. }));
        let sick = alive().any(|(_, healthy)| !healthy);
        if world.scenario.keeps && !failing && !sick && well != current.size as usize {
            world.broken(format!("{fleet} is to have {} instances, and there is {}", current.size, told()));
        }
    }
}
