//! Real traffic on the balancer: connections that are kept alive and ask, one request after the
//! other, as browsers and proxies do. Every answer counts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections that ask at the same time.
const CONNECTIONS: usize = 8;

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Traffic under way.
pub struct Load {
    stop: CancellationToken,
    sent: Arc<AtomicU64>,
    workers: JoinSet<Tally>,
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Tally {
    failed: u64,
    first_failure: Option<String>,
    micros: Vec<u32>,
}

/// What all of it saw.
#[derive(Debug)]
pub struct Seen {
    pub requests: u64,
    pub failed: u64,
    /// What went wrong first, if anything did.
    pub first_failure: Option<String>,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Load {
    /// Starts to ask `address`.
    pub fn start(address: SocketAddr) -> Self {
        let (stop, sent) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            workers.spawn(ask(address, stop.clone(), sent.clone()));
        }
        Self { stop, sent, workers }
    }

    /// Returns when so many requests were sent.
    pub async fn sent(&self, requests: u64) {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while self.sent.load(Ordering::Relaxed) < requests {
            beat.tick().await;
        }
    }

    /// Stops, lets every request that is under way be answered, and adds it all up.
    pub async fn stop(self) -> Seen {
        self.stop.cancel();
        let mut micros = Vec::new();
        let (mut failed, mut first_failure) = (0, None);
        for tally in self.workers.join_all().await {
            failed += tally.failed;
            first_failure = first_failure.or(tally.first_failure);
            micros.extend(tally.micros);
        }
        micros.sort_unstable();
        let percentile = |share: usize| {
            let at = (micros.len() * share / 100).min(micros.len().saturating_sub(1));
            micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        let requests = micros.len() as u64 + failed;
        Seen { requests, failed, first_failure, p50_ms: percentile(50), p99_ms: percentile(99) }
    }
}

async fn ask(address: SocketAddr, stop: CancellationToken, sent: Arc<AtomicU64>) -> Tally {
    let mut tally = Tally::default();
    let mut connection = None;
    while !stop.is_cancelled() {
        let start = Instant::now();
        sent.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::time::timeout(PATIENCE, get(&mut connection, address)).await;
        let failure = match answer {
            Ok(Ok(200)) => None,
            Ok(Ok(status)) => Some(format!("answered {status}")),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match failure {
            None => tally.micros.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Some(why) => {
                tally.failed += 1;
                tally.first_failure.get_or_insert(why);
                connection = None;
                // Where nobody answers at all, asking faster shows nothing more.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    tally
}

type Sender = SendRequest<Empty<Bytes>>;

/// One request, on the connection that is there or on a new one.
async fn get(
    connection: &mut Option<Sender>,
    address: SocketAddr,
) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
    let mut kept = connection.take();
    if let Some(sender) = &mut kept
        && sender.ready().await.is_err()
    {
        kept = None;
    }
    let mut sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, serving) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(serving);
            sender
        }
    };
    let request =
        hyper::Request::get("/").header(hyper::header::HOST, address.to_string()).body(Empty::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    *connection = Some(sender);
    Ok(status)
}
