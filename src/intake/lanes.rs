//! From the inbox: deliveries of one lane after each other, those of different lanes at the same time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use super::handle::{Work, handle};
use crate::store::{self, Delivery, DeliveryFilter, DeliveryKey, DeliveryStatus, Settlement, Store};

/// Deliveries that are handled at the same time: each may fetch.
const AT_ONCE: usize = 8;

/// The pause before a source that failed is asked again, and the longest such pause.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The pause before a store that failed is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Bodies of settled deliveries are kept so long.
const BODIES: SignedDuration = SignedDuration::from_hours(30 * 24);

/// So many of the newest keep theirs however old they seem: about 8 MB, as large as webhooks usually are.
const NEWEST: u32 = 1000;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A delivery that is to be handled.
pub struct Job {
    pub key: DeliveryKey,
    /// When somebody asked for it again; otherwise it counts from when it was received.
    pub since: Option<Timestamp>,
    /// Of one that was stored just now, so that it need not be read. Only what begins at once keeps it:
    /// what waits takes no memory but for its name.
    pub found: Option<Box<Found>>,
}

/// A delivery that is pending, without its body, and what it is about.
pub struct Found {
    pub delivery: Delivery,
    pub work: Work,
}

impl Job {
    /// One that is to be read from the inbox.
    pub fn of(key: DeliveryKey, since: Option<Timestamp>) -> Self {
        Self { key, since, found: None }
    }
}

/// Hands out what is pending, and what arrives, to the lanes.
pub async fn run(shared: Arc<Shared>, mut arriving: mpsc::UnboundedReceiver<Job>) {
    let mut lanes = Lanes::new(shared.clone());
    for key in surely(|| async { shared.engine.store().pending_deliveries().await }).await {
        lanes.take(Job::of(key, None)).await;
    }
    loop {
        tokio::select! {
            job = arriving.recv() => match job {
                Some(job) => lanes.take(job).await,
                None => return,
            },
            Some(done) = lanes.tasks.join_next() => {
                if let Ok((lane, key)) = done {
                    lanes.next(lane, &key).await;
                }
            }
        }
    }
}

struct Lanes {
    shared: Arc<Shared>,
    /// What waits in the lanes that are under way.
    waiting: HashMap<String, VecDeque<Job>>,
    /// All that is in a lane.
    known: HashSet<DeliveryKey>,
    /// What was asked for again while it was in a lane.
    again: HashMap<DeliveryKey, Job>,
    tasks: JoinSet<(String, DeliveryKey)>,
    permits: Arc<Semaphore>,
}

impl Lanes {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            waiting: HashMap::new(),
            known: HashSet::new(),
            again: HashMap::new(),
            tasks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    async fn take(&mut self, mut job: Job) {
        let found = job.found.take();
        if self.known.contains(&job.key) {
            self.again.insert(job.key.clone(), job);
            return;
        }
        let found = match found {
            Some(found) => Some(found),
            None => pending(&self.shared, &job.key).await,
        };
        let Some(found) = found else { return };
        self.known.insert(job.key.clone());
        let lane = match &found.work {
            // It waits for nobody, and nobody for it.
            Work::Nothing { .. } => format!("{} {}", job.key.source, job.key.id),
            work => work.lane(),
        };
        match self.waiting.get_mut(&lane) {
            Some(waiting) => waiting.push_back(job),
            None => {
                self.waiting.insert(lane.clone(), VecDeque::new());
                job.found = Some(found);
                self.begin(lane, job);
            }
        }
    }

    fn begin(&mut self, lane: String, job: Job) {
        let (shared, permits) = (self.shared.clone(), self.permits.clone());
        self.tasks.spawn(async move {
            let key = job.key.clone();
            // A lane whose task panics would never end.
            let _ = AssertUnwindSafe(work_off(&shared, job, &permits)).catch_unwind().await;
            (lane, key)
        });
    }

    async fn next(&mut self, lane: String, done: &DeliveryKey) {
        self.known.remove(done);
        match self.waiting.get_mut(&lane).and_then(VecDeque::pop_front) {
            Some(job) => self.begin(lane, job),
            None => drop(self.waiting.remove(&lane)),
        }
        // What was settled meanwhile is not pending, and not taken.
        if let Some(job) = self.again.remove(done) {
            self.take(job).await;
        }
    }
}

/// The delivery and what it is about, while it is pending.
async fn pending(shared: &Shared, key: &DeliveryKey) -> Option<Box<Found>> {
    let read = || async { shared.engine.store().delivery(&key.id).await };
    let delivery = surely(read).await.filter(|found| found.settlement.status == DeliveryStatus::Pending)?;
    let work = Work::of(&delivery);
    Some(Box::new(Found { delivery: Delivery { body: None, ..delivery }, work }))
}

/// Handles a delivery until it is settled.
async fn work_off(shared: &Shared, job: Job, permits: &Semaphore) {
    let found = match job.found {
        Some(found) => Some(found),
        None => pending(shared, &job.key).await,
    };
    let Some(Found { delivery, work }) = found.map(|found| *found) else { return };
    let since = job.since.unwrap_or(delivery.received_at);
    let begun = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        let sooner = shared.sooner.notified();
        tokio::pin!(sooner);
        sooner.as_mut().enable();
        let settlement = {
            // Never closed.
            let _permit = permits.acquire().await;
            let handled = AssertUnwindSafe(handle(shared, &delivery, &work, since, begun.elapsed()))
                .catch_unwind()
                .await;
            handled.unwrap_or_else(|_| Settlement {
                status: DeliveryStatus::Failed,
                reason: Some("handling it panicked; this is a defect of Windlass".to_owned()),
                runs: Vec::new(),
            })
        };
        let (id, reason) = (&delivery.key.id, settlement.reason.as_deref().unwrap_or_default());
        match settlement.status {
            DeliveryStatus::Failed => tracing::error!(delivery = %id, "the delivery failed: {reason}"),
            DeliveryStatus::Pending => tracing::warn!(delivery = %id, "it is tried again: {reason}"),
            _ => tracing::info!(delivery = %id, runs = ?settlement.runs, "the delivery is handled. {reason}"),
        }
        let settle =
            || async { shared.engine.store().settle_delivery(&delivery.key, settlement.clone()).await };
        surely(settle).await;
        shared.settled.send_modify(|count| *count += 1);
        if settlement.status != DeliveryStatus::Pending {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE.1),
            () = sooner => {}
        }
    }
}

/// Asks the store until it answers.
async fn surely<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, store::Error>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::error!(%error, "the inbox waits for the store"),
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

/// Drops the bodies that are too old, now and once a day; never those of the newest deliveries, as the clock
/// may be wrong.
pub async fn forget(shared: Arc<Shared>) {
    loop {
        let old = shared.clock.now().saturating_sub(BODIES).unwrap_or(Timestamp::MIN);
        if let Err(error) = drop_bodies(shared.engine.store().as_ref(), old).await {
            tracing::error!(%error, "old deliveries keep their bodies");
        }
        tokio::time::sleep(DAY).await;
    }
}

async fn drop_bodies(store: &dyn Store, old: Timestamp) -> Result<(), store::Error> {
    let newest = DeliveryFilter { limit: Some(NEWEST), ..DeliveryFilter::default() };
    let newest = store.deliveries(&newest).await?;
    match newest.iter().map(|delivery| delivery.received_at).min() {
        Some(first) => store.drop_bodies(old.min(first)).await,
        None => Ok(()),
    }
}
