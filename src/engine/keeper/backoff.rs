//! When repairs come to nothing: how long the next one is put off, and what is said of it.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::ids::{Digest, InstanceId};
use crate::rollout::{Life, Member, Observed, Traffic};
use crate::run::fleet::Keeping;

/// Whole for so long, a fleet starts anew with no strike against it. An instance that ends by itself
/// sooner after its launch counts as one that did not come up.
pub(super) const HEALTHY: Duration = Duration::from_secs(60);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What the next repair is put off by after so many in a row came to nothing. The first time may be
/// chance, as when somebody ends an instance that has just been launched.
pub(super) fn delay(strikes: u32) -> Duration {
    match strikes {
        0 | 1 => Duration::ZERO,
        more => FIRST.saturating_mul(1 << (more - 2).min(16)).min(LONGEST),
    }
}

/// An instance that came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Strike {
    how: String,
    /// Its name, and its last words.
    last: String,
}

impl Strike {
    /// For people: what became of how many of the fleet's instances.
    pub fn of(&self, missing: u32, size: u32) -> String {
        format!("{missing} of {size} instances {}: {}", self.how, self.last)
    }
}

/// Whether something came to nothing that should have come up: an instance that ended soon after its
/// launch, or one of the last repair (`repaired`) that did not become healthy in its time.
pub(super) fn strike(
    observed: &Observed,
    release: &Digest,
    patience: Duration,
    repaired: impl Fn(&InstanceId) -> bool,
) -> Option<Strike> {
    let ours = observed.members.iter().filter(|member| member.release == *release);
    let mut failed: Vec<(&Member, Strike)> = ours
        .filter_map(|member| {
            let age = Duration::try_from(observed.now.duration_since(member.launched_at)).unwrap_or_default();
            let strike = match (&member.life, &member.traffic) {
                (_, Traffic::Draining { .. } | Traffic::Drained) => return None,
                (Life::Failed(reason), _) if age < HEALTHY => Strike {
                    how: format!("ended within {} s of their start", age.as_secs() + 1),
                    last: format!("{}: {}", member.id, reason.trim()),
                },
                (Life::Running, Traffic::Unhealthy(check)) if age >= patience && repaired(&member.id) => {
                    Strike {
                        how: format!("were not healthy {} s after their start", patience.as_secs()),
                        last: format!("{}: {}", member.id, check.trim()),
                    }
                }
                _ => return None,
            };
            Some((member, strike))
        })
        .collect();
    failed.sort_by_key(|(member, _)| member.launched_at);
    failed.pop().map(|(_, strike)| strike)
}

/// What `status` says of a fleet whose repairs come to nothing.
pub fn put_off(keeping: &Keeping) -> Option<String> {
    let strikes = keeping.strikes;
    let backoff = keeping.backoff.as_ref()?;
    let at = backoff.until.to_zoned(TimeZone::system()).strftime("%H:%M:%S");
    Some(format!("{}, {strikes} times in a row; next try at {at}", backoff.reason))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn the_first_time_is_free_and_then_it_doubles_up_to_a_minute() {
        let delays: Vec<u64> = (0..10).map(|strikes| delay(strikes).as_secs()).collect();
        assert_eq!(delays, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn ended(n: u32, launched: i64) -> Member {
        Member {
            id: format!("shop-production-1-{n}").parse().unwrap(),
            release: Digest::of(b"now"),
            life: Life::Failed("it ended with exit code 1".to_owned()),
            traffic: Traffic::Unregistered,
            launched_at: at(launched),
        }
    }

    fn struck(now: i64, members: Vec<Member>) -> Option<Strike> {
        let observed = Observed { now: at(now), members };
        strike(&observed, &Digest::of(b"now"), Duration::from_secs(30), |_| true)
    }

    #[test]
    fn what_ends_soon_counts_and_what_served_for_a_while_does_not() {
        let strike = struck(9, vec![ended(1, 0), ended(2, 5)]).unwrap();
        assert_eq!(
            strike.of(2, 3),
            "2 of 3 instances ended within 5 s of their start: shop-production-1-2: it ended with exit code 1"
        );
        assert_eq!(struck(60, vec![ended(1, 0)]), None);
    }

    #[test]
    fn what_is_ended_on_purpose_does_not_count() {
        let leaving = Member { traffic: Traffic::Draining { open_requests: 1 }, ..ended(1, 0) };
        assert_eq!(struck(1, vec![leaving]), None);
    }

    #[test]
    fn what_does_not_become_healthy_counts_when_its_time_is_over() {
        let sick = Member {
            life: Life::Running,
            traffic: Traffic::Unhealthy("answered 503".to_owned()),
            ..ended(1, 0)
        };
        assert_eq!(struck(29, vec![sick.clone()]), None);
        let told = struck(30, vec![sick]).unwrap().of(1, 1);
        assert_eq!(
            told,
            "1 of 1 instances were not healthy 30 s after their start: shop-production-1-1: answered 503"
        );
    }

    #[test]
    fn status_says_when_the_next_try_is_only_while_it_is_put_off() {
        let mut keeping = Keeping { strikes: 5, ..Keeping::default() };
        assert_eq!(put_off(&keeping), None);
        let until = at(0);
        keeping.backoff = Some(crate::run::fleet::Backoff { until, reason: "3 of 3 ended".to_owned() });
        let said = put_off(&keeping).unwrap();
        assert!(said.starts_with("3 of 3 ended, 5 times in a row; next try at "), "{said}");
    }
}
