//! Fleets stay alive: outside rollouts each is brought back to its recorded image and size.
//!
//! One task keeps one fleet. It looks when something may have changed (the balancer's targets, the end
//! of an instance, the fleet's journal) and asks [`rollout::keep`] what to do; when a whole fleet rests,
//! it sleeps. It never acts while the journal says that a rollout is under way, and reads it again
//! before each act. What it launches is in the fleet's journal first, with the keys, so that a launch
//! happens once whoever is killed when. A lock does not stop it: keeping what runs is no change.
//!
//! What stands by after a switch is left so while it is held, and ended afterwards.
//!
//! What comes to nothing again and again is put off: [`backoff`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Engine, Error, Shared};
use crate::clock::{Ages, between};
use crate::cloud::{Cloud, Instance, InstanceState};
use crate::config::{self, Settings};
use crate::ids::{FleetId, InstanceId, Key};
use crate::journal::fleet_append;
use crate::rollout::{self, Kept, Move, Observed, Operation, Traffic};
use crate::run::event::FleetEvent;
use crate::run::fleet::{Deployed, FleetState};
use crate::stage::deploy::fleet_settings;
use crate::stage::fleet::observe;
use crate::store;

mod backoff;
mod repair;

pub(super) use backoff::put_off;

/// A whole fleet is looked at again so often, should nothing wake us.
const SLOW_TICK: Duration = Duration::from_secs(60);

/// One that comes up is looked at so often: others ask the balancer too, and may be told of a change in
/// our place.
const BUSY_TICK: Duration = Duration::from_secs(2);

/// The pause after something failed that may work later, and the longest such pause.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Keeps fleets alive until it is dropped.
#[must_use]
pub struct Keeper {
    _task: AbortOnDropHandle<()>,
}

impl Engine {
    /// Keeps every fleet alive that was not taken down, also those that come into being later, as the
    /// settings in use describe them ([`Engine::use_settings`]), or else `settings`. One that is not in the settings is left alone.
    pub fn keep_fleets(&self, settings: Arc<Settings>) -> Keeper {
        self.0.kept.store(true, std::sync::atomic::Ordering::Release);
        let task = tokio::spawn(keep_all(self.0.clone(), settings));
        Keeper { _task: AbortOnDropHandle::new(task) }
    }
}

async fn keep_all(shared: Arc<Shared>, settings: Arc<Settings>) {
    let mut written = shared.written.any();
    let mut tasks: BTreeMap<FleetId, AbortOnDropHandle<()>> = BTreeMap::new();
    let mut pause = PAUSE.0;
    loop {
        written.borrow_and_update();
        match shared.parts.store.fleets().await {
            Ok(rows) => {
                pause = PAUSE.0;
                for row in rows.into_iter().filter(|row| !row.ended) {
                    if tasks.get(&row.fleet).is_none_or(AbortOnDropHandle::is_finished) {
                        let one = One::new(shared.clone(), row.fleet.clone(), settings.clone());
                        tasks.insert(row.fleet, AbortOnDropHandle::new(tokio::spawn(one.keep())));
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the fleets cannot be read; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
        }
        if written.changed().await.is_err() {
            return;
        }
    }
}

/// Returns when something about the fleet's targets may have changed. A fleet that is whole, in a cloud
/// that has to be asked again and again for that, is left alone until it is time to look.
async fn changed(
    cloud: &Cloud,
    fleet: &FleetId,
    whole: bool,
    patience: Duration,
) -> Result<(), crate::cloud::Error> {
    if whole && cloud.compute.beat() > BUSY_TICK {
        tokio::time::sleep(patience).await;
        return Ok(());
    }
    cloud.balancer.changed(fleet, patience).await
}

/// What a turn came to.
enum Next {
    /// Look again at once.
    Again,
    /// There is nothing to do before the journal says so.
    Journal,
    /// Something has to happen first: to one of these, at the balancer, or it gets this late.
    Change { running: Vec<InstanceId>, until: Option<Timestamp>, whole: bool },
    /// The fleet was taken down.
    Over,
}

/// What of a fleet has an age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aged {
    Instance(InstanceId),
    /// Since a repair was put off.
    Pause,
    /// Since a switch.
    Hold,
}

/// One fleet.
struct One {
    shared: Arc<Shared>,
    fleet: FleetId,
    settings: Arc<Settings>,
    /// Whether its listener was put since this process started, or since something failed.
    listening: bool,
    /// Since when members have been unhealthy.
    unwell: BTreeMap<InstanceId, Instant>,
    /// Of its instances, and of what it waits for.
    ages: Ages<Aged>,
    /// Keys that this process has asked the cloud to launch.
    asked: BTreeSet<Key>,
    /// Since when it has been whole after repairs that came to nothing.
    whole: Option<Instant>,
}

impl One {
    fn new(shared: Arc<Shared>, fleet: FleetId, settings: Arc<Settings>) -> Self {
        let (unwell, asked, ages) = (BTreeMap::new(), BTreeSet::new(), Ages::default());
        Self { shared, fleet, settings, listening: false, unwell, ages, asked, whole: None }
    }

    async fn keep(mut self) {
        let mut written = self.shared.written.of(&self.fleet);
        let mut pause = PAUSE.0;
        loop {
            written.borrow_and_update();
            match self.turn().await {
                Ok(Next::Over) => return self.say(None),
                Ok(Next::Again) => pause = PAUSE.0,
                Ok(Next::Journal) => drop(written.changed().await),
                Ok(Next::Change { running, until, whole }) => {
                    pause = PAUSE.0;
                    let cloud = match self.cloud() {
                        Ok(cloud) => cloud,
                        Err(error) => {
                            self.failed(&error, &mut pause).await;
                            continue;
                        }
                    };
                    let patience =
                        until.map_or(SLOW_TICK, |until| between(Timestamp::now(), until).min(SLOW_TICK));
                    let changed = async {
                        tokio::select! {
                            biased;
                            changed = changed(&cloud, &self.fleet, whole, patience) => changed,
                            ended = cloud.compute.ended(&running, patience) => ended,
                        }
                    };
                    let changed = tokio::select! {
                        biased;
                        _ = written.changed() => Ok(()),
                        changed = changed => changed,
                    };
                    if let Err(error) = changed {
                        self.failed(&Error::Cloud(error), &mut pause).await;
                    }
                }
                Err(Error::Journal(crate::journal::Error::Store(store::Error::Conflict { .. }))) => {}
                Err(error) => self.failed(&error, &mut pause).await,
            }
        }
    }

    /// Says what failed, and leaves it some time.
    async fn failed(&mut self, error: &Error, pause: &mut Duration) {
        self.listening = false;
        self.say(Some(format!("it cannot be kept alive: {error}; trying again")));
        // A cloud that is not to be looked at so often is not to be asked in vain so often either.
        let beat = self.cloud().map_or(Duration::ZERO, |cloud| cloud.compute.beat());
        let least = if beat > BUSY_TICK { beat } else { Duration::ZERO };
        tokio::time::sleep((*pause).max(least)).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    /// What is to be said of the fleet to people; nothing when all is well.
    fn say(&self, trouble: Option<String>) {
        let mut troubles = self.shared.troubles();
        let before = match trouble.clone() {
            Some(trouble) => troubles.insert(self.fleet.clone(), trouble),
            None => troubles.remove(&self.fleet),
        };
        drop(troubles);
        if let Some(trouble) = trouble.filter(|trouble| before.as_ref() != Some(trouble)) {
            tracing::warn!(fleet = %self.fleet, "{trouble}");
        }
    }

    async fn turn(&mut self) -> Result<Next, Error> {
        let state = self.load().await?;
        let Some(current) = state.current.clone() else {
            self.say(None);
            return Ok(if state.is_down() { Next::Over } else { Next::Journal });
        };
        if state.is_rolling() {
            self.say(None);
            self.unwell.clear();
            return Ok(Next::Journal);
        }
        if state.taken_down {
            // Whoever is at it just now says so himself.
            let interrupted = self.shared.fleet_lock(&self.fleet).try_lock().is_ok();
            let said = "it was being taken down and that was interrupted: windlass down goes on with it";
            self.say(interrupted.then(|| said.to_owned()));
            return Ok(Next::Journal);
        }
        let settings = self.shared.settings().unwrap_or_else(|| self.settings.clone());
        if !Arc::ptr_eq(&settings, &self.settings) {
            // They were read again: its listener may be another one now.
            (self.settings, self.listening) = (settings.clone(), false);
        }
        let Some((listener, policy)) = fleet_settings(&settings, &self.fleet) else {
            let place = format!("environments.{}.fleets", self.fleet.environment);
            self.say(Some(format!(
                "it is left alone, as the settings do not have it under {place}: \
                 put it there, or take it down with windlass down"
            )));
            return Ok(Next::Journal);
        };
        let cloud = self.cloud()?;
        if cloud.compute.keeps(&self.fleet) {
            self.give_back(&cloud, &state, &current).await?;
            self.say(None);
            return Ok(Next::Journal);
        }
        if !self.listening {
            cloud.balancer.put_listener(&listener).await.map_err(Error::Cloud)?;
            self.listening = true;
        }
        let (instances, mut observed) = observe(&cloud, &self.fleet).await.map_err(Error::Cloud)?;
        self.say(None);
        self.tell_ages(&mut observed);
        self.note_unwell(&observed);
        if self.launch_again(&state, &current, &instances).await? {
            return Ok(Next::Again);
        }
        let held_until = self.held_until(&state, observed.now);
        let ago = |since: Instant| observed.now.saturating_sub(since.elapsed()).unwrap_or(Timestamp::MIN);
        let kept = Kept {
            release: current.release.id(),
            size: current.size,
            patience: policy.patience,
            held: held_until.and(state.standby.as_ref()).map(|standby| standby.release.id()),
            unwell: self.unwell.iter().map(|(id, since)| (id.clone(), ago(*since))).collect(),
        };
        let earlier = |until: Option<Timestamp>| until.into_iter().chain(held_until).min();
        let running = || {
            let running = instances.values().filter(|instance| instance.state == InstanceState::Running);
            running.map(|instance| instance.id.clone()).collect()
        };
        match rollout::keep(&observed, &kept) {
            Move::Act { operations, .. } => {
                self.whole = None;
                let put_off = self.act(&state, &current, policy, &instances, &observed, operations).await?;
                Ok(match put_off {
                    None => Next::Again,
                    Some(until) => {
                        Next::Change { running: running(), until: earlier(Some(until)), whole: false }
                    }
                })
            }
            Move::Wait { until, .. } => {
                self.whole = None;
                let soon = observed.now.checked_add(BUSY_TICK.max(cloud.compute.beat())).ok();
                let until = until.into_iter().chain(soon).min();
                Ok(Next::Change { running: running(), until: earlier(until), whole: false })
            }
            Move::Done(_) | Move::TurnBack { .. } => {
                let until = self.rest(&state, observed.now).await?;
                Ok(Next::Change { running: running(), until: earlier(until), whole: true })
            }
        }
    }

    /// The cloud that the settings put the fleet in.
    fn cloud(&self) -> Result<Cloud, Error> {
        let setup = self.settings.cloud_of(&self.fleet.service);
        self.shared.parts.clouds.open(&setup).map_err(Error::Cloud)
    }

    async fn load(&self) -> Result<Arc<FleetState>, Error> {
        Ok(self.shared.known.fleet(self.shared.parts.store.as_ref(), &self.fleet).await?)
    }

    async fn append(&self, state: &FleetState, now: Timestamp, event: FleetEvent) -> Result<(), Error> {
        let append = fleet_append(&self.fleet, state.sequence, vec![(now, event)]);
        Ok(self.shared.parts.store.append(vec![append]).await?)
    }

    fn note_unwell(&mut self, observed: &Observed) {
        let unwell = observed.members.iter().filter(|m| matches!(m.traffic, Traffic::Unhealthy(_)));
        let before = std::mem::take(&mut self.unwell);
        self.unwell = unwell
            .map(|member| (member.id.clone(), before.get(&member.id).copied().unwrap_or_else(Instant::now)))
            .collect();
    }

    /// Counts how old its instances are as [`Ages`] does, whatever the clock is set to.
    fn tell_ages(&mut self, observed: &mut Observed) {
        let now = observed.now;
        for member in &mut observed.members {
            let age = self.ages.of(Aged::Instance(member.id.clone()), member.launched_at, now);
            member.launched_at = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        }
        self.ages.retain(|aged| match aged {
            Aged::Instance(id) => observed.members.iter().any(|member| member.id == *id),
            Aged::Pause | Aged::Hold => true,
        });
    }

    /// When a stretch of `length` that ends at `end` is over, by the clock as it is now; `None` when it is.
    /// It lasts no longer than its length, however the clock is set.
    fn over(&mut self, what: Aged, end: Timestamp, length: Duration, now: Timestamp) -> Option<Timestamp> {
        let began = end.saturating_sub(length).unwrap_or(Timestamp::MIN);
        let left = length.checked_sub(self.ages.of(what, began, now)).filter(|left| !left.is_zero())?;
        Some(now.saturating_add(left).unwrap_or(Timestamp::MAX))
    }

    /// Until when those stand by that served before the last switch.
    fn held_until(&mut self, state: &FleetState, now: Timestamp) -> Option<Timestamp> {
        let standby = state.standby.as_ref()?;
        self.over(Aged::Hold, standby.until, between(standby.since, standby.until), now)
    }

    /// The fleet is whole. Answers when there is more to be said of that.
    async fn rest(&mut self, state: &FleetState, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if state.keeping.strikes == 0 {
            return Ok(None);
        }
        let whole = self.whole.get_or_insert_with(Instant::now).elapsed();
        if whole < backoff::HEALTHY {
            return Ok(now.checked_add(backoff::HEALTHY - whole).ok());
        }
        self.append(state, now, FleetEvent::Recovered).await?;
        Ok(None)
    }

    /// Carries out what the plan says. Answers until when its launches are put off.
    async fn act(
        &mut self,
        state: &FleetState,
        current: &Deployed,
        policy: &config::Fleet,
        instances: &BTreeMap<InstanceId, Instance>,
        observed: &Observed,
        operations: Vec<Operation>,
    ) -> Result<Option<Timestamp>, Error> {
        let now = observed.now;
        let missing = operations.iter().find_map(|operation| match operation {
            Operation::Launch { count, .. } => Some(*count),
            _ => None,
        });
        let mut strikes = state.keeping.strikes;
        let mut put_off = None;
        if missing.is_some() {
            match &state.keeping.backoff {
                Some(put) => put_off = self.over(Aged::Pause, put.until, backoff::delay(strikes), now),
                None => {
                    let repaired = |id: &InstanceId| {
                        let key = instances.get(id).map(|instance| &instance.key);
                        state.keeping.launches.iter().any(|launch| Some(&launch.key) == key)
                    };
                    let strike = backoff::strike(observed, &current.release.id(), policy.patience, repaired);
                    if let Some(last) = strike {
                        strikes += 1;
                        let delay = backoff::delay(strikes);
                        if !delay.is_zero() {
                            let until = now.checked_add(delay).unwrap_or(Timestamp::MAX);
                            let reason = last.of(missing.unwrap_or(0), current.size);
                            let event = FleetEvent::BackedOff { until, strikes, reason };
                            self.append(state, now, event).await?;
                            return Ok(None);
                        }
                    }
                }
            }
        }
        // Whoever takes the fleet down waits for what we have begun; a rollout may have begun since we
        // looked.
        let acting = self.shared.fleet_lock(&self.fleet);
        let _acting = acting.lock().await;
        if self.load().await?.sequence != state.sequence {
            return Ok(None);
        }
        let cloud = self.cloud()?;
        let one = std::slice::from_ref;
        let fleet = &self.fleet;
        let mut acted = false;
        for operation in &operations {
            let done = match operation {
                // Nobody switches between rollouts.
                Operation::Launch { .. } | Operation::StandBy { .. } | Operation::Switch { .. } => continue,
                Operation::Register { id } => match instances.get(id) {
                    Some(instance) => cloud.balancer.register(fleet, &[(id.clone(), instance.address)]).await,
                    None => continue,
                },
                Operation::Drain { id } => cloud.balancer.deregister(fleet, one(id)).await,
                Operation::Terminate { id } => {
                    // Nothing of one that ended is left to be waited for.
                    match cloud.balancer.forget(fleet, one(id)).await {
                        Ok(()) => cloud.compute.terminate(id).await,
                        failed => failed,
                    }
                }
            };
            done.map_err(Error::Cloud)?;
            acted = true;
        }
        match (missing, put_off) {
            (Some(_), Some(until)) => Ok((!acted).then_some(until)),
            (Some(count), None) => {
                self.repair(state, current, instances, now, count, strikes).await.map(|()| None)
            }
            (None, _) => Ok(None),
        }
    }
}
