//! What a server costs that has nothing to do: how long until it is ready, its memory, and how often it
//! wakes up; with no fleets and with two, and with more and more pipelines. The balancer and the runner,
//! which are processes of their own, count too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::Row;
use crate::bench::{Bench, WINDLASS};
use crate::measure::Unit;
use crate::peers::{bare, buildbot};
use crate::report::{Bound, Case};
use crate::server::{Cost, Server};

pub const ROW: Row = Row { name: "idle", what: "a server with nothing to do", measure };

/// Pipelines in its directory.
const SIZES: [usize; 4] = [1, 10, 100, 1_000];

/// That which the goal is about.
const JUDGED: usize = 10;

/// Settings that say nothing of note.
const SETTINGS: &str = "runner: { slots: 2 }\n";

const FLEETS: [&str; 2] = ["staging", "production"];

/// How long it is watched.
const TIME: Duration = Duration::from_secs(10);

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases: Vec<Case> = SIZES.into_iter().flat_map(|count| with_pipelines(bench, count)).collect();
    cases.extend(waiting(bench));
    cases
}

/// How it starts, and what it takes then.
fn with_pipelines(bench: &Bench, count: usize) -> [Case; 2] {
    let data = bench.directory();
    std::fs::write(data.path().join("windlass.yaml"), SETTINGS).expect("the settings");
    let pipelines = data.path().join("pipelines");
    std::fs::create_dir(&pipelines).expect("a directory");
    for n in 0..count {
        let text = format!(
            "name: service-{n}\nsource: {{ github: acme/service-{n} }}\non: {{ push: {{ branches: [main] }} }}\n\
             stages:\n  checkout: {{ uses: checkout }}\n  \
             test: {{ needs: checkout, timeout: 5m, steps: [{{ name: Unit tests, run: make test }}] }}\n  \
             build:\n    needs: checkout\n    steps: [{{ name: Compile, run: make }}]\n    \
             artifacts: {{ app: dist/ }}\n"
        );
        std::fs::write(pipelines.join(format!("service-{n}.yaml")), text).expect("a pipeline");
    }
    let (mut ready, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        let server = Server::start_with(data.path(), |command| {
            command.arg("--pipelines").arg(&pipelines);
        });
        ready.push(server.ready_after.as_secs_f64());
        memory.push(server.cost().memory);
    }
    let of = format!("{count} pipelines");
    let name = ROW.name;
    let ready = Case::new(name, format!("ready, {of}"), Unit::Seconds, &ready);
    let memory = Case::new(name, format!("memory once ready, {of}"), Unit::Megabytes, &memory);
    let ready = ready.growing("ready", "pipelines", count as u64);
    let ready = if count == JUDGED { ready.goal(Bound::AtMost(0.1)) } else { ready };
    [ready, memory.growing("memory", "pipelines", count as u64)]
}

/// Two servers beside each other, one of them with fleets, which are watched for a while.
fn waiting(bench: &Bench) -> Vec<Case> {
    let (none, two) = (bench.directory(), Fleets::up(bench));
    std::fs::write(none.path().join("windlass.yaml"), SETTINGS).expect("the settings");
    let servers = [Server::start(none.path()), Server::start(two.data.path())];
    for server in &servers {
        server.rest();
    }
    let mut watched = vec![("serve", servers[0].id()), ("serve with two fleets", servers[1].id())];
    watched.extend(["balancer", "runner"].iter().filter_map(|word| Some((*word, two.process(word)?))));
    let costs = || -> Vec<(Cost, BTreeMap<OsString, u64>)> {
        watched.iter().map(|(_, id)| (Cost::of(*id), waits(*id))).collect()
    };
    let before = costs();
    std::thread::sleep(TIME);
    let after = costs();
    let mut cases = Vec::new();
    for (((name, _), (before, slept)), (after, sleeps)) in watched.iter().zip(before).zip(after) {
        let serves = name.starts_with("serve");
        let memory = Case::new(ROW.name, format!("memory, {name}"), Unit::Megabytes, &[after.memory])
            .note(format!("its share of what processes have in common counted: {:.1} MB", after.share));
        let memory = match bench.buildbot().filter(|_| serves) {
            Some(taken) => memory.beside(buildbot::NAME, &[after.memory], &[taken.memory]),
            None => memory,
        };
        cases.push(if serves { memory.goal(Bound::AtMost(30.0)) } else { memory });
        let since = |(thread, count): (&OsString, &u64)| count - slept.get(thread).unwrap_or(&0);
        let times = [sleeps.iter().map(since).sum::<u64>() as f64];
        let cpu = (after.cpu - before.cpu).as_secs_f64() / TIME.as_secs_f64() * 100.0;
        let waits = format!("times it woke up in {} s, {name}", TIME.as_secs());
        let waits = Case::new(ROW.name, waits, Unit::Count, &times).note(format!("{cpu:.1} % of a core"));
        // That of a fleet is looked after once a minute, and its health is asked for all the time.
        cases.push(if *name == "serve" { waits.goal(Bound::AtMost(0.0)) } else { waits });
    }
    cases
}

/// How often each thread has begun to wait: one that ends takes its number along.
fn waits(id: u32) -> BTreeMap<OsString, u64> {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("threads").filter_map(Result::ok);
    let count = |thread: std::fs::DirEntry| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((thread.file_name(), line.trim().parse().ok()?))
    };
    threads.filter_map(count).collect()
}

/// Two fleets of one instance each. Taken down when it is dropped.
struct Fleets {
    data: TempDir,
}

impl Fleets {
    fn up(bench: &Bench) -> Self {
        let data = bench.directory();
        let program = std::env::current_exe().expect("this program");
        let mut pipeline = format!(
            "name: bench\nstages:\n  \
             make: {{ steps: [{{ run: 'mkdir out; touch out/it' }}], artifacts: {{ app: out/ }} }}\n  \
             upload: {{ uses: upload, needs: make, with: {{ artifact: app }} }}\n  \
             bake: {{ uses: bake, needs: upload, with: {{ start: 'exec {} {}' }} }}\n",
            program.display(),
            bare::WORD
        );
        let mut settings = "environments:\n".to_owned();
        for fleet in FLEETS {
            pipeline += &format!("  {fleet}: {{ uses: deploy, needs: bake, environment: {fleet} }}\n");
            settings += &format!(
                "  {fleet}:\n    group: qa\n    fleets:\n      bench: {{ cloud: local, size: 1, port: {}, \
                 health: {{ path: /healthz }} }}\n",
                free_port()
            );
        }
        std::fs::write(data.path().join("bench.yaml"), pipeline).expect("the pipeline");
        std::fs::write(data.path().join("windlass.yaml"), settings).expect("the settings");
        let fleets = Self { data };
        let (pipeline, settings) = (fleets.path("bench.yaml"), fleets.path("windlass.yaml"));
        let mut run = fleets.windlass("run");
        let run = run.arg(pipeline).arg("--config").arg(settings).output().expect("the program starts");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        fleets
    }

    /// The process that serves the data directory, if there is one.
    fn process(&self, word: &str) -> Option<u32> {
        std::fs::read_dir("/proc").expect("processes").find_map(|entry| {
            let path = entry.ok()?.path();
            let line = String::from_utf8(std::fs::read(path.join("cmdline")).ok()?).ok()?;
            let ours = line.contains(self.data.path().to_str()?) && line.split('\0').any(|it| it == word);
            path.file_name()?.to_str()?.parse().ok().filter(|_| ours)
        })
    }

    fn windlass(&self, word: &str) -> Command {
        let mut command = Command::new(WINDLASS);
        command.arg(word).arg("--data").arg(self.data.path()).stdout(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }
}

impl Drop for Fleets {
    fn drop(&mut self) {
        for fleet in FLEETS {
            let _ = self.windlass("down").args(["bench", fleet]).output();
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
