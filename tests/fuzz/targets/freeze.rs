//! Freezes: what is read is shown as it was written, and a freeze that holds ends, later than now.

use jiff::Timestamp;
use windlass::config::Freeze;
use windlass::config::freeze::{Moment, Span};
use windlass::pipeline::text::timezone;

use super::{parts, text};

pub const WORDS: &[&str] = &[
    "Mon",
    "Fri",
    "Sun",
    "00:00",
    "23:59",
    "24:00",
    "02:30",
    "16:00",
    "07:00",
    " ",
    "\0",
    "2026-12-20",
    "2027-01-02",
    "-9999-01-01",
    "9999-12-31",
    "Europe/Berlin",
    "Pacific/Apia",
    "America/St_Johns",
    "UTC",
    "2026-02-30",
];

pub fn target(data: &[u8]) {
    let [from, to, zone, seconds] = parts(data);
    let (Ok(from), Ok(to)) = (Moment::read(text(from)), Moment::read(text(to))) else { return };
    let span = match (from, to) {
        (Moment::Weekly(from), Moment::Weekly(to)) => Span::Weekly { from, to },
        (Moment::Once(from), Moment::Once(to)) => Span::Once { from, to },
        _ => return,
    };
    let shown = span.to_string();
    let (_, times) = shown.split_once("from ").unwrap();
    let (first, second) = times.split_once(" to ").unwrap();
    assert_eq!((Moment::read(first), Moment::read(second)), (Ok(from), Ok(to)), "{shown}");

    let zone = if timezone(text(zone)).is_ok() { text(zone) } else { "Europe/Berlin" };
    let freeze = Freeze { span, timezone: zone.to_owned(), reason: "holidays".to_owned() };
    let asked = text(seconds).trim().parse().ok().and_then(|at| Timestamp::from_second(at).ok());
    let times = [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX].into_iter().chain(asked);
    for now in times.chain((0..14).map(|n| Timestamp::from_second(1_793_000_000 + n * 43_200).unwrap())) {
        let until = freeze.until(now);
        assert!(until.is_none_or(|until| until > now), "{freeze:?} at {now} is over at {until:?}");
        assert_eq!(freeze.sentence(now).is_some(), until.is_some());
        if let (Some(until), Span::Once { .. }) = (until, &freeze.span) {
            assert_eq!(freeze.until(until), None, "it holds when it is over");
        }
    }
}
