//! A rollout's own clock: the one on the wall as it was when the rollout began, and evenly on from there.
//!
//! So it does not matter what that is set to meanwhile: patience is as long as it is, and who is new is who
//! was launched by this rollout.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Ages;
use crate::ids::InstanceId;
use crate::rollout::Observed;

/// The shortest time that clocks here tell apart.
const INSTANT: Duration = Duration::from_micros(1);

/// When a rollout began, and how old it and its instances are.
pub(super) struct Began {
    at: Timestamp,
    /// Who was there before it.
    before: BTreeSet<InstanceId>,
    /// Of the instances, and of the rollout itself.
    ages: Ages<Option<InstanceId>>,
}

impl Began {
    pub fn new(at: Timestamp, before: &[InstanceId]) -> Self {
        Self { at, before: before.iter().cloned().collect(), ages: Ages::default() }
    }

    /// Somebody was launched: heard of now, whatever the clock is set to before that one is observed.
    pub fn hear(&mut self, id: &InstanceId, launched_at: Timestamp) {
        self.ages.of(Some(id.clone()), launched_at, Timestamp::now());
    }

    /// Tells an observation by the rollout's clock. `ours` says whose launches it recorded: for those, and for
    /// those that were there before, no clock is needed to tell who is new.
    pub fn tell(&mut self, observed: &mut Observed, ours: impl Fn(&InstanceId) -> bool) {
        let wall = observed.now;
        observed.now = self.at.saturating_add(self.ages.of(None, self.at, wall)).unwrap_or(Timestamp::MAX);
        for member in &mut observed.members {
            let age = self.ages.of(Some(member.id.clone()), member.launched_at, wall);
            let launched = observed.now.saturating_sub(age).unwrap_or(Timestamp::MIN);
            member.launched_at = match &member.id {
                id if ours(id) => launched.max(self.at),
                id if self.before.contains(id) => {
                    launched.min(self.at.saturating_sub(INSTANT).unwrap_or(Timestamp::MIN))
                }
                _ => launched,
            };
        }
        let members = &observed.members;
        self.ages.retain(|known| match known {
            Some(known) => members.iter().any(|member| member.id == *known),
            None => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;
    use crate::rollout::{Life, Member, Traffic};

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000_000 + seconds).unwrap()
    }

    fn id(n: u32) -> InstanceId {
        format!("shop-production-1-{n}").parse().unwrap()
    }

    fn observed(now: i64, launched: &[(u32, i64)]) -> Observed {
        let member = |(n, launched): &(u32, i64)| Member {
            id: id(*n),
            release: Digest::of(b"now"),
            life: Life::Running,
            traffic: Traffic::Unhealthy("answered 503".to_owned()),
            launched_at: at(*launched),
        };
        Observed { now: at(now), members: launched.iter().map(member).collect() }
    }

    /// How old each is, in seconds, and whether it counts as launched by the rollout of time 0.
    fn told(began: &mut Began, mut observed: Observed, ours: u32) -> Vec<(u64, bool)> {
        began.tell(&mut observed, |instance| *instance == id(ours));
        let age = |member: &Member| crate::clock::between(member.launched_at, observed.now).as_secs();
        observed.members.iter().map(|member| (age(member), member.launched_at >= at(0))).collect()
    }

    #[test]
    fn who_is_launched_after_the_clock_was_set_back_is_new_and_young() {
        let mut began = Began::new(at(0), &[id(1)]);
        assert_eq!(told(&mut began, observed(0, &[(1, -60)]), 2), [(60, false)]);
        for now in [-3 * HOUR, 3 * HOUR, -9_000 * HOUR, 9_000 * HOUR] {
            let both = told(&mut began, observed(now, &[(1, -60), (2, -3 * HOUR)]), 2);
            assert_eq!(both, [(60, false), (0, true)], "{now}");
        }
    }

    #[test]
    fn who_was_there_before_is_old_also_for_another_process_under_another_clock() {
        for now in [-3 * HOUR, 60, 9_000 * HOUR] {
            // What was there was launched by a clock that was ahead.
            let mut began = Began::new(at(0), &[id(1)]);
            let both = told(&mut began, observed(now, &[(1, HOUR), (2, -HOUR)]), 2);
            assert_eq!(both.iter().map(|(_, new)| *new).collect::<Vec<_>>(), [false, true], "{now}");
        }
    }

    #[test]
    fn what_an_earlier_process_launched_is_as_old_as_the_clock_says_but_no_older_than_the_rollout() {
        let mut began = Began::new(at(0), &[]);
        assert_eq!(told(&mut began, observed(90, &[(1, 60)]), 1), [(30, true)]);
        let mut began = Began::new(at(0), &[]);
        assert_eq!(told(&mut began, observed(90, &[(1, -HOUR)]), 1), [(90, true)]);
    }
}
