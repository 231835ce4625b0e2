//! Fleets between rollouts: what they run, and taking one down.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::clock::Clock;
use crate::cloud::{self, Cloud, InstanceState, TargetState};
use crate::ids::{CommitSha, EnvironmentName, FleetId, ImageId, InstanceId, PipelineName, RunId};
use crate::journal::{fleet_append, load_fleet, load_run};
use crate::run::event::{Actor, FleetEvent};
use crate::store::{RunFilter, Store};

/// While a fleet drains it is looked at again so often, should nobody wake us.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// A fleet as people and programs see it; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetView {
    pub fleet: String,
    pub service: PipelineName,
    pub environment: EnvironmentName,
    /// What it last completed a rollout to; `null` before the first.
    pub image: Option<ImageId>,
    pub name: Option<String>,
    pub version: Option<String>,
    pub commit: Option<CommitSha>,
    pub since: Option<Timestamp>,
    /// How many instances it should have.
    pub size: u32,
    /// How many take traffic.
    pub healthy: u32,
    pub instances: Vec<InstanceView>,
    /// The run that holds it.
    pub held_by: Option<RunId>,
    /// Nobody drives the run that holds it.
    #[serde(default)]
    pub interrupted: bool,
    /// The rollout under way.
    pub rollout: Option<RolloutView>,
    /// Runs that wait, and for what.
    pub waiting: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstanceView {
    pub id: InstanceId,
    pub image: ImageId,
    pub address: String,
    /// `initial`, `healthy`, `unhealthy`, `draining`, `drained`, `unregistered` or `failed`.
    pub health: String,
    pub reason: Option<String>,
    pub launched_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutView {
    pub run: RunId,
    pub to: String,
    pub started_at: Timestamp,
}

/// Every fleet that was not taken down. `driven` tells whether somebody drives a run.
pub async fn list(
    store: &dyn Store,
    cloud: &Cloud,
    driven: impl Fn(&RunId) -> bool,
) -> Result<Vec<FleetView>, Error> {
    let mut views = Vec::new();
    let unfinished = RunFilter { unfinished: true, limit: Some(1000), ..RunFilter::default() };
    let runs = store.runs(&unfinished).await?;
    for row in store.fleets().await?.into_iter().filter(|row| !row.ended) {
        let state = load_fleet(store, &row.fleet).await?;
        let instances = instances(cloud, &row.fleet).await.map_err(Error::Cloud)?;
        let rollout = state.rollout.as_ref().filter(|rollout| rollout.end.is_none());
        let current = state.current.as_ref();
        if current.is_none() && rollout.is_none() && state.holder.is_none() && instances.is_empty() {
            continue;
        }
        let name = current.map(|current| current.image.name.clone());
        let prefix = format!("{}-", row.fleet.service);
        views.push(FleetView {
            fleet: row.fleet.to_string(),
            image: current.map(|current| current.image.id.clone()),
            version: name.as_ref().map(|name| name.strip_prefix(&prefix).unwrap_or(name).to_owned()),
            name,
            commit: current.and_then(|current| current.image.commit.clone()),
            since: current.map(|current| current.since),
            size: current.map_or(0, |current| current.size),
            healthy: instances.iter().filter(|instance| instance.health == "healthy").count() as u32,
            instances,
            interrupted: state.holder.as_ref().is_some_and(|run| !driven(run)),
            held_by: state.holder.clone(),
            rollout: rollout.map(|rollout| RolloutView {
                run: rollout.run.clone(),
                to: rollout.to.image.name.clone(),
                started_at: rollout.started_at,
            }),
            waiting: Vec::new(),
            service: row.fleet.service,
            environment: row.fleet.environment,
        });
    }
    for run in &runs {
        let Some(reason) = &run.waiting_for else { continue };
        let said = match driven(&run.run) {
            true => format!("{}: {reason}", run.run),
            false => format!("{0} was interrupted while it waited: windlass resume {0}", run.run),
        };
        // Where it waits for; a fleet that is not there yet has no place of its own.
        let of_service = |view: &&mut FleetView| view.service == run.run.pipeline;
        let named = |view: &FleetView| reason.contains(view.environment.as_str());
        let there = views.iter().any(|view| view.service == run.run.pipeline && named(view));
        for view in views.iter_mut().filter(of_service).filter(|view| !there || named(view)) {
            view.waiting.push(said.clone());
        }
    }
    Ok(views)
}

async fn instances(cloud: &Cloud, fleet: &FleetId) -> Result<Vec<InstanceView>, cloud::Error> {
    let targets = cloud.balancer.targets(fleet).await?;
    let mut views = Vec::new();
    for instance in cloud.compute.instances(fleet).await? {
        let target = targets.iter().find(|target| target.id == instance.id);
        let (health, reason) = match (&instance.state, target) {
            (InstanceState::Failed { reason }, _) => ("failed", Some(reason.clone())),
            (_, None) => ("unregistered", None),
            (_, Some(target)) => {
                let health = match target.state {
                    TargetState::Initial => "initial",
                    TargetState::Healthy => "healthy",
                    TargetState::Unhealthy => "unhealthy",
                    TargetState::Draining { .. } => "draining",
                    TargetState::Drained => "drained",
                };
                (health, target.reason.clone().filter(|_| health != "healthy"))
            }
        };
        views.push(InstanceView {
            id: instance.id,
            image: instance.image,
            address: instance.address.to_string(),
            health: health.to_owned(),
            reason,
            launched_at: instance.launched_at,
        });
    }
    Ok(views)
}

/// Takes a fleet down: its instances drain and end, its listener goes, and its journal says who
/// wanted it. `say` is told what happens.
pub async fn down(
    store: &dyn Store,
    cloud: &Cloud,
    clock: &dyn Clock,
    fleet: &FleetId,
    actor: Actor,
    mut say: impl FnMut(String),
) -> Result<(), Error> {
    let state = load_fleet(store, fleet).await?;
    if state.sequence == 0 {
        return Err(Error::NoFleet(fleet.clone()));
    }
    if let Some(holder) = &state.holder {
        let run = load_run(store, holder).await?;
        if run.ending.is_none() {
            return Err(Error::Held { fleet: fleet.clone(), holder: holder.clone() });
        }
    }
    let targets = cloud.balancer.targets(fleet).await.map_err(Error::Cloud)?;
    let ids: Vec<InstanceId> = targets.into_iter().map(|target| target.id).collect();
    if !ids.is_empty() {
        say(format!("draining {} instances of {fleet}", ids.len()));
        cloud.balancer.deregister(fleet, &ids).await.map_err(Error::Cloud)?;
    }
    loop {
        let targets = cloud.balancer.targets(fleet).await.map_err(Error::Cloud)?;
        if targets.iter().all(|target| target.state == TargetState::Drained) {
            break;
        }
        cloud.balancer.changed(fleet, SLOW_TICK).await.map_err(Error::Cloud)?;
    }
    let instances = cloud.compute.instances(fleet).await.map_err(Error::Cloud)?;
    let ending = instances.iter().map(|instance| cloud.compute.terminate(&instance.id));
    for ended in futures_util::future::join_all(ending).await {
        ended.map_err(Error::Cloud)?;
    }
    say(format!("ended {} instances of {fleet}", instances.len()));
    cloud.balancer.remove_listener(fleet).await.map_err(Error::Cloud)?;
    let now = clock.now();
    let event = FleetEvent::Ended { actor };
    store.append(vec![fleet_append(fleet, state.sequence, vec![(now, event)])]).await?;
    Ok(())
}
