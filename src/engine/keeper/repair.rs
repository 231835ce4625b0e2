//! Launching what is missing: the intent first, each launch once.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::One;
use crate::cloud::{self, Cloud, Instance, InstanceState, Launch, Tags};
use crate::engine::Error;
use crate::ids::InstanceId;
use crate::run::event::{FleetEvent, Relaunch};
use crate::run::fleet::{Deployed, FleetState};
use crate::stage::fleet::version_of;

impl One {
    /// Launches what is missing: the intent first. The caller holds the fleet's lock.
    pub(super) async fn repair(
        &mut self,
        state: &FleetState,
        current: &Deployed,
        instances: &BTreeMap<InstanceId, Instance>,
        now: Timestamp,
        count: u32,
        strikes: u32,
    ) -> Result<(), Error> {
        let launched = state.keeping.launches.iter().map(|launch| launch.n);
        let prefix = self.fleet.instance_name(&version_of(&current.image), 0);
        let prefix = prefix.trim_end_matches('0');
        let named = instances.values().filter_map(|i| i.name.strip_prefix(prefix)?.parse::<u32>().ok());
        let last = named.chain(launched).max().unwrap_or(0);
        let sequence = state.sequence + 1;
        let launch = |n: u32| {
            let key = format!("{}.keep.{sequence}.{n}", self.fleet).parse();
            key.map(|key| Relaunch { n, key }).map_err(|error| Error::Settings(format!("{error}")))
        };
        let launches: Vec<Relaunch> =
            (1..=count).map(|more| launch(last.saturating_add(more))).collect::<Result<_, _>>()?;
        let event = FleetEvent::RepairStarted { launches: launches.clone(), strikes };
        self.append(state, now, event).await?;
        tracing::info!(fleet = %self.fleet, "{count} instances are missing, and are launched");
        self.launch(current, &launches).await
    }

    /// Launches that a killed process had intended, or had only begun, are asked for under their old
    /// keys. Answers whether there were any, and it is time to look again.
    pub(super) async fn launch_again(
        &mut self,
        state: &FleetState,
        current: &Deployed,
        instances: &BTreeMap<InstanceId, Instance>,
    ) -> Result<bool, Error> {
        let open = |launch: &&Relaunch| {
            let there = instances.values().find(|instance| instance.key == launch.key);
            !self.asked.contains(&launch.key)
                && there.is_none_or(|instance| instance.state == InstanceState::Pending)
        };
        let launches: Vec<Relaunch> = state.keeping.launches.iter().filter(open).cloned().collect();
        if launches.is_empty() {
            return Ok(false);
        }
        let acting = self.shared.fleet_lock(&self.fleet);
        let _acting = acting.lock().await;
        if self.load().await?.sequence != state.sequence {
            return Ok(true);
        }
        self.launch(current, &launches).await.map(|()| true)
    }

    /// Gives a fleet back to the cloud that keeps it: whoever turned it over may have been killed before
    /// he did. Nothing happens where he was not, or where a run holds the fleet, which may begin just now.
    pub(super) async fn give_back(
        &self,
        cloud: &Cloud,
        state: &FleetState,
        current: &Deployed,
    ) -> Result<(), Error> {
        let acting = self.shared.fleet_lock(&self.fleet);
        let _acting = acting.lock().await;
        if state.holder.is_some() || self.load().await?.sequence != state.sequence {
            return Ok(());
        }
        let key = format!("{}.keep.{}", self.fleet, state.sequence).parse();
        let key = key.map_err(|error| Error::Settings(format!("{error}")))?;
        let last = self.launch_of(current, &Relaunch { n: 0, key });
        cloud.compute.end_rollout(&self.fleet, Some(&last)).await.map_err(Error::Cloud)
    }

    async fn launch(&mut self, current: &Deployed, launches: &[Relaunch]) -> Result<(), Error> {
        let compute = self.cloud()?.compute;
        let launches: Vec<Launch> =
            launches.iter().map(|relaunch| self.launch_of(current, relaunch)).collect();
        let asked = launches.iter().map(|launch| compute.launch(launch));
        let outcomes = futures_util::future::join_all(asked).await;
        let mut failure: Option<cloud::Error> = None;
        for (launch, outcome) in launches.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => drop(self.asked.insert(launch.key)),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |error| Err(Error::Cloud(error)))
    }

    fn launch_of(&self, current: &Deployed, relaunch: &Relaunch) -> Launch {
        let tags = Tags {
            service: self.fleet.service.clone(),
            run: current.run.clone(),
            stage: "keep".to_owned(),
            key: relaunch.key.clone(),
        };
        Launch {
            key: relaunch.key.clone(),
            name: self.fleet.instance_name(&version_of(&current.image), relaunch.n),
            fleet: self.fleet.clone(),
            image: current.release.image.clone(),
            env: current.release.env.clone(),
            release: current.release.id(),
            tags,
        }
    }
}
