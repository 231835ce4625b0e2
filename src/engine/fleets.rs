//! Fleets between rollouts: what they run, and taking one down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::known::Known;
use super::policy::frozen;
use super::{Error, keeper};
use crate::clock::Clock;
use crate::cloud::{self, Cloud, Clouds, InstanceState, Role, Setup, TargetState};
use crate::config::Settings;
use crate::ids::{CommitSha, EnvironmentName, FleetId, ImageId, InstanceId, PipelineName, RunId};
use crate::journal::{fleet_append, load_fleet, load_run};
use crate::run::environment::Lock;
use crate::run::event::{Actor, FleetEvent, RolloutEnd};
use crate::run::fleet::{Deployed, FleetState, Quarantine, Rollout};
use crate::run::state::Hold;
use crate::store::{FleetRow, RunFilter, Store};

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
    /// Runs that wait for it, and why.
    pub waiting: Vec<String>,
    /// Somebody lets no run in.
    #[serde(default)]
    pub lock: Option<LockView>,
    /// The same, for every fleet of the environment.
    #[serde(default)]
    pub environment_lock: Option<LockView>,
    /// The calendar lets no run in.
    #[serde(default)]
    pub frozen: Option<FrozenView>,
    /// Images that the service must not use, in whatever fleet that was said.
    #[serde(default)]
    pub quarantined: Vec<QuarantineView>,
    /// The name of the image that a rollback goes back to.
    #[serde(default)]
    pub previous: Option<String>,
    /// What ran before and stands by, for a way back at once.
    #[serde(default)]
    pub standby: Option<StandbyView>,
    /// Why it is not kept as it should be, for people.
    #[serde(default)]
    pub trouble: Option<String>,
}

/// A person's hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LockView {
    pub actor: String,
    pub reason: String,
    pub at: Timestamp,
}

/// A calendar's hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FrozenView {
    pub until: Timestamp,
    pub reason: String,
}

/// An image that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QuarantineView {
    pub image: ImageId,
    pub name: String,
    pub actor: String,
    pub reason: String,
    pub at: Timestamp,
}

/// So many of those that wait for one fleet are named; of the others there is the number.
pub(super) const NAMED: u64 = 100;

/// Runs that wait for fleets: the first of each, and how many there are.
#[derive(Debug, Default)]
pub struct Waiting {
    said: BTreeMap<FleetId, Vec<String>>,
    count: BTreeMap<FleetId, u64>,
}

impl Waiting {
    /// Counts so many more.
    pub fn add(&mut self, fleet: FleetId, count: u64) {
        *self.count.entry(fleet).or_default() += count;
    }

    /// Counts one more. Answers whether it is one of those that are named.
    pub fn count(&mut self, fleet: &FleetId) -> bool {
        let count = self.count.entry(fleet.clone()).or_default();
        *count += 1;
        *count <= NAMED
    }

    /// Says who waits, and why.
    pub fn say(&mut self, fleet: FleetId, said: String) {
        self.said.entry(fleet).or_default().push(said);
    }

    /// Each fleet with what there is to say of it.
    fn all(self) -> impl Iterator<Item = (FleetId, Vec<String>)> {
        let Self { said, count } = self;
        said.into_iter().map(move |(fleet, mut said)| {
            let others = count.get(&fleet).copied().unwrap_or(0).saturating_sub(NAMED);
            if others > 0 {
                said.push(format!("and {others} more"));
            }
            (fleet, said)
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstanceView {
    pub id: InstanceId,
    pub image: ImageId,
    pub address: String,
    /// `initial`, `healthy`, `unhealthy`, `draining`, `drained`, `unregistered` or `failed`;
    /// `standby` is healthy and gets no request.
    pub health: String,
    pub reason: Option<String>,
    pub launched_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StandbyView {
    /// Of the image.
    pub name: String,
    /// It is ended then.
    pub until: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutView {
    pub run: RunId,
    pub to: String,
    pub started_at: Timestamp,
}

/// What it takes to look at fleets.
pub struct Reach<'a> {
    pub store: &'a dyn Store,
    pub clouds: &'a dyn Clouds,
    /// What says which cloud a fleet is in; else the settings that it was deployed under.
    pub settings: Option<Arc<Settings>>,
    /// The unfinished runs that nobody drives, where that is known; else the list of runs is asked.
    pub undriven: Option<Vec<RunId>>,
}

impl Reach<'_> {
    /// The cloud of a fleet.
    async fn cloud(
        &self,
        calendars: &mut Calendars,
        fleet: &FleetId,
        run: Option<&RunId>,
    ) -> Result<Cloud, cloud::Error> {
        let setup = match (&self.settings, run) {
            (Some(settings), _) => settings.cloud_of(&fleet.service),
            (None, Some(run)) => {
                let known = calendars.settings(self.store, run).await;
                known.map(|settings| settings.cloud_of(&fleet.service)).unwrap_or_default()
            }
            (None, None) => Setup::Local,
        };
        self.clouds.open(&setup)
    }
}

/// Every fleet of `rows` that was not taken down. `driven` tells whether somebody drives a run, `waiting` what
/// those that are driven wait for.
pub async fn list(
    mut reach: Reach<'_>,
    rows: Vec<FleetRow>,
    known: &Known,
    now: Timestamp,
    driven: impl Fn(&RunId) -> bool,
    mut waiting: Waiting,
) -> Result<Vec<FleetView>, Error> {
    let store = reach.store;
    let mut views = Vec::new();
    let states = try_join_all(rows.iter().map(|row| known.fleet(store, &row.fleet))).await?;
    let quarantined = |service: &PipelineName| {
        let of_service = rows.iter().zip(&states).filter(|(row, _)| row.fleet.service == *service);
        let images = of_service.flat_map(|(_, state)| &state.quarantined);
        images
            .map(|(image, why)| (image.clone(), QuarantineView::new(image, why)))
            .collect::<BTreeMap<_, _>>()
    };
    let mut calendars = Calendars::default();
    let there = || rows.iter().zip(&states).filter(|(row, _)| !row.ended);
    let mut clouds = Vec::new();
    for (row, state) in there() {
        let current = state.current.as_ref().map(|current| &current.run);
        let run = current.or(under_way(state).map(|rollout| &rollout.run));
        clouds.push(reach.cloud(&mut calendars, &row.fleet, run).await);
    }
    // All are asked before the first has answered.
    let seen =
        there().zip(clouds).map(|((row, _), cloud)| async move { instances(&cloud?, &row.fleet).await });
    for ((row, state), seen) in there().zip(join_all(seen).await) {
        let rollout = under_way(state);
        let current = state.current.as_ref();
        // A cloud that does not answer hides nothing of what the journal knows.
        let (instances, unseen) = match seen {
            Ok(instances) => (instances, None),
            Err(error) => (Vec::new(), Some(format!("its instances cannot be seen: {error}"))),
        };
        let untouched = current.is_none() && rollout.is_none() && state.holder.is_none();
        if untouched && instances.is_empty() && state.lock.is_none() && unseen.is_none() {
            continue;
        }
        let around = known.environment(store, &row.fleet.environment).await?;
        let quarantined = quarantined(&row.fleet.service);
        let previous = state.previous(|image| quarantined.contains_key(image));
        let name = current.map(|current| current.image.name.clone());
        let prefix = format!("{}-", row.fleet.service);
        let stranded = stranded(&row.fleet, state, &instances);
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
            standby: state
                .held_at(Timestamp::now())
                .map(|standby| StandbyView { name: standby.image.name.clone(), until: standby.until }),
            trouble: unseen.or(stranded).or_else(|| keeper::put_off(&state.keeping)),
            lock: state.lock.as_ref().map(LockView::new),
            environment_lock: around.lock.as_ref().map(LockView::new),
            frozen: calendars.frozen(&reach, &row.fleet, current, now).await,
            previous: previous.map(|previous| previous.image.name.clone()),
            quarantined: quarantined.into_values().collect(),
            service: row.fleet.service.clone(),
            environment: row.fleet.environment.clone(),
        });
    }
    let undriven = match reach.undriven.take() {
        Some(runs) => runs,
        None => undriven(store, driven).await?,
    };
    interrupted(store, undriven, &mut waiting).await;
    for (fleet, said) in waiting.all() {
        // A fleet that is not there yet has no place of its own.
        let of_service = |view: &&mut FleetView| view.service == fleet.service;
        let meant = |view: &FleetView| view.environment == fleet.environment;
        let there = views.iter().any(|view| view.service == fleet.service && meant(view));
        for view in views.iter_mut().filter(of_service).filter(|view| !there || meant(view)) {
            view.waiting.extend(said.iter().cloned());
        }
    }
    Ok(views)
}

/// The rollout that has not ended.
fn under_way(fleet: &FleetState) -> Option<&Rollout> {
    fleet.rollout.as_ref().filter(|rollout| rollout.end.is_none())
}

/// What is said of a fleet that a rollout left in the middle, for as long as it is there.
fn stranded(fleet: &FleetId, state: &FleetState, instances: &[InstanceView]) -> Option<String> {
    let rollout = state.rollout.as_ref()?;
    let Some(RolloutEnd::Stranded { reason }) = &rollout.end else { return None };
    let current = state.current.as_ref();
    let wanted = current.map(|current| &current.image.id);
    let healthy = instances.iter().filter(|instance| instance.health == "healthy").count();
    let whole = instances.iter().all(|instance| Some(&instance.image) == wanted)
        && healthy == current.map_or(0, |current| current.size as usize);
    let next = match current {
        Some(current) => format!("windlass serve brings it back to {}", current.image.name),
        None => format!("windlass down {} {} ends what is there", fleet.service, fleet.environment),
    };
    let again = format!("windlass replay {} --stage {} tries it again", rollout.run, rollout.stage);
    (!whole).then(|| format!("{reason}; {next}, {again}"))
}

/// So many runs that nobody drives are looked at.
const INTERRUPTED_LIMIT: u32 = 1000;

async fn undriven(store: &dyn Store, driven: impl Fn(&RunId) -> bool) -> Result<Vec<RunId>, Error> {
    let filter = RunFilter { unfinished: true, limit: Some(INTERRUPTED_LIMIT), ..RunFilter::default() };
    let rows = store.runs(&filter).await?.into_iter();
    Ok(rows.filter(|row| row.waiting_for.is_some() && !driven(&row.run)).map(|row| row.run).collect())
}

/// What the runs waited for that nobody drives any more. Of one that cannot be read nothing is known.
async fn interrupted(store: &dyn Store, runs: Vec<RunId>, waiting: &mut Waiting) {
    for run in &runs {
        let Ok(state) = load_run(store, run).await else { continue };
        for (environment, gate) in &state.gates {
            if gate.undecided().is_some() || (gate.promoted.is_some() && gate.hold == Hold::NotYet) {
                let fleet = FleetId::new(run.pipeline.clone(), environment.clone());
                if waiting.count(&fleet) {
                    let why = format!("{run}: interrupted while it waited: windlass resume {run}");
                    waiting.say(fleet, why);
                }
            }
        }
    }
}

/// The settings that fleets were deployed under, each read once.
#[derive(Default)]
struct Calendars(BTreeMap<Option<String>, Option<Settings>>);

impl Calendars {
    async fn settings(&mut self, store: &dyn Store, run: &RunId) -> Option<&Settings> {
        let origin = load_run(store, run).await.ok()?.origin;
        let known =
            self.0.entry(origin.settings_path.clone()).or_insert_with(|| super::settings(&origin).ok());
        known.as_ref()
    }

    async fn frozen(
        &mut self,
        reach: &Reach<'_>,
        fleet: &FleetId,
        current: Option<&Deployed>,
        now: Timestamp,
    ) -> Option<FrozenView> {
        let current = current?;
        let settings = match &reach.settings {
            Some(settings) => settings,
            None => self.settings(reach.store, &current.run).await?,
        };
        let frozen = frozen(settings, &fleet.environment, now)?;
        Some(FrozenView { until: frozen.until, reason: frozen.reason })
    }
}

impl LockView {
    fn new(lock: &Lock) -> Self {
        Self { actor: lock.actor.name.clone(), reason: lock.reason.clone(), at: lock.at }
    }
}

impl QuarantineView {
    fn new(image: &ImageId, why: &Quarantine) -> Self {
        let Quarantine { name, actor, reason, at } = why.clone();
        Self { image: image.clone(), name, actor: actor.name, reason, at }
    }
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
                    TargetState::Healthy if target.role == Role::Standby => "standby",
                    TargetState::Initial => "initial",
                    TargetState::Healthy => "healthy",
                    TargetState::Unhealthy => "unhealthy",
                    TargetState::Draining { .. } => "draining",
                    TargetState::Drained => "drained",
                };
                (health, target.reason.clone().filter(|_| !matches!(health, "healthy" | "standby")))
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
    reach: Reach<'_>,
    clock: &dyn Clock,
    fleet: &FleetId,
    actor: Actor,
    mut say: impl FnMut(String),
) -> Result<(), Error> {
    let store = reach.store;
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
    let run = state.current.as_ref().map(|current| &current.run);
    let run = run.or(state.rollout.as_ref().map(|rollout| &rollout.run));
    let cloud = reach.cloud(&mut Calendars::default(), fleet, run).await.map_err(Error::Cloud)?;
    // From here on nobody keeps it alive.
    let event = FleetEvent::DownStarted { actor: actor.clone() };
    store.append(vec![fleet_append(fleet, state.sequence, vec![(clock.now(), event)])]).await?;
    // Nor does the cloud.
    cloud.compute.begin_rollout(fleet).await.map_err(Error::Cloud)?;
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
    cloud.compute.end_rollout(fleet, None).await.map_err(Error::Cloud)?;
    cloud.balancer.remove_listener(fleet).await.map_err(Error::Cloud)?;
    let now = clock.now();
    let event = FleetEvent::Ended { actor };
    store.append(vec![fleet_append(fleet, state.sequence + 1, vec![(now, event)])]).await?;
    Ok(())
}
