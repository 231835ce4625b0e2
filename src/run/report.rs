//! PURE. What the reports of a stage said: the numbers and the failures, not the files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the reports of one attempt say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<Tests>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// What of it could not be read, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The test cases of all JUnit files together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tests {
    pub files: u32,
    pub passed: u32,
    pub failed: u32,
    /// Cases that broke instead of failing.
    pub errors: u32,
    pub skipped: u32,
    pub milliseconds: u64,
    /// In the order of the files; at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TestFailure>,
    /// Slowest first; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slowest: Vec<SlowTest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestFailure {
    pub suite: String,
    pub name: String,
    /// At most 2,000 characters.
    pub message: String,
    /// `src/cart.rs:42`, where the report says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SlowTest {
    pub suite: String,
    pub name: String,
    pub milliseconds: u64,
}

/// Lines that tests ran through, of all files together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Coverage {
    pub lines: u64,
    pub covered: u64,
    /// The gate, in hundredths of a per cent: less fails the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u32>,
}

/// How much of a failure's message goes into a sentence, in characters.
const SAID: usize = 200;

impl Report {
    /// One line: `tests: 120 passed, 2 failed, 1 skipped in 3.4 s; coverage 86.20 % of lines`.
    pub fn summary(&self) -> String {
        let tests = self.tests.as_ref().map(|tests| format!("tests: {}", tests.summary()));
        let coverage = self.coverage.as_ref().map(|c| format!("coverage {} of lines", c.percent()));
        [tests, coverage].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Why the stage fails by what the reports say, whatever its steps say.
    pub fn verdict(&self) -> Option<String> {
        let tests = self.tests.as_ref().and_then(Tests::verdict);
        let coverage = self.coverage.as_ref().and_then(Coverage::verdict);
        let all: Vec<String> = [tests, coverage].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl Tests {
    /// All cases.
    pub fn total(&self) -> u64 {
        [self.passed, self.failed, self.errors, self.skipped].into_iter().map(u64::from).sum()
    }

    /// `120 passed, 2 failed, 1 skipped in 3.4 s`.
    pub fn summary(&self) -> String {
        let parts = [
            (self.passed, "passed"),
            (self.failed, "failed"),
            (self.errors, "broken"),
            (self.skipped, "skipped"),
        ];
        let said = |(at, (count, word)): (usize, (u32, &str))| {
            (at == 0 || count > 0).then(|| format!("{count} {word}"))
        };
        let counts: Vec<String> = parts.into_iter().enumerate().filter_map(said).collect();
        let took = match self.milliseconds {
            short @ 0..100 => format!("{short} ms"),
            long => {
                let tenths = long.saturating_add(50) / 100;
                format!("{}.{} s", tenths / 10, tenths % 10)
            }
        };
        format!("{} in {took}", counts.join(", "))
    }

    /// `2 of 123 tests failed: cart::adds_up (src/cart.rs:42): expected 3, got 2`.
    pub fn verdict(&self) -> Option<String> {
        let failed = u64::from(self.failed) + u64::from(self.errors);
        let first = self.failures.first().map(|failure| format!(": {failure}")).unwrap_or_default();
        let tests = if self.total() == 1 { "test" } else { "tests" };
        (failed > 0).then(|| format!("{failed} of {} {tests} failed{first}", self.total()))
    }
}

impl TestFailure {
    /// The first line of the message that says more than where it happened; empty where none does.
    pub fn headline(&self) -> &str {
        let place = self.place.as_deref().unwrap_or("\n");
        // As Rust's test harness begins; what happened is in the line below.
        let only_where = |line: &str| line.starts_with("thread '") && line.contains(" panicked at ");
        let lines = self.message.lines().map(str::trim);
        let lines = lines.map(|line| match line.strip_prefix(place) {
            Some(rest) => rest.trim_start_matches([':', ' ']),
            None => line,
        });
        let mut said = lines.filter(|line| !line.is_empty());
        let first = said.next().unwrap_or_default();
        match only_where(first) {
            true => said.next().unwrap_or(first),
            false => first,
        }
    }
}

/// `cart::adds_up (src/cart.rs:42): expected 3, got 2`
impl fmt::Display for TestFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&full_name(&self.suite, &self.name))?;
        if let Some(place) = &self.place {
            write!(out, " ({place})")?;
        }
        let kept: String = self.headline().chars().take(SAID).collect();
        match kept.is_empty() {
            true => Ok(()),
            false => write!(out, ": {kept}"),
        }
    }
}

/// `tests.cart::adds_up`; the suite is not said twice where the name begins with it.
pub fn full_name(suite: &str, name: &str) -> String {
    match suite.is_empty() || name.starts_with(suite) {
        true => name.to_owned(),
        false => format!("{suite}::{name}"),
    }
}

/// `86.20 %`, of hundredths of a per cent.
pub fn percent(hundredths: u32) -> String {
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}

impl Coverage {
    /// `86.20 %`.
    pub fn percent(&self) -> String {
        percent(self.share())
    }

    /// `coverage 81.25 % is below the 85 % that the pipeline asks for`.
    pub fn verdict(&self) -> Option<String> {
        let wanted = self.at_least.filter(|wanted| self.share() < *wanted)?;
        let wanted = match wanted % 100 {
            0 => format!("{} %", wanted / 100),
            _ => percent(wanted),
        };
        Some(format!("coverage {} is below the {wanted} that the pipeline asks for", self.percent()))
    }

    /// Of the lines, in hundredths of a per cent, rounded down; all of them where there are none.
    pub fn share(&self) -> u32 {
        match self.lines {
            0 => 10_000,
            lines => (u128::from(self.covered) * 10_000 / u128::from(lines)) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_one_line() {
        let tests = Tests { passed: 120, failed: 2, skipped: 1, milliseconds: 3_390, ..Tests::default() };
        let coverage = Coverage { lines: 1_000, covered: 862, at_least: None };
        let mut report = Report { tests: Some(tests), coverage: Some(coverage), problems: Vec::new() };
        let line = "tests: 120 passed, 2 failed, 1 skipped in 3.4 s; coverage 86.20 % of lines";
        assert_eq!(report.summary(), line);
        report.tests = Some(Tests::default());
        report.coverage = None;
        assert_eq!(report.summary(), "tests: 0 passed in 0 ms");
    }

    #[test]
    fn what_fails_a_stage() {
        let failure = TestFailure {
            suite: "cart".to_owned(),
            name: "adds_up".to_owned(),
            message: "\nexpected 3, got 2\nin the cart".to_owned(),
            place: Some("src/cart.rs:42".to_owned()),
        };
        let tests = Tests { passed: 121, failed: 1, errors: 1, failures: vec![failure], ..Tests::default() };
        let mut report = Report { tests: Some(tests), ..Report::default() };
        let said = "2 of 123 tests failed: cart::adds_up (src/cart.rs:42): expected 3, got 2";
        assert_eq!(report.verdict().as_deref(), Some(said));

        report.tests = Some(Tests { passed: 3, ..Tests::default() });
        let mut coverage = Coverage { lines: 10_000, covered: 8_125, at_least: Some(8_500) };
        report.coverage = Some(coverage.clone());
        let said = "coverage 81.25 % is below the 85 % that the pipeline asks for";
        assert_eq!(report.verdict().as_deref(), Some(said));
        coverage.at_least = Some(8_125);
        report.coverage = Some(coverage);
        assert_eq!(report.verdict(), None);
    }
}
