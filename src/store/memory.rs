//! A store that forgets with the process: for simulations that open thousands of them. It keeps the
//! whole contract except durability, and passes the same suite.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Append, Delivery, DeliveryFilter, DeliveryKey, DeliveryStatus, Error, FleetRow, Inbox, NewDelivery,
    NewRun, Receipt, Recorded, Row, RunFilter, RunRow, Settlement, Store, kept,
};
use crate::ids::{FleetId, PipelineName, RunId, StreamId};

#[derive(Debug, Default)]
pub struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    journals: HashMap<StreamId, Vec<Recorded>>,
    /// In the order of creation.
    runs: Vec<RunRow>,
    fleets: BTreeMap<FleetId, FleetRow>,
    numbers: HashMap<PipelineName, u64>,
    triggers: HashMap<String, RunId>,
    /// In the order in which they were received.
    deliveries: Vec<Delivery>,
    marks: HashMap<PipelineName, Timestamp>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn head(&self, stream: &StreamId) -> u64 {
        self.journals.get(stream).map_or(0, |journal| journal.len() as u64)
    }

    fn create(&mut self, new: NewRun) -> RunId {
        if let Some(run) = new.trigger_key.as_ref().and_then(|key| self.triggers.get(key)) {
            return run.clone();
        }
        let number = self.numbers.entry(new.pipeline.clone()).or_default();
        *number += 1;
        let run = RunId::new(new.pipeline.clone(), *number);
        let (event, row) = new.begin(&run);
        let first = Recorded { sequence: 1, at: kept(new.at), event };
        self.journals.insert(StreamId::Run(run.clone()), vec![first]);
        self.runs.push(kept_row(row));
        if let Some(key) = new.trigger_key {
            self.triggers.insert(key, run.clone());
        }
        run
    }

    fn append(&mut self, batch: Vec<Append>) -> Result<(), Error> {
        let mut heads: HashMap<&StreamId, u64> = HashMap::new();
        for append in &batch {
            append.check()?;
            let head = heads.entry(&append.stream).or_insert_with(|| self.head(&append.stream));
            append.admit(*head)?;
            *head += append.events.len() as u64;
        }
        for append in batch {
            let journal = self.journals.entry(append.stream).or_default();
            for (at, event) in append.events {
                journal.push(Recorded { sequence: journal.len() as u64 + 1, at: kept(at), event });
            }
            match append.row {
                Row::Run(row) => {
                    if let Some(old) = self.runs.iter_mut().rev().find(|old| old.run == row.run) {
                        *old = kept_row(row);
                    }
                }
                Row::Fleet(row) => {
                    let row = FleetRow { updated_at: kept(row.updated_at), ..row };
                    self.fleets.insert(row.fleet.clone(), row);
                }
                Row::Environment => {}
            }
        }
        Ok(())
    }
}

fn kept_row(row: RunRow) -> RunRow {
    RunRow { created_at: kept(row.created_at), updated_at: kept(row.updated_at), ..row }
}

#[async_trait]
impl Store for Memory {
    async fn create_run(&self, new: NewRun) -> Result<RunId, Error> {
        Ok(self.state().create(new))
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), Error> {
        self.state().append(batch)
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Recorded>, Error> {
        let state = self.state();
        let journal = state.journals.get(stream).map(Vec::as_slice).unwrap_or_default();
        Ok(journal.iter().skip(after as usize).cloned().collect())
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Error> {
        let wanted = |row: &&RunRow| {
            filter.pipeline.as_ref().is_none_or(|pipeline| row.run.pipeline == *pipeline)
                && filter.status.as_ref().is_none_or(|status| row.status == *status)
                && !(filter.unfinished && row.ended)
        };
        let state = self.state();
        // As in SQL: nothing is before a run that is not there.
        let from = filter.before.as_ref().map(|run| state.runs.iter().position(|row| row.run == *run));
        let end = from.map_or(state.runs.len(), Option::unwrap_or_default);
        Ok(state.runs.iter().take(end).rev().filter(wanted).take(filter.limit() as usize).cloned().collect())
    }

    async fn pipelines(&self) -> Result<Vec<PipelineName>, Error> {
        let state = self.state();
        let names: BTreeSet<&PipelineName> = state.runs.iter().map(|row| &row.run.pipeline).collect();
        Ok(names.into_iter().cloned().collect())
    }

    async fn fleets(&self) -> Result<Vec<FleetRow>, Error> {
        Ok(self.state().fleets.values().cloned().collect())
    }
}

#[async_trait]
impl Inbox for Memory {
    async fn deliver(&self, new: NewDelivery) -> Result<Receipt, Error> {
        let mut state = self.state();
        if state.deliveries.iter().any(|delivery| delivery.key == new.key) {
            return Ok(Receipt::Known);
        }
        state.deliveries.push(Delivery {
            key: new.key,
            event: new.event,
            received_at: kept(new.received_at),
            body: Some(new.body),
            settlement: Settlement { status: DeliveryStatus::Pending, reason: None, runs: Vec::new() },
        });
        Ok(Receipt::New)
    }

    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        Ok(self.state().deliveries.iter().find(|delivery| delivery.key.id == id).cloned())
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Error> {
        let wanted = |found: &&Delivery| filter.status.is_none_or(|status| found.settlement.status == status);
        let state = self.state();
        let found = state.deliveries.iter().rev().filter(wanted).take(filter.limit() as usize);
        Ok(found.map(|delivery| Delivery { body: None, ..delivery.clone() }).collect())
    }

    async fn pending_deliveries(&self) -> Result<Vec<DeliveryKey>, Error> {
        let pending = |found: &&Delivery| found.settlement.status == DeliveryStatus::Pending;
        Ok(self.state().deliveries.iter().filter(pending).map(|delivery| delivery.key.clone()).collect())
    }

    async fn settle_delivery(&self, key: &DeliveryKey, settlement: Settlement) -> Result<(), Error> {
        let mut state = self.state();
        let found = state.deliveries.iter_mut().find(|delivery| delivery.key == *key);
        found.ok_or_else(|| Error::NoDelivery(key.id.clone()))?.settlement = settlement;
        Ok(())
    }

    async fn drop_bodies(&self, before: Timestamp) -> Result<(), Error> {
        for delivery in &mut self.state().deliveries {
            if delivery.settlement.status != DeliveryStatus::Pending && delivery.received_at < kept(before) {
                delivery.body = None;
            }
        }
        Ok(())
    }

    async fn schedule_mark(&self, pipeline: &PipelineName) -> Result<Option<Timestamp>, Error> {
        Ok(self.state().marks.get(pipeline).copied())
    }

    async fn mark_schedule(&self, pipeline: &PipelineName, until: Timestamp) -> Result<(), Error> {
        self.state().marks.insert(pipeline.clone(), kept(until));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;
    use std::sync::Arc;

    #[tokio::test]
    async fn keeps_the_contract() {
        let places: Mutex<HashMap<String, Arc<Memory>>> = Mutex::default();
        conformance::exercise(async |place: &str| {
            let mut places = places.lock().unwrap();
            places.entry(place.to_owned()).or_default().clone() as Arc<dyn Store>
        })
        .await;
    }
}
