//! `windlass serve` on a directory that is filled already, and what it costs to ask it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server that is ready. Ended when it is dropped.
pub struct Server {
    child: Child,
    address: String,
    /// From its start to when it said so.
    pub ready_after: Duration,
}

/// What a server has cost so far.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Resident, in MB.
    pub memory: f64,
    /// The same, where what is shared with other processes counts by its share.
    pub share: f64,
    pub cpu: Duration,
    /// Times that one of its threads began to wait.
    pub waits: u64,
}

impl Cost {
    /// Of any process.
    pub fn of(id: u32) -> Self {
        let proc = Path::new("/proc").join(id.to_string());
        let read = |path: &Path| std::fs::read_to_string(path).expect("a process");
        let field = |text: &str, name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        let memory = field(&read(&proc.join("status")), "VmRSS:") as f64 / 1024.0;
        let share = field(&read(&proc.join("smaps_rollup")), "Pss:") as f64 / 1024.0;
        let stat = read(&proc.join("stat"));
        let stat: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |n: usize| stat.get(n).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 10);
        let threads = std::fs::read_dir(proc.join("task")).expect("threads");
        let waits = threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok())
            .map(|status| field(&status, "voluntary_ctxt_switches:"))
            .sum();
        Self { memory, share, cpu, waits }
    }
}

impl Server {
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, |_| {})
    }

    /// The same with more options, or more in its environment.
    pub fn start_with(data: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::File::create(data.join("log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(data.join("windlass.yaml"))
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(log);
        change(&mut command);
        let begun = Instant::now();
        let mut child = command.spawn().expect("the program starts");
        let mut said = Vec::new();
        let mut out = child.stdout.take().expect("an output");
        let mut byte = [0];
        while out.read(&mut byte).is_ok_and(|read| read == 1) && byte != *b"\n" {
            said.push(byte[0]);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        let address = said.rsplit("http://").next().expect("an address").to_owned();
        let mut server = Self { child, address, ready_after: Duration::ZERO };
        while !server.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(server.child.try_wait().is_ok_and(|ended| ended.is_none()), "it ended: {said}");
            std::thread::sleep(Duration::from_millis(5));
        }
        server.ready_after = begun.elapsed();
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address.parse().expect("an address")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn cost(&self) -> Cost {
        Cost::of(self.child.id())
    }

    /// Returns when none of its threads has woken up for a second, or after ten seconds in which that was not
    /// so.
    pub fn rest(&self) -> Duration {
        let begun = Instant::now();
        let mut before = self.cost();
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.cost();
            if now.waits == before.waits || begun.elapsed() > Duration::from_secs(10) {
                return begun.elapsed();
            }
            before = now;
        }
    }

    pub fn get(&self, path: &str) -> String {
        self.ask("GET", path, "")
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (address, length) = (&self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let mut answer = Vec::new();
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("a request");
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// How long the answers take, the middle one and the 99th of a hundred.
    pub fn times(&self, path: &str, count: usize) -> (Duration, Duration) {
        let mut times: Vec<Duration> = (0..count)
            .map(|_| {
                let begun = Instant::now();
                let answer = self.get(path);
                let took = begun.elapsed();
                assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
                took
            })
            .collect();
        times.sort();
        (times[count / 2], times[(count * 99 / 100).min(count - 1)])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
