//! Runs by the clock. One task sleeps until the next instant that is due anywhere.
//!
//! Every instant goes through the inbox, where its id keeps it from coming twice: after a crash between
//! the delivery and the mark it is known already. What was due while no server ran is recorded as missed,
//! and never fired late.
//!
//! The clock may be set. Forward, it passes over instants: they were missed. Back, it comes to instants again:
//! those that fired are known and do not fire twice; those that were recorded as missed, in a time to which it
//! had been set by mistake, fire when they come indeed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Shared;
use super::catalog::Catalog;
use super::handle::{DUE, Due, SCHEDULE};
use super::lanes::Job;
use crate::ids::PipelineName;
use crate::pipeline::model::Schedule;
use crate::store::{DeliveryKey, DeliveryStatus, Error, NewDelivery, Receipt, Settlement};
use crate::wake::Alarm;

#[cfg(test)]
mod tests;

/// A server that runs notices an instant within milliseconds, unless the machine slept or is overloaded.
pub(super) const LATE: SignedDuration = SignedDuration::from_secs(30);

/// Of what was missed, the last so many are recorded.
const MISSED: usize = 100;

/// A store that failed is asked again after so long.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Fires what is due, for ever.
pub async fn run(shared: Arc<Shared>) {
    let mut catalogs = shared.catalog.subscribe();
    let mut schedules = Schedules::since(shared.clock.now());
    loop {
        let alarm = Alarm::new();
        let sooner = shared.sooner.notified();
        tokio::pin!(sooner);
        sooner.as_mut().enable();
        let catalog = catalogs.borrow_and_update().clone();
        let now = shared.clock.now();
        let failed = !schedules.look(&shared, &catalog, now).await;
        let next = catalog
            .pipelines()
            .flat_map(|listed| &listed.pipeline.on.schedules)
            .filter_map(|schedule| schedule.after(now))
            .min();
        tokio::select! {
            () = alarm.at(next) => {}
            () = tokio::time::sleep(STORE_PAUSE), if failed => {}
            changed = catalogs.changed() => if changed.is_err() { return },
            () = sooner => {}
        }
    }
}

/// What a server remembers of schedules besides what is stored.
struct Schedules {
    /// Since when it has run, by the clock as it is now.
    since: Timestamp,
    /// What each pipeline's were when they were considered last; `None` before the first time.
    seen: Option<BTreeMap<PipelineName, Vec<Schedule>>>,
}

impl Schedules {
    fn since(started: Timestamp) -> Self {
        Self { since: started, seen: None }
    }

    /// Fires or records all that is due at `now`. Answers whether the store took it.
    async fn look(&mut self, shared: &Shared, catalog: &Catalog, now: Timestamp) -> bool {
        // Where the clock was set back, all that it comes to from here on comes while a server runs.
        self.since = self.since.min(now);
        let all: BTreeMap<PipelineName, Vec<Schedule>> = catalog
            .pipelines()
            .filter(|listed| !listed.pipeline.on.schedules.is_empty())
            .map(|listed| (listed.pipeline.name.clone(), listed.pipeline.on.schedules.clone()))
            .collect();
        let mut done = true;
        for (pipeline, schedules) in &all {
            // One that is new, or was changed by an edit, begins now; what it was at the last end of a
            // server nobody knows.
            let begins = self.seen.as_ref().is_some_and(|seen| seen.get(pipeline) != Some(schedules));
            if let Err(error) = consider(shared, pipeline, schedules, begins, self.since, now).await {
                tracing::error!(%pipeline, %error, "its schedule waits for the store");
                done = false;
            }
        }
        if done {
            self.seen = Some(all);
        }
        done
    }
}

/// Fires or records what is due of one pipeline since it was considered last.
async fn consider(
    shared: &Shared,
    pipeline: &PipelineName,
    schedules: &[Schedule],
    begins: bool,
    since: Timestamp,
    now: Timestamp,
) -> Result<(), Error> {
    let store = shared.engine.store();
    let mark = match store.schedule_mark(pipeline).await? {
        // A mark that lies before us was made by a clock that was set back since.
        Some(mark) if !begins && mark <= now => mark,
        _ => return store.mark_schedule(pipeline, now).await,
    };
    let due = due(schedules, mark, now);
    let Some(last) = due.keys().next_back().copied() else { return Ok(()) };
    for (at, branches) in due {
        let key = DeliveryKey { source: SCHEDULE.to_owned(), id: format!("{pipeline}@{at}") };
        let body = serde_json::to_vec(&Due { pipeline: pipeline.clone(), due: at, branches });
        let (event, body) = (DUE.to_owned(), body.unwrap_or_default());
        let receipt = store.deliver(NewDelivery { key: key.clone(), event, received_at: now, body }).await?;
        let missed = match () {
            () if at <= since => Some(format!("missed: no server ran with this schedule at {at}")),
            () if now.duration_since(at) > LATE => {
                Some(format!("missed: the server was not running, or its clock was wrong, at {at}"))
            }
            () => None,
        };
        match (receipt, missed) {
            (Receipt::Known, None) => comes_indeed(shared, key, now).await?,
            (Receipt::Known, Some(_)) => {}
            (Receipt::New, None) => drop(shared.jobs.send(Job::of(key, None))),
            (Receipt::New, Some(reason)) => {
                let (status, reason) = (DeliveryStatus::Ignored, Some(reason));
                store.settle_delivery(&key, Settlement { status, reason, runs: Vec::new() }).await?;
                shared.settled.send_modify(|count| *count += 1);
            }
        }
    }
    store.mark_schedule(pipeline, last).await
}

/// An instant that is known already comes. It fires where it was passed over before, and started nothing.
async fn comes_indeed(shared: &Shared, key: DeliveryKey, now: Timestamp) -> Result<(), Error> {
    let store = shared.engine.store();
    let Some(known) = store.delivery(&key.id).await? else { return Ok(()) };
    if known.settlement.status == DeliveryStatus::Ignored && known.settlement.runs.is_empty() {
        let pending = Settlement { status: DeliveryStatus::Pending, reason: None, runs: Vec::new() };
        store.settle_delivery(&key, pending).await?;
        drop(shared.jobs.send(Job::of(key, Some(now))));
    }
    Ok(())
}

/// The instants after `mark` and up to `now`, at most the last [`MISSED`], with the branches that are due
/// then.
fn due(schedules: &[Schedule], mark: Timestamp, now: Timestamp) -> BTreeMap<Timestamp, Vec<Option<String>>> {
    // A mark may be years old, and a schedule due every minute: looking goes back no further than needed.
    let mut span = SignedDuration::from_hours(1);
    loop {
        let from = now.checked_sub(span).map_or(mark, |from| from.max(mark));
        let mut found: BTreeMap<Timestamp, Vec<Option<String>>> = BTreeMap::new();
        for schedule in schedules {
            let mut at = from;
            while let Some(next) = schedule.after(at).filter(|next| *next <= now) {
                let branches = found.entry(next).or_default();
                if !branches.contains(&schedule.branch) {
                    branches.push(schedule.branch.clone());
                }
                at = next;
            }
        }
        if from == mark || found.len() >= MISSED {
            let surplus = found.len().saturating_sub(MISSED);
            return found.into_iter().skip(surplus).collect();
        }
        span *= 8;
    }
}
