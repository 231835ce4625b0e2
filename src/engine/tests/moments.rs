//! The moments before and after each call of a cloud: at one of them something happens.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::cloud;

/// What happens at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Happens {
    /// The call goes on when the test says so.
    Waits,
    /// From then on nothing is to be had from the cloud.
    Fails,
}

/// Counts moments; clones share the count.
#[derive(Clone)]
pub(super) struct Moments(Arc<Inner>);

struct Inner {
    at: u32,
    happens: Happens,
    passed: AtomicU32,
    reached: Notify,
    go: Notify,
}

impl Moments {
    /// The moment is the `at`th, from 1.
    pub fn new(at: u32, happens: Happens) -> Self {
        let (passed, reached, go) = (AtomicU32::new(0), Notify::new(), Notify::new());
        Self(Arc::new(Inner { at, happens, passed, reached, go }))
    }

    pub async fn pass(&self) -> Result<(), cloud::Error> {
        let passed = self.0.passed.fetch_add(1, Ordering::Relaxed) + 1;
        match self.0.happens {
            Happens::Fails if passed >= self.0.at => {
                Err(cloud::Error::Denied(format!("moment {passed} is one of failure")))
            }
            Happens::Waits if passed == self.0.at => {
                self.0.reached.notify_one();
                self.0.go.notified().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns at the moment.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    pub fn go(&self) {
        self.0.go.notify_one();
    }

    /// Whether it came to that.
    pub fn happened(&self) -> bool {
        self.0.passed.load(Ordering::Relaxed) >= self.0.at
    }
}
