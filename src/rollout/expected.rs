//! How long a rollout may be expected to take, by what its balancer is configured to wait for.

use std::fmt;
use std::time::Duration;

use super::Strategy;
use super::words::time;

/// What a member waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From running to taking its full share of the traffic.
    pub in_service: Duration,
    /// From the last new request to its end.
    pub drain: Duration,
}

/// What is expected, for people. Neither the boot of an instance nor a shortage of room is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub total: Duration,
    pub batches: u32,
    each: Pace,
}

/// What is expected of turning over a fleet of `size`. `first`: nothing runs there yet.
///
/// A batch is over when its new members serve and its old ones are gone, as in [`super::plan`]: so
/// each takes the sum of both. Old ones that are held after a switch are not waited for.
pub fn expected(strategy: &Strategy, size: u32, first: bool, pace: Pace) -> Expected {
    let (batches, drain) = match strategy {
        _ if first => (1, Duration::ZERO),
        Strategy::Rolling(rolling) => {
            (size.div_ceil(rolling.batch.min(rolling.surge).max(1)).max(1), pace.drain)
        }
        Strategy::BlueGreen { hold } if hold.is_zero() => (1, pace.drain),
        Strategy::BlueGreen { .. } => (1, Duration::ZERO),
    };
    let each = Pace { drain, ..pace };
    Expected { total: (each.in_service + each.drain).saturating_mul(batches), batches, each }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = match self.batches {
            1 => "1 batch,".to_owned(),
            batches => format!("{batches} batches, each"),
        };
        write!(f, "expected to take about {}: {batches} {}", about(self.total), about(self.each.in_service))?;
        f.write_str(" until what is new is in service")?;
        match self.each.drain.is_zero() {
            true => {}
            false => write!(f, " and {} until what is old has drained", about(self.each.drain))?,
        }
        f.write_str("; instances have to boot besides")
    }
}

/// Whole minutes, rounded up, where it is more than two.
fn about(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=120 => time(Duration::from_secs(seconds)),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Rolling;

    const PACE: Pace = Pace { in_service: Duration::from_secs(90), drain: Duration::from_secs(300) };

    fn rolling(batch: u32, surge: u32) -> Strategy {
        Strategy::Rolling(Rolling { batch, surge, floor: 1 })
    }

    #[test]
    fn batches_take_their_time_one_after_the_other() {
        let told = |strategy: &Strategy, size| expected(strategy, size, false, PACE).to_string();
        assert_eq!(
            told(&rolling(1, 1), 4),
            "expected to take about 26 min: 4 batches, each 90 s until what is new is in service and 5 min \
             until what is old has drained; instances have to boot besides"
        );
        for (batch, surge, batches) in [(2, 2, 2), (2, 1, 4), (3, 3, 2), (9, 9, 1), (0, 0, 4)] {
            assert_eq!(expected(&rolling(batch, surge), 4, false, PACE).batches, batches, "{batch} {surge}");
        }
    }

    #[test]
    fn a_first_rollout_and_one_that_holds_the_old_ones_have_nothing_to_drain() {
        let held = Strategy::BlueGreen { hold: Duration::from_secs(600) };
        let told = expected(&held, 10, false, PACE).to_string();
        assert_eq!(
            told,
            "expected to take about 90 s: 1 batch, 90 s until what is new is in service; instances have to \
             boot besides"
        );
        assert_eq!(expected(&rolling(1, 1), 10, true, PACE).total, PACE.in_service);
        let at_once = Strategy::BlueGreen { hold: Duration::ZERO };
        assert_eq!(expected(&at_once, 10, false, PACE).total, PACE.in_service + PACE.drain);
    }

    #[test]
    fn it_never_overflows() {
        let pace = Pace { in_service: Duration::MAX / 4, drain: Duration::MAX / 4 };
        assert_eq!(expected(&rolling(1, 1), u32::MAX, false, pace).total, Duration::MAX);
    }
}
