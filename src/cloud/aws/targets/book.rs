//! What this process knows of a fleet's targets: what was seen last, and what it did itself. PURE.
//!
//! - What was done is in the book before it is seen: it may take a moment until ELB shows it.
//! - A target that is deregistered disappears when its delay is over, and one that was never registered
//!   is not there either: here they differ. After a restart they do not, and need not: what is absent
//!   serves nobody. Who stands by without a target group of its own is tagged, as that must be known.
//! - A target that is in one group and not in another is on its way, never absent: whoever is told that
//!   it is absent may end it, and in one group it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::group::{Group, Side};
use super::health::{Check, Seen};
use crate::cloud::aws::pace::{Awaited, Learned, Wait};
use crate::cloud::{Instance, InstanceState, Role, Target, TargetState};
use crate::ids::InstanceId;

/// So long after a change ELB may still show how it was.
const SETTLING: Duration = Duration::from_secs(30);
/// A delay that is over by the clock is over at ELB a moment later.
const MARGIN: Duration = Duration::from_secs(1);

/// What is known of a fleet's targets.
#[derive(Debug, Default)]
pub struct Book {
    pub groups: Vec<Group>,
    /// The sides that a listener sends requests to.
    pub live: BTreeSet<Side>,
    /// For each group what was seen in it.
    seen: Vec<BTreeMap<InstanceId, Seen>>,
    notes: BTreeMap<InstanceId, Note>,
    /// Also of those that are gone: a target of an address is deregistered by it.
    addresses: BTreeMap<InstanceId, IpAddr>,
    /// When the groups were looked at last.
    pub looked: Option<Timestamp>,
    /// When the instances were looked at for the targets' sake.
    pub looked_at_instances: Option<Timestamp>,
    /// Whether the tags of those that stand by were read.
    pub tags_read: bool,
    pub learned: Learned,
    /// Where people reach the fleet.
    pub url: Option<String>,
}

/// What is known of one target besides what ELB says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Note {
    /// Since when it is waited for to become healthy.
    registered: Option<Timestamp>,
    /// Since when it has been healthy in every group.
    healthy: Option<Timestamp>,
    /// Since when it goes for good.
    leaving: Option<Timestamp>,
    /// It is gone from every group.
    drained: bool,
    forgotten: bool,
    /// It is tagged as one that stands by.
    standby: bool,
}

/// What is to be mended: a crash between two groups left it half done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    Register { group: usize, id: InstanceId },
    Deregister { group: usize, id: InstanceId },
}

impl Book {
    /// A book of these groups that knows nothing of targets yet.
    pub fn new(groups: Vec<Group>) -> Self {
        let seen = vec![BTreeMap::new(); groups.len()];
        Self { groups, seen, live: BTreeSet::from([Side::First]), ..Self::default() }
    }

    /// The groups may have been set anew.
    pub fn regroup(&mut self, groups: Vec<Group>) {
        let same = |a: &Group, b: &Group| a.arn == b.arn;
        if groups.len() != self.groups.len() || groups.iter().zip(&self.groups).any(|(a, b)| !same(a, b)) {
            self.seen = vec![BTreeMap::new(); groups.len()];
            self.looked = None;
        }
        self.groups = groups;
    }

    /// The groups of a side, by their places.
    pub fn of_side(&self, side: Side) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().filter(move |(_, group)| group.side == side)
    }

    pub fn seen_in(&self, group: usize, id: &InstanceId) -> Option<&Seen> {
        self.seen.get(group)?.get(id)
    }

    pub fn address(&self, id: &InstanceId) -> Option<IpAddr> {
        self.addresses.get(id).copied()
    }

    pub fn found_at(&mut self, id: &InstanceId, address: IpAddr) {
        self.addresses.insert(id.clone(), address);
    }

    pub fn addresses(&mut self, instances: &[Instance]) {
        let of = |instance: &Instance| (instance.id.clone(), instance.address.ip());
        self.addresses.extend(instances.iter().map(of));
    }

    /// Whether each group of the side has somebody healthy besides these.
    pub fn serves(&self, side: Side, but: &[InstanceId]) -> bool {
        let mut groups = self.of_side(side).filter_map(|(group, _)| self.seen.get(group));
        groups.all(|seen| seen.iter().any(|(id, seen)| seen.check == Check::Healthy && !but.contains(id)))
    }

    /// On which side it is, in any of the groups.
    pub fn side_of(&self, id: &InstanceId) -> Option<Side> {
        self.joined(id).map(|(side, _)| side)
    }

    /// Those of them that take part on a side, and do not leave.
    pub fn members<'a>(&self, instances: &'a [Instance]) -> Vec<&'a InstanceId> {
        instances.iter().map(|instance| &instance.id).filter(|id| self.is_registered(id)).collect()
    }

    /// The groups were looked at: `seen` is all that is in each of them.
    pub fn looked(&mut self, seen: Vec<BTreeMap<InstanceId, Seen>>, instances: &[Instance], now: Timestamp) {
        let first = self.looked.is_none();
        let before = std::mem::replace(&mut self.seen, seen);
        self.keep_what_is_new(before, now);
        self.looked = Some(now);
        for instance in instances {
            let joined = self.joined(&instance.id);
            let gone = joined.is_none();
            let healthy = joined.as_ref().is_some_and(|(_, seen)| seen.check == Check::Healthy);
            let draining = self.seen.iter().filter_map(|seen| seen.get(&instance.id));
            let draining = draining.into_iter().any(|seen| seen.check == Check::Draining);
            let expected = joined.map(|(side, _)| self.in_service(side));
            let note = self.notes.entry(instance.id.clone()).or_default();
            if !gone && note.registered.is_none() {
                note.registered = Some(now);
            }
            match (healthy, note.healthy) {
                (false, _) => note.healthy = None,
                (true, Some(_)) => {}
                // Somebody else registered it, or an earlier process: nobody saw since when it is, and
                // it was so no earlier than this.
                (true, None) if first => {
                    note.healthy = Some(later(instance.launched_at, expected.unwrap_or_default()).min(now));
                }
                (true, None) => {
                    note.healthy = Some(now);
                    let took = note.registered.and_then(|since| since_to(since, now));
                    if let Some(took) = took.filter(|took| !took.is_zero()) {
                        self.learned.took(Wait::Health, took);
                    }
                }
            }
            if draining && note.leaving.is_none() {
                note.leaving = Some(now);
            }
            if gone
                && !note.drained
                && let Some(took) = note.leaving.and_then(|since| since_to(since, now))
            {
                note.drained = true;
                self.learned.took(Wait::Drain, took);
            }
        }
        let there: BTreeSet<&InstanceId> = instances.iter().map(|instance| &instance.id).collect();
        self.notes.retain(|id, _| there.contains(id));
    }

    /// What we did a moment ago and ELB does not show yet.
    fn keep_what_is_new(&mut self, before: Vec<BTreeMap<InstanceId, Seen>>, now: Timestamp) {
        let young = |since: Option<Timestamp>| {
            since.and_then(|since| since_to(since, now)).is_some_and(|age| age < SETTLING)
        };
        for (seen, before) in self.seen.iter_mut().zip(before) {
            for (id, was) in before {
                let Some(note) = self.notes.get(&id) else { continue };
                match seen.get_mut(&id) {
                    None if was.check == Check::Initial && young(note.registered) => {
                        seen.insert(id, was);
                    }
                    Some(is) if was.check == Check::Draining && young(note.leaving) => *is = was,
                    Some(is)
                        if was.check == Check::Initial
                            && is.check == Check::Draining
                            && young(note.registered) =>
                    {
                        *is = was;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Registered in these groups by us.
    pub fn registered(&mut self, groups: &[usize], ids: &[InstanceId], now: Timestamp) {
        for id in ids {
            for group in groups {
                let Some(seen) = self.seen.get_mut(*group) else { continue };
                let there = seen.get(id).is_some_and(|seen| seen.check != Check::Draining);
                if !there {
                    seen.insert(id.clone(), Seen::new(Check::Initial, "it was registered just now"));
                }
            }
            let note = self.notes.entry(id.clone()).or_default();
            let again = note.leaving.is_some() || note.drained || note.forgotten || note.registered.is_none();
            if again {
                note.registered = Some(now);
                note.healthy = None;
            }
            (note.leaving, note.drained, note.forgotten, note.standby) = (None, false, false, false);
        }
    }

    /// Deregistered everywhere by us; `for_good` where they do not stand by from now on.
    pub fn deregistered(&mut self, ids: &[InstanceId], for_good: bool, now: Timestamp) {
        for id in ids {
            let mut there = false;
            for seen in &mut self.seen {
                if let Some(seen) = seen.get_mut(id) {
                    there = true;
                    if seen.check != Check::Draining {
                        *seen = Seen::new(Check::Draining, "it was deregistered just now");
                    }
                }
            }
            let note = self.notes.entry(id.clone()).or_default();
            note.leaving.get_or_insert(now);
            (note.registered, note.healthy) = (None, None);
            note.drained |= !there;
            if for_good {
                note.standby = false;
            }
        }
    }

    pub fn forgotten(&mut self, ids: &[InstanceId]) {
        for id in ids {
            self.notes.entry(id.clone()).or_default().forgotten = true;
            self.addresses.remove(id);
        }
    }

    /// Tagged as such.
    pub fn stands_by(&mut self, id: &InstanceId) {
        self.notes.entry(id.clone()).or_default().standby = true;
    }

    pub fn is_tagged(&self, id: &InstanceId) -> bool {
        self.notes.get(id).is_some_and(|note| note.standby)
    }

    /// Those that are in some group, and do not leave.
    pub fn is_registered(&self, id: &InstanceId) -> bool {
        let leaves = self.notes.get(id).is_some_and(|note| note.leaving.is_some());
        !leaves && self.joined(id).is_some()
    }

    /// Those that are in some group at all, draining or not.
    pub fn is_there(&self, id: &InstanceId) -> bool {
        self.seen.iter().any(|seen| seen.contains_key(id))
    }

    /// Whether somebody may stand by, or is about to, of whom only the tags know.
    pub fn misses_tags(&self, instances: &[Instance]) -> bool {
        let unknown = |instance: &Instance| {
            instance.state == InstanceState::Running && !self.is_registered(&instance.id)
        };
        !self.tags_read && instances.iter().any(unknown)
    }

    /// What a crash left half done.
    pub fn mends(&self, now: Timestamp) -> Vec<Mend> {
        let mut mends = Vec::new();
        let ids: BTreeSet<&InstanceId> = self.seen.iter().flat_map(BTreeMap::keys).collect();
        for id in ids {
            let Some((side, _)) = self.joined(id) else { continue };
            let note = self.notes.get(id);
            if note.is_some_and(|note| note.forgotten) {
                continue;
            }
            let leaving = note.and_then(|note| note.leaving);
            let settled = leaving.and_then(|since| since_to(since, now)).is_some_and(|age| age >= SETTLING);
            for (group, _) in self.of_side(side) {
                let id = id.clone();
                match self.seen_in(group, &id) {
                    None if leaving.is_none() => mends.push(Mend::Register { group, id }),
                    Some(seen) if settled && seen.check != Check::Draining => {
                        mends.push(Mend::Deregister { group, id });
                    }
                    _ => {}
                }
            }
        }
        mends
    }

    /// How it stands in all groups of its side: as in the worst of them.
    fn joined(&self, id: &InstanceId) -> Option<(Side, Seen)> {
        let side_of = |side: Side| self.of_side(side).any(|(group, _)| self.seen_in(group, id).is_some());
        let mut sides = [Side::First, Side::Second];
        sides.sort_by_key(|side| !self.live.contains(side));
        let side = sides.into_iter().find(|side| side_of(*side))?;
        let several = self.of_side(side).count() > 1;
        let mut worst = Seen { check: Check::Healthy, reason: None };
        for (place, group) in self.of_side(side) {
            let mut seen = match self.seen_in(place, id) {
                Some(seen) => seen.clone(),
                None => Seen::new(Check::Initial, "it is not registered yet"),
            };
            if several {
                seen.reason = seen.reason.map(|reason| format!("in {}: {reason}", group.name));
            }
            if seen.check > worst.check {
                worst = seen;
            }
        }
        Some((side, worst))
    }

    /// The longest that a group of the side takes to find a target healthy.
    fn in_service(&self, side: Side) -> Duration {
        self.of_side(side).map(|(_, group)| group.in_service()).max().unwrap_or_default()
    }

    fn slow_start(&self, side: Side) -> Duration {
        self.of_side(side).map(|(_, group)| group.slow_start).max().unwrap_or_default()
    }

    pub fn drain(&self) -> Duration {
        self.groups.iter().map(|group| group.drain).max().unwrap_or_default()
    }

    /// The fleet's targets, of these instances.
    pub fn targets(&self, instances: &[Instance], now: Timestamp) -> Vec<Target> {
        instances.iter().filter_map(|instance| self.target(instance, now)).collect()
    }

    fn target(&self, instance: &Instance, now: Timestamp) -> Option<Target> {
        let unknown = Note::default();
        let note = self.notes.get(&instance.id).unwrap_or(&unknown);
        if note.forgotten {
            return None;
        }
        let (state, role, reason) = match (self.joined(&instance.id), note.leaving) {
            (Some((side, seen)), None) => {
                let two_sides = self.groups.iter().any(|group| group.side == Side::Second);
                let role = match two_sides && !self.live.contains(&side) {
                    true => Role::Standby,
                    false => Role::Serving,
                };
                let (state, reason) = self.state(side, seen, note, now);
                (state, role, reason)
            }
            (Some((_, seen)), Some(since)) => {
                (TargetState::Draining { open_requests: 0, since }, Role::Serving, seen.reason)
            }
            (None, _) if note.standby => match instance.state {
                InstanceState::Running => (TargetState::Healthy, Role::Standby, None),
                _ => return None,
            },
            (None, Some(_)) => (TargetState::Drained, Role::Serving, None),
            (None, None) => return None,
        };
        Some(Target { id: instance.id.clone(), address: instance.address, state, role, reason })
    }

    fn state(&self, side: Side, seen: Seen, note: &Note, now: Timestamp) -> (TargetState, Option<String>) {
        match seen.check {
            Check::Initial => (TargetState::Initial, seen.reason),
            Check::Unhealthy => (TargetState::Unhealthy, seen.reason),
            // It is noted as leaving as soon as it is seen.
            Check::Draining => (TargetState::Draining { open_requests: 0, since: now }, seen.reason),
            Check::Healthy => match self.warm_at(side, note).and_then(|warm| since_to(now, warm)) {
                Some(left) if !left.is_zero() => {
                    let left = left.as_millis().div_ceil(1_000);
                    (TargetState::Initial, Some(format!("warming up, {left} s left of its slow start")))
                }
                _ => (TargetState::Healthy, None),
            },
        }
    }

    /// When its slow start is over.
    fn warm_at(&self, side: Side, note: &Note) -> Option<Timestamp> {
        let slow_start = self.slow_start(side);
        (!slow_start.is_zero()).then(|| note.healthy.map(|since| later(since, slow_start)))?
    }

    /// What of the targets is waited for.
    pub fn awaited(&self, instances: &[Instance], now: Timestamp) -> Vec<Awaited> {
        let awaited = instances.iter().filter_map(|instance| {
            let (side, seen) = self.joined(&instance.id)?;
            let note = self.notes.get(&instance.id)?;
            if note.forgotten {
                return None;
            }
            if let Some(since) = note.leaving {
                return Some(Awaited { wait: Wait::Drain, since, expected: Some(self.drain() + MARGIN) });
            }
            let since = note.registered.unwrap_or(now);
            match seen.check {
                Check::Initial => {
                    Some(Awaited { wait: Wait::Health, since, expected: Some(self.in_service(side)) })
                }
                Check::Unhealthy => Some(Awaited { wait: Wait::Recovery, since, expected: None }),
                Check::Draining | Check::Healthy => None,
            }
        });
        awaited.collect()
    }

    /// When the next slow start is over, which nobody has to be asked for.
    pub fn warm_next(&self, instances: &[Instance], now: Timestamp) -> Option<Timestamp> {
        let warm = instances.iter().filter_map(|instance| {
            let (side, seen) = self.joined(&instance.id)?;
            let note = self.notes.get(&instance.id)?;
            if seen.check != Check::Healthy || note.leaving.is_some() {
                return None;
            }
            self.warm_at(side, note)
        });
        warm.filter(|warm| *warm > now).min()
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `None` where it is the other way round.
fn since_to(since: Timestamp, to: Timestamp) -> Option<Duration> {
    Duration::try_from(to.duration_since(since)).ok()
}

#[cfg(test)]
mod tests;
