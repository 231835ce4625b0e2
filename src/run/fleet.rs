//! PURE. The state of a fleet: a fold over its journal.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::environment::Lock;
use super::event::{Actor, FleetEvent, Image, Relaunch, Release, RolloutEnd};
use crate::ids::{ImageId, Key, PipelineName, RunId, StageName};

/// Everything recorded of a fleet. What its instances do right now is observed, not recorded.
#[derive(Debug, Clone, Default)]
pub struct FleetState {
    /// Of the last event; 0 for a fleet that nobody ever touched.
    pub sequence: u64,
    /// The run that holds it.
    pub holder: Option<RunId>,
    /// The rollout under way, finished or not by now.
    pub rollout: Option<Rollout>,
    /// What the fleet last completed a rollout to.
    pub current: Option<Deployed>,
    /// What it ran before that, newest last.
    pub history: Vec<Deployed>,
    /// What stands by since the last rollout, or did.
    pub standby: Option<Standby>,
    /// How it was kept alive since its last rollout.
    pub keeping: Keeping,
    /// Somebody has begun to take it down.
    pub taken_down: bool,
    /// Somebody holds it: no run enters.
    pub lock: Option<Lock>,
    /// Images that were quarantined here and not lifted since; they hold for the service everywhere.
    pub quarantined: BTreeMap<ImageId, Quarantine>,
}

/// What ran before the last switch, and stands by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Of the rollout that switched.
    pub key: Key,
    pub image: Image,
    pub release: Release,
    /// Since it was recorded.
    pub since: Timestamp,
    /// Nobody ends it before.
    pub until: Timestamp,
}

/// How a fleet was kept alive since its last rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// What the last repair launched.
    pub launches: Vec<Relaunch>,
    /// So many repairs in a row came to nothing.
    pub strikes: u32,
    /// The next repair is put off.
    pub backoff: Option<Backoff>,
}

/// Why and until when a repair is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    pub until: Timestamp,
    pub reason: String,
}

/// Why an image must not be deployed or built upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// Of the image.
    pub name: String,
    pub actor: Actor,
    pub reason: String,
    pub at: Timestamp,
}

impl Quarantine {
    /// What is said to whoever wants to use the image of `service`.
    pub fn refusal(&self, service: &PipelineName) -> String {
        let Self { name, actor, reason, at } = self;
        format!(
            "{name} is in quarantine since {at:.0}, put there by {} ({reason}); \
             to allow it again: windlass lift {service} {name} --reason …",
            actor.name
        )
    }
}

/// A rollout as it was started.
#[derive(Debug, Clone)]
pub struct Rollout {
    pub key: Key,
    pub run: RunId,
    pub stage: StageName,
    pub attempt: u32,
    pub to: Deployed,
    pub started_at: Timestamp,
    pub end: Option<RolloutEnd>,
}

/// A release on a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    pub image: Image,
    pub release: Release,
    pub size: u32,
    /// When the rollout to it started.
    pub since: Timestamp,
    /// The run that deployed it.
    pub run: RunId,
    /// The ref that its commit came from.
    pub reference: Option<String>,
}

impl FleetState {
    /// Folds a whole journal.
    pub fn fold<'a>(events: impl IntoIterator<Item = (Timestamp, &'a FleetEvent)>) -> Self {
        let mut state = Self::default();
        for (at, event) in events {
            state.apply(at, event);
        }
        state
    }

    /// Takes in one more event. Every order of events makes sense here: who may write which is
    /// settled by holding the fleet.
    pub fn apply(&mut self, at: Timestamp, event: &FleetEvent) {
        self.sequence += 1;
        match event {
            FleetEvent::Held { run, .. } => self.holder = Some(run.clone()),
            FleetEvent::Released { run } => {
                if self.holder.as_ref() == Some(run) {
                    self.holder = None;
                }
            }
            FleetEvent::RolloutStarted { run, stage, attempt, key, image, release, size, reference } => {
                self.keeping = Keeping::default();
                self.taken_down = false;
                let to = Deployed {
                    image: (**image).clone(),
                    release: release.clone(),
                    size: *size,
                    since: at,
                    run: run.clone(),
                    reference: reference.clone(),
                };
                self.rollout = Some(Rollout {
                    key: key.clone(),
                    run: run.clone(),
                    stage: stage.clone(),
                    attempt: *attempt,
                    to,
                    started_at: at,
                    end: None,
                });
            }
            FleetEvent::RolloutEnded { key, end } => {
                let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.key == *key) else {
                    return;
                };
                rollout.end = Some(end.clone());
                // What an earlier rollout left standing by was cleared away by this one.
                self.standby = self.standby.take().filter(|standby| standby.key == *key);
                if *end == RolloutEnd::Completed
                    && let Some(before) = self.current.replace(rollout.to.clone())
                    && before.release != rollout.to.release
                {
                    self.history.push(before);
                }
            }
            FleetEvent::StandbyHeld { key, image, release, until } => {
                let (image, release) = ((**image).clone(), release.clone());
                self.standby = Some(Standby { key: key.clone(), image, release, since: at, until: *until });
            }
            FleetEvent::RepairStarted { launches, strikes } => {
                self.keeping = Keeping { launches: launches.clone(), strikes: *strikes, backoff: None };
            }
            FleetEvent::BackedOff { until, strikes, reason } => {
                self.keeping.strikes = *strikes;
                self.keeping.backoff = Some(Backoff { until: *until, reason: reason.clone() });
            }
            FleetEvent::Recovered => (self.keeping.strikes, self.keeping.backoff) = (0, None),
            FleetEvent::DownStarted { .. } => self.taken_down = true,
            FleetEvent::Ended { .. } => {
                (self.taken_down, self.standby) = (false, None);
                self.keeping = Keeping::default();
                self.rollout = None;
                if let Some(before) = self.current.take() {
                    self.history.push(before);
                }
            }
            FleetEvent::Quarantined { image, name, actor, reason } => {
                let (name, actor, reason) = (name.clone(), actor.clone(), reason.clone());
                self.quarantined.insert(image.clone(), Quarantine { name, actor, reason, at });
            }
            FleetEvent::QuarantineLifted { image, .. } => drop(self.quarantined.remove(image)),
            FleetEvent::Locked { actor, reason } => {
                self.lock = Some(Lock { actor: actor.clone(), reason: reason.clone(), at });
            }
            FleetEvent::Unlocked { .. } => self.lock = None,
        }
    }

    /// What a rollback goes back to: the newest of what it ran that is another image, and one that
    /// nobody put in quarantine.
    pub fn previous(&self, quarantined: impl Fn(&ImageId) -> bool) -> Option<&Deployed> {
        let current = &self.current.as_ref()?.image.id;
        let mut before = self.history.iter().rev().map(|before| (before, &before.image.id));
        before.find(|(_, image)| *image != current && !quarantined(image)).map(|(before, _)| before)
    }

    /// What stands by at that time.
    pub fn held_at(&self, now: Timestamp) -> Option<&Standby> {
        self.standby.as_ref().filter(|standby| now < standby.until)
    }

    /// Whether it was taken down, and nothing was rolled out to it since.
    pub fn is_down(&self) -> bool {
        self.rollout.is_none() && self.current.is_none() && self.holder.is_none()
    }

    /// Whether a rollout was started and its end is not recorded.
    pub fn is_rolling(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.end.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn image(number: u32) -> Image {
        Image {
            id: format!("img-{number}").parse().unwrap(),
            name: format!("shop-{number}"),
            key: Digest::of(&[number as u8]),
            parent: None,
            commit: None,
            run: format!("shop/{number}").parse().unwrap(),
        }
    }

    fn release(number: u32) -> Release {
        Release { image: image(number).id, env: BTreeMap::new() }
    }

    fn key(number: u32) -> Key {
        format!("shop-{number}.production.1").parse().unwrap()
    }

    fn started(number: u32) -> FleetEvent {
        FleetEvent::RolloutStarted {
            run: image(number).run,
            stage: "production".parse().unwrap(),
            attempt: 1,
            key: key(number),
            image: Box::new(image(number)),
            release: release(number),
            size: 2,
            reference: None,
        }
    }

    fn completed(number: u32) -> FleetEvent {
        FleetEvent::RolloutEnded { key: key(number), end: RolloutEnd::Completed }
    }

    fn held(number: u32, by: u32, until: i64) -> FleetEvent {
        let (image, release) = (Box::new(image(number)), release(number));
        FleetEvent::StandbyHeld { key: key(by), image, release, until: at(until) }
    }

    fn fold(events: &[FleetEvent]) -> FleetState {
        FleetState::fold(events.iter().map(|event| (at(0), event)))
    }

    #[test]
    fn what_stands_by_is_held_until_its_time_or_the_end_of_the_next_rollout() {
        let mut events = vec![started(1), completed(1), started(2), held(1, 2, 100), completed(2)];
        let state = fold(&events);
        assert_eq!(state.held_at(at(99)).map(|standby| &standby.image), Some(&image(1)));
        assert_eq!(state.held_at(at(100)), None);
        events.push(started(3));
        assert!(fold(&events).held_at(at(99)).is_some(), "the next rollout may yet go back to it");
        events.push(completed(3));
        assert_eq!(fold(&events).standby, None);
    }

    #[test]
    fn strikes_end_with_a_recovery_and_with_a_rollout() {
        let launches = vec![Relaunch { n: 3, key: key(9) }];
        let repair = FleetEvent::RepairStarted { launches: launches.clone(), strikes: 1 };
        let put_off = FleetEvent::BackedOff { until: at(9), strikes: 2, reason: "it ended".to_owned() };
        let events = [started(1), completed(1), repair, put_off];
        let state = fold(&events);
        let backoff = Some(Backoff { until: at(9), reason: "it ended".to_owned() });
        assert_eq!(state.keeping, Keeping { launches: launches.clone(), strikes: 2, backoff });
        let recovered = fold(&[&events[..], &[FleetEvent::Recovered]].concat());
        assert_eq!(recovered.keeping, Keeping { launches, ..Keeping::default() });
        assert_eq!(fold(&[&events[..], &[started(2)]].concat()).keeping, Keeping::default());
    }

    #[test]
    fn what_is_taken_down_is_so_until_something_is_rolled_out_again() {
        let actor = || Actor::named("ada").unwrap();
        let mut events = vec![started(1), completed(1), FleetEvent::DownStarted { actor: actor() }];
        assert!(fold(&events).taken_down);
        events.push(FleetEvent::Ended { actor: actor() });
        let state = fold(&events);
        assert!(!state.taken_down && state.is_down());
        assert!(!fold(&[&events[..], &[started(2)]].concat()).is_down());
    }
}
