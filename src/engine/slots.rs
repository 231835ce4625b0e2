//! The runner's slots: how many attempts may run shell at the same time, over all runs.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Hands out slots.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: u32,
    used: Mutex<u32>,
    freed: Notify,
}

/// A slot in use; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Inner>);

impl Slots {
    pub fn new(capacity: u32) -> Self {
        Self(Arc::new(Inner { capacity: capacity.max(1), used: Mutex::new(0), freed: Notify::new() }))
    }

    pub fn capacity(&self) -> u32 {
        self.0.capacity
    }

    /// Takes up to `wanted` slots, as many as are free.
    pub fn take(&self, wanted: u32) -> Vec<Slot> {
        let mut used = self.0.used();
        let granted = wanted.min(self.0.capacity.saturating_sub(*used));
        *used += granted;
        (0..granted).map(|_| Slot(self.0.clone())).collect()
    }

    /// Takes a slot also when none is free: for an attempt that runs already, as after a restart.
    pub fn take_anyway(&self) -> Slot {
        *self.0.used() += 1;
        Slot(self.0.clone())
    }

    /// Returns when a slot may have become free since this was called.
    pub fn freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.freed.notified()
    }
}

impl Inner {
    fn used(&self) -> std::sync::MutexGuard<'_, u32> {
        self.used.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.used() -= 1;
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let slots = Slots::new(2);
        let first = slots.take(5);
        assert_eq!(first.len(), 2);
        assert!(slots.take(1).is_empty());
        let extra = slots.take_anyway();
        drop(first);
        assert_eq!(slots.take(5).len(), 1);
        drop(extra);
        assert_eq!(slots.take(5).len(), 2);
    }
}
