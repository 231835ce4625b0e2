//! Fleets and environments as they were read last: of their journals only what is new is read again, and
//! whoever asks while another reads shares the next answer with all who wait for it.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::clock::Timestamp;
use crate::ids::{EnvironmentName, FleetId, ImageId, PipelineName, StreamId};
use crate::run::environment::EnvironmentState;
use crate::run::fleet::{FleetState, Quarantine};
use crate::store::{self, Event, Store};

#[derive(Default)]
pub struct Known {
    fleets: Journals<FleetId, FleetState>,
    environments: Journals<EnvironmentName, EnvironmentState>,
}

type Journals<K, T> = Mutex<HashMap<K, Arc<Journal<T>>>>;

/// What a journal is folded into.
trait Folded: Clone + Default {
    fn sequence(&self) -> u64;
    fn take_in(&mut self, at: Timestamp, event: &Event);
}

impl Folded for FleetState {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn take_in(&mut self, at: Timestamp, event: &Event) {
        if let Event::Fleet(event) = event {
            self.apply(at, event);
        }
    }
}

impl Folded for EnvironmentState {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn take_in(&mut self, at: Timestamp, event: &Event) {
        if let Event::Environment(event) = event {
            self.apply(at, event);
        }
    }
}

/// A journal, one reader at a time. The readings are counted: whoever finds, when it is its turn, that one
/// began and succeeded since it asked has its answer already. When thousands look at one fleet, few readings
/// answer all of them.
#[derive(Default)]
struct Journal<T> {
    begun: AtomicU64,
    succeeded: AtomicU64,
    known: tokio::sync::Mutex<Arc<T>>,
}

impl<T: Folded> Journal<T> {
    async fn read(&self, store: &dyn Store, stream: StreamId) -> Result<Arc<T>, store::Error> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut known = self.known.lock().await;
        if self.succeeded.load(Ordering::SeqCst) > asked {
            return Ok(known.clone());
        }
        let reading = 1 + self.begun.fetch_add(1, Ordering::SeqCst);
        for recorded in store.read(&stream, known.sequence()).await? {
            Arc::make_mut(&mut known).take_in(recorded.at, &recorded.event);
        }
        self.succeeded.store(reading, Ordering::SeqCst);
        Ok(known.clone())
    }
}

impl Known {
    /// The fleet as its journal tells it now.
    pub async fn fleet(&self, store: &dyn Store, fleet: &FleetId) -> Result<Arc<FleetState>, store::Error> {
        of(&self.fleets, fleet).read(store, StreamId::Fleet(fleet.clone())).await
    }

    /// The environment as its journal tells it now.
    pub async fn environment(
        &self,
        store: &dyn Store,
        environment: &EnvironmentName,
    ) -> Result<Arc<EnvironmentState>, store::Error> {
        of(&self.environments, environment).read(store, StreamId::Environment(environment.clone())).await
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

fn of<K: Clone + Eq + Hash, T: Default>(journals: &Journals<K, T>, key: &K) -> Arc<Journal<T>> {
    let mut journals = journals.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match journals.get(key) {
        Some(journal) => journal.clone(),
        None => journals.entry(key.clone()).or_default().clone(),
    }
}
