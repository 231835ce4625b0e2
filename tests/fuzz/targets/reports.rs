//! Readers of test reports: what comes out is bounded, a file counts as a whole or not at all, and twice where
//! it is read twice.

use windlass::report::{Cases, FAILURES_KEPT, Lines, MESSAGE_KEPT, SLOWEST_KEPT};

use super::assert_plain;

pub const WORDS: &[&str] = &[
    "<testsuites>",
    "<testsuite name='a'>",
    "</testsuite>",
    "<testcase name='b' time='1,0.5'>",
    "</testcase>",
    "<failure message='&#10;&lt;'>",
    "</failure>",
    "<error/>",
    "<skipped/>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "&#0;",
    "&lt;",
    "&x;",
    "src/a.rs:42",
    "\u{1b}[31m",
    "<?xml version='1.0'",
    "encoding='UTF-16'",
    "?>",
    "<coverage>",
    "<class filename='a'>",
    "<line number='1' hits='2'/>",
    "</class>",
    "<!DOCTYPE a [",
    "<!ENTITY x 'y'>",
    "SF:a\n",
    "DA:1,2\n",
    "DA:4294967295,-1\n",
    "LF:18446744073709551615\n",
    "LH:9\n",
    "end_of_record\n",
    "time='1e300'",
    "time='NaN'",
    "line='4294967296'",
    "File \"a.py\", line 1",
    "\u{feff}",
    "</",
    "/>",
    "='",
    "\"",
    "\u{202e}",
];

pub fn junit(data: &[u8]) {
    let mut cases = Cases::default();
    let good = cases.read(data, "/build/shop");
    let tests = cases.finish(str::to_owned);
    assert!(tests.failures.len() <= FAILURES_KEPT && tests.slowest.len() <= SLOWEST_KEPT);
    assert!(tests.failures.len() as u64 <= u64::from(tests.failed) + u64::from(tests.errors));
    assert_eq!(tests.files, u32::from(good.is_ok()));
    assert!(tests.slowest.windows(2).all(|pair| pair[0].milliseconds >= pair[1].milliseconds));
    for failure in &tests.failures {
        assert!(failure.message.chars().count() <= MESSAGE_KEPT);
        for text in [&failure.suite, &failure.name, &failure.message].into_iter().chain(&failure.place) {
            assert_plain("a failure", text);
        }
    }
    if let Err(error) = &good {
        assert_eq!(tests.total(), 0, "of a file that is refused nothing counts");
        assert_plain("the refusal", &error.to_string());
    }
    let mut twice = Cases::default();
    for _ in 0..2 {
        assert_eq!(twice.read(data, "/build/shop"), good);
    }
    assert_eq!(twice.finish(str::to_owned).total(), 2 * tests.total());
    let _ = (tests.summary(), tests.verdict());
}

pub fn lcov(data: &[u8]) {
    coverage(data, Lines::lcov);
}

pub fn cobertura(data: &[u8]) {
    coverage(data, Lines::cobertura);
}

fn coverage(data: &[u8], read: fn(&mut Lines, &[u8]) -> Result<(), windlass::report::Error>) {
    let mut lines = Lines::default();
    let good = read(&mut lines, data);
    let once = lines.finish(Some(8_500));
    assert!(once.covered <= once.lines && once.share() <= 10_000, "{once:?}");
    if let Err(error) = &good {
        assert_eq!(once.lines, 0, "of a file that is refused nothing counts");
        assert_plain("the refusal", &error.to_string());
    }
    let mut lines = Lines::default();
    for _ in 0..2 {
        assert_eq!(read(&mut lines, data), good);
    }
    assert_eq!(lines.finish(Some(8_500)), once, "a file that comes twice has its lines once");
}
