//! Time as a value that is passed in, so that what depends on it can be tried with any time.
//!
//! There are two times. The clock on the wall says when something was and when something is due by the
//! calendar; people and networks set it, forward and back. How long something takes (a timeout, a pause, the
//! patience with an instance) is never the difference of two readings of it: [`Ages`] counts that.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

pub use jiff::Timestamp;
use tokio::time::Instant;

/// Tells what time it is. It may jump, forward and back: what must not depend on that measures with
/// the monotonic clock instead.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock, to the microsecond as events keep it: a moment is the same before and after it was
/// stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// How old things are of which only is recorded when they began, by the clock on the wall.
///
/// An age is read off that clock once, when a process first hears of the thing, and counted with the monotonic
/// clock from then on. So it goes on evenly when the clock on the wall is set, and stands still while the
/// machine sleeps, as everything does that runs on it. What began in the future, by a clock that was set back
/// since, has just begun.
#[derive(Debug)]
pub struct Ages<K>(BTreeMap<K, Age>);

#[derive(Debug, Clone, Copy)]
struct Age {
    began: Timestamp,
    /// When this process first heard of it, and how old it was then.
    heard: Instant,
    then: Duration,
}

impl<K: Ord> Ages<K> {
    /// How old `thing` is that began at `began`; `now` is what the clock on the wall says, or, for what an
    /// earlier process began, up to when that is known to have gone on.
    pub fn of(&mut self, thing: K, began: Timestamp, now: Timestamp) -> Duration {
        self.at(Instant::now(), thing, began, now)
    }

    fn at(&mut self, heard: Instant, thing: K, began: Timestamp, now: Timestamp) -> Duration {
        let fresh = || Age { began, heard, then: between(began, now) };
        let age = self.0.entry(thing).or_insert_with(fresh);
        if age.began != began {
            *age = fresh();
        }
        age.then + heard.saturating_duration_since(age.heard)
    }

    /// Forgets all other things.
    pub fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.0.retain(|thing, _| is_there(thing));
    }
}

impl<K> Default for Ages<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// From one reading of the clock on the wall to a later one; nothing when it was set back between them.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + hours * 3600).unwrap()
    }

    #[test]
    fn an_age_goes_on_evenly_however_the_clock_is_set() {
        let (mut ages, begin) = (Ages::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(ages.at(begin, "a step", at(0), at(0)), Duration::ZERO);
        for wall in [at(3), at(-3), at(24 * 400), Timestamp::UNIX_EPOCH, Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(ages.at(begin, "a step", at(0), wall), Duration::ZERO, "{wall}");
        }
        assert_eq!(ages.at(begin + second, "a step", at(0), at(-3)), second);
        // Another one of that name.
        assert_eq!(ages.at(begin + second, "a step", at(5), at(5)), Duration::ZERO);
    }

    #[test]
    fn what_an_earlier_process_began_is_as_old_as_the_clock_says_and_never_younger_than_new() {
        let (mut ages, begin) = (Ages::default(), Instant::now());
        assert_eq!(ages.at(begin, 1, at(0), at(2)), Duration::from_secs(7200));
        assert_eq!(ages.at(begin, 2, at(0), at(-2)), Duration::ZERO);
        assert_eq!(ages.at(begin, 3, Timestamp::MAX, Timestamp::MIN), Duration::ZERO);
        let later = begin + Duration::from_secs(5);
        assert_eq!(ages.at(later, 1, at(0), at(9)), Duration::from_secs(7205));
        assert_eq!(ages.at(later, 2, at(0), at(9)), Duration::from_secs(5));
        ages.retain(|thing| *thing != 2);
        assert_eq!(ages.at(later, 2, at(0), at(0)), Duration::ZERO);
    }
}
