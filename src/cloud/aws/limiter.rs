//! How fast requests are sent, and how many were.
//!
//! AWS counts by account and region, for all who ask together ("Request throttling for the Amazon EC2
//! API"). So what is throttled for one request is a pause for all of them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Serialize;

use super::operations::Operation;

/// The pause after a request that was throttled: doubled with each, up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));

/// The turn of every request to an account in a region.
pub struct Limiter {
    rate: DefaultDirectRateLimiter,
    /// Nobody sends anything before.
    pause: Mutex<Instant>,
}

impl Limiter {
    /// So many requests a second, and as many at once after a pause.
    pub fn new(rate: u32) -> Self {
        let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
        let rate = RateLimiter::direct(Quota::per_second(rate).allow_burst(rate));
        Self { rate, pause: Mutex::new(Instant::now()) }
    }

    /// Waits until a request may be sent.
    pub async fn turn(&self) {
        loop {
            let until = *self.pause.lock().unwrap_or_else(PoisonError::into_inner);
            if until <= Instant::now() {
                break;
            }
            tokio::time::sleep_until(until.into()).await;
        }
        self.rate.until_ready().await;
    }

    /// Nobody sends anything for so long: what is throttled is throttled for all.
    pub fn hold_off(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut held = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        *held = until.max(*held);
    }
}

/// The pause after a request was throttled for the `nth` time, from 1: it grows, and between a half and
/// the whole of it is left to chance, so that several who were throttled together do not ask together.
pub fn pause(nth: u32) -> Duration {
    let whole = PAUSES.0.saturating_mul(2u32.saturating_pow(nth.saturating_sub(1))).min(PAUSES.1);
    whole.mul_f64(0.5 + chance() / 2.0)
}

/// From 0 to 1.
fn chance() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}

/// What became of the requests of a process.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<(&'static str, &'static str), Count>>);

/// What became of the requests of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Count {
    pub requests: u64,
    /// Of these, answered with an error or not at all.
    pub errors: u64,
    /// Of the errors, those that ask to slow down.
    pub throttled: u64,
    /// From sending to the answer, all together.
    pub milliseconds: u64,
}

impl Tally {
    pub fn add(&self, operation: Operation, took: Duration, error: bool, throttled: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((operation.service, operation.name)).or_default();
        count.requests += 1;
        count.errors += u64::from(error);
        count.throttled += u64::from(throttled);
        count.milliseconds += took.as_millis() as u64;
    }

    /// By `ec2:RunInstances`.
    pub fn counts(&self) -> BTreeMap<String, Count> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((service, name), count)| (format!("{service}:{name}"), *count)).collect()
    }
}
