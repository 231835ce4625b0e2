//! Rolling swaps of a fleet while requests go to it: how many fail, how long they take meanwhile, and how
//! long a swap takes beyond what has to be waited for.
//!
//! A swap takes as long as its deploy stage, by the run's journal. What it has to wait for is, for each
//! instance that comes, from its launch (in its record) until the balancer calls it healthy, and for each
//! that goes, from when the balancer sends it nothing more until it calls it drained (both in the
//! balancer's log). All else is ours: recording, launching, ending, noticing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::Row;
use crate::bench::{Bench, WINDLASS, wait_for};
use crate::load::{Load, Until};
use crate::measure::{Unit, percentile};
use crate::report::{Bound, Case};
use crate::target::{self, free_address};

pub const ROW: Row = Row { name: "swap", what: "rolling swaps under load", measure };

const REQUESTS: u64 = 1_000_000;

const SENDERS: usize = 64;

/// Of the fleet that gets the requests.
const SIZE: u32 = 3;

/// How cost grows is seen in fleets of these.
const SIZES: [u32; 4] = [1, 2, 4, 8];

/// Swaps of each of those.
const SWAPS: usize = 2;

/// As it is where nobody says anything, and as short as it may be where only what is beyond counts.
const USUAL: &str = "{ path: /healthz }";
const SHORT: &str = "{ path: /healthz, interval: 100ms, healthy: 2 }";

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases = under_load(bench);
    for size in SIZES {
        let fleet = Fleet::up(bench, size, SHORT);
        let swaps: Vec<Swap> = (0..SWAPS).map(|_| fleet.swap()).collect();
        let beyond: Vec<f64> = swaps.iter().map(|swap| swap.took - swap.waits).collect();
        let what = format!("beyond its waits, a fleet of {size}");
        cases.push(Case::new(ROW.name, what, Unit::Seconds, &beyond).growing(
            "a swap beyond its waits",
            "instances",
            size.into(),
        ));
    }
    cases
}

fn under_load(bench: &Bench) -> Vec<Case> {
    let fleet = Fleet::up(bench, SIZE, USUAL);
    let request = |_: u64, to: &mut Vec<u8>| {
        to.extend_from_slice(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    };
    let load = Load { to: fleet.address, senders: SENDERS, keep_alive: true, request: &request };
    let (mut answers, swaps) = std::thread::scope(|scope| {
        let load = scope.spawn(|| load.run(Until::Sent(REQUESTS)));
        let mut swaps = Vec::new();
        while !load.is_finished() {
            let swap = fleet.swap();
            // The last one had requests to its end, or does not count.
            if !load.is_finished() || swaps.is_empty() {
                swaps.push(swap);
            }
        }
        (load.join().expect("requests"), swaps)
    });
    let of = format!("{REQUESTS} requests over {} swaps of {SIZE} instances", swaps.len());
    let mut failed = Case::new(ROW.name, format!("failed of {of}"), Unit::Count, &[answers.failed as f64])
        .goal(Bound::AtMost(0.0));
    if let Some(why) = &answers.first_failure {
        failed = failed.note(why.clone());
    }
    let rate = answers.rate();
    let mut time = |of_hundred: f64| [percentile(&mut answers.latencies, of_hundred)];
    let (middle, slow) = (time(50.0), time(99.0));
    let took: Vec<f64> = swaps.iter().map(|swap| swap.took).collect();
    let waits: Vec<f64> = swaps.iter().map(|swap| swap.waits).collect();
    vec![
        failed,
        Case::new(ROW.name, format!("an answer, p50 of {of}"), Unit::Seconds, &middle)
            .note(format!("{} by {SENDERS} senders", Unit::PerSecond.show(rate))),
        Case::new(ROW.name, format!("an answer, p99 of {of}"), Unit::Seconds, &slow),
        Case::new(ROW.name, format!("a swap of {SIZE} instances"), Unit::Seconds, &took)
            .beside("its waits", &took, &waits)
            .goal_beside("its waits", Bound::AtMost(1.05)),
    ]
}

/// Seconds.
struct Swap {
    took: f64,
    waits: f64,
}

/// A fleet in a data directory of its own. Taken down when it is dropped.
struct Fleet {
    data: tempfile::TempDir,
    address: SocketAddr,
}

impl Fleet {
    /// Brings one up.
    fn up(bench: &Bench, size: u32, health: &str) -> Self {
        let fleet = Self { data: bench.directory(), address: free_address() };
        let program = std::env::current_exe().expect("this program");
        let pipeline = format!(
            "name: bench\n\
             stages:\n  \
               make:\n    \
                 steps: [{{ run: 'mkdir out; echo \"$WINDLASS_RUN\" > out/version' }}]\n    \
                 artifacts: {{ app: out/ }}\n  \
               upload: {{ uses: upload, needs: make, with: {{ artifact: app }} }}\n  \
               bake: {{ uses: bake, needs: upload, with: {{ start: \"exec {} {}\" }} }}\n  \
               production: {{ uses: deploy, needs: bake, environment: production }}\n",
            program.display(),
            target::WORD,
        );
        let settings = format!(
            "environments:\n  \
               production:\n    \
                 group: production\n    \
                 promotion: automatic\n    \
                 fleets:\n      \
                   bench: {{ cloud: local, size: {size}, port: {}, health: {health}, \
                     strategy: {{ rolling: {{ batch: 1, surge: 1 }} }} }}\n",
            fleet.address.port(),
        );
        std::fs::write(fleet.data.path().join("bench.yaml"), pipeline).expect("the pipeline");
        std::fs::write(fleet.data.path().join("windlass.yaml"), settings).expect("the settings");
        fleet.run();
        fleet
    }

    /// Makes an image, and turns the fleet over to it.
    fn swap(&self) -> Swap {
        self.run();
        let runs: Value = self.ask(&["runs", "--json"]);
        let run = runs["runs"][0]["run"].as_str().expect("a run").to_owned();
        let view: Value = self.ask(&["show", &run, "--json"]);
        let stages = view["stages"].as_array().expect("stages").iter();
        let deploy = stages.into_iter().find(|stage| stage["name"] == "production").expect("a deploy");
        let instances = |name: &str| -> Vec<String> {
            let list = deploy["outputs"][name].as_str().unwrap_or_default().split(',');
            list.map(str::to_owned).collect()
        };
        let waits = self.waits(&instances("after"), &instances("before"));
        Swap { took: seconds(time(&deploy["started_at"]), time(&deploy["finished_at"])), waits }
    }

    /// How long was waited for those that came and those that went.
    fn waits(&self, came: &[String], went: &[String]) -> f64 {
        let log = std::fs::read_to_string(self.data.path().join("balancer.log")).expect("a log");
        // The first line that says so, and when.
        let said = |id: &str, what: &str| -> Timestamp {
            let line = log.lines().find(|line| line.contains(&format!(": {id} {what}")));
            let line = line.unwrap_or_else(|| panic!("the balancer said that {id} {what}"));
            line.split_whitespace().next().and_then(|at| at.parse().ok()).expect("a time")
        };
        let launched = self.launches();
        let coming = came.iter().map(|id| seconds(launched[id], said(id, "is Healthy")));
        let going = went.iter().map(|id| seconds(said(id, "is draining"), said(id, "is drained")));
        coming.sum::<f64>() + going.sum::<f64>()
    }

    /// When each instance was launched.
    fn launches(&self) -> BTreeMap<String, Timestamp> {
        let instances = walkdir::WalkDir::new(self.data.path().join("instances")).max_depth(2);
        let records = instances.into_iter().filter_map(Result::ok).map(walkdir::DirEntry::into_path);
        let records = records.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let read = |path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok();
        let launch = |record: Value| Some((record["id"].as_str()?.to_owned(), time(&record["launched_at"])));
        records.filter_map(read).filter_map(launch).collect()
    }

    fn run(&self) {
        let (pipeline, settings) =
            (self.data.path().join("bench.yaml"), self.data.path().join("windlass.yaml"));
        let mut command = self.windlass(&["run"]);
        let run = command.arg(pipeline).arg("--config").arg(settings).stdout(Stdio::null()).output();
        let run = run.expect("the program starts");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    fn ask(&self, words: &[&str]) -> Value {
        let answer = self.windlass(words).output().expect("the program starts").stdout;
        serde_json::from_slice(&answer).expect("an answer")
    }

    fn windlass(&self, words: &[&str]) -> Command {
        let mut command = Command::new(WINDLASS);
        command.args(words).arg("--data").arg(self.data.path());
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.windlass(&["down", "bench", "production"]).stdout(Stdio::null()).status();
        // Both end by themselves; the directory stays until then.
        for socket in ["balancer.sock", "runner.sock"] {
            let socket = self.data.path().join(socket);
            wait_for("the end of what serves it", Duration::from_secs(30), || {
                (!socket.exists()).then_some(())
            });
        }
    }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).expect("a time")
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}
