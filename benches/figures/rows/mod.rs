//! The rows of the table, a file each.

use crate::bench::Bench;
use crate::report::Case;

mod balancer;
mod build;
mod checkout;
mod first;
mod idle;
mod machine;
mod many;
mod output;
mod steps;
mod swap;
mod webhooks;

/// Something that is measured.
pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub measure: fn(&Bench) -> Vec<Case>,
}

/// In the order of the table.
pub const ALL: &[Row] = &[
    machine::ROW,
    steps::ROW,
    first::ROW,
    webhooks::ROW,
    output::ROW,
    many::ROW,
    balancer::ROW,
    swap::ROW,
    idle::ROW,
    // The disk has to do with the files that it deleted for minutes.
    checkout::ROW,
    build::ROW,
];
