//! A store that forgets with the process: for simulations that open thousands of them. It keeps the
//! whole contract except durability, and passes the same suite.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;

use super::{Append, Error, FleetRow, NewRun, Recorded, Row, RunFilter, RunRow, Store, kept};
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

    async fn fleets(&self) -> Result<Vec<FleetRow>, Error> {
        Ok(self.state().fleets.values().cloned().collect())
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
