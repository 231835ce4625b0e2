//! How something is measured: in turns with what it is compared with, so that whatever else the machine
//! does in the meantime meets both.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What came out of the rounds of one subject.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub rounds: usize,
}

impl Summary {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        Self { median, min: sorted[0], max: sorted[sorted.len() - 1], rounds: sorted.len() }
    }
}

/// In what a case is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Seconds,
    Megabytes,
    PerSecond,
    Count,
}

impl Unit {
    /// As a person reads it: `1.23 s`, `4.5 ms`.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value >= 100.0 => format!("{value:.0} s"),
            Self::Seconds if value >= 1.0 => format!("{value:.2} s"),
            Self::Seconds if value >= 0.001 => format!("{:.3} ms", Significant(value * 1e3)),
            Self::Seconds => format!("{:.3} µs", Significant(value * 1e6)),
            Self::Megabytes => format!("{:.3} MB", Significant(value)),
            Self::PerSecond => format!("{:.3} /s", Significant(value)),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// Beside an axis.
    pub fn label(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Megabytes => "MB",
            Self::PerSecond => "a second",
            Self::Count => "",
        }
    }
}

/// A number with so many digits that count, and no exponent.
struct Significant(f64);

impl fmt::Display for Significant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(3) as i32;
        let before = if self.0.abs() < 1.0 { 1 } else { self.0.abs().log10().floor() as i32 + 1 };
        write!(f, "{:.*}", (digits - before).max(0) as usize, self.0)
    }
}

/// Runs each subject once in each round, in turns: A B A B. Returns each one's values, round by round.
pub fn in_turns<const N: usize>(rounds: usize, mut subjects: [&mut dyn FnMut() -> f64; N]) -> [Vec<f64>; N] {
    let mut values = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (subject, values) in subjects.iter_mut().zip(&mut values) {
            values.push(subject());
        }
    }
    values
}

/// The value below which so many of a hundred are. Sorts them.
pub fn percentile(values: &mut [f64], of_hundred: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    values[((values.len() as f64 * of_hundred / 100.0).ceil() as usize).saturating_sub(1).min(last)]
}
