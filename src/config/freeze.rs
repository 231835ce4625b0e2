//! A calendar's hold on an environment.
//!
//! A freeze is written by the clocks of its time zone and holds between instants: from the first one that
//! its beginning can mean, and up to the last one that its end can mean.

use std::fmt;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::pipeline::text;

#[cfg(test)]
mod tests;

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
    Once { from: DateTime, to: DateTime },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekTime {
    pub day: Weekday,
    pub time: Time,
}

/// One end of a freeze, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Weekly(WeekTime),
    Once(DateTime),
}

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

impl Moment {
    /// Reads `Fri 16:00` or `2026-12-20 00:00`.
    pub fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time; it is written \"Fri 16:00\" or \"2026-12-20 00:00\"");
        let (day, time) = text.split_once(' ').ok_or_else(wrong)?;
        // As long as that, and nothing of what a date library reads besides.
        let plain = |text: &str, mark: char, length: usize| {
            text.len() == length && text.chars().all(|c| c.is_ascii_digit() || c == mark)
        };
        if !plain(time, ':', 5) {
            return Err(wrong());
        }
        let time: Time = format!("{time}:00").parse().map_err(|_| wrong())?;
        if let Some((_, day)) = DAYS.iter().find(|(name, _)| *name == day) {
            return Ok(Self::Weekly(WeekTime { day: *day, time }));
        }
        if !plain(day, '-', 10) {
            return Err(wrong());
        }
        let date: Date = day.parse().map_err(|_| wrong())?;
        Ok(Self::Once(date.to_datetime(time)))
    }
}

/// The instants that a local time means, the first and the last. Of a time that a change of the clocks
/// skips, they lie on both sides of the change.
fn instants(zone: &TimeZone, local: DateTime) -> Option<(Timestamp, Timestamp)> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().ok().map(|instant| (instant, instant)),
        _ => Some((ambiguous.earlier().ok()?, ambiguous.later().ok()?)),
    }
}

impl Freeze {
    /// When the freeze that holds at `now` is over; `None` when it does not hold. A local time that a
    /// change of the clocks skips or repeats is the later one at the end of a freeze and the earlier one
    /// at its beginning.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = text::timezone(&self.timezone).ok()?;
        let holds = |from: DateTime, to: DateTime| {
            let (begin, _) = instants(&zone, from)?;
            let (_, end) = instants(&zone, to)?;
            (begin <= now && now < end).then_some(end)
        };
        match &self.span {
            Span::Once { from, to } => holds(*from, *to),
            Span::Weekly { from, to } => {
                // One that began up to a week ago may still hold; one of tomorrow may have begun, where the
                // clocks skip its beginning.
                let today = zone.to_datetime(now).date();
                (-8..=1_i64).rev().find_map(|back| {
                    let day = today.checked_add(back.days()).ok()?;
                    if day.weekday() != from.day {
                        return None;
                    }
                    let begin = day.to_datetime(from.time);
                    holds(begin, week_after(begin, *to)?)
                })
            }
        }
    }

    /// Why nothing goes in at `now`, in a sentence; `None` when something may.
    pub fn sentence(&self, now: Timestamp) -> Option<String> {
        let until = self.until(now)?.to_zoned(text::timezone(&self.timezone).ok()?);
        let when = until.strftime("%a %Y-%m-%d %H:%M");
        Some(format!("frozen until {when} {} ({})", self.timezone, self.reason))
    }
}

/// The first such time of a week strictly after `begin`, by the clocks.
fn week_after(begin: DateTime, to: WeekTime) -> Option<DateTime> {
    (0..=7_i64).find_map(|ahead| {
        let day = begin.date().checked_add(ahead.days()).ok()?;
        let end = day.to_datetime(to.time);
        (day.weekday() == to.day && end > begin).then_some(end)
    })
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weekly { from, to } => write!(f, "every week from {from} to {to}"),
            Self::Once { from, to } => {
                write!(f, "from {} to {}", from.strftime("%Y-%m-%d %H:%M"), to.strftime("%Y-%m-%d %H:%M"))
            }
        }
    }
}

impl fmt::Display for WeekTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = DAYS.iter().find(|(_, day)| *day == self.day).map_or("", |(name, _)| name);
        write!(f, "{name} {}", self.time.strftime("%H:%M"))
    }
}
