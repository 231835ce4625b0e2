//! The program itself under hostile bytes: whatever comes to its sockets, it lives on, and so does what it
//! is at.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Random, corpus, mutated};
use crate::here::{Here, Running};
use crate::targets::{ALL, Target};

/// Nobody is waited for longer, who has nothing to say to nonsense.
const PATIENCE: Duration = Duration::from_millis(200);

const ROUNDS: u64 = 60;

/// Requests that are understood, and ask for what ends the process, takes a port or starts something.
const ASKS: [&[u8]; 7] =
    [b"stop", b"take_over", b"windlass_runner", b"cancel", b"start", b"put_listener", b"remove_listener"];

fn target(name: &str) -> &'static Target {
    ALL.iter().find(|target| target.name == name).unwrap()
}

/// Says something to whoever listens, and reads what is answered for a while.
fn say(mut stream: impl Read + Write, bytes: &[u8]) {
    // They may hang up at once.
    let _ = stream.write_all(bytes);
    let mut some = [0; 4096];
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && stream.read(&mut some).is_ok_and(|count| count > 0) {}
}

fn socket(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    stream.set_read_timeout(Some(PATIENCE / 10)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What nobody understands, behind a hello or not.
fn nonsense(target: &Target, hello: &str) -> Vec<Vec<u8>> {
    let seeds: Vec<Vec<u8>> = corpus(target.name).into_iter().map(|(_, bytes)| bytes).collect();
    let mut all =
        vec![vec![0; 10_000], b"\n".repeat(1_000), vec![0xff; 100], b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    all.push(b"x".repeat(5 * 1024 * 1024));
    for number in 0..ROUNDS {
        let bytes = mutated(&mut Random::new(number), &seeds, target.words);
        if !ASKS.iter().any(|word| bytes.windows(word.len()).any(|window| window == *word)) {
            all.push([hello.as_bytes(), &bytes].concat());
        }
    }
    all
}

fn serve(here: &Here) -> (Running, String) {
    let mut server = here.start(&["serve", "--listen", "127.0.0.1:0"]);
    let line = server.wait_for("windlass serves");
    let address = line.split(" at http://").nth(1).unwrap().to_owned();
    (server, address)
}

fn tcp(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE / 10)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn server_and_runner_live_on_and_so_does_the_step() {
    let here = Here::new();
    let (held, gate) = here.held_step("held");
    here.write("p.yaml", &format!("name: p\nstages: {{ a: {{ steps: [{held}] }} }}\n"));
    let (server, address) = serve(&here);
    let mut run = here.start(&["run", "p.yaml"]);
    gate.begun();
    let runner = here.path("data/runner.sock");
    for bytes in nonsense(target("runner_messages"), "{\"windlass_runner\":1}\n") {
        say(socket(&runner), &bytes);
        say(socket(&here.path("data/windlass.sock")), &bytes);
    }
    for head in heads() {
        say(tcp(&address), &head);
    }
    // Without an end, in pieces: it is given up long before that.
    let mut endless = tcp(&address);
    let _ = endless.write_all(
        b"POST /webhooks/github HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let piece = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    let sent = (0..1_000).take_while(|_| endless.write_all(&piece).is_ok()).count();
    assert!(sent < 1_000, "somebody takes a body without an end");

    gate.go();
    run.wait_for("succeeded");
    assert_eq!(run.end().code, 0);
    assert_eq!(here.starts("held"), 1, "the step was started once");
    assert_eq!(here.json(&["show", "p/1", "--json"])["status"], "succeeded");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0, "it is the same server");
}

/// Requests that are none, or that ask for what cannot be.
fn heads() -> Vec<Vec<u8>> {
    let host = "host: localhost\r\n";
    let mut all: Vec<String> = vec![
        "\0\0\0\0".to_owned(),
        "GET".to_owned(),
        format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a/".repeat(20_000)),
        format!("GET / HTTP/1.1\r\n{host}{}\r\n", "x: y\r\n".repeat(500)),
        format!("GET / HTTP/9.9\r\n{host}\r\n"),
        format!("POST /webhooks/github HTTP/1.1\r\n{host}content-length: 99999999999999999999\r\n\r\n"),
        format!("POST /webhooks/github HTTP/1.1\r\n{host}content-length: 26214401\r\n\r\nx"),
        format!(
            "POST /webhooks/github HTTP/1.1\r\n{host}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
        ),
        format!(
            "POST /api/v1/runs HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: 5\r\n\r\n[[[[["
        ),
    ];
    for path in [
        "/runs/p/1/logs/a?attempt=4294967296",
        "/runs/p/1/logs/a/live?from=18446744073709551615.ffffffff&step=1&attempt=1",
        "/runs/p/18446744073709551616",
        "/runs/%00/1",
        "/runs/p/+1",
        "/runs?status=%ff&before=-1",
        "/fleets/../..",
        "/assets/..%2f..%2fetc%2fpasswd",
        "/api/v1/runs/p/1/changes?after=-1",
        "/?said=%3Cscript%3E",
        "//",
        "/%",
        "/runs/p/1/logs/a/text?step=0",
    ] {
        all.push(format!("GET {path} HTTP/1.1\r\n{host}\r\n"));
    }
    all.into_iter().map(String::into_bytes).collect()
}

#[test]
fn the_balancer_lives_on() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client =
        windlass::balancer::Client::new(data.path().to_owned(), env!("CARGO_BIN_EXE_windlass").into());
    let listener: windlass::cloud::Listener = serde_json::from_value(listener(0)).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = windlass::cloud::Listener { port, ..listener };
    use windlass::cloud::Balancer as _;
    runtime.block_on(client.put_listener(&listener)).unwrap();
    let socket_path = data.path().join("balancer.sock");
    let before = pid(&socket_path);

    let hello = format!("{}\n", serde_json::to_string(&hello()).unwrap());
    for bytes in nonsense(target("balancer_messages"), &hello) {
        say(socket(&socket_path), &bytes);
    }
    // Understood, and beyond what clocks and networks know.
    let longest = serde_json::json!({ "secs": u64::MAX, "nanos": 999_999_999 });
    let mut strange = self::listener(0);
    (strange["health"]["interval"], strange["health"]["timeout"], strange["drain"]) =
        (longest.clone(), longest.clone(), longest.clone());
    strange["health"]["path"] = "\r\nx: y".into();
    strange["fleet"]["service"] = "other".into();
    strange["port"] = 0.into();
    let fleet = strange["fleet"].clone();
    for request in [
        serde_json::json!({ "ask": "put_listener", "listener": strange }),
        serde_json::json!({ "ask": "register", "fleet": fleet, "targets": [["i-1", "0.0.0.0:0"], ["i-2", "[::1]:1"], ["i-1", "127.0.0.1:1"]] }),
        serde_json::json!({ "ask": "deregister", "fleet": fleet, "targets": ["i-1", "i-1", "i-3"] }),
        serde_json::json!({ "ask": "watch", "fleet": fleet, "seen": 0, "patience": longest }),
        serde_json::json!({ "ask": "remove_listener", "fleet": fleet }),
    ] {
        say(socket(&socket_path), format!("{hello}{request}\n").as_bytes());
    }
    for head in heads() {
        say(tcp(&format!("127.0.0.1:{port}")), &head);
    }
    assert_eq!(pid(&socket_path), before, "it is another process");
    let answer =
        asked(&format!("127.0.0.1:{port}"), "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "nobody is there who could answer, and it says so: {answer}");
    let answer = asked(
        &format!("127.0.0.1:{port}"),
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 400"), "a request to two hosts is refused: {answer}");
    runtime.block_on(client.remove_listener(&listener.fleet)).unwrap();
    say(socket(&socket_path), format!("{hello}{{\"ask\":\"stop\"}}\n").as_bytes());
}

fn listener(port: u16) -> Value {
    let second = serde_json::json!({ "secs": 1, "nanos": 0 });
    serde_json::json!({
        "fleet": { "service": "mine", "environment": "here" },
        "port": port,
        "health": { "path": "/", "interval": second, "timeout": second, "healthy": 1, "unhealthy": 1 },
        "drain": second,
    })
}

fn hello() -> Value {
    serde_json::json!({ "protocol": 1, "build": { "version": "0", "size": 0, "modified": 0 }, "pid": 0 })
}

/// The process that answers there.
fn pid(path: &Path) -> u64 {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{}\n", hello()).as_bytes()).unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let said: Value = serde_json::from_slice(&line).unwrap();
    said["pid"].as_u64().unwrap()
}

fn asked(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
