//! A fleet's targets: their states, who gets the next request, and how many are open.
//!
//! Everything is decided under one lock, which is never held across an await: a request is chosen a
//! target and counted as open in one step, so that from the answer to a deregistration on none can
//! start that is not counted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::saved::{SavedFleet, SavedTarget, Saver, State};
use super::upstream::Upstream;
use super::{health, lock};
use crate::cloud::{HealthCheck, Listener, Role, Target, TargetState};
use crate::ids::{FleetId, InstanceId};

mod table;

use table::{Member, Mode, Table};

/// Open requests of each target, as another process reports them.
pub(super) type OpenRequests = BTreeMap<InstanceId, u64>;

/// The targets behind one listener.
pub(super) struct Fleet {
    pub id: FleetId,
    table: Mutex<Table>,
    /// Changes with every change of the targets, and differs between processes.
    revision: watch::Sender<u64>,
    /// Whether clients are to be told to connect anew.
    leaving: AtomicBool,
    /// Woken when a request ended after the sockets were handed over.
    pub released: Arc<Notify>,
    saver: Arc<Saver>,
}

/// Who gets a request.
pub(super) enum Pick {
    Target(Lease),
    /// Whoever listens for the fleet now.
    Successor(SocketAddr),
    /// Nobody; the sentence says why.
    Nobody(String),
}

/// A request that is open at a target. Dropping it ends that.
pub(super) struct Lease {
    fleet: Arc<Fleet>,
    pub slot: u64,
    pub upstream: Arc<Upstream>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.fleet.release(self.slot);
    }
}

/// What a health check needs to know.
pub(super) struct CheckPlan {
    pub check: HealthCheck,
    pub address: SocketAddr,
    pub proven: bool,
}

impl Fleet {
    pub fn new(listener: Listener, seed: u64, released: Arc<Notify>, saver: Arc<Saver>) -> Arc<Self> {
        Arc::new(Self {
            id: listener.fleet.clone(),
            table: Mutex::new(Table::new(listener)),
            revision: watch::Sender::new(seed),
            leaving: AtomicBool::new(false),
            released,
            saver,
        })
    }

    /// Brings the targets back as they were. `elsewhere` is what the process that knew them before
    /// still has open; nothing when it is gone, and its requests with it.
    pub fn restore(self: &Arc<Self>, targets: Vec<SavedTarget>, elsewhere: Option<(u32, OpenRequests)>) {
        let mut table = lock(&self.table);
        table.elsewhere.extend(elsewhere);
        for target in targets {
            let slot = self.add(&mut table, target.id, target.address, target.role);
            let drain = table.listener.drain;
            let Some(member) = table.members.iter_mut().find(|member| member.slot == slot) else { continue };
            (member.state, member.proven, member.reason) = (target.state, target.proven, target.reason);
            match member.state {
                State::Draining { since } => {
                    // By the clock on the wall, which may have been set back since.
                    let passed =
                        Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
                    member.upstream.retire();
                    member.task = Some(self.expire_after(slot, drain.saturating_sub(passed)));
                }
                State::Drained => {
                    member.upstream.retire();
                    member.task = None;
                }
                State::Initial | State::Healthy | State::Unhealthy => {}
            }
        }
        self.settle(&mut table);
    }

    /// Where clients reach it.
    pub fn own_address(&self) -> SocketAddr {
        lock(&self.table).address()
    }

    /// Takes over port, health check and drain time; targets stay as they are.
    pub fn set_listener(&self, listener: Listener) {
        lock(&self.table).listener = listener;
    }

    pub fn saved(&self) -> SavedFleet {
        let table = lock(&self.table);
        let targets = table.members.iter().map(|member| SavedTarget {
            id: member.id.clone(),
            address: member.upstream.address(),
            state: member.state,
            role: member.role,
            proven: member.proven,
            reason: member.reason.clone(),
        });
        SavedFleet { listener: table.listener.clone(), targets: targets.collect() }
    }

    /// The targets, and the revision at which they were so.
    pub fn targets(&self) -> (Vec<Target>, u64) {
        let table = lock(&self.table);
        let targets = table.members.iter().map(|member| Target {
            id: member.id.clone(),
            address: member.upstream.address(),
            state: match member.state {
                State::Initial => TargetState::Initial,
                State::Healthy => TargetState::Healthy,
                State::Unhealthy => TargetState::Unhealthy,
                State::Draining { since } => {
                    TargetState::Draining { open_requests: table.open(member), since }
                }
                State::Drained => TargetState::Drained,
            },
            role: member.role,
            reason: member.reason.clone(),
        });
        (targets.collect(), *self.revision.borrow())
    }

    /// Tells of changes.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Adds a target and starts to check it; one with that id stays as it is.
    pub fn register(self: &Arc<Self>, id: InstanceId, address: SocketAddr, role: Role) {
        let mut table = lock(&self.table);
        if table.mode == Mode::Serving && !table.members.iter().any(|member| member.id == id) {
            tracing::info!("{}: {id} at {address} is registered, {role:?}", self.id);
            self.add(&mut table, id, address, role);
            self.changed();
        }
    }

    /// Lets these serve and nobody else: when this returns, every new request goes to one of them. The
    /// others stand by. When one of them is missing or not healthy, nothing changes, and the sentence
    /// says which.
    pub fn switch(&self, to: &[InstanceId]) -> Result<(), String> {
        let mut table = lock(&self.table);
        if to.is_empty() {
            return Err(format!("{} would be left with nobody who serves", self.id));
        }
        for id in to {
            let member = table.members.iter().find(|member| member.id == *id);
            match member.map(|member| (member.state, member.reason.as_deref())) {
                Some((State::Healthy, _)) => {}
                Some((_, reason)) => {
                    let reason = reason.unwrap_or("it was not checked often enough");
                    return Err(format!("{id} is not healthy, so nothing is switched to it: {reason}"));
                }
                None => return Err(format!("{} has no target {id}", self.id)),
            }
        }
        let mut switched = 0;
        for member in &mut table.members {
            let role = if to.contains(&member.id) { Role::Serving } else { Role::Standby };
            let leaving = matches!(member.state, State::Draining { .. } | State::Drained);
            if !leaving && member.role != role {
                member.role = role;
                switched += 1;
            }
        }
        if switched > 0 {
            tracing::info!("{}: {} targets serve now, and nobody else", self.id, to.len());
            self.changed();
        }
        Ok(())
    }

    fn add(self: &Arc<Self>, table: &mut Table, id: InstanceId, address: SocketAddr, role: Role) -> u64 {
        table.slots += 1;
        let slot = table.slots;
        let checks = AbortOnDropHandle::new(tokio::spawn(health::keep_checking(self.clone(), slot)));
        table.members.push(Member::new(slot, id, address, role, checks));
        slot
    }

    /// Starts draining: when this returns, no new request goes to the targets.
    pub fn deregister(self: &Arc<Self>, ids: &[InstanceId]) {
        let mut table = lock(&self.table);
        let drain = table.listener.drain;
        for member in table.members.iter_mut().filter(|member| ids.contains(&member.id)) {
            if let State::Draining { .. } | State::Drained = member.state {
                continue;
            }
            tracing::info!("{}: {} is draining, {} requests are open", self.id, member.id, member.open);
            member.state = State::Draining { since: Timestamp::now() };
            member.upstream.retire();
            member.task = Some(self.expire_after(member.slot, drain));
            self.changed();
        }
        self.settle(&mut table);
    }

    pub fn forget(&self, ids: &[InstanceId]) {
        let mut table = lock(&self.table);
        let before = table.members.len();
        table.members.retain(|member| !ids.contains(&member.id));
        if table.members.len() != before {
            self.changed();
        }
    }

    fn expire_after(self: &Arc<Self>, slot: u64, patience: Duration) -> AbortOnDropHandle<()> {
        let fleet = self.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let mut table = lock(&fleet.table);
            if let Some(member) = table.members.iter_mut().find(|member| member.slot == slot) {
                tracing::warn!(
                    "{}: the drain time of {} is over, {} requests are open",
                    fleet.id,
                    member.id,
                    member.open
                );
                member.state = State::Drained;
                fleet.changed();
            }
        }))
    }

    /// Chooses the healthy target with the fewest open requests, in turn among equals, that is not
    /// in `tried`, and counts the request as open there.
    pub fn pick(self: &Arc<Self>, tried: &[u64]) -> Pick {
        let mut table = lock(&self.table);
        match table.mode {
            Mode::Serving => {}
            Mode::Relaying => return Pick::Successor(table.address()),
            Mode::Removed => return Pick::Nobody(format!("{} is no longer served here", self.id)),
        }
        match table.choose(tried) {
            None => Pick::Nobody(table.nobody(&self.id)),
            Some(member) => {
                member.open += 1;
                Pick::Target(Lease {
                    fleet: self.clone(),
                    slot: member.slot,
                    upstream: member.upstream.clone(),
                })
            }
        }
    }

    fn release(&self, slot: u64) {
        let mut table = lock(&self.table);
        let relaying = table.mode == Mode::Relaying;
        if let Some(member) = table.members.iter_mut().find(|member| member.slot == slot) {
            member.open = member.open.saturating_sub(1);
            if member.open == 0 && matches!(member.state, State::Draining { .. }) {
                self.settle(&mut table);
            }
        }
        if relaying {
            self.released.notify_one();
        }
    }

    /// Calls drained what is.
    fn settle(&self, table: &mut Table) {
        let open: Vec<bool> = table.members.iter().map(|member| table.open(member) > 0).collect();
        for (member, open) in table.members.iter_mut().zip(open) {
            if matches!(member.state, State::Draining { .. }) && !open {
                tracing::info!("{}: {} is drained", self.id, member.id);
                member.state = State::Drained;
                member.task = None;
                self.changed();
            }
        }
    }

    /// What to check next; `None` when the target needs no more checks.
    pub fn check_plan(&self, slot: u64) -> Option<CheckPlan> {
        let table = lock(&self.table);
        let member = table.members.iter().find(|member| member.slot == slot)?;
        match member.state {
            State::Initial | State::Healthy | State::Unhealthy => Some(CheckPlan {
                check: table.listener.health.clone(),
                address: member.upstream.address(),
                proven: member.proven,
            }),
            State::Draining { .. } | State::Drained => None,
        }
    }

    /// Takes note of a health check. A failure that is not `counted` is shown, but does not bring
    /// the target nearer to unhealthy.
    pub fn checked(&self, slot: u64, outcome: Result<(), String>, counted: bool) {
        let mut table = lock(&self.table);
        let check = table.listener.health.clone();
        let Some(member) = table.members.iter_mut().find(|member| member.slot == slot) else { return };
        let before = (member.state, member.reason.clone());
        member.note(outcome, counted, &check);
        if before != (member.state, member.reason.clone()) {
            let reason = member.reason.as_deref().unwrap_or("all is well");
            tracing::info!("{}: {} is {:?}: {reason}", self.id, member.id, member.state);
            self.changed();
        }
    }

    /// Hands the choice of targets to a newer process; answers what is open here and at those we
    /// took over from.
    pub fn relay(&self) -> OpenRequests {
        let mut table = lock(&self.table);
        table.mode = Mode::Relaying;
        self.leaving.store(true, Ordering::Release);
        for member in &mut table.members {
            member.upstream.retire();
            member.task = None;
        }
        table.open_requests()
    }

    pub fn open_requests(&self) -> OpenRequests {
        lock(&self.table).open_requests()
    }

    /// What a process that we took over from has open now; nothing when it has ended.
    pub fn set_elsewhere(&self, process: u32, open: Option<OpenRequests>) {
        let mut table = lock(&self.table);
        match open {
            Some(open) => table.elsewhere.insert(process, open),
            None => table.elsewhere.remove(&process),
        };
        self.settle(&mut table);
        if table.mode == Mode::Relaying {
            self.released.notify_one();
        }
    }

    /// Ends it: open requests are finished, no new ones are taken.
    pub fn remove(&self) {
        let mut table = lock(&self.table);
        table.mode = Mode::Removed;
        self.leaving.store(true, Ordering::Release);
        table.members.clear();
        self.changed();
    }

    /// Whether clients are to be told to connect anew.
    pub fn leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The name of a target, for messages.
    pub fn name(&self, slot: u64) -> String {
        let table = lock(&self.table);
        let member = table.members.iter().find(|member| member.slot == slot);
        member.map_or_else(|| "a forgotten instance".to_owned(), |member| member.id.to_string())
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        self.saver.soon();
    }
}

#[cfg(test)]
mod tests;
