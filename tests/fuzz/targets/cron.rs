//! Schedules: a cron that is accepted comes, strictly later each time, at a minute that its fields name.

use jiff::Timestamp;
use windlass::pipeline::model::Schedule;
use windlass::pipeline::{cron, text::timezone};

use super::{parts, text};

pub const WORDS: &[&str] = &[
    "*",
    "*/5",
    "0",
    "59",
    "23",
    "1-5",
    "1,3,5",
    "MON",
    "SUN-SAT",
    "JAN",
    "L",
    "15W",
    "5#3",
    "@daily",
    "29 2",
    "31",
    "*/0",
    "0-0/0",
    " ",
    "\0",
    "Europe/Berlin",
    "Pacific/Apia",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "UTC",
    "Antarctica/Troll",
    "7",
    "0-7",
    "60",
    "-1",
    "*/59",
    "1-5/2",
    "30 2 * * *",
    "0 0 29 2 *",
    "Africa/Casablanca",
];

pub fn target(data: &[u8]) {
    let [written, zone] = parts(data);
    let (written, zone) = (text(written), text(zone));
    if cron::check(written).is_err() {
        return;
    }
    let zone = if timezone(zone).is_ok() { zone } else { "Europe/Berlin" };
    let schedule = Schedule { cron: written.to_owned(), timezone: zone.to_owned(), branch: None };
    // Before a change of the clocks, in a leap year, in the week that Samoa left a day out.
    for begin in
        ["2026-10-25T00:30:00Z", "2028-02-28T23:59:59.999Z", "2011-12-29T10:00:00Z", "1969-12-31T23:59:59Z"]
    {
        let mut now: Timestamp = begin.parse().unwrap();
        for _ in 0..4 {
            let due = schedule
                .after(now)
                .unwrap_or_else(|| panic!("{written:?} never comes after {now} in {zone}"));
            assert!(due > now, "{written:?} in {zone}: {due} is not after {now}");
            let years = due.duration_since(now).as_hours() / (24 * 365);
            assert!(years <= 13, "{written:?} in {zone} comes {years} years after {now}");
            now = due;
        }
    }
    for edge in [Timestamp::MIN, Timestamp::MAX] {
        assert!(schedule.after(edge).is_none_or(|due| due > edge));
    }
}
