//! What the reports of a stage say, as text.

use std::io::{self, Write};

use jiff::SignedDuration;

use super::super::text::{self, DIM, GREEN, RED, YELLOW, clean, clean_lines};
use crate::run::report::{Coverage, Report, TestFailure, Tests, full_name};

/// Lines of a failure's message that are shown; `--json` has all of it.
const MESSAGE_LINES: usize = 12;
/// Failures that are shown.
const FAILURES: usize = 20;
/// Cases that are shown as the slowest.
const SLOWEST: usize = 3;

pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if let Some(tests) = &report.tests {
        print_tests(out, tests)?;
    }
    if let Some(coverage) = &report.coverage {
        print_coverage(out, coverage)?;
    }
    for problem in &report.problems {
        writeln!(out, "    {YELLOW}report{YELLOW:#} {}", clean(problem))?;
    }
    Ok(())
}

fn print_tests(out: &mut impl Write, tests: &Tests) -> io::Result<()> {
    let failed = u64::from(tests.failed) + u64::from(tests.errors);
    let style = if failed > 0 { RED } else { GREEN };
    writeln!(out, "    {style}tests{style:#} {}", tests.summary())?;
    for failure in tests.failures.iter().take(FAILURES) {
        print_failure(out, failure)?;
    }
    let shown = tests.failures.len().min(FAILURES) as u64;
    if failed > shown {
        writeln!(out, "      {DIM}and {} more{DIM:#}", text::count((failed - shown) as usize, "failure"))?;
    }
    for slow in tests.slowest.iter().take(SLOWEST) {
        let name = text::short(&clean(&full_name(&slow.suite, &slow.name)), 120);
        let milliseconds = slow.milliseconds.try_into().unwrap_or(i64::MAX);
        let took = text::time(SignedDuration::from_millis(milliseconds));
        writeln!(out, "      {DIM}slow{DIM:#} {name}  {DIM}{took}{DIM:#}")?;
    }
    Ok(())
}

fn print_failure(out: &mut impl Write, failure: &TestFailure) -> io::Result<()> {
    let name = clean(&full_name(&failure.suite, &failure.name));
    let place = failure.place.as_deref().map(|place| format!("  {DIM}{}{DIM:#}", clean(place)));
    writeln!(out, "      {RED}✗{RED:#} {name}{}", place.unwrap_or_default())?;
    let message = clean_lines(&failure.message);
    let mut lines = message.lines().filter(|line| !line.trim().is_empty());
    for line in lines.by_ref().take(MESSAGE_LINES) {
        writeln!(out, "          {}", text::short(line, 200))?;
    }
    match lines.count() {
        0 => Ok(()),
        more => writeln!(out, "          {DIM}and {}{DIM:#}", text::count(more, "more line")),
    }
}

fn print_coverage(out: &mut impl Write, coverage: &Coverage) -> io::Result<()> {
    let style = if coverage.verdict().is_some() { RED } else { GREEN };
    let (share, covered, lines) = (coverage.percent(), coverage.covered, coverage.lines);
    let wanted =
        coverage.at_least.map(|wanted| format!(", at least {}", crate::run::report::percent(wanted)));
    let wanted = wanted.unwrap_or_default();
    writeln!(out, "    {style}coverage{style:#} {share}  {DIM}{covered} of {lines} lines{wanted}{DIM:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::report::SlowTest;

    #[test]
    fn counts_failures_with_their_places_and_what_is_slow() {
        let failure = TestFailure {
            suite: "cart".to_owned(),
            name: "adds_up".to_owned(),
            message: "expected 3, got 2\n  left\x1b[31m: 3".to_owned(),
            place: Some("src/cart.rs:42".to_owned()),
        };
        let slow = |n| SlowTest { suite: String::new(), name: format!("slow_{n}"), milliseconds: n };
        let tests = Tests {
            passed: 120,
            failed: 2,
            milliseconds: 3_390,
            failures: vec![failure],
            slowest: [1_200, 900, 60, 50].map(slow).to_vec(),
            ..Tests::default()
        };
        let report = Report {
            tests: Some(tests),
            coverage: Some(Coverage { lines: 16, covered: 13, at_least: Some(8_500) }),
            problems: vec!["reports.junit: b.xml: it is empty".to_owned()],
        };
        let mut out = Vec::new();
        print(&mut out, &report).unwrap();
        insta::assert_snapshot!(anstream::adapter::strip_str(&String::from_utf8(out).unwrap()), @r"
        tests 120 passed, 2 failed in 3.4 s
          ✗ cart::adds_up  src/cart.rs:42
              expected 3, got 2
                left[31m: 3
          and 1 failure more
          slow slow_1200  1.2 s
          slow slow_900  0.9 s
          slow slow_60  60 ms
        coverage 81.25 %  13 of 16 lines, at least 85.00 %
        report reports.junit: b.xml: it is empty
        ");
    }
}
