//! From a signed webhook's first byte sent to the first process of its run: a push that starts a run of one
//! shell step, without a checkout. Each webhook names a commit that is new, one at a time, at a server that has
//! nothing else to do; then many at once.
//!
//! The step's shell itself says that it runs, by a byte into a pipe with a name: no further process is
//! started, and whoever waits for that byte is woken by the kernel. What is measured thus includes the start
//! of the shell, and all of it is in the journal before.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use sha2::Sha256;
use tempfile::TempDir;

use super::Row;
use crate::bench::Bench;
use crate::measure::{Summary, Unit, percentile};
use crate::peers::buildbot;
use crate::report::{Bound, Case};
use crate::server::Server;

pub const ROW: Row = Row { name: "first", what: "webhook to the first process of its run", measure };

/// Pipelines in the directory, of which one is of the repository that is pushed to.
const PIPELINES: [usize; 4] = [1, 10, 100, 1_000];

/// Webhooks before those that count, which start the runner, and those that count.
const WARM: usize = 20;
const COUNTED: usize = 200;

/// Webhooks that each name a commit of their own, which is checked out.
const CHECKED_OUT: usize = 50;

/// Webhooks that come at once.
const MANY: usize = 200;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pipelines, and repositories, by whether a checkout comes before the step.
const FIRST: &str = "first";
const FETCHED: &str = "fetched";

const SECRET: &str = "It's a Secret to Everybody";

fn measure(bench: &Bench) -> Vec<Case> {
    let mut cases = Vec::new();
    for pipelines in PIPELINES {
        let place = Place::new(bench, pipelines);
        let mut server = Pushed::start(&place);
        let _warm = server.one_by_one(FIRST, WARM, || place.commit());
        let mut times = server.one_by_one(FIRST, COUNTED, || place.commit());
        let of = format!("of {pipelines} pipelines");
        let worst = percentile(&mut times, 99.0);
        let median = Case::new(ROW.name, format!("p50, {of}"), Unit::Seconds, &times).growing(
            "p50",
            "pipelines",
            pipelines as u64,
        );
        if pipelines > 1 {
            cases.push(median);
            continue;
        }
        let median = median.goal(Bound::AtMost(0.005));
        cases.push(match bench.buildbot() {
            Some(taken) => {
                // Builds of five pushes, beside the middle one of ours.
                let ours = vec![Summary::of(&times).median; taken.first.len()];
                median.beside(buildbot::NAME, &ours, &taken.first)
            }
            None => median,
        });
        cases.push(Case::new(ROW.name, format!("p99, {of}"), Unit::Seconds, &[worst]));
        let _warm = server.one_by_one(FETCHED, 1, || place.commit());
        let mut times = server.one_by_one(FETCHED, CHECKED_OUT, || place.commit());
        let worst = percentile(&mut times, 99.0);
        let what = "behind a checkout";
        cases.push(Case::new(ROW.name, format!("p50, {what}"), Unit::Seconds, &times));
        cases.push(Case::new(ROW.name, format!("p99, {what}"), Unit::Seconds, &[worst]));
        let rate = server.at_once(&place.commit());
        cases.push(Case::new(ROW.name, format!("runs, {MANY} at once"), Unit::PerSecond, &[rate]));
    }
    cases
}

/// A data directory with its settings, the pipelines, and the repository that is pushed to.
struct Place {
    root: TempDir,
    repository: git2::Repository,
}

impl Place {
    fn new(bench: &Bench, pipelines: usize) -> Self {
        let root = bench.directory();
        let at = |name: &str| root.path().join(name);
        for name in ["data", "pipelines", "source"] {
            std::fs::create_dir(at(name)).expect("a directory");
        }
        std::fs::write(at("data/secret"), SECRET).expect("the secret");
        let settings = "github:\n  webhook_secrets: [{ file: secret }]\n  \
                        repositories: { acme/first: { url: ../source }, acme/fetched: { url: ../source } }\n";
        std::fs::write(at("data/windlass.yaml"), settings).expect("the settings");
        let pipe = at("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        let write = |name: &str, stages: &str| {
            let text = format!(
                "name: {name}\nqueue: every\nsource: {{ github: acme/{name} }}\non: {{ push: {{ branches: [main] }} }}\n\
                 stages:\n{stages}"
            );
            std::fs::write(at("pipelines").join(format!("{name}.yaml")), text).expect("a pipeline");
        };
        let say = format!("steps: [{{ run: 'echo > {}' }}]", pipe.display());
        write(FIRST, &format!("  say: {{ {say} }}\n"));
        if pipelines == 1 {
            write(FETCHED, &format!("  source: {{ uses: checkout }}\n  say: {{ needs: source, {say} }}\n"));
        }
        for number in 1..pipelines {
            write(&format!("other-{number}"), "  say: { steps: [{ run: ':' }] }\n");
        }
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let repository = git2::Repository::init_opts(at("source"), &options).expect("a repository");
        Self { root, repository }
    }

    /// Commits to the branch that is pushed to, and answers the hash.
    fn commit(&self) -> String {
        let tree = self.repository.treebuilder(None).and_then(|tree| tree.write()).expect("a tree");
        let tree = self.repository.find_tree(tree).expect("a tree");
        let author = git2::Signature::now("Grace", "grace@example.com").expect("an author");
        let name = "refs/heads/main";
        let parent = self.repository.find_reference(name).and_then(|main| main.peel_to_commit()).ok();
        let parents: Vec<_> = parent.iter().collect();
        let id = self.repository.commit(Some(name), &author, &author, "Count visitors", &tree, &parents);
        id.expect("a commit").to_string()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

/// A server, and the pipe into which the steps of its runs say that they run.
struct Pushed {
    server: Server,
    pipe: File,
    /// How many webhooks each repository has had: as many runs its pipeline has.
    sent: BTreeMap<String, usize>,
}

impl Pushed {
    fn start(place: &Place) -> Self {
        let pipelines = place.at("pipelines");
        let server = Server::start_with(&place.at("data"), |command| {
            command.arg("--pipelines").arg(pipelines);
        });
        Self { server, pipe: open(&place.at("pipe")), sent: BTreeMap::new() }
    }

    /// Seconds from the first byte of each webhook to the first process of its run.
    fn one_by_one(&mut self, of: &str, count: usize, commit: impl Fn() -> String) -> Vec<f64> {
        let one = |_| {
            // Only now, or the fetch of an earlier push would have brought it.
            let request = self.request(of, &commit());
            let mut stream = self.connect();
            let begun = Instant::now();
            stream.write_all(&request).expect("a request");
            self.heard();
            let took = begun.elapsed().as_secs_f64();
            accepted(stream);
            self.ended(of);
            took
        };
        (0..count).map(one).collect()
    }

    /// Runs a second, from the first byte of the first webhook to the first process of the last run.
    fn at_once(&mut self, commit: &str) -> f64 {
        let requests: Vec<Vec<u8>> = (0..MANY).map(|_| self.request(FIRST, commit)).collect();
        let mut streams: Vec<TcpStream> = (0..MANY).map(|_| self.connect()).collect();
        let begun = Instant::now();
        for (stream, request) in streams.iter_mut().zip(&requests) {
            stream.write_all(request).expect("a request");
        }
        let mut heard = 0;
        while heard < MANY {
            heard += self.heard();
        }
        let took = begun.elapsed().as_secs_f64();
        streams.into_iter().for_each(accepted);
        MANY as f64 / took
    }

    /// Returns when the run of the last webhook has ended.
    fn ended(&self, of: &str) {
        let run = format!("/api/v1/runs/{of}/{}/changes", self.sent[of]);
        let changes = self.server.get(&run);
        assert!(changes.contains(r#""status":"succeeded""#), "{changes}");
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).expect("a connection");
        stream.set_nodelay(true).expect("a connection");
        stream
    }

    /// Waits until steps say that they run, and answers how many.
    fn heard(&mut self) -> usize {
        let patience = Timespec::try_from(PATIENCE).expect("a time");
        let ready = poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&patience));
        assert_eq!(ready, Ok(1), "no step runs");
        let mut said = [0; 4096];
        self.pipe.read(&mut said).expect("a byte")
    }

    /// A push of the commit, as GitHub sends it.
    fn request(&mut self, of: &str, commit: &str) -> Vec<u8> {
        let number = self.sent.entry(of.to_owned()).or_default();
        *number += 1;
        let number = *number;
        let person = r#"{"name":"Grace","email":"grace@example.com","username":"grace"}"#;
        let commit_there = format!(
            r#"{{"id":"{commit}","distinct":true,"message":"Count the visitors","timestamp":"2026-11-22T12:00:00+00:00","author":{person},"committer":{person},"added":[],"removed":[],"modified":["README.md"]}}"#
        );
        let body = format!(
            r#"{{"ref":"refs/heads/main","before":"{}","after":"{commit}","created":false,"deleted":false,"forced":false,"head_commit":{commit_there},"commits":[{commit_there}],"repository":{{"id":186853002,"name":"{of}","full_name":"acme/{of}","private":true,"default_branch":"main"}},"pusher":{{"name":"grace","email":"grace@example.com"}},"sender":{{"login":"grace","id":583231,"type":"User"}}}}"#,
            "1".repeat(40)
        );
        let mut signing = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        signing.update(body.as_bytes());
        let signature: String =
            signing.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (host, length) = (self.server.address(), body.len());
        format!(
            "POST /webhooks/github HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
             content-type: application/json\r\nx-github-event: push\r\nx-github-delivery: {of}-{number}\r\n\
             x-hub-signature-256: sha256={signature}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Open for both, so that no step waits for somebody to read, and there is no end to be read.
fn open(pipe: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(pipe).expect("the pipe")
}

fn accepted(mut stream: TcpStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}
