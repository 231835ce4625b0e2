//! PURE. The state of a fleet: a fold over its journal.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::environment::Lock;
use super::event::{Actor, FleetEvent, Image, Release, RolloutEnd};
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
    /// Somebody holds it: no run enters.
    pub lock: Option<Lock>,
    /// Images that were quarantined here and not lifted since; they hold for the service everywhere.
    pub quarantined: BTreeMap<ImageId, Quarantine>,
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
                if *end == RolloutEnd::Completed
                    && let Some(before) = self.current.replace(rollout.to.clone())
                    && before.release != rollout.to.release
                {
                    self.history.push(before);
                }
            }
            FleetEvent::Ended { .. } => {
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

    /// Whether a rollout was started and its end is not recorded.
    pub fn is_rolling(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.end.is_none())
    }
}
