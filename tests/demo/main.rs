//! The demo as a person meets it. It builds the sample service with the Rust toolchain, so it takes
//! its time; one after the other, as they look for the same ports.

#[path = "../stories/support/mod.rs"]
#[allow(dead_code, unused_imports)] // The stories use all of it.
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
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
    let started = "A signed webhook of the push started storefront/2, whose page is http://127.0.0.1:";
    ended.says(&["Version 1 serves at http://127.0.0.1:", started, "Everything is taken down again"]);
    let promotions = ended.err.matches("production promoted by policy:command-line").count();
    assert_eq!(promotions, 2, "each is said once:\n{}", ended.err);
    place.end(&ports);
}

/// What the server at `address` answers: head and body.
fn asks(address: &str, method: &str, path: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{head}content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Where the demo's pages are: the address in `The pages of all that happens are at http://…`.
fn pages(demo: &Foreground) -> String {
    demo.says("The pages of all that happens are at").rsplit("http://").next().unwrap().trim().to_owned()
}

/// The value of a hidden field of a form, as a browser would send it back.
fn hidden(page: &str, name: &str) -> String {
    let field = page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("{page}"));
    field.split('"').next().unwrap().replace(' ', "+")
}

#[test]
fn the_whole_story_with_a_person() {
    let place = Place::new();
    // Two at once find a place for their pages: nobody named one.
    let taken = std::net::TcpListener::bind("127.0.0.1:7430");
    let demo = place.demo(&[]);
    let pages = pages(&demo);
    assert_ne!(pages, "127.0.0.1:7430");
    drop(taken);
    let asked = demo.says("to ship it: open");
    let page =
        format!("to ship it: open http://{pages}/runs/storefront/2 and click Promote, or: windlass promote");
    assert!(asked.contains(&page), "{asked}");
    let data = place.data().unwrap();
    let ports = ports(&data);
    assert_eq!(ports.len(), 2);
    assert!(get(ports[1], "/").unwrap().contains("version 1"));

    // Both runs were started by a webhook, and the first was promoted by the demo's own word.
    let said = |words: &[&str]| -> Value {
        let words = [words, &["--data", data.to_str().unwrap(), "--json"]].concat();
        Foreground::start(Command::new(PROGRAM).args(words), PATIENCE).ended().with(0).json()
    };
    let deliveries = said(&["deliveries"])["deliveries"].clone();
    let came = |i: usize| {
        let delivery = &deliveries[i];
        ["source", "event", "status"].map(|key| delivery[key].as_str().unwrap()).join(" ")
            + &delivery["runs"].to_string()
    };
    assert_eq!(deliveries.as_array().unwrap().len(), 2, "{deliveries:#}");
    assert_eq!(came(0), "github push handled[\"storefront/2\"]");
    assert_eq!(came(1), "github push handled[\"storefront/1\"]");
    let gate = said(&["show", "storefront/1"])["gates"][0].clone();
    assert_eq!((&gate["status"], &gate["actor"]), (&"promoted".into(), &"policy:command-line".into()));
    // A webhook that somebody else made starts nothing.
    let hook = "x-github-event: push\r\nx-github-delivery: 1\r\nx-hub-signature-256: sha256=00\r\n\
                content-type: application/json\r\n";
    let refused = asks(&pages, "POST", "/webhooks/github", hook, "{}");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");

    // The click on the page's button, and the same one of a page that somebody else made.
    let shown = asks(&pages, "GET", "/runs/storefront/2", "", "");
    assert!(shown.starts_with("HTTP/1.1 200") && shown.contains("Promote to production"), "{shown}");
    let form = format!("environment=production&shown={}&name=octocat", hidden(&shown, "shown"));
    let click = |origin: &str| {
        let head = format!("origin: {origin}\r\ncontent-type: application/x-www-form-urlencoded\r\n");
        asks(&pages, "POST", "/runs/storefront/2/promote", &head, &form)
    };
    let foreign = click("http://example.com");
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    let clicked = click(&format!("http://{pages}"));
    assert!(clicked.starts_with("HTTP/1.1 303") && clicked.contains("said=promoted"), "{clicked}");

    demo.says("production promoted by octocat");
    demo.says("until you press Ctrl-C");
    assert!(get(ports[1], "/").unwrap().contains("version 2"));
    demo.signal(Signal::INT);
    demo.ended().with(0).says(&["requests", "0 failed", "Everything is taken down again"]);
    let port = pages.rsplit(':').next().unwrap().parse().unwrap();
    place.end(&[ports[0], ports[1], port]);
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
    let demo = place.demo(&["--listen", "127.0.0.1:0"]);
    let asked = demo.says("or: windlass promote storefront/2 production");
    // In a second terminal, the command that was said.
    let command = asked.split(" or: ").nth(1).unwrap();
    let program = Path::new(PROGRAM).parent().unwrap().display().to_string();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let promoted = Foreground::start(shell.args(["-c", command]).env("PATH", path), PATIENCE).ended().with(0);
    promoted.says(&["storefront/2 is promoted to production", "Greet customers as version 2"]);
    demo.says("production: Swap batch 2 of 3");
    let ports = ports(&place.data().unwrap());
    demo.signal(Signal::INT);
    demo.ended().with(1).says(&["storefront/2 was cancelled", "Everything is taken down again"]);
    place.end(&ports);
}

#[test]
fn pages_for_other_machines_are_refused_as_nobody_has_a_token() {
    let place = Place::new();
    place.demo(&["--listen", "0.0.0.0:0"]).ended().with(2).says(&["can be reached from other machines"]);
    place.end(&[]);
}
