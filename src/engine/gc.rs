//! Ends what nobody needs any more: [`crate::reap`] judges, and here is where its facts come from, and
//! where what it says is done.
//!
//! Always true: right before a thing is ended it is judged again, if anything was recorded meanwhile, and
//! the cloud refuses when the thing is not what was judged; an instance that takes traffic drains before
//! it ends. What could not be ended is found again next time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Engine, Error, settings};
use crate::cloud::hearing::{self, Hearer};
use crate::cloud::inventory::{Kind, Thing};
use crate::cloud::{self, Cloud, Role, Setup, TargetState, setup};
use crate::config::Settings;
use crate::ids::{Digest, FleetId, InstanceId, PipelineName, RunId};
use crate::journal::load_run;
use crate::reap::{self, Facts, Fate, Health, Verdict, judge};
use crate::run::event::Actor;
use crate::store::RunFilter;

mod facts;

use facts::{Reader, Revision};

/// An instance that drains is looked at again so often, should nobody wake us.
const SLOW_TICK: Duration = Duration::from_secs(1);

/// Among so many of the newest runs the services are looked for that have no fleet.
const RECENT: u32 = 1000;

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Nothing is ended.
    pub dry_run: bool,
    /// Only what is of this service.
    pub service: Option<PipelineName>,
}

/// Everything that there is, and what becomes of it: the public document of `windlass gc --json`. Fields
/// are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcView {
    pub dry_run: bool,
    pub things: Vec<GcThing>,
    /// What could not be looked at, and why.
    pub problems: Vec<String>,
}

/// A thing in a cloud, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcThing {
    /// `local`, or `aws` and the region.
    pub cloud: String,
    pub kind: Kind,
    /// In the words of the cloud.
    pub id: String,
    pub name: Option<String>,
    pub service: Option<PipelineName>,
    pub run: Option<RunId>,
    pub stage: Option<String>,
    pub fleet: Option<String>,
    pub created_at: Timestamp,
    /// How much is stored, where that is known.
    pub bytes: Option<u64>,
    pub fate: GcFate,
    pub reason: String,
    /// It is gone.
    pub ended: bool,
    /// Why it is not gone, though it should be.
    pub error: Option<String>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GcFate {
    /// Nobody needs it.
    Ends,
    Stays,
    /// No record here explains it, so it stays.
    Unknown,
}

/// A cloud that is looked through.
struct Place {
    name: String,
    cloud: Cloud,
    keep: u32,
}

/// Says to the server's log what the cloud says.
struct Trail;

impl Hearer for Trail {
    fn say(&self, line: &str) {
        tracing::debug!("{line}");
    }
}

impl Engine {
    /// Looks through every cloud that the settings or the runs name, and ends what nobody needs.
    ///
    /// # Errors
    /// The journals cannot be read. What a cloud does not do is in the answer.
    pub async fn gc(&self, order: &Order, actor: &Actor) -> Result<GcView, Error> {
        let mut view = GcView { dry_run: order.dry_run, ..GcView::default() };
        let mut reader = Reader::new(self.store().as_ref());
        for place in self.places(&mut view.problems).await? {
            let looked = hearing::heard(Arc::new(Trail), self.look(&place, &mut reader, order, actor));
            match looked.await {
                Ok(things) => view.things.extend(things),
                Err(Error::Cloud(error)) => {
                    view.problems.push(format!("{} cannot be looked through: {error}", place.name));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(view)
    }

    async fn look(
        &self,
        place: &Place,
        reader: &mut Reader<'_>,
        order: &Order,
        actor: &Actor,
    ) -> Result<Vec<GcThing>, Error> {
        let things = place.cloud.inventory.things().await.map_err(Error::Cloud)?;
        let mut revision = reader.revision().await?;
        let mut verdicts = self.verdicts(place, reader, &things, &revision).await?;
        let mut done = BTreeMap::new();
        let meant = |thing: &Thing| order.service.is_none() || order.service == thing.service;
        let mut ending: Vec<Thing> = verdicts
            .iter()
            .filter(|verdict| verdict.fate == Fate::Ends && meant(&verdict.thing) && !order.dry_run)
            .map(|verdict| verdict.thing.clone())
            .collect();
        ending.sort_by_key(|thing| (thing.kind, thing.created_at));
        for thing in ending {
            let now = reader.revision().await?;
            if now != revision || thing.kind == Kind::Instance {
                revision = now;
                verdicts = self.verdicts(place, reader, &things, &revision).await?;
            }
            let same = |verdict: &&Verdict| verdict.thing.kind == thing.kind && verdict.thing.id == thing.id;
            let Some(verdict) = verdicts.iter().find(same).filter(|verdict| verdict.fate == Fate::Ends)
            else {
                continue;
            };
            let ended = self.end(&place.cloud, &thing).await;
            let (kind, id, reason) = (thing.kind.word(), &thing.id, &verdict.reason);
            match &ended {
                Ok(()) => tracing::info!(kind, id, reason, actor = actor.name, "ended by gc"),
                Err(error) => tracing::warn!(kind, id, reason, %error, "not ended by gc"),
            }
            done.insert((thing.kind, thing.id.clone()), ended);
        }
        let told = verdicts.into_iter().filter(|verdict| meant(&verdict.thing)).map(|verdict| {
            let ended = done.remove(&(verdict.thing.kind, verdict.thing.id.clone()));
            told(&place.name, verdict, ended)
        });
        Ok(told.collect())
    }

    async fn verdicts(
        &self,
        place: &Place,
        reader: &mut Reader<'_>,
        things: &[Thing],
        revision: &Revision,
    ) -> Result<Vec<Verdict>, Error> {
        let mut facts = reader.facts(things, revision).await?;
        observe(&place.cloud, things, &mut facts).await;
        Ok(judge(things, &facts, self.0.parts.clock.now(), place.keep))
    }

    async fn end(&self, cloud: &Cloud, thing: &Thing) -> Result<(), cloud::Error> {
        let Some(fleet) = thing.fleet.as_ref().filter(|_| thing.kind == Kind::Instance) else {
            return cloud.inventory.end(thing).await;
        };
        // Whoever keeps the fleet alive, or takes it down, waits.
        let acting = self.0.fleet_lock(fleet);
        let _acting = acting.lock().await;
        drain(cloud, fleet, thing).await?;
        cloud.inventory.end(thing).await
    }

    /// Every cloud, each once.
    async fn places(&self, problems: &mut Vec<String>) -> Result<Vec<Place>, Error> {
        let mut setups = vec![Setup::Local];
        for setup in self.setups(problems).await? {
            merge(&mut setups, setup);
        }
        let mut places = Vec::new();
        for setup in setups {
            let (name, keep) = match &setup {
                Setup::Local => ("local".to_owned(), reap::KEEP_IMAGES),
                Setup::Aws(aws) => (format!("aws {}", aws.account.region), aws.account.keep_images),
            };
            match self.0.parts.clouds.open(&setup) {
                Ok(cloud) => places.push(Place { name, cloud, keep }),
                Err(error) => problems.push(format!("{name} cannot be looked through: {error}")),
            }
        }
        Ok(places)
    }

    /// Where the services are that are known here: by the server's settings, else by those that the
    /// newest run of each was started with.
    async fn setups(&self, problems: &mut Vec<String>) -> Result<Vec<Setup>, Error> {
        let store = self.store().as_ref();
        let newest = store.runs(&RunFilter { limit: Some(RECENT), ..RunFilter::default() }).await?;
        let unfinished = RunFilter { unfinished: true, limit: Some(u32::MAX), ..RunFilter::default() };
        let mut services: BTreeMap<PipelineName, RunId> = BTreeMap::new();
        for row in newest.into_iter().chain(store.runs(&unfinished).await?) {
            services.entry(row.run.pipeline.clone()).or_insert(row.run);
        }
        if let Some(settings) = self.settings() {
            let fleets = settings.environments.values().flat_map(|environment| environment.fleets.keys());
            let services: BTreeSet<&PipelineName> = services.keys().chain(fleets).collect();
            return Ok(services.into_iter().map(|service| settings.cloud_of(service)).collect());
        }
        let mut read: BTreeMap<Option<String>, Option<Settings>> = BTreeMap::new();
        let mut setups = Vec::new();
        for (service, run) in services {
            let origin = load_run(store, &run).await?.origin;
            let settings = read.entry(origin.settings_path.clone()).or_insert_with(|| {
                let settings = settings(&origin);
                settings.map_err(|error| problems.push(format!("the settings of {run}: {error}"))).ok()
            });
            setups.extend(settings.as_ref().map(|settings| settings.cloud_of(&service)));
        }
        Ok(setups)
    }
}

/// Adds a cloud to those there are: of an account there is one, with the fleets of all services.
fn merge(setups: &mut Vec<Setup>, setup: Setup) {
    let Setup::Aws(new) = setup else { return };
    for known in setups.iter_mut() {
        if let Setup::Aws(known) = known
            && known.account == new.account
        {
            let mut both = setup::Aws::clone(known);
            both.fleets.extend(new.fleets.iter().map(|(id, fleet)| (id.clone(), fleet.clone())));
            *known = Arc::new(both);
            return;
        }
    }
    setups.push(Setup::Aws(new));
}

/// Looks at the fleets that have instances of something else than what they run.
async fn observe(cloud: &Cloud, things: &[Thing], facts: &mut Facts) {
    for (id, fleet) in &mut facts.fleets {
        let Some(current) = fleet.current.clone().filter(|_| fleet.busy.is_none()) else { continue };
        let strange = |thing: &Thing| {
            thing.fleet.as_ref() == Some(id)
                && thing.release.as_ref().is_some_and(|it| *it != current.release)
        };
        if things.iter().any(strange) {
            match healthy(cloud, id, &current.release).await {
                Ok(healthy) => fleet.health = Health::Serving { healthy, size: fleet.size },
                Err(error) => tracing::warn!(fleet = %id, %error, "the fleet cannot be seen"),
            }
        }
    }
}

/// How many instances of the release take traffic.
async fn healthy(cloud: &Cloud, fleet: &FleetId, release: &Digest) -> Result<u32, cloud::Error> {
    let targets = cloud.balancer.targets(fleet).await?;
    let instances = cloud.compute.instances(fleet).await?;
    let serves = |id: &InstanceId| {
        let mut of = targets.iter().filter(|target| target.id == *id);
        of.any(|target| target.state == TargetState::Healthy && target.role == Role::Serving)
    };
    let serving = instances.iter().filter(|instance| instance.release == *release && serves(&instance.id));
    Ok(serving.count() as u32)
}

/// Takes an instance out of the traffic, and returns when it may be ended.
async fn drain(cloud: &Cloud, fleet: &FleetId, thing: &Thing) -> Result<(), cloud::Error> {
    let Ok(id) = thing.id.parse::<InstanceId>() else { return Ok(()) };
    let mut asked = false;
    loop {
        let targets = match cloud.balancer.targets(fleet).await {
            // The settings have no such fleet any more: nothing sends to it.
            Err(cloud::Error::NotFound(_)) => return Ok(()),
            targets => targets?,
        };
        match targets.iter().find(|target| target.id == id).map(|target| target.state) {
            None => return Ok(()),
            Some(TargetState::Drained) => {
                return cloud.balancer.forget(fleet, std::slice::from_ref(&id)).await;
            }
            Some(_) if !asked => {
                cloud.balancer.deregister(fleet, std::slice::from_ref(&id)).await?;
                asked = true;
            }
            Some(_) => cloud.balancer.changed(fleet, SLOW_TICK).await?,
        }
    }
}

fn told(cloud: &str, verdict: Verdict, ended: Option<Result<(), cloud::Error>>) -> GcThing {
    let Verdict { thing, fate, reason } = verdict;
    GcThing {
        cloud: cloud.to_owned(),
        kind: thing.kind,
        id: thing.id,
        name: thing.name,
        service: thing.service,
        run: thing.run,
        stage: thing.stage.map(|stage| stage.to_string()),
        fleet: thing.fleet.map(|fleet| fleet.to_string()),
        created_at: thing.created_at,
        bytes: thing.bytes,
        fate: match fate {
            Fate::Ends => GcFate::Ends,
            Fate::Stays => GcFate::Stays,
            Fate::Unknown => GcFate::Unknown,
        },
        reason,
        ended: matches!(ended, Some(Ok(()))),
        error: ended.and_then(Result::err).map(|error| error.to_string()),
    }
}
