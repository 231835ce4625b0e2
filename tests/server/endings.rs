//! How it ends, what it leaves running, and what its log says of that.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::asking::{ready, serve};
use crate::here::Here;

#[test]
fn a_server_that_is_told_to_end_pauses_and_the_next_one_carries_on() {
    let here = Here::new();
    let (step, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ work: {{ steps: [{step}] }} }}\n"));
    let (server, url) = serve(&here, &["--log", "text"]);
    ready(&url);
    let following = here.start(&["run", "slow.yaml"]);
    gate.begun();
    // A stream that is open, and a connection that says nothing.
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /api/v1/runs/slow/1/changes HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    let _silent = TcpStream::connect(address).unwrap();
    following.crash();
    let began = Instant::now();
    server.signal(Signal::TERM);
    let said = server.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    let (server, url) = serve(&here, &[]);
    ready(&url);
    gate.go();
    here.good(&["resume", "slow/1"]);
    let run = here.json(&["show", "slow/1", "--json"]);
    assert_eq!((&run["status"], &run["stages"][0]["attempt"]), (&"succeeded".into(), &1.into()));
    assert_eq!(here.starts("held"), 1, "what runs is not started again");
    server.signal(Signal::INT);
    assert_eq!(server.end().code, 0);
}

#[test]
fn the_log_says_what_happens_to_runs_in_json() {
    let here = Here::new();
    here.write("hello.yaml", "name: hello\nstages: { say: { steps: [{ name: Say, run: echo hello }] } }\n");
    let mut server = here.start(&["serve", "--listen", "127.0.0.1:0", "--log", "json"]);
    server.wait_for_log("serving");
    here.good(&["run", "hello.yaml"]);
    server.signal(Signal::TERM);
    let said = server.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out, "");
    let lines: Vec<Value> = said
        .err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
    }
    let of = |message: &str| lines.iter().find(|line| line["message"] == message);
    for message in ["run created", "stage started", "stage succeeded", "run ended"] {
        assert!(of(message).is_some(), "nothing says {message:?}: {}", said.err);
    }
    let step = of("step succeeded").unwrap();
    assert_eq!((&step["run"], &step["stage"], &step["step"]), (&"hello/1".into(), &"say".into(), &1.into()));
    let request = of("request").unwrap();
    assert!(request["request"].is_string() && request["milliseconds"].is_number(), "{request}");
    assert!(request["method"].is_string() && request["path"].is_string() && request["status"].is_number());
}
