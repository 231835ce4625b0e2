//! The runner's slots: how many attempts may run shell at the same time, over all runs.
//!
//! Whoever waits longest gets the next one, and nobody else is woken: with thousands of runs in the
//! queue the end of a step costs as much as with one.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

/// Hands out slots.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    capacity: u32,
    free: Arc<Semaphore>,
    /// Slots in use beyond what there are: as many are not handed out again when they are given back.
    owed: Mutex<u32>,
}

/// A slot in use; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Inner>);

impl Slots {
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.max(1);
        let free = Arc::new(Semaphore::new(capacity as usize));
        Self(Arc::new(Inner { capacity, free, owed: Mutex::new(0) }))
    }

    pub fn capacity(&self) -> u32 {
        self.0.capacity
    }

    /// Takes up to `wanted` slots, as many as are free. None is while somebody waits.
    pub fn take(&self, wanted: u32) -> Vec<Slot> {
        (0..wanted).map_while(|_| self.take_one()).collect()
    }

    fn take_one(&self) -> Option<Slot> {
        self.0.free.try_acquire().ok()?.forget();
        Some(Slot(self.0.clone()))
    }

    /// Takes a slot also when none is free: for an attempt that runs already, as after a restart.
    pub fn take_anyway(&self) -> Slot {
        self.take_one().unwrap_or_else(|| {
            *self.0.owed() += 1;
            Slot(self.0.clone())
        })
    }

    /// Takes a place in the queue, from the first time that it is polled, and returns with a slot.
    /// Whoever drops it leaves the queue.
    pub fn queue(&self) -> impl Future<Output = Slot> + Send + 'static {
        let inner = self.0.clone();
        async move {
            match inner.free.acquire().await {
                Ok(permit) => permit.forget(),
                // Nobody closes it.
                Err(_) => std::future::pending().await,
            }
            Slot(inner)
        }
    }
}

impl Inner {
    fn owed(&self) -> std::sync::MutexGuard<'_, u32> {
        self.owed.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut owed = self.0.owed();
        match *owed {
            0 => self.0.free.add_permits(1),
            _ => *owed -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

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

    #[test]
    fn whoever_waits_longest_is_next_and_nobody_comes_before() {
        let slots = Slots::new(1);
        let held = slots.take(1);
        let (mut first, mut second) = (Box::pin(slots.queue()), Box::pin(slots.queue()));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(slots.take(1).is_empty(), "it is the first one's already");
        assert!(second.as_mut().now_or_never().is_none());
        let held = first.as_mut().now_or_never().expect("its turn");
        // The place of one that leaves is the next one's.
        let third = Box::pin(slots.queue());
        drop(held);
        drop(second);
        assert!(third.now_or_never().is_some());
    }
}
