//! Fleets and environments as they were read last: of their journals only what is new is read again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::ids::{EnvironmentName, FleetId, ImageId, PipelineName, StreamId};
use crate::run::environment::EnvironmentState;
use crate::run::fleet::{FleetState, Quarantine};
use crate::store::{self, Event, Store};

#[derive(Default)]
pub struct Known {
    fleets: Mutex<HashMap<FleetId, Arc<FleetState>>>,
    environments: Mutex<HashMap<EnvironmentName, Arc<EnvironmentState>>>,
}

impl Known {
    /// The fleet as its journal tells it now.
    pub async fn fleet(&self, store: &dyn Store, fleet: &FleetId) -> Result<Arc<FleetState>, store::Error> {
        let sequence = lock(&self.fleets).get(fleet).map_or(0, |known| known.sequence);
        let new = store.read(&StreamId::Fleet(fleet.clone()), sequence).await?;
        let mut fleets = lock(&self.fleets);
        let known = fleets.entry(fleet.clone()).or_default();
        for recorded in new {
            // Somebody else may have taken it in meanwhile.
            if recorded.sequence == known.sequence + 1
                && let Event::Fleet(event) = &recorded.event
            {
                Arc::make_mut(known).apply(recorded.at, event);
            }
        }
        Ok(known.clone())
    }

    /// The environment as its journal tells it now.
    pub async fn environment(
        &self,
        store: &dyn Store,
        environment: &EnvironmentName,
    ) -> Result<Arc<EnvironmentState>, store::Error> {
        let sequence = lock(&self.environments).get(environment).map_or(0, |known| known.sequence);
        let new = store.read(&StreamId::Environment(environment.clone()), sequence).await?;
        let mut environments = lock(&self.environments);
        let known = environments.entry(environment.clone()).or_default();
        for recorded in new {
            // Somebody else may have taken it in meanwhile.
            if recorded.sequence == known.sequence + 1
                && let Event::Environment(event) = &recorded.event
            {
                Arc::make_mut(known).apply(recorded.at, event);
            }
        }
        Ok(known.clone())
    }

    /// Every fleet of the service that has a journal.
    pub async fn fleets_of(
        &self,
        store: &dyn Store,
        service: &PipelineName,
    ) -> Result<Vec<(FleetId, Arc<FleetState>)>, store::Error> {
        let rows = store.fleets().await?;
        let ids: BTreeSet<FleetId> =
            rows.into_iter().map(|row| row.fleet).filter(|fleet| fleet.service == *service).collect();
        let mut fleets = Vec::with_capacity(ids.len());
        for fleet in ids {
            let state = self.fleet(store, &fleet).await?;
            fleets.push((fleet, state));
        }
        Ok(fleets)
    }

    /// Why the service must not use the image, if it must not.
    pub async fn quarantine(
        &self,
        store: &dyn Store,
        service: &PipelineName,
        image: &ImageId,
    ) -> Result<Option<Quarantine>, store::Error> {
        let fleets = self.fleets_of(store, service).await?;
        Ok(fleets.iter().find_map(|(_, fleet)| fleet.quarantined.get(image)).cloned())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
