//! One request on its way: from the client to a target of the fleet, and the answer back, both
//! streamed as they come.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::http::{request, response, uri::PathAndQuery};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet::{Fleet, Lease, Pick};
use super::head_timer::HeadTimer;
use super::headers;
use super::upstream::{Failure, Reuse, Upstream, Used};
use super::workers::Taken;

/// How long a client may take to send a request's head, and how long its connection may stay unused
/// before (the same as on ELB).
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest request head, in bytes; ELB takes 64 KiB in all.
const HEAD_LIMIT: usize = 64 * 1024;

/// What a client is answered: what a target says, or a sentence of our own.
type Outbound = Either<Carried, Full<Bytes>>;

/// What the connections of one listener share.
pub(super) struct Site {
    pub fleet: Arc<Fleet>,
    /// Everything that a client may still be waiting for.
    pub open: TaskTracker,
    /// Ends connections: unused ones at once, the others after their answer.
    pub closing: CancellationToken,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
struct Of {
    client: IpAddr,
    /// The number of the worker that has it.
    worker: usize,
}

/// Serves a client's connection to its end.
pub(super) async fn serve(site: Arc<Site>, stream: TcpStream, client: IpAddr, taken: Taken) {
    let worker = taken.by().number;
    // Only looked at when it has woken us: all connections share it, and its lock.
    let mut closing = FuturesUnordered::from_iter([site.closing.clone().cancelled_owned()]);
    let service = service_fn(move |request| answer(site.clone(), Of { client, worker }, request));
    let connection = http1::Builder::new()
        .timer(HeadTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        _ = closing.next() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go as they like; this is no problem of ours.
        tracing::debug!("a connection of {client} ended early: {error}");
    }
}

async fn answer(
    site: Arc<Site>,
    of: Of,
    request: Request<Incoming>,
) -> Result<Response<Outbound>, Infallible> {
    let mut response = match forward(&site, of, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    };
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if !switching && (site.fleet.leaving() || site.closing.is_cancelled()) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// An answer of our own.
struct Refusal(StatusCode, String);

impl Refusal {
    fn response(self) -> Response<Outbound> {
        let mut response = Response::new(Either::Right(Full::from(format!("{}\n", self.1))));
        *response.status_mut() = self.0;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

async fn forward(site: &Site, of: Of, mut request: Request<Incoming>) -> Result<Response<Outbound>, Refusal> {
    let fleet = &site.fleet;
    if request.method() == Method::CONNECT {
        return Err(Refusal(StatusCode::NOT_IMPLEMENTED, format!("{}: CONNECT is not supported", fleet.id)));
    }
    if headers::is_ambiguous(request.headers()) {
        let why = format!("{}: a request has one Host field", fleet.id);
        return Err(Refusal(StatusCode::BAD_REQUEST, why));
    }
    let switch = headers::upgrade(request.headers()).map(|to| (to, hyper::upgrade::on(&mut request)));
    let (mut head, body) = request.into_parts();
    let empty = body.is_end_stream();
    prepare(&mut head, &body, || fleet.own_address().to_string());
    if let Some((to, _)) = &switch {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, to.clone());
    }
    let mut again = (empty && switch.is_none() && head.method.is_idempotent()).then(|| head.clone());
    let mut reuse = if again.is_some() { Reuse::Yes } else { Reuse::No };
    let mut request = Request::from_parts(head, Either::Left(body));
    let mut tried = Vec::new();
    let mut problem = None;
    let mut marked = false;
    loop {
        let (lease, upstream) = match fleet.pick(&tried) {
            Pick::Target(lease) => {
                let upstream = lease.upstream.clone();
                (Some(lease), upstream)
            }
            Pick::Successor(address) => (None, Upstream::new(address)),
            Pick::Nobody(why) => {
                return Err(match problem {
                    None => Refusal(StatusCode::SERVICE_UNAVAILABLE, why),
                    Some(problem) => refused(fleet, problem),
                });
            }
        };
        let slot = lease.as_ref().map(|lease| lease.slot);
        // The newer process that it is passed on to says for whom.
        if slot.is_some() && !std::mem::replace(&mut marked, true) {
            headers::forwarded(request.headers_mut(), of.client);
        }
        match upstream.send(request, reuse, of.worker).await {
            Ok((response, used)) => return deliver(site, response, Carrier { lease, used }, switch),
            Err(Failure::Unsent { request: unsent, why }) => {
                let Some(slot) = slot else {
                    return Err(refused(fleet, format!("the newer balancer: {why}")));
                };
                problem = Some(format!("{}: {why}", fleet.name(slot)));
                tried.push(slot);
                request = *unsent;
            }
            Err(Failure::Lost { why, reused }) => {
                let name = slot.map_or_else(|| "the newer balancer".to_owned(), |slot| fleet.name(slot));
                let lost = format!("{name} ended the connection before it answered: {why}");
                let Some(head) = again.take() else { return Err(refused(fleet, lost)) };
                problem = Some(lost);
                if !reused {
                    tried.extend(slot);
                }
                reuse = Reuse::No;
                marked = false;
                request = Request::from_parts(head, Either::Right(Empty::new()));
            }
        }
    }
}

fn refused(fleet: &Fleet, problem: String) -> Refusal {
    tracing::warn!("{}: answered 502: {problem}", fleet.id);
    Refusal(StatusCode::BAD_GATEWAY, format!("{}: no instance answered: {problem}", fleet.id))
}

/// Makes a client's request head one for a target.
fn prepare(head: &mut request::Parts, body: &Incoming, own: impl FnOnce() -> String) {
    let streamed = !body.is_end_stream() && body.size_hint().exact().is_none();
    let uri = std::mem::take(&mut head.uri).into_parts();
    headers::to_target(&mut head.headers, uri.authority.as_ref(), own, streamed);
    head.uri = Uri::from(uri.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/")));
    head.version = Version::HTTP_11;
    head.extensions.clear();
}

/// What is held while an answer is on its way.
struct Carrier {
    lease: Option<Lease>,
    used: Used,
}

fn deliver(
    site: &Site,
    mut response: Response<Incoming>,
    carrier: Carrier,
    switch: Option<(HeaderValue, OnUpgrade)>,
) -> Result<Response<Outbound>, Refusal> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some((_, client)) = switch else {
            return Err(refused(
                &site.fleet,
                "an instance switched protocols without being asked".to_owned(),
            ));
        };
        let target = hyper::upgrade::on(&mut response);
        site.open.spawn(tunnel(client, target, carrier));
        return Ok(response.map(|_| Either::Right(Full::default())));
    }
    let (mut head, body): (response::Parts, Incoming) = response.into_parts();
    headers::end_hop(&mut head.headers);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Ok(Response::from_parts(head, Either::Left(Carried::new(body, carrier))))
}

/// Carries bytes both ways until one side ends; the request counts as open for so long.
async fn tunnel(client: OnUpgrade, target: OnUpgrade, carrier: Carrier) {
    let joined = async {
        let (client, target) = tokio::try_join!(client, target).map_err(io::Error::other)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(target)).await
    };
    if let Err(error) = joined.await {
        tracing::debug!("an upgraded connection ended early: {error}");
    }
    drop(carrier);
}

/// An answer's body. The request counts as open until the target has said all of it, or nobody
/// wants the rest.
struct Carried {
    body: Incoming,
    carrier: Option<Carrier>,
}

impl Carried {
    fn new(body: Incoming, carrier: Carrier) -> Self {
        let mut carried = Self { body, carrier: Some(carrier) };
        carried.finish_at_end();
        carried
    }

    fn finish_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(Carrier { lease, used }) = self.carrier.take()
        {
            used.release();
            drop(lease);
        }
    }
}

impl Body for Carried {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => self.finish_at_end(),
            None | Some(Err(_)) => {
                if let Some(Carrier { lease, used }) = self.carrier.take() {
                    if frame.is_none() {
                        used.release();
                    }
                    drop(lease);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
