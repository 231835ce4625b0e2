//! PURE. The state of an environment: a fold over its journal.

use jiff::Timestamp;

use super::event::{Actor, EnvironmentEvent};

/// Everything recorded of an environment.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentState {
    /// Of the last event; 0 for one that nobody ever touched.
    pub sequence: u64,
    pub lock: Option<Lock>,
}

/// A person's hold on an environment or a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    pub actor: Actor,
    pub reason: String,
    pub at: Timestamp,
}

impl EnvironmentState {
    /// Folds a whole journal.
    pub fn fold<'a>(events: impl IntoIterator<Item = (Timestamp, &'a EnvironmentEvent)>) -> Self {
        let mut state = Self::default();
        for (at, event) in events {
            state.apply(at, event);
        }
        state
    }

    /// Takes in one more event; every order of them makes sense.
    pub fn apply(&mut self, at: Timestamp, event: &EnvironmentEvent) {
        self.sequence += 1;
        self.lock = match event {
            EnvironmentEvent::Locked { actor, reason } => {
                Some(Lock { actor: actor.clone(), reason: reason.clone(), at })
            }
            EnvironmentEvent::Unlocked { .. } => None,
        };
    }
}
