//! What one transaction is going to write: requests are checked one after the other against what is
//! known to stand in the store, and those that are admitted are collected. No database here.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::ids::{FleetId, PipelineName, RunId, StreamId};
use crate::run::event::FORMAT;
use crate::store::{
    Append, DeliveryKey, Error, Event, FleetRow, NewDelivery, NewRun, Receipt, Row, RunRow, Settlement,
};

/// What a caller wants written, all of it or nothing.
#[derive(Debug)]
pub enum Request {
    Create(Box<NewRun>),
    Append(Vec<Encoded>),
    Deliver(Box<NewDelivery>),
    Settle(Box<(DeliveryKey, Settlement)>),
    DropBodies { before: Timestamp },
    Mark { pipeline: PipelineName, until: Timestamp },
}

/// An append whose events are text already: encoding is the caller's work, not the writer's.
#[derive(Debug)]
pub struct Encoded {
    append: Append,
    payloads: Vec<String>,
}

impl Encoded {
    pub fn new(append: Append) -> Result<Self, Error> {
        append.check()?;
        let payloads: Result<_, _> =
            append.events.iter().map(|(_, event)| encode(&append.stream, event)).collect();
        Ok(Self { payloads: payloads?, append })
    }
}

impl Request {
    /// About how much it writes, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Create(new) => new.origin.pipeline.len(),
            Self::Append(batch) => batch.iter().flat_map(|append| &append.payloads).map(String::len).sum(),
            Self::Deliver(new) => new.body.len(),
            Self::Settle(_) | Self::DropBodies { .. } | Self::Mark { .. } => 0,
        }
    }

    pub fn streams(&self) -> impl Iterator<Item = &StreamId> {
        let batch = match self {
            Self::Append(batch) => batch.as_slice(),
            _ => &[],
        };
        batch.iter().map(|encoded| &encoded.append.stream)
    }

    /// Whether all it depends on is where journals stand, and the table of events would notice if one stood
    /// elsewhere.
    pub fn only_appends_events(&self) -> bool {
        matches!(self, Self::Append(batch) if batch.iter().all(|encoded| !encoded.append.events.is_empty()))
    }

    /// Whether nobody waits for it: what came of a delivery. After a crash it is handled again, and the same
    /// comes of it.
    pub fn may_wait(&self) -> bool {
        matches!(self, Self::Settle(_))
    }

    pub fn creates(&self) -> Option<&NewRun> {
        match self {
            Self::Create(new) => Some(new),
            _ => None,
        }
    }

    pub fn delivery(&self) -> Option<&DeliveryKey> {
        match self {
            Self::Deliver(new) => Some(&new.key),
            Self::Settle(settled) => Some(&settled.0),
            _ => None,
        }
    }
}

/// What was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Created(RunId),
    Appended,
    Delivered(Receipt),
}

/// What stands in the store and what the draft adds to it.
#[derive(Debug, Default)]
pub struct Draft {
    pub heads: HashMap<StreamId, u64>,
    pub numbers: HashMap<PipelineName, u64>,
    pub triggers: HashMap<String, RunId>,
    events: Vec<EventRow>,
    runs: BTreeMap<RunId, RunRow>,
    fleets: BTreeMap<FleetId, FleetRow>,
    new_numbers: BTreeMap<PipelineName, u64>,
    new_triggers: BTreeMap<String, RunId>,
    /// Deliveries that are there.
    pub known: HashSet<DeliveryKey>,
    deliveries: Vec<DeliveryRow>,
    /// Of these deliveries, one after the other.
    bodies: Vec<u8>,
    settled: Vec<SettledRow>,
    marks: BTreeMap<PipelineName, i64>,
    /// Bodies of settled deliveries that are older go, in microseconds.
    bodies_before: Option<i64>,
}

/// source, id, event, received at, first byte of the body among all bodies, counted from 1, and its length
type DeliveryRow = (String, String, String, i64, usize, usize);

/// source, id, status, reason, runs
type SettledRow = (String, String, &'static str, Option<String>, String);

/// stream, sequence, format, at, payload
type EventRow = (StreamId, u64, u32, i64, String);

impl Draft {
    /// For journals that stand there.
    pub fn after(heads: HashMap<StreamId, u64>) -> Self {
        Self { heads, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.runs.is_empty()
            && self.fleets.is_empty()
            && self.deliveries.is_empty()
            && self.settled.is_empty()
            && self.marks.is_empty()
            && self.bodies_before.is_none()
    }

    /// Adds all of the request, or nothing and says why.
    pub fn add(&mut self, request: &Request) -> Result<Done, Error> {
        match request {
            Request::Create(new) => self.create(new).map(Done::Created),
            Request::Append(batch) => self.append(batch).map(|()| Done::Appended),
            Request::Deliver(new) => Ok(Done::Delivered(self.deliver(new))),
            Request::Settle(settled) => self.settle(&settled.0, &settled.1).map(|()| Done::Appended),
            Request::DropBodies { before } => {
                self.bodies_before = self.bodies_before.max(Some(before.as_microsecond()));
                Ok(Done::Appended)
            }
            Request::Mark { pipeline, until } => {
                self.marks.insert(pipeline.clone(), until.as_microsecond());
                Ok(Done::Appended)
            }
        }
    }

    fn deliver(&mut self, new: &NewDelivery) -> Receipt {
        let NewDelivery { key, event, received_at, body } = new;
        if !self.known.insert(key.clone()) {
            return Receipt::Known;
        }
        let DeliveryKey { source, id } = key.clone();
        let at = received_at.as_microsecond();
        self.deliveries.push((source, id, event.clone(), at, self.bodies.len() + 1, body.len()));
        self.bodies.extend_from_slice(body);
        Receipt::New
    }

    fn settle(&mut self, key: &DeliveryKey, settlement: &Settlement) -> Result<(), Error> {
        if !self.known.contains(key) {
            return Err(Error::NoDelivery(key.id.clone()));
        }
        let DeliveryKey { source, id } = key.clone();
        let runs: Vec<String> = settlement.runs.iter().map(RunId::to_string).collect();
        let runs = serde_json::Value::from(runs).to_string();
        self.settled.push((source, id, settlement.status.as_str(), settlement.reason.clone(), runs));
        Ok(())
    }

    fn create(&mut self, new: &NewRun) -> Result<RunId, Error> {
        if let Some(run) = new.trigger_key.as_ref().and_then(|key| self.triggers.get(key)) {
            return Ok(run.clone());
        }
        let number = self.numbers.get(&new.pipeline).map_or(1, |last| last + 1);
        let run = RunId::new(new.pipeline.clone(), number);
        let (event, row) = new.begin(&run);
        let stream = StreamId::Run(run.clone());
        let payload = encode(&stream, &event)?;
        self.events.push((stream.clone(), 1, FORMAT, new.at.as_microsecond(), payload));
        self.heads.insert(stream, 1);
        self.runs.insert(run.clone(), row);
        self.numbers.insert(new.pipeline.clone(), number);
        self.new_numbers.insert(new.pipeline.clone(), number);
        if let Some(key) = &new.trigger_key {
            self.triggers.insert(key.clone(), run.clone());
            self.new_triggers.insert(key.clone(), run.clone());
        }
        Ok(run)
    }

    fn append(&mut self, batch: &[Encoded]) -> Result<(), Error> {
        let mut heads: HashMap<&StreamId, u64> = HashMap::new();
        for Encoded { append, .. } in batch {
            let stands = || self.heads.get(&append.stream).copied().unwrap_or(0);
            let head = heads.entry(&append.stream).or_insert_with(stands);
            append.admit(*head)?;
            *head += append.events.len() as u64;
        }
        for Encoded { append, payloads } in batch {
            let head = self.heads.entry(append.stream.clone()).or_default();
            for ((at, _), payload) in append.events.iter().zip(payloads) {
                *head += 1;
                let row = (append.stream.clone(), *head, FORMAT, at.as_microsecond(), payload.clone());
                self.events.push(row);
            }
            match &append.row {
                Row::Run(row) => drop(self.runs.insert(row.run.clone(), row.clone())),
                Row::Fleet(row) => drop(self.fleets.insert(row.fleet.clone(), row.clone())),
                Row::Environment => {}
            }
        }
        Ok(())
    }

    /// The rows for each table as a JSON array of arrays, the way the writer's statements take them.
    pub fn rows(self) -> serde_json::Result<Rows> {
        let runs = self.runs.values().map(run_row);
        let fleets = self.fleets.values().map(fleet_row);
        Ok(Rows {
            events: array(self.events)?,
            runs: array(runs)?,
            fleets: array(fleets)?,
            numbers: array(self.new_numbers)?,
            triggers: array(self.new_triggers)?,
            deliveries: array(self.deliveries)?,
            bodies: self.bodies,
            settled: array(self.settled)?,
            marks: array(self.marks)?,
            bodies_before: self.bodies_before,
        })
    }
}

/// `None` where there is nothing to write.
pub struct Rows {
    pub events: Option<String>,
    pub runs: Option<String>,
    pub fleets: Option<String>,
    pub numbers: Option<String>,
    pub triggers: Option<String>,
    pub deliveries: Option<String>,
    pub bodies: Vec<u8>,
    pub settled: Option<String>,
    pub marks: Option<String>,
    pub bodies_before: Option<i64>,
}

fn array<T: Serialize>(rows: impl IntoIterator<Item = T>) -> serde_json::Result<Option<String>> {
    let rows: Vec<T> = rows.into_iter().collect();
    (!rows.is_empty()).then(|| serde_json::to_string(&rows)).transpose()
}

fn run_row(row: &RunRow) -> impl Serialize {
    (
        StreamId::Run(row.run.clone()),
        row.run.pipeline.clone(),
        row.run.number,
        row.status.clone(),
        u8::from(row.ended),
        row.commit.clone(),
        row.actor.clone(),
        row.waiting_for.clone(),
        row.created_at.as_microsecond(),
        row.updated_at.as_microsecond(),
    )
}

fn fleet_row(row: &FleetRow) -> impl Serialize {
    (
        StreamId::Fleet(row.fleet.clone()),
        row.fleet.service.clone(),
        row.fleet.environment.clone(),
        u8::from(row.ended),
        row.updated_at.as_microsecond(),
    )
}

fn encode(stream: &StreamId, event: &Event) -> Result<String, Error> {
    let text = match event {
        Event::Run(event) => serde_json::to_string(event),
        Event::Fleet(event) => serde_json::to_string(event),
        Event::Environment(event) => serde_json::to_string(event),
    };
    text.map_err(|_| Error::Illegal { stream: stream.clone(), message: "an event that is no JSON" })
}
