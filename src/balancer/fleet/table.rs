//! A fleet's targets as values: who is chosen, what a check changes, what is open.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use super::OpenRequests;
use crate::balancer::saved::State;
use crate::balancer::upstream::Upstream;
use crate::cloud::{HealthCheck, Listener, Role};
use crate::ids::{FleetId, InstanceId};

/// Everything that a fleet's lock guards.
pub(super) struct Table {
    pub listener: Listener,
    pub members: Vec<Member>,
    /// Where the search for the next target begins.
    pub turn: usize,
    pub slots: u64,
    pub mode: Mode,
    /// What the processes we took over from still have open.
    pub elsewhere: BTreeMap<u32, OpenRequests>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Serving,
    /// A newer process chooses the targets; what still comes here is passed on to its listener.
    Relaying,
    Removed,
}

/// A target.
pub(super) struct Member {
    /// Never used again in this process, unlike the id.
    pub slot: u64,
    pub id: InstanceId,
    pub upstream: Arc<Upstream>,
    pub state: State,
    pub role: Role,
    /// Whether it ever was healthy.
    pub proven: bool,
    pub reason: Option<String>,
    /// Answers of the same kind in a row.
    pub row: Row,
    pub open: u64,
    /// Its health checks, or its drain timer.
    pub task: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    Good(u32),
    Bad(u32),
}

impl Table {
    pub fn new(listener: Listener) -> Self {
        Self {
            listener,
            members: Vec::new(),
            turn: 0,
            slots: 0,
            mode: Mode::Serving,
            elsewhere: BTreeMap::new(),
        }
    }

    /// The healthy target with the fewest open requests, in turn among equals, that is not in
    /// `tried`.
    pub fn choose(&mut self, tried: &[u64]) -> Option<&mut Member> {
        let serves = |member: &Member| member.role == Role::Serving;
        let any_healthy = self.members.iter().any(|m| serves(m) && m.state == State::Healthy);
        let fit = |member: &Member| match member.state {
            _ if !serves(member) => false,
            State::Healthy => true,
            // Fail open: nobody is healthy, and this one once was.
            State::Unhealthy => member.proven && !any_healthy,
            State::Initial | State::Draining { .. } | State::Drained => false,
        };
        let turn = self.turn.min(self.members.len());
        let (late, early) = self.members.split_at(turn);
        let (index, _) = (turn..)
            .zip(early)
            .chain((0..).zip(late))
            .filter(|(_, member)| fit(member) && !tried.contains(&member.slot))
            .min_by_key(|(_, member)| member.open)?;
        self.turn = index + 1;
        self.members.get_mut(index)
    }

    /// Where clients reach the fleet.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listener.port))
    }

    /// Its open requests, here and elsewhere.
    pub fn open(&self, member: &Member) -> u64 {
        let elsewhere = self.elsewhere.values().filter_map(|open| open.get(&member.id)).sum::<u64>();
        member.open.saturating_add(elsewhere)
    }

    pub fn open_requests(&self) -> OpenRequests {
        let mut open = OpenRequests::new();
        let elsewhere = self.elsewhere.values().flatten().map(|(id, open)| (id, *open));
        for (id, more) in elsewhere.chain(self.members.iter().map(|member| (&member.id, member.open))) {
            if more > 0 {
                *open.entry(id.clone()).or_default() += more;
            }
        }
        open
    }

    /// Why nobody gets a request, for people.
    pub fn nobody(&self, fleet: &FleetId) -> String {
        let serving = || self.members.iter().filter(|member| member.role == Role::Serving);
        let count = |fit: fn(State) -> bool| serving().filter(|member| fit(member.state)).count();
        match self.members.len() {
            0 => format!("{fleet} has no instances"),
            all => format!(
                "{fleet} has no healthy instance: {} initial, {} unhealthy, {} draining{}",
                count(|state| state == State::Initial),
                count(|state| state == State::Unhealthy),
                count(|state| matches!(state, State::Draining { .. } | State::Drained)),
                match all - serving().count() {
                    0 => String::new(),
                    others => format!(", {others} on standby"),
                },
            ),
        }
    }
}

impl Member {
    pub fn new(
        slot: u64,
        id: InstanceId,
        address: SocketAddr,
        role: Role,
        checks: AbortOnDropHandle<()>,
    ) -> Self {
        Self {
            slot,
            id,
            upstream: Upstream::new(address),
            state: State::Initial,
            role,
            proven: false,
            reason: None,
            row: Row::Bad(0),
            open: 0,
            task: Some(checks),
        }
    }

    /// Takes note of a health check; see [`super::Fleet::checked`].
    pub fn note(&mut self, outcome: Result<(), String>, counted: bool, check: &HealthCheck) {
        self.row = match (&outcome, self.row) {
            (Ok(()), Row::Good(row)) => Row::Good(row.saturating_add(1)),
            (Ok(()), Row::Bad(_)) => Row::Good(1),
            (Err(_), Row::Bad(row)) if counted => Row::Bad(row.saturating_add(1)),
            (Err(_), Row::Good(_)) if counted => Row::Bad(1),
            (Err(_), Row::Bad(row)) => Row::Bad(row),
            (Err(_), Row::Good(_)) => Row::Bad(0),
        };
        self.state = match (self.state, self.row) {
            (State::Initial | State::Unhealthy, Row::Good(row)) if row >= check.healthy => State::Healthy,
            (State::Initial | State::Healthy, Row::Bad(row)) if row >= check.unhealthy => State::Unhealthy,
            (state, _) => state,
        };
        match outcome {
            Err(why) => self.reason = Some(why),
            Ok(()) if self.state == State::Healthy => self.reason = None,
            Ok(()) => {}
        }
        if self.state == State::Healthy {
            self.proven = true;
        }
    }
}
