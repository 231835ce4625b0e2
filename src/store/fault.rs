//! Faults on the way to a store, by a script: the same script gives the same run. For the property
//! tests of whatever uses a store; it wraps any of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Append, Delivery, DeliveryFilter, DeliveryKey, Error, FleetRow, Inbox, NewDelivery, NewRun, Receipt,
    Recorded, RunFilter, RunRow, Settlement, Store,
};
use crate::ids::{PipelineName, RunId, StreamId};

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    CreateRun,
    Append,
    Read,
    Runs,
    Fleets,
    /// Something is written to the inbox.
    WriteInbox,
    /// Something is read from the inbox.
    ReadInbox,
}

impl Operation {
    pub fn writes(self) -> bool {
        matches!(self, Self::CreateRun | Self::Append | Self::WriteInbox)
    }
}

/// One call, as the script sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Counts all calls, from 1.
    pub number: u64,
    /// How many writes were asked for, this call included.
    pub writes: u64,
    pub operation: Operation,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not carried out; answers [`Error::Failed`].
    Fail,
    /// Not carried out; answers [`Error::Full`].
    Full,
    /// Carried out, but answers [`Error::Failed`]: the caller cannot know.
    LoseAnswer,
    /// Carried out twice, as by a sender that repeats itself; the second answer is given.
    Repeat,
    /// Carried out after all other tasks had so many turns.
    Delay { turns: u32 },
    /// Not carried out, and neither is anything after it: all answers are [`Error::Failed`].
    CrashBefore,
    /// Carried out, but this answer and all later ones are [`Error::Failed`].
    CrashAfter,
}

type Script = Box<dyn FnMut(Call) -> Option<Fault> + Send>;

/// A store with faults before it.
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Mutex<(Script, Call)>,
    crashed: AtomicBool,
}

impl Faulty {
    /// `script` is asked at each call, in order, until a crash.
    pub fn new(inner: Arc<dyn Store>, script: impl FnMut(Call) -> Option<Fault> + Send + 'static) -> Self {
        let before = Call { number: 0, writes: 0, operation: Operation::Read };
        Self { inner, script: Mutex::new((Box::new(script), before)), crashed: AtomicBool::new(false) }
    }

    /// Carries out `writes` writes and crashes before the next; the answer of the last one is lost
    /// when `answered` is [`Answered::No`].
    pub fn crash_after(inner: Arc<dyn Store>, writes: u64, answered: Answered) -> Self {
        Self::new(inner, move |call| match answered {
            _ if !call.operation.writes() => None,
            Answered::No if call.writes == writes => Some(Fault::CrashAfter),
            _ if call.writes > writes => Some(Fault::CrashBefore),
            _ => None,
        })
    }

    /// Whether the script crashed it.
    pub fn crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    async fn pass<T, F>(&self, operation: Operation, act: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match self.next(operation) {
            None => act().await,
            Some(Fault::Fail) => Err(failed("it was told to fail")),
            Some(Fault::Full) => Err(Error::Full { path: PATH.to_owned() }),
            Some(Fault::LoseAnswer) => {
                act().await?;
                Err(failed("the answer was lost"))
            }
            Some(Fault::Repeat) => {
                act().await?;
                act().await
            }
            Some(Fault::Delay { turns }) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                act().await
            }
            Some(Fault::CrashBefore) => Err(failed("it crashed")),
            Some(Fault::CrashAfter) => {
                act().await?;
                Err(failed("it crashed"))
            }
        }
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        if self.crashed() {
            return Some(Fault::CrashBefore);
        }
        let mut guard = self.script.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (script, call) = &mut *guard;
        call.number += 1;
        call.writes += u64::from(operation.writes());
        call.operation = operation;
        let fault = script(*call);
        if matches!(fault, Some(Fault::CrashBefore | Fault::CrashAfter)) {
            self.crashed.store(true, Ordering::SeqCst);
        }
        fault
    }
}

/// Whether the caller of the last write before a crash heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    Yes,
    No,
}

/// Stands for the store's path in the errors made here.
const PATH: &str = "the faulty store";

fn failed(message: &str) -> Error {
    Error::Failed { path: PATH.to_owned(), message: message.to_owned() }
}

#[async_trait]
impl Store for Faulty {
    async fn create_run(&self, new: NewRun) -> Result<RunId, Error> {
        self.pass(Operation::CreateRun, || self.inner.create_run(new.clone())).await
    }

    async fn append(&self, batch: Vec<Append>) -> Result<(), Error> {
        self.pass(Operation::Append, || self.inner.append(batch.clone())).await
    }

    async fn read(&self, stream: &StreamId, after: u64) -> Result<Vec<Recorded>, Error> {
        self.pass(Operation::Read, || self.inner.read(stream, after)).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>, Error> {
        self.pass(Operation::Runs, || self.inner.runs(filter)).await
    }

    async fn pipelines(&self) -> Result<Vec<PipelineName>, Error> {
        self.pass(Operation::Runs, || self.inner.pipelines()).await
    }

    async fn fleets(&self) -> Result<Vec<FleetRow>, Error> {
        self.pass(Operation::Fleets, || self.inner.fleets()).await
    }
}

#[async_trait]
impl Inbox for Faulty {
    async fn deliver(&self, new: NewDelivery) -> Result<Receipt, Error> {
        self.pass(Operation::WriteInbox, || self.inner.deliver(new.clone())).await
    }

    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        self.pass(Operation::ReadInbox, || self.inner.delivery(id)).await
    }

    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Error> {
        self.pass(Operation::ReadInbox, || self.inner.deliveries(filter)).await
    }

    async fn pending_deliveries(&self) -> Result<Vec<DeliveryKey>, Error> {
        self.pass(Operation::ReadInbox, || self.inner.pending_deliveries()).await
    }

    async fn settle_delivery(&self, key: &DeliveryKey, settlement: Settlement) -> Result<(), Error> {
        self.pass(Operation::WriteInbox, || self.inner.settle_delivery(key, settlement.clone())).await
    }

    async fn drop_bodies(&self, before: Timestamp) -> Result<(), Error> {
        self.pass(Operation::WriteInbox, || self.inner.drop_bodies(before)).await
    }

    async fn schedule_mark(&self, pipeline: &PipelineName) -> Result<Option<Timestamp>, Error> {
        self.pass(Operation::ReadInbox, || self.inner.schedule_mark(pipeline)).await
    }

    async fn mark_schedule(&self, pipeline: &PipelineName, until: Timestamp) -> Result<(), Error> {
        self.pass(Operation::WriteInbox, || self.inner.mark_schedule(pipeline, until)).await
    }
}

#[cfg(test)]
mod tests;
