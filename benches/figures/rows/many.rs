//! A server with many runs: how long until it is ready, what it costs to wait, and how long its lists take.

use std::path::Path;
use std::time::Duration;

use super::Row;
use crate::bench::Bench;
use crate::fill::{self, Sizes};
use crate::measure::Unit;
use crate::report::{Bound, Case};
use crate::server::Server;

pub const ROW: Row = Row { name: "many", what: "restart and lists with many runs", measure };

/// Runs in flight and in history.
const SIZES: [(u64, u64); 4] = [(10, 1_000), (100, 10_000), (1_000, 100_000), (10_000, 1_000_000)];

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases = Vec::new();
    for (in_flight, history) in SIZES {
        let directory = bench.directory();
        let sizes = Sizes { history, in_flight, fleets: 10, rollouts: 10 };
        std::fs::write(directory.path().join("windlass.yaml"), fill::SETTINGS).expect("the settings");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(fill::fill(directory.path(), sizes)).expect("a filled directory");
        drop(runtime);
        cases.extend(one(directory.path(), sizes));
    }
    cases
}

fn one(data: &Path, sizes: Sizes) -> Vec<Case> {
    let of = format!("{} in flight, {} in history", sizes.in_flight, sizes.history);
    let server = Server::start(data);
    let ready = server.ready_after.as_secs_f64();
    let mut cases = vec![
        Case::new(ROW.name, format!("ready, {of}"), Unit::Seconds, &[ready])
            .growing("ready", "runs in flight", sizes.in_flight)
            .goal(Bound::AtMost(1.0)),
    ];
    server.rest();
    let pages = [("/runs", "newest"), ("/runs?status=failed", "failed"), ("/deliveries", "deliveries")];
    for (page, name) in pages {
        let (_, worst) = server.times(page, 200);
        cases.push(
            Case::new(ROW.name, format!("{page}, p99, {of}"), Unit::Seconds, &[worst.as_secs_f64()])
                .growing(name, "runs in history", sizes.history)
                .goal(Bound::AtMost(Duration::from_millis(10).as_secs_f64())),
        );
    }
    cases
}
