//! A server with many runs: how long until it is ready, what it costs to wait, how long its lists take, and
//! what it costs to act upon one of the many.
//!
//! Of a hundred in flight forty stand at a gate, thirty wait in one line behind a lock, twenty for the runner's
//! only slot, ten for their next attempt. Each run has the delivery that started it. The file is on the disk of
//! the target directory and in the kernel's cache, as after a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Row;
use crate::bench::Bench;
use crate::fill::{self, Sizes};
use crate::measure::Unit;
use crate::report::{Bound, Case};
use crate::run::end_runner;
use crate::server::Server;

pub const ROW: Row = Row { name: "many", what: "restart and lists with many runs", measure };

/// Runs in flight and in history.
const SIZES: [(u64, u64); 4] = [(10, 1_000), (100, 10_000), (1_000, 100_000), (10_000, 1_000_000)];

/// So many times each page is asked for.
const TIMES: usize = 100;

/// How long a server is watched that has nothing to do.
const WINDOW: Duration = Duration::from_secs(2);

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases = Vec::new();
    for (nth, (in_flight, history)) in SIZES.into_iter().enumerate() {
        let directory = bench.directory();
        let sizes = Sizes { history, in_flight };
        std::fs::write(directory.path().join("windlass.yaml"), fill::SETTINGS).expect("the settings");
        let begun = Instant::now();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(fill::fill(directory.path(), sizes)).expect("a filled directory");
        drop(runtime);
        if nth == 0 {
            fill::check(directory.path());
        }
        eprintln!("  {} runs made in {:.1?}", history + in_flight, begun.elapsed());
        let is_last = nth + 1 == SIZES.len();
        // The first start counts no more than another: what is left of it is what a crash leaves.
        let starts = if is_last { bench.rounds.min(2) } else { 1 };
        cases.extend(one(directory.path(), sizes, starts, is_last));
    }
    cases
}

fn one(data: &Path, sizes: Sizes, starts: usize, is_last: bool) -> Vec<Case> {
    let of = format!("{} in flight, {} in history", sizes.in_flight, sizes.history);
    let mut ready = Vec::new();
    let mut server = Server::start(data);
    ready.push(server.ready_after.as_secs_f64());
    while ready.len() < starts {
        drop(server);
        server = Server::start(data);
        ready.push(server.ready_after.as_secs_f64());
    }
    let at_rest = server.rest();
    let cpu = server.cost().cpu.as_secs_f64();
    let cost = server.cost();
    std::thread::sleep(WINDOW);
    let idle = server.cost();
    let waits = (idle.waits - cost.waits) as f64;
    let goal = |case: Case, bound| if is_last { case.goal(bound) } else { case };
    let case = |what: &str, unit, value: &[f64]| Case::new(ROW.name, format!("{what}, {of}"), unit, value);
    let growing = |case: Case, curve| case.growing(curve, "runs in flight", sizes.in_flight);
    let mut cases = vec![
        goal(growing(case("ready", Unit::Seconds, &ready), "ready"), Bound::AtMost(1.0)),
        growing(case("processor until at rest", Unit::Seconds, &[cpu]), "processor of a start")
            .note(format!("at rest {:.0} s after its start", (server.ready_after + at_rest).as_secs_f64())),
        growing(case("memory at rest", Unit::Megabytes, &[idle.memory]), "memory"),
        // The work of these runs is unfinished: whoever is first in a line looks again every five seconds.
        case("wake-ups in 2 s at rest", Unit::Count, &[waits]),
    ];
    for (curve, page) in pages(sizes) {
        if !is_last && curve.is_none() {
            continue;
        }
        let (middle, worst) = server.times(&page, TIMES);
        let case = case(&format!("{page}, p99"), Unit::Seconds, &[worst.as_secs_f64()]);
        let case = case.note(format!("p50 {}", Unit::Seconds.show(middle.as_secs_f64())));
        let case = match curve {
            Some(curve) => case.growing(curve, "runs in history", sizes.history),
            None => case,
        };
        cases.push(goal(case, Bound::AtMost(0.010)));
    }
    if is_last {
        cases.extend(acts(&server));
    }
    drop(server);
    // The step that has the slot would go on without a server.
    end_runner(data);
    cases
}

/// All pages with lists and the lists of the API, some with the name of the curve that they are on.
fn pages(sizes: Sizes) -> Vec<(Option<&'static str>, String)> {
    let deep = format!("service-3/{}", (sizes.history / 20).max(1));
    let page = |path: &str| (None, path.to_owned());
    let curve = |name, path: &str| (Some(name), path.to_owned());
    vec![
        curve("front page", "/"),
        curve("newest runs", "/runs"),
        (Some("a page in the middle"), format!("/runs?before={deep}")),
        curve("failed runs", "/runs?status=failed"),
        page("/runs?status=waiting"),
        page("/runs?status=running"),
        page("/runs?status=succeeded"),
        (None, format!("/runs?status=cancelled&before={deep}")),
        page("/runs?pipeline=service-3"),
        (None, format!("/runs?pipeline=service-3&status=failed&before={deep}")),
        (None, format!("/runs?pipeline=service-3&status=superseded&before={deep}")),
        page("/runs?pipeline=gate&status=waiting"),
        curve("deliveries", "/deliveries"),
        page("/deliveries?status=handled"),
        page("/deliveries?status=failed"),
        page("/pipelines"),
        page("/fleets/place-3/service-3"),
        page("/runs/gate/2"),
        page("/runs/line/2"),
        (None, format!("/runs/{deep}")),
        curve("runs by the API", "/api/v1/runs"),
        page("/api/v1/runs?status=waiting"),
        page("/api/v1/runs?pipeline=service-3&status=failed"),
        page("/api/v1/deliveries"),
        page("/api/v1/deliveries?status=handled"),
        curve("fleets by the API", "/api/v1/fleets"),
        page("/api/v1/pipelines"),
        (None, format!("/api/v1/runs/{deep}")),
        page("/api/v1/runs/gate/2"),
    ]
}

/// What somebody does, and what it makes the server do until it rests again.
fn acts(server: &Server) -> Vec<Case> {
    let acts = [
        ("cancel one at a gate", "gate/2", "cancel"),
        ("promote one", "gate/3", "promote"),
        ("cancel the first of the line", "line/1", "cancel"),
    ];
    acts.iter()
        .flat_map(|(what, run, act)| {
            let order = format!(
                "{{\"act\":\"{act}\",\"actor\":\"octocat\",\"reason\":\"many\",\"environment\":\"production\"}}"
            );
            let (before, begun) = (server.cost(), Instant::now());
            let answer = server.ask("POST", &format!("/api/v1/runs/{run}/acts"), &order);
            let took = begun.elapsed().as_secs_f64();
            assert!(answer.starts_with("HTTP/1.1 20"), "{what}: {answer}");
            server.rest();
            let cpu = (server.cost().cpu - before.cpu).as_secs_f64();
            [
                Case::new(ROW.name, format!("{what}: answered"), Unit::Seconds, &[took])
                    .goal(Bound::AtMost(0.050)),
                Case::new(ROW.name, format!("{what}: processor until at rest"), Unit::Seconds, &[cpu]),
            ]
        })
        .collect()
}
