//! PURE. What the reports of a stage said: the numbers and the failures, not the files.

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

impl Coverage {
    /// Of the lines, in hundredths of a per cent, rounded down; all of them where there are none.
    pub fn share(&self) -> u32 {
        match self.lines {
            0 => 10_000,
            lines => (u128::from(self.covered) * 10_000 / u128::from(lines)) as u32,
        }
    }
}
