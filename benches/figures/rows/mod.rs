//! The rows of the table, a file each.

use crate::bench::Bench;
use crate::report::Case;

mod idle;
mod many;
mod steps;
mod webhooks;

/// Something that is measured.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub measure: fn(&Bench) -> Vec<Case>,
}

/// In the order of the table.
pub const ALL: [Row; 4] = [steps::ROW, webhooks::ROW, many::ROW, idle::ROW];
