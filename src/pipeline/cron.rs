//! When schedules are due. The calendar of a cron is walked by the clock on the wall, with `croner`, and
//! each time found there becomes an instant of the time zone here: `croner`'s own ways around changes of
//! the clocks differ between patterns, and one rule for all is easier to trust.

use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::model::Schedule;
use super::text;

#[cfg(test)]
mod tests;

static PARSER: LazyLock<CronParser> =
    LazyLock::new(|| CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build());

/// Most schedules of a pipeline.
pub const LIMIT: usize = 100;

/// What each field is, and what may stand there.
const FIELDS: [(&str, &str); 5] = [
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31"),
    ("month", "1 to 12, or JAN to DEC"),
    ("day of the week", "0 to 7, or SUN to SAT"),
];

/// How many days a month has at most, from January.
const DAYS: [u16; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// The instants of local times from one on: those that a change of the clocks skips, to the first instant
/// behind the change; those that it repeats, to the first time.
fn instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            // With the offset of afterwards, a skipped time lies before the change, by less than the gap.
            let before = after.to_timestamp(local).ok()?;
            zone.following(before).next().map(|change| change.timestamp())
        }
        _ => ambiguous.earlier().ok(),
    }
}

/// Checks the five fields, and that they come at all.
pub fn check(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let nickname = match text.trim() {
            "@yearly" | "@annually" => Some("0 0 1 1 *"),
            "@monthly" => Some("0 0 1 * *"),
            "@weekly" => Some("0 0 * * 0"),
            "@daily" | "@midnight" => Some("0 0 * * *"),
            "@hourly" => Some("0 * * * *"),
            _ => None,
        };
        return Err(match nickname {
            Some(long) => format!("{text:?} is written {long:?} here"),
            None => format!(
                "{text:?} has {}; a cron has five fields: minute, hour, day of the month, month, day of the week",
                match fields.len() {
                    1 => "one field".to_owned(),
                    count => format!("{count} fields"),
                }
            ),
        });
    }
    for (place, (field, (what, may))) in fields.iter().zip(FIELDS).enumerate() {
        let mut alone = ["*"; 5];
        alone[place] = field;
        if !is_field(&alone.join(" ")) {
            return Err(format!(
                "the {what} of the cron cannot be {field:?}; it is {may}, a range 1-5, steps */10, a list 1,3"
            ));
        }
    }
    let cron = parse(text).ok_or_else(|| format!("{text:?} is no cron"))?;
    match comes(&cron) {
        true => Ok(()),
        false => Err(format!("{text:?} never comes: no month of it has such a day")),
    }
}

/// Whether the one field that is no star is one of a plain cron: `croner` has more of its own.
fn is_field(alone: &str) -> bool {
    if alone.len() > 200 || alone.contains(['?', '+']) {
        return false;
    }
    let plain = |cron: Cron| !cron.pattern.days.has_modifiers() && !cron.pattern.days_of_week.has_modifiers();
    parse(alone).is_some_and(plain)
}

/// Whether some month has such a day. A day of the week is always there.
fn comes(cron: &Cron) -> bool {
    let pattern = &cron.pattern;
    if !pattern.is_dow_wildcard() {
        return true;
    }
    let first = pattern.days.values().into_iter().min().unwrap_or(u16::MAX);
    let months = pattern.months.values();
    months.iter().filter_map(|month| DAYS.get(usize::from(*month) - 1)).any(|days| *days >= first)
}

fn parse(text: &str) -> Option<Cron> {
    PARSER.parse(text).ok()
}

impl Schedule {
    /// The first instant strictly after `now` at which it is due.
    ///
    /// By the clocks of its time zone. A local time that a change of the clocks skips is due once, at the
    /// first instant behind the change; one that it repeats is due the first time only. `None` when there is
    /// none before the year 5000.
    pub fn after(&self, now: Timestamp) -> Option<Timestamp> {
        let zone = text::timezone(&self.timezone).ok()?;
        let cron = parse(&self.cron)?;
        // No time up to this one has an instant after `now`, also while an hour is repeated.
        let mut local = zone.to_datetime(now);
        loop {
            local = cron.find_next_occurrence(&local, false).ok()?;
            let due = instant(&zone, local)?;
            if due > now {
                return Some(due);
            }
        }
    }
}
