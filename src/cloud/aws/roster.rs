//! Which instances of fleets an account has: one look for all of them, remembered.
//!
//! - A look asks once for everything that carries the tag of a fleet. Whoever wants one while another
//!   is under way shares the next.
//! - What we launched is known before a look shows it, for as long as AWS may take to; what we ended
//!   is known to be so, whatever an older look shows.
//! - Nothing is concluded from one look that does not show an instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Filter, Instance as Described, InstanceStateName};
use jiff::Timestamp;
use tokio::sync::{OwnedMutexGuard, watch};

use super::choice::Pair;
use super::client::Client;
use super::{operations, tags};
use crate::cloud::Error;
use crate::ids::{Digest, FleetId, InstanceId, Key};

#[cfg(test)]
mod tests;

/// So long AWS may take to show what it answered to have launched. "Eventual consistency in the
/// Amazon EC2 API" names no limit; it is seconds as a rule.
const UNSEEN: Duration = Duration::from_secs(5 * 60);

/// An instance that so many looks in a row do not show is gone.
const MISSED: u32 = 2;

/// So many instances in an answer: the most that DescribeInstances gives.
const PAGE: i32 = 1000;

/// An instance as AWS shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub id: InstanceId,
    pub state: InstanceStateName,
    /// Why it is in that state: code and sentence.
    pub reason: Option<(String, String)>,
    /// One that was terminated has none.
    pub address: Option<IpAddr>,
    pub subnet: Option<String>,
    pub image: Option<String>,
    pub launched_at: Timestamp,
    pub tags: BTreeMap<String, String>,
}

impl Seen {
    /// `None` where AWS left out what makes an instance one.
    pub fn new(instance: &Described) -> Option<Self> {
        let reason = instance.state_reason().map(|reason| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (text(reason.code()), text(reason.message()))
        });
        let launched_at = instance.launch_time()?;
        let tags = instance.tags().iter().filter_map(|tag| Some((tag.key()?.into(), tag.value()?.into())));
        Some(Self {
            id: instance.instance_id()?.parse().ok()?,
            state: instance.state()?.name()?.clone(),
            reason,
            address: instance.private_ip_address().and_then(|address| address.parse().ok()),
            subnet: instance.subnet_id().map(str::to_owned),
            image: instance.image_id().map(str::to_owned),
            launched_at: rounded_up(launched_at.secs(), launched_at.subsec_nanos())?,
            tags: tags.collect(),
        })
    }

    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    /// The fleet that it says it belongs to.
    pub fn fleet(&self) -> Option<FleetId> {
        let (service, environment) = (self.tag(tags::SERVICE)?, self.tag(tags::ENVIRONMENT)?);
        let fleet = FleetId::new(service.parse().ok()?, environment.parse().ok()?);
        (self.tag(tags::FLEET)? == fleet.to_string()).then_some(fleet)
    }

    /// Whether it is ended, or about to be: there is no way back.
    pub fn is_over(&self) -> bool {
        matches!(self.state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
    }

    pub fn is_live(&self) -> bool {
        matches!(self.state, InstanceStateName::Pending | InstanceStateName::Running)
    }
}

/// AWS tells whole seconds. They are rounded up, so that nothing that was launched after an instant
/// looks older than it.
fn rounded_up(seconds: i64, nanos: u32) -> Option<Timestamp> {
    let nanos = if nanos == 0 { 999_999_999 } else { i32::try_from(nanos).ok()? };
    Timestamp::new(seconds, nanos).ok()
}

/// An instance, and what we did about it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub seen: Seen,
    /// When this process launched it, as long as no look has shown it.
    unseen: Option<Instant>,
    /// When we ended it, or took note of its end.
    pub dismissed: Option<Instant>,
    /// So many looks in a row did not show it.
    missed: u32,
}

#[derive(Debug, Default)]
struct Known {
    /// When the last look began.
    looked: Option<Instant>,
    entries: BTreeMap<InstanceId, Entry>,
}

impl Known {
    /// What a look that began at `began` has shown.
    fn take(&mut self, shown: Vec<Seen>, began: Instant) {
        self.looked = Some(began);
        for entry in self.entries.values_mut() {
            entry.missed += u32::from(entry.unseen.is_none_or(|launched| launched.elapsed() > UNSEEN));
        }
        for seen in shown {
            let known = self.entries.get(&seen.id);
            let dismissed = known.and_then(|known| known.dismissed);
            let entry = Entry { seen, unseen: None, dismissed, missed: 0 };
            self.entries.insert(entry.seen.id.clone(), entry);
        }
        self.entries.retain(|_, entry| entry.missed < MISSED);
    }
}

/// What a launch that got no clear answer was sent with: it is asked for again so, before anything
/// else is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub pair: Pair,
    pub generation: u32,
}

type Launching = BTreeMap<Key, Arc<tokio::sync::Mutex<Option<Doubt>>>>;

/// The instances of fleets that an account has.
#[derive(Debug)]
pub(crate) struct Roster {
    opened: Instant,
    known: Mutex<Known>,
    /// Held by whoever looks.
    looking: tokio::sync::Mutex<()>,
    /// Counts what is learned.
    learned: watch::Sender<u64>,
    launching: Mutex<Launching>,
    /// Where those go that are being launched.
    placed: Mutex<Vec<Place>>,
}

/// Where a member of a fleet goes, and the release it will run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub fleet: FleetId,
    pub subnet: String,
    pub release: Digest,
}

/// It is being launched there as long as this lives.
#[must_use]
pub(crate) struct Placed<'a> {
    roster: &'a Roster,
    place: Place,
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        let mut placed = self.roster.placed();
        if let Some(at) = placed.iter().position(|place| *place == self.place) {
            placed.swap_remove(at);
        }
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            learned: watch::channel(0).0,
            launching: Mutex::default(),
            placed: Mutex::default(),
        }
    }
}

impl Roster {
    /// Looks: what is known is not older than this call then.
    pub async fn look(&self, client: &Client) -> Result<(), Error> {
        let wanted = Instant::now();
        let _looking = self.looking.lock().await;
        if self.known().looked.is_some_and(|began| began >= wanted) {
            return Ok(());
        }
        let began = Instant::now();
        let mut shown = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = client
                .call(operations::DESCRIBE_INSTANCES, |services| {
                    let filter = Filter::builder().name("tag-key").values(tags::FLEET).build();
                    let ask = services.ec2.describe_instances().filters(filter).max_results(PAGE);
                    ask.set_next_token(next.clone()).send()
                })
                .await?;
            let instances = page.reservations().iter().flat_map(|reservation| reservation.instances());
            shown.extend(instances.filter_map(Seen::new));
            match page.next_token() {
                Some(token) if !token.is_empty() => next = Some(token.to_owned()),
                _ => break,
            }
        }
        self.known().take(shown, began);
        self.told();
        Ok(())
    }

    /// Looks, unless what is known is younger than `age`.
    pub async fn look_after(&self, client: &Client, age: Duration) -> Result<(), Error> {
        let looked = self.known().looked;
        match looked.is_some_and(|began| began.elapsed() < age) {
            true => Ok(()),
            false => self.look(client).await,
        }
    }

    /// What an earlier process launched just before it died is shown to a look from then on, as a rule:
    /// so long after this process began. Answers whether that had to be waited for.
    pub async fn settled(&self, pause: Duration) -> bool {
        let left = pause.saturating_sub(self.opened.elapsed());
        tokio::time::sleep(left).await;
        !left.is_zero()
    }

    /// All of a fleet, also those that are over.
    pub fn of(&self, fleet: &FleetId) -> Vec<Entry> {
        let known = self.known();
        known.entries.values().filter(|entry| entry.seen.fleet().as_ref() == Some(fleet)).cloned().collect()
    }

    pub fn by_id(&self, id: &InstanceId) -> Option<Entry> {
        self.known().entries.get(id).cloned()
    }

    pub fn by_key(&self, key: &Key) -> Option<Entry> {
        let known = self.known();
        known.entries.values().find(|entry| entry.seen.tag(tags::KEY) == Some(key.as_str())).cloned()
    }

    /// How many were ended by us less than `age` ago: some counts of AWS still have them.
    pub fn dismissed_within(&self, age: Duration) -> usize {
        let known = self.known();
        let recent = |entry: &&Entry| entry.dismissed.is_some_and(|at| at.elapsed() < age);
        known.entries.values().filter(recent).count()
    }

    /// How many of what we launched are not among these, as AWS does not show everybody everything at
    /// once.
    pub fn launched_besides(&self, shown: &BTreeSet<String>) -> usize {
        let known = self.known();
        let fresh = |entry: &&Entry| entry.unseen.is_some() && entry.dismissed.is_none();
        known.entries.values().filter(fresh).filter(|entry| !shown.contains(entry.seen.id.as_str())).count()
    }

    /// AWS answered that this was launched.
    pub fn launched(&self, seen: Seen) {
        let mut known = self.known();
        let id = seen.id.clone();
        let entry = Entry { seen, unseen: Some(Instant::now()), dismissed: None, missed: 0 };
        known.entries.entry(id).or_insert(entry);
        drop(known);
        self.told();
    }

    /// It is of no interest any more: we ended it, or it had ended.
    pub fn dismiss(&self, id: &InstanceId) {
        if let Some(entry) = self.known().entries.get_mut(id) {
            entry.dismissed.get_or_insert_with(Instant::now);
        }
        self.told();
    }

    /// Tells of everything that is learned.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.learned.subscribe()
    }

    /// One launch of a key at a time. What is held is what the last one left unclear.
    pub async fn launching(&self, key: &Key) -> OwnedMutexGuard<Option<Doubt>> {
        let lock = {
            let mut launching = self.launching.lock().unwrap_or_else(PoisonError::into_inner);
            launching.retain(|_, lock| {
                Arc::strong_count(lock) > 1 || lock.try_lock().is_ok_and(|doubt| doubt.is_some())
            });
            launching.entry(key.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Whoever else chooses a place counts this one.
    pub fn place(&self, place: Place) -> Placed<'_> {
        self.placed().push(place.clone());
        Placed { roster: self, place }
    }

    /// What is being launched for a fleet at this moment.
    pub fn places(&self, fleet: &FleetId) -> Vec<Place> {
        self.placed().iter().filter(|place| place.fleet == *fleet).cloned().collect()
    }

    fn placed(&self) -> MutexGuard<'_, Vec<Place>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) {
        self.learned.send_modify(|count| *count += 1);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
