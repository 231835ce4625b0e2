//! The demo as a person meets it. It builds the sample service with the Rust toolchain, so it takes
//! its time; one after the other, as they look for the same ports.

#[path = "../stories/support/mod.rs"]
#[allow(dead_code, unused_imports)] // The stories use all of it.
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Foreground, PROGRAM, Process, Signal, get, kill, until};

/// Two builds of the sample, two times to production, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(300);

/// A place for the demo's directories. Whatever is left of it when it is dropped is killed.
struct Place {
    directory: PathBuf,
    _removed_at_the_end: tempfile::TempDir,
    _alone: File,
}

impl Place {
    fn new() -> Self {
        let alone = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.lock")).unwrap();
        alone.lock().unwrap();
        let temporary = tempfile::Builder::new().prefix("windlass-demos-").tempdir().unwrap();
        let directory = temporary.path().canonicalize().unwrap();
        Self { directory, _removed_at_the_end: temporary, _alone: alone }
    }

    fn demo(&self, words: &[&str]) -> Foreground {
        let mut command = Command::new(PROGRAM);
        command.arg("demo").args(words).env("TMPDIR", &self.directory).env_remove("WINDLASS_LOG");
        Foreground::start(&mut command, PATIENCE)
    }

    /// The demo's data directory, as long as it is there.
    fn data(&self) -> Option<PathBuf> {
        fs::read_dir(&self.directory).unwrap().next().map(|entry| entry.unwrap().path())
    }

    /// Sees that nothing is left: no process, no directory, and none of these ports.
    fn end(self, ports: &[u16]) {
        assert_eq!(Process::of(&self.directory), []);
        assert_eq!(self.data(), None);
        for port in ports {
            let closed = TcpStream::connect(("127.0.0.1", *port)).unwrap_err();
            assert_eq!(closed.kind(), ErrorKind::ConnectionRefused);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for process in Process::of(&self.directory) {
            kill(process.pid);
        }
    }
}

/// The ports that the demo's fleets have, from its settings.
fn ports(data: &Path) -> Vec<u16> {
    let settings = fs::read_to_string(data.join("windlass.yaml")).unwrap_or_default();
    settings.lines().filter_map(|line| line.trim().strip_prefix("port: ")?.parse().ok()).collect()
}

#[test]
fn the_whole_story_by_itself() {
    let place = Place::new();
    let demo = place.demo(&["--auto", "--json"]);
    let ports = until("the demo's settings", || Some(ports(&place.data()?)).filter(|ports| ports.len() == 2));
    let ended = demo.ended().with(0);
    let report = ended.json();

    assert_eq!((&report["run"], &report["status"]), (&"storefront/2".into(), &"succeeded".into()));
    let names = ["checkout", "test", "build", "upload", "bake", "staging", "e2e", "certify", "production"];
    let stages = report["stages"].as_array().unwrap();
    assert_eq!(stages.iter().map(|stage| &stage["name"]).collect::<Vec<_>>(), names);
    assert!(stages.iter().all(|stage| stage["seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0)));
    assert!(report["seconds"].as_f64().unwrap() > 0.0);
    let swap = &report["swap"];
    assert_eq!(swap["failed"], 0, "{swap:#}");
    assert!(swap["requests"].as_u64().unwrap() >= 10_000, "{swap:#}");
    let (p50, p99) = (swap["p50_ms"].as_f64().unwrap(), swap["p99_ms"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99, "{swap:#}");
    let ids = |field: &Value| -> BTreeSet<String> {
        field.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    let (before, after) = (ids(&swap["before"]), ids(&swap["after"]));
    assert_eq!((before.len(), after.len(), before.intersection(&after).count()), (3, 3, 0), "{swap:#}");
    ended.says(&["Version 1 serves at http://127.0.0.1:", "Everything is taken down again"]);
    place.end(&ports);
}

#[test]
fn the_whole_story_with_a_person() {
    let place = Place::new();
    let demo = place.demo(&[]);
    let promote = demo.says("to ship it: windlass promote storefront/2 production");
    let data = place.data().unwrap();
    let ports = ports(&data);
    assert_eq!(ports.len(), 2);
    assert!(get(ports[1], "/").unwrap().contains("version 1"));

    // In a second terminal, the command that was said.
    let command = promote.trim().strip_prefix("to ship it: ").unwrap();
    let program = Path::new(PROGRAM).parent().unwrap().display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let promoted = Foreground::start(shell.args(["-c", command]).env("PATH", path), PATIENCE).ended().with(0);
    promoted.says(&["storefront/2 is promoted to production", "Greet customers as version 2"]);

    demo.says("until you press Ctrl-C");
    assert!(get(ports[1], "/").unwrap().contains("version 2"));
    demo.signal(Signal::INT);
    demo.ended().with(0).says(&["requests", "0 failed", "Everything is taken down again"]);
    place.end(&ports);
}

#[test]
fn a_demo_that_is_interrupted_in_its_first_build_leaves_nothing() {
    let place = Place::new();
    let demo = place.demo(&[]);
    demo.says("build: Compile");
    let ports = ports(&place.data().unwrap());
    demo.signal(Signal::INT);
    demo.ended().with(1).says(&["storefront/1 was cancelled", "Everything is taken down again"]);
    place.end(&ports);
}

#[test]
fn a_demo_that_is_interrupted_in_the_swap_leaves_nothing() {
    let place = Place::new();
    let demo = place.demo(&["--auto"]);
    demo.says("production: Swap batch 2 of 3");
    let ports = ports(&place.data().unwrap());
    demo.signal(Signal::INT);
    demo.ended().with(1).says(&["storefront/2 was cancelled", "Everything is taken down again"]);
    place.end(&ports);
}
