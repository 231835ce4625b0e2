//! Buildbot: a master with its local worker, SQLite, and GitHub's change hook. The hook checks no signature,
//! as it knows SHA-1's only; that leaves work out in its favour.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{Bench, wait_for};
use crate::load::{Load, Until};

pub const NAME: &str = "Buildbot";

/// A master that is ready. Ended when it is dropped.
pub struct Buildbot {
    master: Child,
    address: SocketAddr,
    /// What builds say.
    said: BufReader<File>,
    pushed: u64,
    directory: TempDir,
}

/// How long a build took.
pub struct Built {
    /// From the webhook's first byte until the first process of the build ran.
    pub first: Duration,
    /// From then until the last step ran.
    pub rest: Duration,
}

impl Buildbot {
    /// None where it cannot be installed.
    pub fn start(bench: &Bench) -> Option<Self> {
        let programs = bench.peer("buildbot")?;
        let directory = bench.directory();
        let place = directory.path().join("said");
        let made = Command::new("mkfifo").arg(&place).status().expect("mkfifo");
        assert!(made.success(), "no FIFO could be made at {}", place.display());
        let said = File::options().read(true).write(true).open(&place).expect("the FIFO");
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures/peers/master.cfg");
        // A port that was free a moment ago, as Buildbot cannot tell which it was given.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a free port");
        let command = |arguments: &[&str]| {
            let mut command = Command::new(programs.join("buildbot"));
            let path = format!("{}:/usr/bin:/bin", programs.display());
            command.args(arguments).current_dir(directory.path()).env("PATH", path);
            command.env("PLACE", &place).env("PORT", address.port().to_string());
            command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command
        };
        let made =
            command(&["create-master", "--quiet", "--relocatable", "master"]).status().expect("Buildbot");
        assert!(made.success(), "buildbot create-master ended with {made}");
        std::fs::copy(config, directory.path().join("master/master.cfg")).expect("its configuration");
        let master = command(&["start", "--nodaemon", "master"]).spawn().expect("Buildbot starts");
        let mut this = Self { master, address, said: BufReader::new(said), pushed: 0, directory };
        wait_for("Buildbot's start", Duration::from_secs(60), || {
            let ended = this.master.try_wait().expect("a process");
            assert!(ended.is_none(), "Buildbot ended: {}", this.log());
            std::net::TcpStream::connect(address).ok()
        });
        // The first build makes it read what it needs.
        this.build(0);
        Some(this)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("master/twistd.log")).unwrap_or_default()
    }

    /// A push of which it builds so many steps that do nothing: 0, 10 or 100.
    pub fn build(&mut self, steps: usize) -> Built {
        self.pushed += 1;
        let request = push(&format!("steps-{steps}"), self.pushed, 0);
        let begun = Instant::now();
        let sent = Load {
            to: self.address,
            senders: 1,
            keep_alive: false,
            request: &|_, into| into.extend_from_slice(&request),
        }
        .run(Until::Sent(1));
        assert_eq!(sent.failed, 0, "{:?}", sent.first_failure);
        self.hear("first");
        let first = begun.elapsed();
        self.hear("last");
        Built { first, rest: begun.elapsed() - first }
    }

    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("what the build says");
        assert_eq!(line.trim(), word);
    }

    /// Pushes that nobody builds, by so many senders. Returns those answered a second, and all latencies.
    pub fn pushes(&mut self, senders: usize, body: usize, bound: Duration) -> (f64, Vec<f64>) {
        let from = self.pushed;
        let load = Load {
            to: self.address,
            senders,
            keep_alive: true,
            request: &|number, into| into.extend(push("main", from + 1 + number, body)),
        };
        let answers = load.run(Until::Elapsed(bound));
        assert_eq!(answers.failed, 0, "{:?}", answers.first_failure);
        self.pushed += answers.latencies.len() as u64 + senders as u64;
        (answers.rate(), answers.latencies)
    }

    /// Resident, in MB.
    pub fn memory(&self) -> f64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.master.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
    }
}

impl Drop for Buildbot {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.master), Signal::KILL);
        let _ = self.master.wait();
    }
}

/// GitHub's webhook of a push, whose body has at least so many bytes.
fn push(branch: &str, number: u64, size: usize) -> Vec<u8> {
    let person = json!({ "name": "Grace", "email": "grace@example.com", "username": "grace" });
    let commit = json!({
        "id": format!("{number:040x}"), "message": "Count the visitors", "timestamp": "2026-01-01T00:00:00Z",
        "url": "http://127.0.0.1/commit", "author": person, "committer": person, "distinct": true,
        "added": [], "removed": [], "modified": ["x".repeat(size)],
    });
    let body = json!({
        "ref": format!("refs/heads/{branch}"), "before": "0".repeat(40), "after": commit["id"],
        "created": false, "deleted": false, "commits": [commit], "head_commit": commit, "pusher": person,
        "repository": {
            "name": "storefront", "full_name": "acme/storefront", "owner": person,
            "html_url": "http://127.0.0.1/acme/storefront", "clone_url": "http://127.0.0.1/acme/storefront",
        },
    });
    let body = body.to_string();
    format!(
        "POST /change_hook/github HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         x-github-event: push\r\nx-github-delivery: {number}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What Buildbot takes, each in seconds; measured once for all rows, as it takes long.
#[derive(Debug, Clone)]
pub struct Taken {
    /// A step that does nothing, of a hundred in a row.
    pub step: f64,
    /// From a webhook to the first process of its build.
    pub first: Vec<f64>,
    /// Webhooks a second with one and with eight senders, 8 KB each.
    pub webhooks: [f64; 2],
    /// Resident, in MB, after all of that.
    pub memory: f64,
}

impl Taken {
    pub fn measure(bench: &Bench) -> Option<Self> {
        const STEPS: usize = 100;
        let mut buildbot = Buildbot::start(bench)?;
        let first = (0..5).map(|_| buildbot.build(0).first.as_secs_f64()).collect();
        let step = buildbot.build(STEPS).rest.as_secs_f64() / (STEPS + 1) as f64;
        let (alone, _) = buildbot.pushes(1, 8_000, Duration::from_secs(3));
        let (together, _) = buildbot.pushes(8, 8_000, Duration::from_secs(3));
        Some(Self { step, first, webhooks: [alone, together], memory: buildbot.memory() })
    }
}
