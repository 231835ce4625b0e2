//! That the journal of a fleet was written, for those who keep fleets alive: each hears of its own fleet
//! alone, however many there are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::ids::FleetId;

/// Each counts up when something was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    any: watch::Sender<u64>,
    each: Mutex<HashMap<FleetId, watch::Sender<u64>>>,
}

impl Written {
    /// Told of every fleet's journal.
    pub fn any(&self) -> watch::Receiver<u64> {
        self.any.subscribe()
    }

    /// Told of the fleet's journal.
    pub fn of(&self, fleet: &FleetId) -> watch::Receiver<u64> {
        self.each().entry(fleet.clone()).or_default().subscribe()
    }

    pub fn say(&self, fleet: &FleetId) {
        if let Some(fleet) = self.each().get(fleet) {
            count_up(fleet);
        }
        count_up(&self.any);
    }

    /// Something beside the journals changed: everybody looks again.
    pub fn say_all(&self) {
        self.each().values().for_each(count_up);
        count_up(&self.any);
    }

    fn each(&self) -> MutexGuard<'_, HashMap<FleetId, watch::Sender<u64>>> {
        self.each.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn count_up(revision: &watch::Sender<u64>) {
    revision.send_modify(|revision| *revision = revision.wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_fleet_hears_of_it_and_of_no_other() {
        let written = Written::default();
        let fleet = |name: &str| FleetId::new("shop".parse().unwrap(), name.parse().unwrap());
        let (any, staging, production) =
            (written.any(), written.of(&fleet("staging")), written.of(&fleet("production")));
        written.say(&fleet("staging"));
        let heard = |receiver: &watch::Receiver<u64>| receiver.has_changed().unwrap();
        assert_eq!((heard(&any), heard(&staging), heard(&production)), (true, true, false));
        written.say_all();
        assert!(heard(&production));
    }
}
