//! What the journals say of things in a cloud.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cloud::inventory::Thing;
use crate::ids::{Digest, FleetId, ImageId, RunId, StreamId};
use crate::journal::{self, load_run};
use crate::pipeline::model::Kind;
use crate::reap::{self, Facts, Version};
use crate::run::event::{FleetEvent, Image, Release};
use crate::run::fleet::FleetState;
use crate::run::state::{RunState, StepPhase};
use crate::store::{Event, RunFilter, Store};

/// Reads journals, each once as long as it does not change.
pub(super) struct Reader<'a> {
    store: &'a dyn Store,
    runs: HashMap<RunId, (Timestamp, Arc<Known>)>,
}

/// What one run says.
struct Known {
    run: reap::Run,
    /// Images that it works with, and what those are made of that it is making.
    images: BTreeSet<ImageId>,
    bakes: BTreeSet<Digest>,
}

/// Changes when a run that has not ended does, or a fleet.
pub(super) type Revision = (Vec<(RunId, Timestamp)>, Vec<(FleetId, Timestamp)>);

/// What the first step of a bake recorded, as far as it matters here.
#[derive(Deserialize)]
struct Recipe {
    key: Digest,
    #[serde(default)]
    parent: Option<ImageId>,
    #[serde(default)]
    found: Option<Image>,
}

impl<'a> Reader<'a> {
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store, runs: HashMap::new() }
    }

    pub async fn revision(&self) -> Result<Revision, journal::Error> {
        let filter = RunFilter { unfinished: true, limit: Some(u32::MAX), ..RunFilter::default() };
        let runs = self.store.runs(&filter).await?.into_iter().map(|row| (row.run, row.updated_at));
        let fleets = self.store.fleets().await?.into_iter().map(|row| (row.fleet, row.updated_at));
        Ok((runs.collect(), fleets.collect()))
    }

    /// What there is to know of these things, as of `revision`.
    pub async fn facts(
        &mut self,
        things: &[Thing],
        (unfinished, fleets): &Revision,
    ) -> Result<Facts, journal::Error> {
        let mut facts = Facts::default();
        for (id, updated_at) in unfinished {
            // What cannot be read may need anything.
            let known = self.run(id, Some(*updated_at)).await?;
            facts.images.extend(known.images.iter().map(|image| (image.clone(), id.clone())));
            facts.bakes.extend(known.bakes.iter().map(|key| (key.clone(), id.clone())));
            facts.runs.insert(id.clone(), known.run.clone());
        }
        let named: BTreeSet<&RunId> = things.iter().filter_map(|thing| thing.run.as_ref()).collect();
        for id in named {
            if facts.runs.contains_key(id) {
                continue;
            }
            match self.run(id, None).await {
                Ok(known) => drop(facts.runs.insert(id.clone(), known.run.clone())),
                // Nothing of it is touched.
                Err(journal::Error::NoRun(_) | journal::Error::Illegal { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut states = Vec::with_capacity(fleets.len());
        for (id, _) in fleets {
            states.push((id, self.fleet(id).await?));
        }
        for (id, (state, _)) in &states {
            for (image, quarantine) in &state.quarantined {
                facts.quarantined.insert((id.service.clone(), image.clone()), quarantine.at);
            }
        }
        for (id, (state, releases)) in states {
            let fleet = self.told(id, &state, releases, &facts).await?;
            facts.fleets.insert(id.clone(), fleet);
        }
        Ok(facts)
    }

    async fn run(&mut self, id: &RunId, updated_at: Option<Timestamp>) -> Result<Arc<Known>, journal::Error> {
        if let Some((at, known)) = self.runs.get(id) {
            let fresh = match updated_at {
                Some(updated_at) => *at == updated_at,
                None => known.run.ended_at.is_some(),
            };
            if fresh {
                return Ok(known.clone());
            }
        }
        let state = load_run(self.store, id).await?;
        let known = Arc::new(known(&state));
        self.runs.insert(id.clone(), (updated_at.unwrap_or(state.updated_at), known.clone()));
        Ok(known)
    }

    /// The fleet, and every release that its journal names.
    async fn fleet(&self, id: &FleetId) -> Result<(FleetState, BTreeSet<Digest>), journal::Error> {
        let recorded = self.store.read(&StreamId::Fleet(id.clone()), 0).await?;
        let (mut state, mut releases) = (FleetState::default(), BTreeSet::new());
        for recorded in &recorded {
            let Event::Fleet(event) = &recorded.event else { continue };
            state.apply(recorded.at, event);
            match event {
                FleetEvent::RolloutStarted { release, .. } | FleetEvent::StandbyHeld { release, .. } => {
                    releases.insert(release.id());
                }
                _ => {}
            }
        }
        Ok((state, releases))
    }

    async fn told(
        &mut self,
        id: &FleetId,
        state: &FleetState,
        releases: BTreeSet<Digest>,
        facts: &Facts,
    ) -> Result<reap::Fleet, journal::Error> {
        let rollout = state.rollout.as_ref().filter(|_| state.is_rolling());
        let holder = state.holder.as_ref().filter(|run| {
            let known = facts.runs.get(run);
            known.is_some_and(|run| run.ended_at.is_none())
        });
        let busy = match (rollout, holder) {
            (Some(rollout), _) => Some(format!("{} moves {id} to {}", rollout.run, rollout.to.image.name)),
            (None, Some(holder)) => Some(format!("{holder} holds {id}")),
            (None, None) if state.taken_down => {
                let (service, environment) = (&id.service, &id.environment);
                Some(format!(
                    "{id} is being taken down: windlass down {service} {environment} goes on with it"
                ))
            }
            (None, None) => None,
        };
        let quarantined =
            |image: &ImageId| facts.quarantined.contains_key(&(id.service.clone(), image.clone()));
        let ran = state.history.iter().chain(&state.current);
        Ok(reap::Fleet {
            current: state.current.as_ref().map(|current| version(&current.image, &current.release)),
            standby: state.standby.as_ref().map(|standby| version(&standby.image, &standby.release)),
            previous: state.previous(quarantined).map(|previous| previous.image.id.clone()),
            next: rollout.map(|rollout| version(&rollout.to.image, &rollout.to.release)),
            busy,
            releases,
            images: ran.map(|ran| ran.image.id.clone()).collect(),
            size: state.current.as_ref().map_or(0, |current| current.size),
            health: reap::Health::Unknown,
        })
    }
}

fn version(image: &Image, release: &Release) -> Version {
    Version { image: image.id.clone(), release: release.id() }
}

fn known(state: &RunState) -> Known {
    let ended_at = state.ending.as_ref().map(|_| state.updated_at);
    let (mut images, mut bakes, mut over) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut made = BTreeMap::new();
    images.extend(state.origin.image.as_ref().map(|image| image.id.clone()));
    for (stage, told) in state.pipeline.stages.iter().zip(&state.stages) {
        let open = !told.phase.is_final();
        if !open {
            over.insert(stage.name.clone());
        }
        for attempt in &told.attempts {
            images.extend(attempt.image.clone());
            let outcome = attempt.end.as_ref().and_then(|end| end.as_ref().ok());
            if let Some(image) = outcome.and_then(|outcome| outcome.image.as_ref()) {
                made.insert(image.id.clone(), image);
                // A replay builds upon what it was built upon.
                images.extend(image.parent.clone().filter(|_| open));
                bakes.extend(Some(image.key.clone()).filter(|_| open));
            }
            if !(open && matches!(stage.kind, Kind::Bake(_))) {
                continue;
            }
            for step in &attempt.steps {
                let StepPhase::Succeeded { result } = &step.phase else { continue };
                if let Ok(recipe) = Recipe::deserialize(result) {
                    images.extend(recipe.parent);
                    images.extend(recipe.found.map(|found| found.id));
                    bakes.insert(recipe.key);
                }
            }
        }
    }
    let made: BTreeSet<ImageId> = made.into_keys().collect();
    images.extend(made.iter().cloned());
    let run = reap::Run { began_at: state.created_at, ended_at, over, images: made };
    Known { run, images, bakes }
}
