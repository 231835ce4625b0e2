//! Traffic on a port: clients in threads of their own, that keep their connections or connect anew,
//! read, write, or ask for something slow. Nothing is retried: every request has to be answered.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::until;

/// No answer takes so long.
const LIMIT: Duration = Duration::from_secs(20);

/// The pause after each answer: more would only take the machine from those who are looked at.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy)]
enum Connections {
    Kept,
    Fresh,
}

/// Clients that ask until they are stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

#[derive(Default)]
struct Tally {
    failures: Vec<String>,
    versions: BTreeMap<String, u64>,
}

/// What the clients saw.
#[derive(Debug)]
pub struct Seen {
    pub requests: u64,
    pub failures: Vec<String>,
    /// How many answers came from each version.
    pub versions: BTreeMap<String, u64>,
}

impl Traffic {
    pub fn on(port: u16) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let kinds = [
            (Connections::Kept, "GET", "/"),
            (Connections::Kept, "POST", "/echo"),
            (Connections::Fresh, "GET", "/"),
            (Connections::Fresh, "POST", "/echo"),
            (Connections::Kept, "GET", "/slow"),
            (Connections::Fresh, "GET", "/slow"),
        ];
        let clients = kinds.map(|(connections, method, path)| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || ask(port, connections, method, path, &stop, &answered))
        });
        Self { stop, answered, clients: clients.into() }
    }

    /// Waits until so many more requests were answered.
    #[track_caller]
    pub fn goes_on(&self, more: u64) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        until("the traffic goes on", || (self.answered.load(Ordering::Relaxed) >= wanted).then_some(()));
    }

    /// Lets every request that is under way be answered, and adds it all up.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut seen = Seen { requests: 0, failures: Vec::new(), versions: BTreeMap::new() };
        for client in self.clients {
            let tally = client.join().unwrap();
            seen.failures.extend(tally.failures);
            for (version, count) in tally.versions {
                *seen.versions.entry(version).or_default() += count;
            }
        }
        seen.requests = self.answered.load(Ordering::Relaxed) + seen.failures.len() as u64;
        seen
    }
}

impl Seen {
    /// Sees that every request of many was answered.
    #[track_caller]
    pub fn without_failure(self) -> Self {
        assert!(
            self.failures.is_empty(),
            "{} of {} failed: {:#?}",
            self.failures.len(),
            self.requests,
            self.failures
        );
        assert!(self.requests >= 100, "only {} requests were sent", self.requests);
        println!("{} requests, {:?}", self.requests, self.versions);
        self
    }
}

fn ask(
    port: u16,
    connections: Connections,
    method: &str,
    path: &str,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = if method == "POST" { format!("parcel {number}") } else { String::new() };
        let taken = connection.take();
        match exchange(port, taken, connections, method, path, &body) {
            Ok((kept, answer)) => {
                connection = kept;
                answered.fetch_add(1, Ordering::Relaxed);
                if method == "POST" {
                    if answer != body {
                        tally.failures.push(format!("{method} {path} answered {answer:?} to {body:?}"));
                    }
                } else if let Some(version) = answer.split_ascii_whitespace().nth(1) {
                    *tally.versions.entry(version.to_owned()).or_default() += 1;
                }
            }
            Err(error) => {
                let request = format!("{method} {path} on a {connections:?} connection");
                tally.failures.push(format!("request {number}: {request}: {error}"));
            }
        }
        std::thread::sleep(PAUSE);
    }
    tally
}

type Connection = BufReader<TcpStream>;

fn exchange(
    port: u16,
    connection: Option<Connection>,
    connections: Connections,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(Option<Connection>, String)> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            stream.set_nodelay(true)?;
            BufReader::new(stream)
        }
    };
    let close = match connections {
        Connections::Kept => "",
        Connections::Fresh => "connection: close\r\n",
    };
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: shop\r\n{close}content-length: {length}\r\n\r\n{body}");
    connection.get_mut().write_all(request.as_bytes())?;
    let (answer, goes_on) = answer(&mut connection)?;
    Ok((goes_on.then_some(connection), answer))
}

/// The body of a good answer, and whether the connection may be used again.
fn answer(connection: &mut Connection) -> io::Result<(String, bool)> {
    let mut status = String::new();
    if connection.read_line(&mut status)? == 0 {
        return Err(io::Error::other("the connection was closed without an answer"));
    }
    let (mut length, mut goes_on) = (None, true);
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "connection" => goes_on = !value.trim().eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; length.ok_or_else(|| io::Error::other("an answer without its length"))?];
    connection.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    match status.split(' ').nth(1) {
        Some("200") => Ok((body, goes_on)),
        _ => Err(io::Error::other(format!("{}: {body}", status.trim_end()))),
    }
}

/// What a page says.
pub fn get(port: u16, path: &str) -> io::Result<String> {
    exchange(port, None, Connections::Fresh, "GET", path, "").map(|(_, body)| body)
}
