use super::*;

fn freeze(from: &str, to: &str, timezone: &str) -> Freeze {
    let span = match (Moment::read(from).unwrap(), Moment::read(to).unwrap()) {
        (Moment::Weekly(from), Moment::Weekly(to)) => Span::Weekly { from, to },
        (Moment::Once(from), Moment::Once(to)) => Span::Once { from, to },
        other => panic!("{other:?}"),
    };
    Freeze { span, timezone: timezone.into(), reason: "weekend".into() }
}

/// When the freeze that holds at `now` is over.
fn until(freeze: &Freeze, now: &str) -> Option<String> {
    freeze.until(now.parse().unwrap()).map(|until| until.to_string())
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_weekly_freeze_holds_around_the_end_of_the_week() {
    let weekend = freeze("Fri 16:00", "Mon 07:00", "Europe/Berlin");
    assert_eq!(until(&weekend, "2026-11-20T14:59:59Z"), None);
    for inside in ["2026-11-20T15:00:00Z", "2026-11-22T12:00:00Z", "2026-11-23T05:59:59Z"] {
        assert_eq!(until(&weekend, inside), some("2026-11-23T06:00:00Z"), "{inside}");
    }
    assert_eq!(until(&weekend, "2026-11-23T06:00:00Z"), None);
    assert_eq!(until(&weekend, "2026-11-25T12:00:00Z"), None);
}

#[test]
fn a_freeze_may_be_short_or_nearly_a_week() {
    let night = freeze("Tue 22:00", "Tue 23:00", "UTC");
    assert_eq!(until(&night, "2026-11-24T22:30:00Z"), some("2026-11-24T23:00:00Z"));
    assert_eq!(until(&night, "2026-11-24T23:00:00Z"), None);
    // All week but for an hour.
    let almost = freeze("Tue 23:00", "Tue 22:00", "UTC");
    assert_eq!(until(&almost, "2026-11-24T21:59:00Z"), some("2026-11-24T22:00:00Z"));
    assert_eq!(until(&almost, "2026-11-24T22:30:00Z"), None);
    assert_eq!(until(&almost, "2026-11-24T23:00:00Z"), some("2026-12-01T22:00:00Z"));
}

/// The clocks of Berlin go from 02:00 to 03:00 on Sunday 2026-03-29, and from 03:00 to 02:00 on Sunday
/// 2026-10-25.
#[test]
fn a_freeze_over_a_change_of_the_clocks_keeps_to_the_clocks() {
    let weekend = freeze("Fri 16:00", "Mon 07:00", "Europe/Berlin");
    assert_eq!(until(&weekend, "2026-03-27T15:00:00Z"), some("2026-03-30T05:00:00Z"));
    assert_eq!(until(&weekend, "2026-10-23T14:00:00Z"), some("2026-10-26T06:00:00Z"));
    assert_eq!(until(&weekend, "2026-10-23T13:59:00Z"), None);
}

#[test]
fn an_end_that_is_skipped_or_repeated_is_the_later_one() {
    let freeze = freeze("Sat 12:00", "Sun 02:30", "Europe/Berlin");
    // 02:30 is not there: it is over as late as 03:30.
    assert_eq!(until(&freeze, "2026-03-29T00:59:00Z"), some("2026-03-29T01:30:00Z"));
    assert_eq!(until(&freeze, "2026-03-29T01:29:00Z"), some("2026-03-29T01:30:00Z"));
    assert_eq!(until(&freeze, "2026-03-29T01:30:00Z"), None);
    // 02:30 comes twice: it is over the second time.
    assert_eq!(until(&freeze, "2026-10-25T00:45:00Z"), some("2026-10-25T01:30:00Z"));
    assert_eq!(until(&freeze, "2026-10-25T01:30:00Z"), None);
}

#[test]
fn a_beginning_that_is_skipped_or_repeated_is_the_earlier_one() {
    let freeze = freeze("Sun 02:30", "Sun 12:00", "Europe/Berlin");
    // 02:30 is not there: it begins as early as 01:30.
    assert_eq!(until(&freeze, "2026-03-29T00:29:00Z"), None);
    assert_eq!(until(&freeze, "2026-03-29T00:30:00Z"), some("2026-03-29T10:00:00Z"));
    // 02:30 comes twice: it begins the first time.
    assert_eq!(until(&freeze, "2026-10-25T00:29:00Z"), None);
    assert_eq!(until(&freeze, "2026-10-25T00:30:00Z"), some("2026-10-25T11:00:00Z"));
    assert_eq!(until(&freeze, "2026-10-25T01:10:00Z"), some("2026-10-25T11:00:00Z"));
}

#[test]
fn a_freeze_of_one_time_holds_once() {
    let holidays = freeze("2026-12-20 00:00", "2027-01-02 00:00", "America/New_York");
    assert_eq!(until(&holidays, "2026-12-20T04:59:59Z"), None);
    assert_eq!(until(&holidays, "2026-12-20T05:00:00Z"), some("2027-01-02T05:00:00Z"));
    assert_eq!(until(&holidays, "2027-01-02T05:00:00Z"), None);
    assert_eq!(until(&holidays, "2027-12-25T00:00:00Z"), None);
}

#[test]
fn a_freeze_says_until_when() {
    let weekend = freeze("Fri 16:00", "Mon 07:00", "Europe/Berlin");
    let sentence = |now: &str| weekend.sentence(now.parse().unwrap());
    assert_eq!(
        sentence("2026-11-21T00:00:00Z"),
        some("frozen until Mon 2026-11-23 07:00 Europe/Berlin (weekend)")
    );
    assert_eq!(sentence("2026-11-24T00:00:00Z"), None);
    assert_eq!(weekend.span.to_string(), "every week from Fri 16:00 to Mon 07:00");
    assert_eq!(
        freeze("2026-12-20 00:00", "2027-01-02 00:00", "UTC").span.to_string(),
        "from 2026-12-20 00:00 to 2027-01-02 00:00"
    );
}

#[test]
fn other_times_are_none() {
    for wrong in [
        "",
        "Fri",
        "Fri 16",
        "Fri 4:00",
        "fri 16:00",
        "Friday 16:00",
        "Fri 24:00",
        "Fri 16:60",
        "16:00 Fri",
        "2026-12-20",
        "2026-13-20 00:00",
        "2026-02-30 00:00",
        "20261220 00:00",
        "2026-12-20T00:00",
        "2026-12-20 00:00:00",
        "Fri  16:00",
        "2026-12-20 00:00Z",
    ] {
        assert!(Moment::read(wrong).is_err(), "{wrong}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// A freeze that holds goes on holding, with the same end, until it is over.
    #[test]
    fn a_freeze_holds_to_its_end(
        (from, to) in ((0..7_usize, 0..24_u8, 0..2_u8), (0..7_usize, 0..24_u8, 0..2_u8)),
        zone in proptest::sample::select(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"][..]),
        second in 1_735_689_600..1_798_761_600_i64,
        part in 0..1_000_i64,
    ) {
        proptest::prop_assume!(from != to);
        let written = |(day, hour, half): (usize, u8, u8)| format!("{} {hour:02}:{:02}", DAYS[day].0, half * 30);
        let freeze = freeze(&written(from), &written(to), zone);
        let now = Timestamp::from_second(second).unwrap();
        if let Some(end) = freeze.until(now) {
            proptest::prop_assert!(end > now && end.as_second() - second <= 7 * 24 * 3600 + 3600);
            let later = second + (end.as_second() - second - 1) * part / 1_000;
            let still = freeze.until(Timestamp::from_second(later).unwrap());
            proptest::prop_assert!(still >= Some(end), "{:?} at {}", still, later);
        }
    }
}
