//! Where the driven runs stand, for each other: published by each driver after each turn, with
//! wake-ups for those of the same pipeline.
//!
//! Runs that nobody drives stand in no queue: they cannot get out of anybody's way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::ids::{PipelineName, RunId};
use crate::run::lanes::{Lanes, Standing};

#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<PipelineName, Entry>>);

#[derive(Default)]
struct Entry {
    lanes: Lanes,
    changed: Arc<Notify>,
}

impl Registry {
    /// Notes where a run stands now, and wakes the others of its pipeline if that is new.
    pub fn publish(&self, run: &RunId, standing: Standing) {
        self.at(&run.pipeline, |entry| {
            if entry.lanes.publish(run.number, standing) {
                entry.changed.notify_waiters();
            }
        });
    }

    /// The run has ended, or nobody drives it any more.
    pub fn remove(&self, run: &RunId) {
        self.at(&run.pipeline, |entry| {
            if entry.lanes.remove(run.number) {
                entry.changed.notify_waiters();
            }
        });
    }

    /// Asks about the runs of a pipeline.
    pub fn ask<T>(&self, pipeline: &PipelineName, question: impl FnOnce(&Lanes) -> T) -> T {
        self.at(pipeline, |entry| question(&entry.lanes))
    }

    /// Told when runs of the pipeline should look again.
    pub fn changed(&self, pipeline: &PipelineName) -> Arc<Notify> {
        self.at(pipeline, |entry| entry.changed.clone())
    }

    /// Something beside the runs changed: a lock, a fleet.
    pub fn wake(&self, pipeline: &PipelineName) {
        self.at(pipeline, |entry| entry.changed.notify_waiters());
    }

    /// The same, for every pipeline.
    pub fn wake_all(&self) {
        let entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().for_each(|entry| entry.changed.notify_waiters());
    }

    fn at<T>(&self, pipeline: &PipelineName, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match entries.get_mut(pipeline) {
            Some(entry) => act(entry),
            None => act(entries.entry(pipeline.clone()).or_default()),
        }
    }
}
