//! When a state that is awaited is looked at again. PURE.
//!
//! Each look is a request, and an account has few of them. So a state is looked at soon after what
//! began it, as it may be fast; then with doubled pauses up to when it is expected; then at the account's
//! pace. What took how long is remembered for as long as the process lives, and the next time the first
//! look comes when that is over.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// The first look at what was never waited for before.
const FIRST: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// An instance runs.
    Boot,
    /// A target is healthy.
    Health,
    /// A target has drained.
    Drain,
    /// A target that was found unhealthy recovers.
    Recovery,
}

/// One thing that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    pub wait: Wait,
    pub since: Timestamp,
    /// What the settings make it take; `None` where they do not say.
    pub expected: Option<Duration>,
}

/// How long things took in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned(BTreeMap<Wait, Duration>);

impl Learned {
    /// Notes that it was seen to be over after so long.
    pub fn took(&mut self, wait: Wait, took: Duration) {
        let known = self.0.entry(wait).or_insert(took);
        // What is fast once may be fast again; looking a little early costs one request.
        *known = took.min(*known);
    }

    pub fn get(&self, wait: Wait) -> Option<Duration> {
        self.0.get(&wait).copied()
    }
}

/// When to look next, having looked at `last`: for the first of them that is due, and a little later
/// where one look then serves several. `None`: nothing is awaited.
pub fn next_look(
    awaited: &[Awaited],
    last: Timestamp,
    learned: &Learned,
    poll: Duration,
) -> Option<Timestamp> {
    let due: Vec<Timestamp> = awaited.iter().map(|one| due(one, last, learned, poll)).collect();
    let first = due.iter().min().copied()?;
    let together = later(first, poll.min(FIRST));
    due.into_iter().filter(|due| *due <= together).max()
}

fn due(awaited: &Awaited, last: Timestamp, learned: &Learned, poll: Duration) -> Timestamp {
    let Awaited { wait, since, expected } = *awaited;
    let quick = FIRST.min(poll);
    let known = learned.get(wait).map(|known| known.max(quick));
    if wait == Wait::Recovery {
        return later(last, poll);
    }
    let looked = Duration::try_from(last.duration_since(since)).unwrap_or_default();
    let first = known.unwrap_or(quick);
    if looked < first {
        return later(since, first);
    }
    let overdue = looked + poll;
    let next = match (known, expected) {
        // It took longer than ever before: it is about to be over, or something is wrong.
        (Some(_), _) | (None, None) => overdue.min(looked + looked.max(quick)),
        (None, Some(expected)) if looked < expected => expected.min(looked + looked.max(quick)),
        (None, Some(_)) => overdue,
    };
    later(since, next)
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(10);

    fn at(seconds: f64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000_000 + (seconds * 1_000.0) as i64).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The looks, in seconds, until it is over after `took`.
    fn looks(wait: Wait, expected: Option<u64>, took: f64, learned: &mut Learned) -> Vec<f64> {
        let awaited = [Awaited { wait, since: at(0.0), expected: expected.map(seconds) }];
        let (mut looks, mut last) = (Vec::new(), at(0.0));
        loop {
            last = next_look(&awaited, last, learned, POLL).unwrap();
            let looked = last.duration_since(at(0.0)).as_secs_f64();
            looks.push(looked);
            if looked >= took {
                learned.took(wait, Duration::from_secs_f64(looked));
                return looks;
            }
        }
    }

    #[test]
    fn what_is_fast_is_seen_at_once_and_what_is_slow_costs_few_looks() {
        let fresh = Learned::default;
        assert_eq!(looks(Wait::Boot, None, 0.2, &mut fresh()), [1.0]);
        assert_eq!(looks(Wait::Boot, None, 30.0, &mut fresh()), [1.0, 2.0, 4.0, 8.0, 16.0, 26.0, 36.0]);
        assert_eq!(
            looks(Wait::Health, Some(180), 175.0, &mut fresh()),
            [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 180.0]
        );
        assert_eq!(looks(Wait::Drain, Some(5), 5.5, &mut fresh()), [1.0, 2.0, 4.0, 5.0, 15.0]);
    }

    #[test]
    fn the_next_time_one_look_is_enough() {
        let mut learned = Learned::default();
        looks(Wait::Drain, Some(300), 300.0, &mut learned);
        assert_eq!(looks(Wait::Drain, Some(300), 300.0, &mut learned), [300.0]);
        looks(Wait::Health, Some(180), 0.5, &mut learned);
        assert_eq!(looks(Wait::Health, Some(180), 2.5, &mut learned), [1.0, 2.0, 4.0]);
        assert_eq!(learned.get(Wait::Health), Some(seconds(1)));
    }

    #[test]
    fn a_swap_of_ten_with_default_intervals_takes_few_looks() {
        let mut learned = Learned::default();
        let looked: usize = (0..10)
            .map(|_| {
                looks(Wait::Boot, None, 35.0, &mut learned).len()
                    + looks(Wait::Health, Some(180), 155.0, &mut learned).len()
                    + looks(Wait::Drain, Some(300), 300.0, &mut learned).len()
            })
            .sum();
        // Beside four changes a batch.
        assert!(looked < 60, "{looked} looks");
    }

    #[test]
    fn what_is_due_together_is_looked_at_once() {
        let boot = |since| Awaited { wait: Wait::Boot, since: at(since), expected: None };
        let next = next_look(&[boot(0.0), boot(0.4)], at(0.5), &Learned::default(), POLL);
        assert_eq!(next, Some(at(1.4)));
        assert_eq!(next_look(&[], at(0.5), &Learned::default(), POLL), None);
    }

    #[test]
    fn the_accounts_own_pace_is_kept_where_it_is_quicker() {
        let one = [Awaited { wait: Wait::Boot, since: at(0.0), expected: None }];
        let quick = Duration::from_millis(200);
        assert_eq!(next_look(&one, at(0.0), &Learned::default(), quick), Some(at(0.2)));
        let unwell = [Awaited { wait: Wait::Recovery, since: at(0.0), expected: None }];
        assert_eq!(next_look(&unwell, at(7.0), &Learned::default(), POLL), Some(at(17.0)));
    }
}
