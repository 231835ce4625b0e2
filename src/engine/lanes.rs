//! Where the driven runs stand, for each other: published by each driver after each turn, with
//! wake-ups for those of the same pipeline whom it concerns. The others find out when somebody looks at
//! them ([`Place::is_behind`]).
//!
//! Runs that nobody drives stand in no queue: they cannot get out of anybody's way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, watch};

use crate::ids::{EnvironmentName, PipelineName, RunId};
use crate::run::lanes::{Change, Lanes, Standing};

#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<PipelineName, Entry>>);

#[derive(Default)]
struct Entry {
    lanes: Lanes,
    /// The driven runs, by number.
    calls: HashMap<u64, Arc<Notify>>,
    /// Counts up with every change.
    revision: watch::Sender<u64>,
}

/// A driver's place among those of its pipeline.
pub(super) struct Place {
    call: Arc<Notify>,
    revision: watch::Receiver<u64>,
}

impl Place {
    /// Returns when the run should look again, at once when that was so since it returned last; with
    /// `curious` also when anything of the pipeline's runs has changed since [`Self::catch_up`].
    pub async fn called(&mut self, curious: bool) {
        let changed = async {
            if self.revision.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = self.call.notified() => {}
            () = changed, if curious => {}
        }
    }

    /// Whether anything has.
    pub fn is_behind(&self) -> bool {
        self.revision.has_changed().unwrap_or(false)
    }

    pub fn catch_up(&mut self) {
        self.revision.mark_unchanged();
    }
}

impl Entry {
    fn note(&self, change: Change) {
        if change.new {
            self.revision.send_modify(|count| *count = count.wrapping_add(1));
        }
        change.concerned.iter().for_each(|number| self.call(*number));
    }

    fn call(&self, number: u64) {
        if let Some(call) = self.calls.get(&number) {
            call.notify_one();
        }
    }

    fn call_all(&self) {
        self.revision.send_modify(|count| *count = count.wrapping_add(1));
        self.calls.values().for_each(|call| call.notify_one());
    }
}

impl Registry {
    /// Takes a place among the pipeline's runs, where changes are heard of from now on.
    pub fn join(&self, run: &RunId) -> Place {
        self.at(&run.pipeline, |entry| Place {
            call: entry.calls.entry(run.number).or_default().clone(),
            revision: entry.revision.subscribe(),
        })
    }

    /// Notes where a run stands now, and wakes those whom that concerns.
    pub fn publish(&self, run: &RunId, standing: Standing) {
        self.at(&run.pipeline, |entry| {
            let change = entry.lanes.publish(run.number, standing);
            entry.note(change);
        });
    }

    /// The run has ended, or nobody drives it any more.
    pub fn remove(&self, run: &RunId) {
        self.at(&run.pipeline, |entry| {
            entry.calls.remove(&run.number);
            let change = entry.lanes.remove(run.number);
            entry.note(change);
        });
    }

    /// Asks about the runs of a pipeline.
    pub fn ask<T>(&self, pipeline: &PipelineName, question: impl FnOnce(&Lanes) -> T) -> T {
        self.at(pipeline, |entry| question(&entry.lanes))
    }

    /// Asks about the runs of every pipeline.
    pub fn ask_all(&self, mut question: impl FnMut(&PipelineName, &Lanes)) {
        let entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.iter().for_each(|(pipeline, entry)| question(pipeline, &entry.lanes));
    }

    /// The pipeline's fleet there is free: wakes the next that wants it.
    pub fn released(&self, pipeline: &PipelineName, environment: &EnvironmentName) {
        self.at(pipeline, |entry| {
            let concerned = entry.lanes.next(environment).into_iter().collect();
            entry.note(Change { new: true, concerned });
        });
    }

    /// Something beside the runs changed: a lock, an image that is allowed again.
    pub fn wake(&self, pipeline: &PipelineName) {
        self.at(pipeline, |entry| entry.call_all());
    }

    /// The same, for every pipeline.
    pub fn wake_all(&self) {
        let entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().for_each(Entry::call_all);
    }

    fn at<T>(&self, pipeline: &PipelineName, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match entries.get_mut(pipeline) {
            Some(entry) => act(entry),
            None => act(entries.entry(pipeline.clone()).or_default()),
        }
    }
}
