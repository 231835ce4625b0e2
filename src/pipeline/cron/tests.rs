use super::*;

/// The next `count` instants after `now`, by the clocks of the zone with their offset.
fn due(cron: &str, timezone: &str, now: &str, count: usize) -> Vec<String> {
    check(cron).unwrap_or_else(|error| panic!("{error}"));
    let schedule = Schedule { cron: cron.into(), timezone: timezone.into(), branch: None };
    let zone = text::timezone(timezone).unwrap();
    let mut now: Timestamp = now.parse().unwrap();
    (0..count)
        .map(|_| {
            let next = schedule.after(now).unwrap();
            assert!(next > now);
            now = next;
            next.to_zoned(zone.clone()).strftime("%a %m-%d %H:%M %:z").to_string()
        })
        .collect()
}

#[test]
fn a_schedule_is_due_strictly_afterwards() {
    assert_eq!(
        due("0 4 * * *", "UTC", "2026-11-22T04:00:00Z", 2),
        ["Mon 11-23 04:00 +00:00", "Tue 11-24 04:00 +00:00"]
    );
    assert_eq!(due("0 4 * * *", "UTC", "2026-11-22T03:59:59.999Z", 1), ["Sun 11-22 04:00 +00:00"]);
    assert_eq!(
        due("30 22 * * MON-FRI", "Europe/Berlin", "2026-11-20T21:29:00Z", 2),
        ["Fri 11-20 22:30 +01:00", "Mon 11-23 22:30 +01:00"]
    );
    // Day of the month or day of the week, as cron(5) has it.
    assert_eq!(
        due("0 0 1 * 3", "UTC", "2026-11-25T12:00:00Z", 2),
        ["Tue 12-01 00:00 +00:00", "Wed 12-02 00:00 +00:00"]
    );
    assert_eq!(due("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["Tue 02-29 00:00 +00:00"]);
}

/// On 2026-03-29 the clocks of Berlin go from 02:00 to 03:00.
#[test]
fn a_skipped_time_is_due_once_at_the_next_that_there_is() {
    assert_eq!(
        due("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["Sat 03-28 02:30 +01:00", "Sun 03-29 03:00 +02:00", "Mon 03-30 02:30 +02:00"]
    );
    assert_eq!(
        due("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
        [
            "Sun 03-29 01:30 +01:00",
            "Sun 03-29 03:00 +02:00",
            "Sun 03-29 03:30 +02:00",
            "Sun 03-29 04:00 +02:00"
        ]
    );
    // From within the hour behind the change.
    assert_eq!(due("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", 1), ["Mon 03-30 02:30 +02:00"]);
}

/// On 2026-10-25 the clocks of Berlin go from 03:00 to 02:00.
#[test]
fn a_repeated_time_is_due_the_first_time_only() {
    assert_eq!(
        due("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["Sun 10-25 02:30 +02:00", "Mon 10-26 02:30 +01:00"]
    );
    // From within the second time.
    assert_eq!(due("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), ["Mon 10-26 02:30 +01:00"]);
    assert_eq!(
        due("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:59:00Z", 4),
        [
            "Sun 10-25 02:00 +02:00",
            "Sun 10-25 02:30 +02:00",
            "Sun 10-25 03:00 +01:00",
            "Sun 10-25 03:30 +01:00"
        ]
    );
}

/// Lord Howe Island moves its clocks by half an hour, Apia skipped a day.
#[test]
fn other_changes_of_the_clocks_are_no_others() {
    assert_eq!(
        due("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 2),
        ["Sun 10-04 02:30 +11:00", "Mon 10-05 02:15 +11:00"]
    );
    assert_eq!(
        due("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
        ["Thu 12-29 12:00 -10:00", "Sat 12-31 00:00 +14:00", "Sat 12-31 12:00 +14:00"]
    );
}

#[test]
fn a_bad_cron_says_which_field_is_wrong() {
    let wrong = |text: &str| check(text).unwrap_err();
    assert!(wrong("61 * * * *").starts_with("the minute of the cron cannot be \"61\"; it is 0 to 59"));
    assert!(wrong("0 24 * * *").starts_with("the hour of the cron cannot be \"24\""));
    assert!(wrong("0 0 0 * *").starts_with("the day of the month of the cron cannot be \"0\""));
    assert!(wrong("0 0 * FOO *").starts_with("the month of the cron cannot be \"FOO\""));
    assert!(wrong("0 0 * * 8").starts_with("the day of the week of the cron cannot be \"8\""));
    assert!(wrong("0 0 * * ${{").starts_with("the day of the week"));
    assert!(wrong("0 0 * *").starts_with("\"0 0 * *\" has 4 fields; a cron has five fields"));
    assert!(wrong("0 0 0 * * *").contains("has 6 fields"));
    assert_eq!(wrong("@daily"), "\"@daily\" is written \"0 0 * * *\" here");
    assert_eq!(wrong("0 0 30 2 *"), "\"0 0 30 2 *\" never comes: no month of it has such a day");
    assert!(wrong("0 0 31 4,6,9 *").contains("never comes"));
    assert_eq!(check("0 0 30 2,3 *"), Ok(()));
    assert_eq!(check("0 0 30 2 1"), Ok(()));
    for beyond in ["0 0 L * *", "0 0 15W * *", "0 0 * * 5#2", "0 0 ? * *", "0 0 * * +1", "0 0 * * 5L"] {
        assert!(wrong(beyond).contains("of the cron cannot be"), "{beyond}");
    }
    assert!(wrong("").contains("0 fields"));
    assert!(wrong(&"* ".repeat(100_000)).contains("100000 fields"));
}

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// From anywhere before it, the next due instant is the same one.
    #[test]
    fn the_next_instant_is_the_next_from_everywhere_before_it(
        cron in "(\\*|\\*/7|0|30|15,45) (\\*|2|1-3|\\*/5) (\\*|25|29) (\\*) (\\*|0|1-5)",
        zone in proptest::sample::select(&ZONES[..]),
        // The years 2011, in which Apia skipped a day, to 2027.
        second in 1_293_840_000..1_798_761_600_i64,
        part in 0..1_000_i64,
    ) {
        check(&cron).unwrap();
        let schedule = Schedule { cron, timezone: zone.into(), branch: None };
        let now = Timestamp::from_second(second).unwrap();
        let due = schedule.after(now).unwrap();
        proptest::prop_assert!(due > now);
        let between = now.as_second() + (due.as_second() - now.as_second() - 1) * part / 1_000;
        let between = Timestamp::from_second(between).unwrap();
        proptest::prop_assert_eq!(schedule.after(between), Some(due), "from {}", between);
        proptest::prop_assert!(schedule.after(due).unwrap() > due);
    }
}
