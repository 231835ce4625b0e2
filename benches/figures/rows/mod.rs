//! The rows of the table, a file each.

use crate::bench::Bench;
use crate::report::Case;

mod balancer;
mod many;
mod steps;
mod swap;

/// Something that is measured.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub measure: fn(&Bench) -> Vec<Case>,
}

/// In the order of the table.
pub const ALL: [Row; 4] = [steps::ROW, balancer::ROW, swap::ROW, many::ROW];
