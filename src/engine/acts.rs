//! What people do to fleets, environments and images: lock and unlock, lift a quarantine, roll back.
//! Each is durable when it returns; runs that wait look again at once.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::policy::policy;
use super::{Engine, Error, settings};
use crate::ids::{EnvironmentName, FleetId, PipelineName, RunId, StreamId};
use crate::journal::{environment_append, fleet_append, load_environment, load_fleet, load_run};
use crate::run::command::Refusal;
use crate::run::environment::Lock;
use crate::run::event::{Actor, EnvironmentEvent, FleetEvent, Origin, RunEvent, Trigger};
use crate::run::lanes::Lanes;
use crate::store::{self, RunFilter};

/// The param of a rollback that keeps why it was asked for.
pub(super) const REASON: &str = "reason";

/// What somebody locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Every fleet of it.
    Environment(EnvironmentName),
    Fleet(FleetId),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(environment) => environment.fmt(f),
            Self::Fleet(fleet) => write!(f, "{}/{}", fleet.environment, fleet.service),
        }
    }
}

/// As it is written on a command line: `ENV` or `ENV/SERVICE`.
impl std::str::FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let environment = |text: &str| text.parse::<EnvironmentName>().map_err(|error| error.to_string());
        match text.split_once('/') {
            None => Ok(Self::Environment(environment(text)?)),
            Some((name, service)) => {
                let service = service.parse::<PipelineName>().map_err(|error| error.to_string())?;
                Ok(Self::Fleet(FleetId::new(service, environment(name)?)))
            }
        }
    }
}

impl Engine {
    /// Lets no run enter until somebody unlocks it. Whoever locked it may say another reason; others
    /// are refused, and told who did.
    pub async fn lock(&self, target: &Target, actor: &Actor, reason: &str) -> Result<(), Error> {
        let reason = given(reason)?;
        loop {
            let (sequence, lock) = self.lock_of(target).await?;
            if let Some(lock) = lock.filter(|lock| lock.actor.name != actor.name) {
                return Err(Error::NotNow(format!(
                    "{target} is locked already, by {} at {:.0} ({}): windlass unlock {target}",
                    lock.actor.name, lock.at, lock.reason
                )));
            }
            let (actor, reason) = (actor.clone(), reason.to_owned());
            let fleet = FleetEvent::Locked { actor: actor.clone(), reason: reason.clone() };
            if self.put(target, sequence, fleet, EnvironmentEvent::Locked { actor, reason }).await? {
                return Ok(());
            }
        }
    }

    /// Lets runs enter again.
    pub async fn unlock(&self, target: &Target, actor: &Actor) -> Result<(), Error> {
        loop {
            let (sequence, lock) = self.lock_of(target).await?;
            if lock.is_none() {
                return Err(Error::NotNow(format!("{target} is not locked: windlass status shows what is")));
            }
            let fleet = FleetEvent::Unlocked { actor: actor.clone() };
            if self.put(target, sequence, fleet, EnvironmentEvent::Unlocked { actor: actor.clone() }).await? {
                return Ok(());
            }
        }
    }

    async fn lock_of(&self, target: &Target) -> Result<(u64, Option<Lock>), Error> {
        let store = self.store().as_ref();
        Ok(match target {
            Target::Environment(environment) => {
                let state = load_environment(store, environment).await?;
                (state.sequence, state.lock)
            }
            Target::Fleet(fleet) => {
                let state = load_fleet(store, fleet).await?;
                (state.sequence, state.lock)
            }
        })
    }

    /// Writes whichever of the two belongs to the target. Answers whether nobody else wrote first.
    async fn put(
        &self,
        target: &Target,
        sequence: u64,
        fleet: FleetEvent,
        environment: EnvironmentEvent,
    ) -> Result<bool, Error> {
        let now = self.0.parts.clock.now();
        let append = match target {
            Target::Environment(name) => environment_append(name, sequence, vec![(now, environment)]),
            Target::Fleet(id) => fleet_append(id, sequence, vec![(now, fleet)]),
        };
        match self.store().append(vec![append]).await {
            Err(store::Error::Conflict { .. }) => return Ok(false),
            done => done?,
        }
        match target {
            Target::Environment(_) => self.0.lanes.wake_all(),
            Target::Fleet(fleet) => self.0.lanes.wake(&fleet.service),
        }
        Ok(true)
    }

    /// Allows an image again that was put in quarantine; `image` is its id or its name. In every fleet
    /// of the service.
    pub async fn lift(
        &self,
        service: &PipelineName,
        image: &str,
        actor: &Actor,
        reason: &str,
    ) -> Result<Vec<FleetId>, Error> {
        let reason = given(reason)?;
        loop {
            let now = self.0.parts.clock.now();
            let (mut appends, mut lifted) = (Vec::new(), Vec::new());
            for (fleet, state) in self.0.known.fleets_of(self.store().as_ref(), service).await? {
                let meant = state
                    .quarantined
                    .iter()
                    .filter(|(id, known)| id.as_str() == image || known.name == image);
                let events: Vec<(Timestamp, FleetEvent)> = meant
                    .map(|(id, _)| {
                        let (actor, reason) = (actor.clone(), reason.to_owned());
                        (now, FleetEvent::QuarantineLifted { image: id.clone(), actor, reason })
                    })
                    .collect();
                if !events.is_empty() {
                    appends.push(fleet_append(&fleet, state.sequence, events));
                    lifted.push(fleet);
                }
            }
            if appends.is_empty() {
                return Err(Error::NotNow(format!(
                    "no image {image} of {service} is in quarantine: windlass status shows those that are"
                )));
            }
            match self.store().append(appends).await {
                Err(store::Error::Conflict { .. }) => continue,
                done => done?,
            }
            self.0.lanes.wake(service);
            return Ok(lifted);
        }
    }

    /// Creates the run that takes a fleet back to what it ran before. It waits until somebody drives
    /// it; what it goes back from is put in quarantine as soon as it holds the fleet.
    pub async fn rollback(&self, fleet: &FleetId, actor: &Actor, reason: &str) -> Result<RunId, Error> {
        let store = self.store().as_ref();
        let state = self.0.known.fleet(store, fleet).await?;
        if state.sequence == 0 {
            return Err(Error::NoFleet(fleet.clone()));
        }
        let Some(current) = &state.current else {
            return Err(Error::NotNow(format!("{fleet} runs nothing, so there is nothing to roll back")));
        };
        let quarantined = self.0.known.fleets_of(store, &fleet.service).await?;
        let quarantined =
            |image: &_| quarantined.iter().any(|(_, fleet)| fleet.quarantined.contains_key(image));
        let Some(previous) = state.previous(quarantined) else {
            return Err(Error::NotNow(format!(
                "{fleet} has nothing to go back to: it never ran another image than {} that is not in quarantine",
                current.image.name
            )));
        };
        if let Some(run) = self.unfinished_rollback(fleet).await? {
            return Err(Error::NotNow(format!("{run} rolls {fleet} back already: windlass show {run}")));
        }
        // Under the rules that what runs there came in by, as they are today.
        let deployed = load_run(store, &current.run).await?.origin;
        let settings = settings(&deployed)?;
        policy(&settings).has_role(&fleet.environment, actor)?;
        let baked = load_run(store, &previous.image.run).await.ok().map(|run| run.origin.clone());
        let baked = baked.filter(|origin| {
            origin.commit.as_ref().map(|commit| &commit.sha) == previous.image.commit.as_ref()
        });
        let reason = Some(reason.trim()).filter(|reason| !reason.is_empty());
        let origin = Origin {
            settings_path: deployed.settings_path.clone(),
            source: baked.as_ref().and_then(|origin| origin.source.clone()),
            commit: baked.and_then(|origin| origin.commit.clone()),
            params: reason.map(|reason| (REASON.to_owned(), reason.to_owned())).into_iter().collect(),
            trigger: Trigger::Rollback {
                environment: fleet.environment.clone(),
                from: current.image.id.clone(),
            },
            image: Some(previous.image.clone()),
            ..Origin::new("", deployed.pipeline_path.clone(), actor.clone())
        };
        self.create(fleet.service.clone(), origin, None).await
    }

    async fn unfinished_rollback(&self, fleet: &FleetId) -> Result<Option<RunId>, Error> {
        let filter = RunFilter {
            pipeline: Some(fleet.service.clone()),
            unfinished: true,
            limit: Some(u32::MAX),
            ..RunFilter::default()
        };
        let of_fleet = |origin: &Origin| matches!(&origin.trigger, Trigger::Rollback { environment, .. } if *environment == fleet.environment);
        for row in self.store().runs(&filter).await? {
            // Of those that are driven it is known: there is no need to read thousands of journals.
            let takes_back = |lanes: &Lanes| {
                let standing = lanes.standing(row.run.number)?;
                Some(standing.rollback && standing.places.contains_key(&fleet.environment))
            };
            match self.0.lanes.ask(&fleet.service, takes_back) {
                Some(true) => return Ok(Some(row.run)),
                Some(false) => continue,
                None => {}
            }
            let first = self.store().read(&StreamId::Run(row.run.clone()), 0).await?.into_iter().next();
            if let Some(store::Event::Run(RunEvent::Created { origin, .. })) = first.map(|first| first.event)
                && of_fleet(&origin)
            {
                return Ok(Some(row.run));
            }
        }
        Ok(None)
    }
}

fn given(reason: &str) -> Result<&str, Error> {
    match reason.trim() {
        "" => Err(Refusal::NoReason.into()),
        reason => Ok(reason),
    }
}
