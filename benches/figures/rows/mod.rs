//! The rows of the table, a file each.

use crate::bench::Bench;
use crate::report::Case;

mod first;
mod many;
mod steps;

/// Something that is measured.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub measure: fn(&Bench) -> Vec<Case>,
}

/// In the order of the table.
pub const ALL: [Row; 3] = [steps::ROW, first::ROW, many::ROW];
