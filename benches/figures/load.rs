//! Sends requests over HTTP/1.1 and times the answers: one thread, whatever the number of senders, and no
//! more work for each request than it takes, so that what is measured gets the machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is sent, to whom, and by how many at a time. Each sends its next request when it has the answer.
pub struct Load<'a> {
    pub to: SocketAddr,
    pub senders: usize,
    /// A connection for all requests of a sender, or one for each.
    pub keep_alive: bool,
    /// The bytes of a request, by its number. They say `connection: close` by themselves where they have to.
    pub request: &'a (dyn Fn(u64, &mut Vec<u8>) + Sync),
}

/// When it is enough.
pub enum Until {
    Sent(u64),
    Elapsed(Duration),
    /// So many at so many a second, whether or not the ones before are answered, while a sender is free.
    /// Each counts from when it was due.
    Paced {
        count: u64,
        rate: f64,
    },
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Answers {
    /// Seconds from the first byte sent, or from when it was due, to the last one received, of each request
    /// that was answered with a status below 400.
    pub latencies: Vec<f64>,
    /// Answers with another status, and requests without an answer.
    pub failed: u64,
    /// What was wrong with the first of them.
    pub first_failure: Option<String>,
    pub took: Duration,
    /// How much of its time the thread that sends had work: near 1 it is what limits.
    pub busy: f64,
}

impl Answers {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn failed(&mut self, why: impl Into<String>) {
        self.failed += 1;
        self.first_failure.get_or_insert_with(|| why.into());
    }
}

impl Load<'_> {
    pub fn run(&self, until: Until) -> Answers {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(self.send_all(until))
    }

    async fn send_all(&self, until: Until) -> Answers {
        let begun = Instant::now();
        let number = AtomicU64::new(0);
        let worked = worked();
        let next = || {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let mut due = None;
            let more = match until {
                Until::Sent(count) => number < count,
                Until::Elapsed(bound) => begun.elapsed() < bound,
                Until::Paced { count, rate } => {
                    due = Some(begun + Duration::from_secs_f64(number as f64 / rate));
                    number < count
                }
            };
            more.then_some((number, due))
        };
        let senders = (0..self.senders).map(|_| self.send(&next));
        let mut all = Answers::default();
        for answers in futures_util::future::join_all(senders).await {
            all.latencies.extend(answers.latencies);
            all.failed += answers.failed;
            all.first_failure = all.first_failure.or(answers.first_failure);
        }
        all.took = begun.elapsed();
        all.busy = (self::worked() - worked).as_secs_f64() / all.took.as_secs_f64();
        all
    }

    async fn send(&self, next: &dyn Fn() -> Option<(u64, Option<Instant>)>) -> Answers {
        let mut answers = Answers::default();
        let mut connection: Option<TcpStream> = None;
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        while let Some((number, due)) = next() {
            request.clear();
            (self.request)(number, &mut request);
            if let Some(due) = due {
                tokio::time::sleep_until(due.into()).await;
            }
            let begun = due.unwrap_or_else(Instant::now);
            let fresh = connection.is_none();
            let mut stream = match connection.take() {
                Some(stream) => stream,
                None => match TcpStream::connect(self.to).await {
                    Ok(stream) => {
                        let _ = stream.set_nodelay(true);
                        stream
                    }
                    Err(error) => {
                        answers.failed(format!("no connection: {error}"));
                        continue;
                    }
                },
            };
            match exchange(&mut stream, &request, &mut answer).await {
                Ok((status, open)) => {
                    match status {
                        0..400 => answers.latencies.push(begun.elapsed().as_secs_f64()),
                        _ => answers.failed(String::from_utf8_lossy(&answer).into_owned()),
                    }
                    connection = (open && self.keep_alive).then_some(stream);
                }
                Err(error) => {
                    let of = if fresh { "a new connection" } else { "a connection that was used before" };
                    answers.failed(format!("no answer on {of}: {error}"));
                }
            }
        }
        answers
    }
}

/// Returns the status, and whether the connection may be used again. `answer` begins with the answer's head.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    answer: &mut Vec<u8>,
) -> std::io::Result<(u16, bool)> {
    stream.write_all(request).await?;
    answer.clear();
    answer.reserve(BUFFER);
    let head = loop {
        read(stream, answer).await?;
        if let Some(end) = end_of_head(answer) {
            break end;
        }
    };
    let text = &answer[..head];
    let status = text.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
    let closes = field(text, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    match content_length(text) {
        Some(length) => {
            let mut have = answer.len() - head;
            while have < length {
                answer.truncate(head);
                have += read(stream, answer).await?;
            }
        }
        None if field(text, "transfer-encoding") == Some(b"chunked") => {
            while !answer.ends_with(b"0\r\n\r\n") {
                read(stream, answer).await?;
            }
        }
        None => while stream.read_buf(answer).await? > 0 {},
    }
    Ok((status.unwrap_or(0), !closes))
}

/// Bytes that are read at a time.
pub const BUFFER: usize = 64 * 1024;

/// Reads at least a byte.
async fn read(stream: &mut TcpStream, into: &mut Vec<u8>) -> std::io::Result<usize> {
    match stream.read_buf(into).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read),
    }
}

/// Where the head of a message ends, if all of it is here.
pub fn end_of_head(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of a field of a head.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let value = line.get(name.len()..)?.strip_prefix(b":")?;
        line[..name.len()].eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// How long the body is, where the head says so.
pub fn content_length(head: &[u8]) -> Option<usize> {
    std::str::from_utf8(field(head, "content-length")?).ok()?.parse().ok()
}

/// What this thread has had of a core so far.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
