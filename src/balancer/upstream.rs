//! Connections to one target: made when needed, kept for a moment, told apart by whether a request
//! that failed on them was ever written.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::lock;

/// How long an unused connection is kept: shorter than any server in use closes one by itself
/// (gunicorn after 2 s, Node after 5 s), so that a request seldom meets a closing connection.
const IDLE: Duration = Duration::from_secs(1);

/// On loopback a connection is made at once or never; this is for a target whose queue is full.
const CONNECT: Duration = Duration::from_secs(5);

/// What is sent to a target: what the client sends, or nothing when the request is sent again.
pub(super) type Outgoing = Either<Incoming, Empty<Bytes>>;

/// A target's address and the connections to it that no request uses.
pub(super) struct Upstream {
    address: SocketAddr,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Oldest first.
    kept: Vec<Kept>,
    /// A task closes what was kept for too long.
    swept: bool,
    retired: bool,
}

/// A connection that no request uses.
struct Kept {
    sender: SendRequest<Outgoing>,
    since: Instant,
    /// The worker that has it: for another one it would be slower than a new one.
    worker: usize,
}

impl Kept {
    fn is_of_use(&self, oldest: Option<Instant>) -> bool {
        !self.sender.is_closed() && oldest.is_none_or(|oldest| self.since > oldest)
    }
}

/// Whether a connection may be one that was used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    Yes,
    /// For what must not be sent twice: the target may be closing any older connection right now.
    No,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// Nothing of the request was written; here it is again.
    Unsent { request: Box<Request<Outgoing>>, why: String },
    /// The connection ended after the request, or a part of it, was written.
    Lost { why: String, reused: bool },
}

/// A connection that a request was sent on.
pub(super) struct Used {
    upstream: Arc<Upstream>,
    sender: SendRequest<Outgoing>,
    worker: usize,
}

impl Upstream {
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self { address, idle: Mutex::default() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the connections that no request uses, and keeps none from now on: the instance is to
    /// end, and many programs wait for their connections when they do.
    pub fn retire(&self) {
        let mut idle = lock(&self.idle);
        idle.retired = true;
        idle.kept.clear();
    }

    /// Sends the request and waits for the head of the answer. `worker` is the number of the one that
    /// this is done by.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Request<Outgoing>,
        reuse: Reuse,
        worker: usize,
    ) -> Result<(Response<Incoming>, Used), Failure> {
        let used = |sender| Used { upstream: self.clone(), sender, worker };
        while reuse == Reuse::Yes
            && let Some(mut sender) = self.kept(worker)
        {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, used(sender))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Lost { why: describe(&error.into_error()), reused: true }),
                },
            }
        }
        let mut sender = match self.connect().await {
            Ok(sender) => sender,
            Err(why) => return Err(Failure::Unsent { request: Box::new(request), why }),
        };
        match sender.try_send_request(request).await {
            Ok(response) => Ok((response, used(sender))),
            Err(mut error) => Err(match error.take_message() {
                Some(unsent) => {
                    Failure::Unsent { request: Box::new(unsent), why: describe(&error.into_error()) }
                }
                None => Failure::Lost { why: describe(&error.into_error()), reused: false },
            }),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Outgoing>, String> {
        let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(self.address)).await {
            Err(_) => return Err(format!("took no connection within {} s", CONNECT.as_secs())),
            Ok(Err(error)) => return Err(refusal(&error)),
            Ok(Ok(stream)) => stream,
        };
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| describe(&error))?;
        // It ends when its sender is dropped, or when the target closes it.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// The worker's connection used last of those that can be used at once.
    fn kept(&self, worker: usize) -> Option<SendRequest<Outgoing>> {
        let oldest = Instant::now().checked_sub(IDLE);
        let mut idle = lock(&self.idle);
        // So that a target that closes all of them does not make this longer and longer; the rest is the
        // sweep's.
        while idle.kept.last().is_some_and(|kept| !kept.is_of_use(oldest)) {
            idle.kept.pop();
        }
        let ready = |kept: &Kept| kept.worker == worker && kept.is_of_use(oldest) && kept.sender.is_ready();
        let index = idle.kept.iter().rposition(ready)?;
        Some(idle.kept.remove(index).sender)
    }

    fn keep(self: &Arc<Self>, sender: SendRequest<Outgoing>, worker: usize) {
        let mut idle = lock(&self.idle);
        if idle.retired || sender.is_closed() {
            return;
        }
        idle.kept.push(Kept { sender, since: Instant::now(), worker });
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(self.clone()));
        }
    }
}

/// Closes connections that were kept for too long; ends when none is left.
async fn sweep(upstream: Arc<Upstream>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let mut idle = lock(&upstream.idle);
        let oldest = Instant::now().checked_sub(IDLE);
        idle.kept.retain(|kept| kept.is_of_use(oldest));
        if idle.kept.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

impl Used {
    /// Gives the connection back after the whole answer was read.
    pub fn release(self) {
        self.upstream.keep(self.sender, self.worker);
    }
}

/// What a failed connect says, without the number of the error.
pub(super) fn refusal(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}

/// An error with what caused it.
pub(super) fn describe(error: &hyper::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
