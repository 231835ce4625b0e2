//! What people type: one file for each command.

use std::io::Write;

use crate::pipeline::problem::Style;

pub mod plan;
pub mod reference;
pub mod schema;
pub mod validate;

#[cfg(test)]
mod tests;

/// How a command ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Good = 0,
    /// The run failed or was cancelled.
    Failed = 1,
    /// Wrong input, or an invalid pipeline.
    Invalid = 2,
    /// The world failed.
    World = 3,
}

/// Where a command writes: its answer to `out`, what is said beside it to `err`.
pub struct Io<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Whether `out` takes colours.
    pub style: Style,
}

/// Said where pipelines were checked without settings.
pub(crate) const NOT_CHECKED: &str =
    "note: environments, fleets and secrets were not checked; name the settings with --config";
