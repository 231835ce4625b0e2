//! The store as a process reaches it: late, failing, with and without an effect, and gone with the
//! process.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use windlass::ids::{PipelineName, RunId, StreamId};
use windlass::run::event::RunEvent;
use windlass::store::{
    Append, Delivery, DeliveryFilter, DeliveryKey, Error, FleetRow, Inbox, NewDelivery, NewRun, Receipt,
    Recorded, RunFilter, RunRow, Settlement, Store,
};

use crate::clock;
use crate::ledger::Ended;
use crate::world::{Life, World};

pub struct Reached(pub Arc<Life>);

const PATH: &str = "the simulated store";

/// What becomes of a write.
enum Fate {
    Done,
    Answerless,
    Failed,
    Full,
}

impl Reached {
    fn world(&self) -> &World {
        &self.0.world
    }

    fn fate(&self, what: &str) -> Fate {
        if !self.world().happens(self.world().scenario.chaos.store, what) {
            return Fate::Done;
        }
        match self.world().next(what).below(3) {
            0 => Fate::Answerless,
            1 => Fate::Failed,
            _ => Fate::Full,
        }
    }

    /// A write, behind all that may become of it.
    async fn write<T>(&self, what: &str, act: impl AsyncFnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.0.moment(what).await;
        self.world().latency(what, 0, 3).await;
        self.0.alive().await;
        let failed = |message: &str| Error::Failed { path: PATH.to_owned(), message: message.to_owned() };
        let fate = self.fate(what);
        let done = match fate {
            Fate::Failed => Err(failed("nothing was written")),
            Fate::Full => Err(Error::Full { path: PATH.to_owned() }),
            Fate::Done | Fate::Answerless => act().await,
        };
        self.0.moment(what).await;
        match (fate, done) {
            (Fate::Answerless, Ok(_)) => Err(failed("the answer was lost")),
            (_, done) => done,
        }
    }

    async fn read<T>(&self, what: &str, act: impl AsyncFnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.0.alive().await;
        if self.world().happens(self.world().scenario.chaos.read, what) {
            return Err(Error::Failed { path: PATH.to_owned(), message: "it cannot be read".to_owned() });
        }
        act().await
    }
}

/// Takes in what was written, and says what is wrong with it.
fn recorded(world: &World, batch: &[Append], process: u32) {
    for append in batch {
        for (_, event) in &append.events {
            world.tell(|| format!("process {process} records {}: {event:?}", append.stream));
        }
    }
    let taken = world.ledger().take(batch, clock::elapsed(), process);
    for broken in taken.broken {
        world.broken(broken);
    }
    for ended in taken.ended {
        let (left, what) = match &ended {
            Ended::Attempt { id, forced: false } => {
                let left = world.machine.running(|step| step.attempt == *id);
                (left, format!("{id} has ended"))
            }
            Ended::Attempt { .. } => continue,
            Ended::Run(run) => {
                let left = world.machine.running(|step| step.attempt.run == *run);
                (left, format!("{run} has ended"))
            }
        };
        for step in left {
            world.broken(format!("{what}, and {step} goes on running"));
        }
    }
}

#[async_trait]
impl Store for Reached {
    async fn create_run(&self, new: NewRun) -> Result<RunId, Error> {
        let create = async || {
            let world = self.world();
            let (at, origin) = (new.at, new.origin.clone());
            let run = world.memory.create_run(new).await?;
            let known = world.ledger().runs.contains_key(&run);
            world.tell(|| format!("process {} creates {run}", self.0.number));
            if !known {
                let event = RunEvent::Created { run: run.clone(), origin: Box::new(origin) };
                let created = world.ledger().create(&run, at, &event);
                created.unwrap_or_else(|broken| world.broken(broken));
            }
            Ok(run)
        };
        self.write("create a run", create).await
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), Error> {
        let append = async || {
            let appended = self.world().memory.append(batch.clone()).await;
            match &appended {
                Ok(()) => recorded(self.world(), &batch, self.0.number),
                Err(error) => self.world().tell(|| format!("process {} is told: {error}", self.0.number)),
            }
            appended
        };
        let first = batch.first().map(|append| append.stream.to_string()).unwrap_or_default();
        self.write(&format!("append to {first}"), append).await
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Recorded>, Error> {
        self.read(&format!("read {stream}"), async || self.world().memory.read(stream, after).await).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Error> {
        self.read("list runs", async || self.world().memory.runs(filter).await).await
    }

    async fn pipelines(&self) -> Result<Vec<PipelineName>, Error> {
        self.read("list pipelines", async || self.world().memory.pipelines().await).await
    }

    async fn fleets(&self) -> Result<Vec<FleetRow>, Error> {
        self.read("list fleets", async || self.world().memory.fleets().await).await
    }
}

/// Nothing of the simulation comes in there.
#[async_trait]
impl Inbox for Reached {
    async fn deliver(&self, new: NewDelivery) -> Result<Receipt, Error> {
        self.world().memory.deliver(new).await
    }
    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        self.world().memory.delivery(id).await
    }
    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Error> {
        self.world().memory.deliveries(filter).await
    }
    async fn pending_deliveries(&self) -> Result<Vec<DeliveryKey>, Error> {
        self.world().memory.pending_deliveries().await
    }
    async fn settle_delivery(&self, key: &DeliveryKey, settlement: Settlement) -> Result<(), Error> {
        self.world().memory.settle_delivery(key, settlement).await
    }
    async fn drop_bodies(&self, before: Timestamp) -> Result<(), Error> {
        self.world().memory.drop_bodies(before).await
    }
    async fn schedule_mark(&self, pipeline: &PipelineName) -> Result<Option<Timestamp>, Error> {
        self.world().memory.schedule_mark(pipeline).await
    }
    async fn mark_schedule(&self, pipeline: &PipelineName, until: Timestamp) -> Result<(), Error> {
        self.world().memory.mark_schedule(pipeline, until).await
    }
}
