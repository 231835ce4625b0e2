//! The balancer, as a process reaches it. What a process does to a fleet is held against what it was
//! told of the fleet last: what else happened meanwhile it could not know.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use windlass::cloud::{Balancer, Error, Listener, Role, Target, TargetState, Timing};
use windlass::ids::{FleetId, InstanceId};

use super::{Drain, Reached, Registered, Served, State, target, turns};
use crate::clock;

type Member = (InstanceId, SocketAddr);

impl Reached {
    fn add(&self, fleet: &FleetId, targets: &[Member], role: Role, state: &mut State) -> Result<(), Error> {
        let now = clock::elapsed();
        let served = state.fleets.get_mut(fleet);
        let served = served.ok_or_else(|| Error::NotFound(format!("the listener of {fleet}")))?;
        for (id, address) in targets {
            let new = Registered { address: *address, at: now, role, drains: None };
            served.targets.entry(id.clone()).or_insert(new);
        }
        Ok(())
    }

    /// Who serves in the eyes of this process: what it was told, less what it did since.
    fn serving(&self, fleet: &FleetId, state: &State) -> BTreeSet<InstanceId> {
        let told = state.told.get(&(self.0.number, fleet.clone())).cloned().unwrap_or_default();
        let serves = |id: &InstanceId| {
            let target = state.fleets.get(fleet).and_then(|served| served.targets.get(id));
            let there = state.servers.get(id).is_some_and(|server| !server.ended);
            there && target.is_some_and(|target| target.drains.is_none() && target.role == Role::Serving)
        };
        told.into_iter().filter(serves).collect()
    }

    /// Draining these leaves enough.
    fn check_floor(&self, fleet: &FleetId, going: &[InstanceId], state: &State) {
        let before = self.serving(fleet, state);
        let after = before.iter().filter(|id| !going.contains(*id)).count();
        let least = self.0.world.least(fleet, before.len());
        if after < before.len() && after < least {
            self.0.world.broken(format!(
                "draining {going:?} takes {fleet} from {} healthy ones to {after}, below {least}",
                before.len()
            ));
        }
    }
}

#[async_trait]
impl Balancer for Reached {
    async fn put_listener(&self, listener: &Listener) -> Result<(), Error> {
        let put = |state: &mut State, _| {
            let fleet = listener.fleet.clone();
            let new = || Served { listener: listener.clone(), targets: Default::default() };
            state.fleets.entry(fleet).or_insert_with(new).listener = listener.clone();
            Ok(())
        };
        self.effect(|| format!("put the listener of {}", listener.fleet), put).await
    }

    async fn remove_listener(&self, fleet: &FleetId) -> Result<(), Error> {
        let remove = |state: &mut State, _| {
            state.fleets.remove(fleet);
            Ok(())
        };
        self.effect(|| format!("remove the listener of {fleet}"), remove).await
    }

    async fn register(&self, fleet: &FleetId, targets: &[Member]) -> Result<(), Error> {
        let add = |state: &mut State, _| self.add(fleet, targets, Role::Serving, state);
        self.effect(|| format!("register {targets:?}"), add).await
    }

    async fn stand_by(&self, fleet: &FleetId, targets: &[Member]) -> Result<(), Error> {
        let add = |state: &mut State, _| self.add(fleet, targets, Role::Standby, state);
        self.effect(|| format!("stand by {targets:?}"), add).await
    }

    async fn switch(&self, fleet: &FleetId, to: &[InstanceId]) -> Result<(), Error> {
        let act = |state: &mut State, now: Duration| {
            let State { fleets, servers, .. } = state;
            let served = fleets.get_mut(fleet).ok_or_else(|| Error::NotFound(fleet.to_string()))?;
            let well = |id: &InstanceId| {
                let found = served.targets.get(id);
                found.is_some_and(|found| {
                    target(served, id, found, servers.get(id), now).state == TargetState::Healthy
                })
            };
            if let Some(sick) = to.iter().find(|id| !well(id)) {
                return Err(Error::Conflict(format!("{sick} is not healthy")));
            }
            for (id, target) in &mut served.targets {
                target.role = if to.contains(id) { Role::Serving } else { Role::Standby };
            }
            Ok(())
        };
        let least = self.0.world.least(fleet, self.serving(fleet, &self.ground().state()).len());
        if to.len() < least {
            self.0.world.broken(format!("{fleet} is switched to {to:?}, fewer than {least}"));
        }
        self.effect(|| format!("switch {fleet} to {to:?}"), act).await
    }

    async fn deregister(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let act = |state: &mut State, now: Duration| {
            self.check_floor(fleet, targets, state);
            let Some(served) = state.fleets.get_mut(fleet) else { return Ok(()) };
            let longest = served.listener.drain.as_millis() as u64;
            for id in targets {
                let Some(target) = served.targets.get_mut(id) else { continue };
                let open = match self.ground().is_distant() {
                    true => longest,
                    false => self.0.world.fate(&format!("drain {id}")).below(longest + 1),
                };
                let until = now + Duration::from_millis(open);
                target.drains.get_or_insert(Drain { since: Timestamp::now(), until });
            }
            Ok(())
        };
        self.effect(|| format!("drain {targets:?}"), act).await
    }

    async fn forget(&self, fleet: &FleetId, targets: &[InstanceId]) -> Result<(), Error> {
        let mut broken = None;
        let act = |state: &mut State, now: Duration| {
            let State { fleets, servers, .. } = state;
            let Some(served) = fleets.get_mut(fleet) else { return Ok(()) };
            for id in targets {
                let Some(found) = served.targets.get(id) else { continue };
                let server = servers.get(id);
                let gone = server.is_none_or(|server| server.ended || server.is_dead(now));
                let told = target(served, id, found, server, now).state;
                if !gone && told != TargetState::Drained {
                    broken = Some(format!("{id} is forgotten while it is {told:?}"));
                }
                served.targets.remove(id);
            }
            Ok(())
        };
        let done = self.effect(|| format!("forget {targets:?}"), act).await;
        if let Some(broken) = broken {
            self.0.world.broken(broken);
        }
        done
    }

    async fn targets(&self, fleet: &FleetId) -> Result<Vec<Target>, Error> {
        let what = format!("targets {fleet}");
        self.wire(&what).await;
        let targets: Vec<Target> = {
            let (mut state, now) = (self.ground().state(), clock::elapsed());
            let targets: Vec<Target> = state.fleets.get(fleet).map_or_else(Vec::new, |served| {
                let all = served.targets.iter();
                all.map(|(id, found)| target(served, id, found, state.servers.get(id), now)).collect()
            });
            let healthy =
                |target: &&Target| target.state == TargetState::Healthy && target.role == Role::Serving;
            let told = targets.iter().filter(healthy).map(|target| target.id.clone()).collect();
            state.told.insert((self.0.number, fleet.clone()), told);
            targets
        };
        self.wire(&what).await;
        Ok(targets)
    }

    async fn changed(&self, fleet: &FleetId, patience: Duration) -> Result<(), Error> {
        self.0.alive().await;
        if self.ground().is_distant() {
            tokio::time::sleep(patience.min(self.pace())).await;
            return Ok(());
        }
        let now = clock::elapsed();
        let next = {
            let state = self.ground().state();
            let later = |at: Option<Duration>| at.filter(|at| *at > now);
            let served = state.fleets.get(fleet);
            let times = served.iter().flat_map(|served| {
                served.targets.iter().flat_map(|(id, target)| {
                    let turns = turns(served, target, state.servers.get(id));
                    let drained = target.drains.as_ref().map(|drain| drain.until);
                    [Some(turns.unhealthy_at_first), turns.healthy, turns.unhealthy, drained]
                })
            });
            times.filter_map(later).min()
        };
        let patience = next.map_or(patience, |next| patience.min(next - now));
        let changed = self.ground().changed.notified();
        tokio::select! {
            biased;
            () = changed => {}
            () = tokio::time::sleep(patience) => {}
        }
        self.0.alive().await;
        Ok(())
    }

    fn pace(&self) -> Duration {
        Duration::from_secs(if self.ground().is_distant() { 15 } else { 1 })
    }

    async fn timing(&self, fleet: &FleetId) -> Result<Option<Timing>, Error> {
        let look = |state: &State, _| {
            let listener = &state.fleets.get(fleet)?.listener;
            let in_service = listener.health.interval * (listener.health.healthy + 1);
            Some(Timing { in_service, drain: listener.drain })
        };
        let timing = self.look(&format!("timing {fleet}"), look).await;
        Ok(timing.filter(|_| self.ground().is_distant()))
    }

    async fn url(&self, listener: &Listener) -> Result<String, Error> {
        Ok(format!("http://127.0.0.1:{}", listener.port))
    }
}
