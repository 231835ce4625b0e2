//! Where it listens, who is refused, and how commands reach it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::here::{Here, Running};

/// The server, and where it says it listens.
pub fn serve(here: &Here, more: &[&str]) -> (Running, String) {
    let mut server = here.start(&[&["serve", "--listen", "127.0.0.1:0"], more].concat());
    let line = server.wait_for("windlass serves");
    let url = line.split(" at ").nth(1).unwrap().to_owned();
    (server, url)
}

/// What a GET answers, head and body.
pub fn get(url: &str, path: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

/// Asks until the server is ready.
pub fn ready(url: &str) {
    let began = Instant::now();
    while !get(url, "/readyz").starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", get(url, "/readyz"));
        std::thread::sleep(Duration::from_millis(10));
    }
}

const HELLO: &str = "name: hello\nstages: { say: { steps: [{ name: Say, run: echo hello }] } }\n";

#[test]
fn the_port_that_was_taken_is_said_and_commands_ask_there() {
    let here = Here::new();
    here.write("hello.yaml", HELLO);
    let (server, url) = serve(&here, &[]);
    assert!(!url.ends_with(":0"), "{url}");
    ready(&url);
    here.good(&["run", "hello.yaml"]);
    let holder: serde_json::Value =
        serde_json::from_str(get(&url, "/api/v1/holder").split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(holder["url"], url.as_str());
    assert_eq!(holder["command"], "windlass serve");
    assert_eq!(here.json(&["show", "hello/1", "--server", &url, "--json"])["status"], "succeeded");
    assert!(here.good(&["runs", "--server", &url]).contains("hello/1"));
    assert!(here.good(&["logs", "hello/1", "--server", &url]).contains("hello"));
    assert!(here.good(&["status", "--server", &url]).contains("no fleets"));
    assert!(here.good(&["resume", "hello/1", "--server", &url]).contains("nothing to go on with"));
    let unknown = here.windlass(&["show", "hello/9", "--server", &url]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
    for (server, hint) in [("https://127.0.0.1:1", "ssh -L"), ("nonsense", "http://127.0.0.1:7430")] {
        let said = here.windlass(&["runs", "--server", server]);
        assert!(said.code == 2 && said.err.contains(hint), "{said:?}");
    }
    let nobody = here.windlass(&["runs", "--server", "http://127.0.0.1:1"]);
    assert_eq!(nobody.code, 3, "{nobody:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_second_server_is_told_who_was_first() {
    let here = Here::new();
    let (server, _) = serve(&here, &[]);
    let second = here.windlass(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 3, "{second:?}");
    assert!(second.err.contains("windlass serve, since"), "{second:?}");
    server.signal(Signal::INT);
    assert_eq!(server.end().code, 0);
}

#[test]
fn beyond_this_machine_nobody_listens_without_a_credential() {
    let here = Here::new();
    let said = here.windlass(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("token: { env: OCTOCAT_TOKEN }"), "{said:?}");
    assert!(!here.path("data").exists(), "a server that is refused makes no data directory");
}

#[test]
fn a_holder_that_says_nothing_is_given_up() {
    let here = Here::new();
    here.write("hello.yaml", HELLO);
    let (server, url) = serve(&here, &[]);
    ready(&url);
    here.good(&["run", "hello.yaml"]);
    server.signal(Signal::STOP);
    let commands: [&[&str]; 6] = [
        &["runs"],
        &["show", "hello/1"],
        &["status"],
        &["cancel", "hello/1"],
        &["promote", "hello/1", "production"],
        &["runs", "--server", &url],
    ];
    std::thread::scope(|scope| {
        for command in commands {
            let here = &here;
            scope.spawn(move || {
                let began = Instant::now();
                let said = here.windlass(command);
                assert_eq!(said.code, 3, "{command:?}: {said:?}");
                assert!(said.err.contains("gave no answer within 10 s"), "{command:?}: {said:?}");
                assert!(began.elapsed() < Duration::from_secs(30), "{command:?}");
            });
        }
    });
    server.signal(Signal::CONT);
    here.good(&["runs"]);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn of_many_that_come_at_once_none_is_sent_away() {
    let here = Here::new();
    let (server, url) = serve(&here, &[]);
    ready(&url);
    // It takes nobody in now: they all wait at the kernel.
    server.signal(Signal::STOP);
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    // Less than the second after which one that was sent away asks again.
    let patience = Duration::from_millis(500);
    let connect = |number| {
        TcpStream::connect_timeout(&address, patience)
            .unwrap_or_else(|error| panic!("connection {number}: {error}"))
    };
    let waiting: Vec<TcpStream> = (0..400).map(connect).collect();
    server.signal(Signal::CONT);
    for mut stream in waiting {
        write!(stream, "GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn with_a_token_it_listens_anywhere_and_knows_who_acts() {
    let here = Here::new();
    let token = "0123456789abcdef0123456789abcdef";
    let (step, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ work: {{ steps: [{step}] }} }}\n"));
    here.write("octocat.token", &format!("{token}\n"));
    here.write("windlass.yaml", "people: { octocat: { token: { file: octocat.token } } }\n");
    let mut server = here.start(&["serve", "--listen", "0.0.0.0:0", "--config", "windlass.yaml"]);
    let line = server.wait_for("windlass serves");
    let url = line.split(" at ").nth(1).unwrap().replace("0.0.0.0", "127.0.0.1");
    ready(&url);
    assert!(get(&url, "/api/v1/runs").starts_with("HTTP/1.1 401"));
    let following = here.start(&["run", "slow.yaml"]);
    gate.begun();
    let unproved = here.windlass(&["cancel", "slow/1", "--server", &url]);
    assert!(unproved.code == 2 && unproved.err.contains("WINDLASS_TOKEN"), "{unproved:?}");
    let remote = |arguments: &str| {
        here.shell(&format!("WINDLASS_TOKEN={token} WINDLASS_SERVER={url} \"$0\" {arguments}"))
    };
    let other = remote("cancel slow/1 --as ada");
    assert!(other.code == 2 && other.err.contains("--as is not for"), "{other:?}");
    let cancelled = remote("cancel slow/1 --json");
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    assert_eq!(following.end().code, 1);
    let run: serde_json::Value = serde_json::from_str(&remote("show slow/1 --json").out).unwrap();
    assert_eq!((&run["status"], &run["cancelled_by"]), (&"cancelled".into(), &"octocat".into()));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn who_follows_a_run_is_told_when_its_holder_says_nothing_any_more() {
    let here = Here::new();
    let (step, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ work: {{ steps: [{step}] }} }}\n"));
    let (server, url) = serve(&here, &[]);
    ready(&url);
    let run = here.start(&["run", "slow.yaml"]);
    gate.begun();
    let mut log = here.start(&["logs", "slow/1", "--follow"]);
    log.wait_for("begun");
    server.signal(Signal::STOP);
    let began = Instant::now();
    for said in [log.end(), run.end()] {
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.err.contains("gave no answer within 10 s"), "{said:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
    server.signal(Signal::CONT);
    gate.go();
    assert!(here.good(&["logs", "slow/1", "--follow"]).contains("done"));
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}
