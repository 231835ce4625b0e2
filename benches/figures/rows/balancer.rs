//! `windlass balancer` beside HAProxy, with the same targets behind both, on the same machine as those and
//! as whoever asks: what any of them takes is missing for the others.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use windlass::balancer::Client;
use windlass::cloud::{Balancer, HealthCheck, Listener, TargetState};
use windlass::ids::{FleetId, InstanceId};

use super::Row;
use crate::bench::{Bench, WINDLASS};
use crate::load::{Answers, Load, Until};
use crate::measure::{Unit, in_turns, percentile};
use crate::peers::haproxy::HaProxy;
use crate::report::{Bound, Case};
use crate::target::{LARGE, Target, free_address};

pub const ROW: Row = Row { name: "balancer", what: "the balancer of the local cloud", measure };

const PEER: &str = "HAProxy";

const TARGETS: usize = 3;

/// Between two checks of a target's health.
const INTERVAL: Duration = Duration::from_millis(100);

/// Of HAProxy's rate.
const RATE: Bound = Bound::AtLeast(0.6);

/// What the rate's goal is for the time of an answer.
const TIME: Bound = Bound::AtMost(1.67);

/// One line of the table, and its second for the slowest of a hundred.
struct Kind {
    what: &'static str,
    senders: usize,
    keep_alive: bool,
    request: fn(&mut Vec<u8>),
    /// Whether targets leave and come back meanwhile.
    swap: bool,
    lasts: Duration,
}

const USUAL: Kind = Kind {
    what: "1 KB, keep-alive",
    senders: 64,
    keep_alive: true,
    request: small,
    swap: false,
    lasts: Duration::from_millis(400),
};

const KINDS: [Kind; 9] = [
    Kind { senders: 1, ..USUAL },
    Kind { senders: 8, ..USUAL },
    USUAL,
    Kind { senders: 512, ..USUAL },
    Kind { what: "1 KB, a connection each", keep_alive: false, request: small_once, ..USUAL },
    Kind { what: "1 MB, keep-alive", request: large, ..USUAL },
    Kind { what: "1 MB, a connection each", keep_alive: false, request: large_once, ..USUAL },
    Kind { what: "1 MB sent, keep-alive", request: upload, ..USUAL },
    Kind { what: "1 KB, keep-alive, targets come and go", swap: true, ..USUAL },
];

fn small(to: &mut Vec<u8>) {
    to.extend_from_slice(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
}

fn small_once(to: &mut Vec<u8>) {
    to.extend_from_slice(b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n");
}

fn large(to: &mut Vec<u8>) {
    to.extend_from_slice(b"GET /large HTTP/1.1\r\nhost: shop.example\r\n\r\n");
}

fn large_once(to: &mut Vec<u8>) {
    to.extend_from_slice(b"GET /large HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n");
}

fn upload(to: &mut Vec<u8>) {
    let head = format!("POST / HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {LARGE}\r\n\r\n");
    to.extend_from_slice(head.as_bytes());
    to.resize(head.len() + LARGE, b'x');
}

fn measure(bench: &Bench) -> Vec<Case> {
    let directory = bench.directory();
    let running: Vec<Target> = (0..TARGETS).map(|_| Target::start()).collect();
    let targets: Vec<SocketAddr> = running.iter().map(|target| target.address).collect();
    let ours = Ours::start(directory.path(), targets.clone());
    let program = bench.peer("haproxy");
    let start = |program: &Path| HaProxy::start(program, directory.path(), &targets, INTERVAL);
    let theirs = program.as_deref().map(start);
    KINDS.iter().flat_map(|kind| compare(bench, kind, &ours, theirs.as_ref())).collect()
}

/// The rate, and the time of the slowest of a hundred.
fn compare(bench: &Bench, kind: &Kind, ours: &Ours, theirs: Option<&HaProxy>) -> [Case; 2] {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    let mut us = || {
        let answers = load(kind, ours.address(), &|number| ours.swap(number));
        note(answers, &mut our_times)
    };
    let (our_rates, their_rates) = match theirs {
        Some(theirs) => {
            let mut them = || {
                let answers = load(kind, theirs.address, &|number| theirs.swap(number));
                note(answers, &mut their_times)
            };
            let [ours, theirs] = in_turns(bench.rounds, [&mut us, &mut them]);
            (ours, Some(theirs))
        }
        None => {
            let [ours] = in_turns(bench.rounds, [&mut us]);
            (ours, None)
        }
    };
    let what = format!("{}, {} at a time", kind.what, kind.senders);
    let mut rate = Case::new(ROW.name, what.clone(), Unit::PerSecond, &our_rates);
    let mut time = Case::new(ROW.name, format!("{what}, p99"), Unit::Seconds, &our_times);
    if let Some(their_rates) = their_rates {
        rate = rate.beside(PEER, &our_rates, &their_rates).goal_beside(PEER, RATE);
        time = time.beside(PEER, &our_times, &their_times).goal_beside(PEER, TIME);
    }
    if kind.what == USUAL.what {
        let size = kind.senders as u64;
        rate = rate.growing("requests a second", "at a time", size);
        time = time.growing("p99", "at a time", size);
    }
    [rate, time]
}

/// Keeps the time of the slowest of a hundred, and answers the rate.
fn note(mut answers: Answers, times: &mut Vec<f64>) -> f64 {
    let failures = (answers.failed, answers.first_failure.as_deref());
    assert_eq!(failures, (0, None), "every request is answered");
    let rate = answers.rate();
    times.push(percentile(&mut answers.latencies, 99.0));
    rate
}

/// Sends requests to one of the two, while targets come and go where they are to.
fn load(kind: &Kind, to: SocketAddr, swap: &(dyn Fn(usize) + Sync)) -> Answers {
    let request = |_: u64, to: &mut Vec<u8>| (kind.request)(to);
    let load = Load { to, senders: kind.senders, keep_alive: kind.keep_alive, request: &request };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if kind.swap {
            scope.spawn(|| {
                (0..TARGETS).cycle().take_while(|_| !over.load(Ordering::Relaxed)).for_each(swap);
            });
        }
        let answers = load.run(Until::Elapsed(kind.lasts));
        over.store(true, Ordering::Relaxed);
        answers
    })
}

/// `windlass balancer` in a data directory of its own. Ended when it is dropped.
struct Ours {
    runtime: tokio::runtime::Runtime,
    client: Client,
    listener: Listener,
    targets: Vec<SocketAddr>,
}

impl Ours {
    fn start(data: &Path, targets: Vec<SocketAddr>) -> Self {
        let health = HealthCheck {
            path: "/healthz".to_owned(),
            interval: INTERVAL,
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 2,
        };
        let fleet = FleetId::new("bench".parse().expect("a name"), "production".parse().expect("a name"));
        let listener =
            Listener { fleet, port: free_address().port(), health, drain: Duration::from_secs(10) };
        let ours = Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            client: Client::new(data.to_owned(), PathBuf::from(WINDLASS)),
            listener,
            targets,
        };
        ours.runtime.block_on(ours.client.put_listener(&ours.listener)).expect("a listener");
        (0..ours.targets.len()).for_each(|number| ours.register(number));
        ours
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listener.port))
    }

    /// Sends a target no more requests, waits until it has none, and takes it back.
    fn swap(&self, number: usize) {
        let (fleet, id) = (&self.listener.fleet, name(number));
        self.runtime
            .block_on(self.client.deregister(fleet, std::slice::from_ref(&id)))
            .expect("it is let go");
        self.until(&id, TargetState::Drained);
        self.runtime.block_on(self.client.forget(fleet, &[id])).expect("it is forgotten");
        self.register(number);
    }

    /// Takes a target, and waits until it is healthy.
    fn register(&self, number: usize) {
        let target = [(name(number), self.targets[number])];
        let registered = self.client.register(&self.listener.fleet, &target);
        self.runtime.block_on(registered).expect("it is taken");
        self.until(&name(number), TargetState::Healthy);
    }

    fn until(&self, id: &InstanceId, state: TargetState) {
        let fleet = &self.listener.fleet;
        self.runtime.block_on(async {
            loop {
                let targets = self.client.targets(fleet).await.expect("the targets");
                if targets.iter().any(|target| target.id == *id && target.state == state) {
                    return;
                }
                let _ = self.client.changed(fleet, Duration::from_secs(10)).await;
            }
        });
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.stop());
    }
}

fn name(number: usize) -> InstanceId {
    format!("bench-production-1-{number}").parse().expect("a name")
}
