//! Connections: taken, bounded, and let go.
//!
//! Always true: a client that says nothing, or a byte a minute, loses its connection; so many
//! connections are open at once at most, and the next ones wait at the kernel; when the server ends,
//! what is being answered gets [`FAREWELL`], and streams end at once by the token that they watch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Problem;

/// Connections at the same time. A page that follows a run takes one; the usual limit of descriptors,
/// 1,024 for a process, is raised when the server starts.
const CONNECTIONS: usize = 1_024;

/// A request's head is here within this time. Also how long an unused connection stays open.
const HEAD_TIME: Duration = Duration::from_secs(15);

/// Most bytes of a request's head, as nginx and Apache have it (32 KiB).
const HEAD_LIMIT: usize = 32 * 1024;

/// Most header lines of a request.
const HEADERS: usize = 100;

/// What is asked for is answered within this time, streams excepted.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What is being answered when the server ends gets so long.
const FAREWELL: Duration = Duration::from_millis(700);

/// Serves what comes in at `listener` until `shutdown`.
pub(super) async fn serve(mut listener: impl Listener, router: Router, shutdown: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (graceful, open, closing) = (GracefulShutdown::new(), TaskTracker::new(), CancellationToken::new());
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(HEADERS);
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await.0)
        };
        let (place, stream) = tokio::select! {
            next = next => next,
            () = shutdown.cancelled() => break,
        };
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        let closing = closing.clone();
        open.spawn(async move {
            let _place = place;
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                },
                () = closing.cancelled() => {}
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(FAREWELL, graceful.shutdown()).await;
    closing.cancel();
    open.close();
    open.wait().await;
}

/// Answers in time, or says that it could not. Not for streams.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::late().into_response(),
    }
}

/// Different for each request, also of another process on the same data.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    static START: LazyLock<i64> = LazyLock::new(|| jiff::Timestamp::now().as_millisecond());
    format!("{:x}-{}", *START, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Logs each request, under an id that the answer has too.
pub(super) async fn logged(request: Request, next: Next) -> Response {
    static NAME: HeaderName = HeaderName::from_static("x-request-id");
    let id = request_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let mut response = next.run(request).await;
    let (status, milliseconds) = (response.status().as_u16(), began.elapsed().as_secs_f64() * 1e3);
    let milliseconds = (milliseconds * 1e3).round() / 1e3;
    if response.status().is_server_error() {
        tracing::warn!(request = id, %method, path, status, milliseconds, "request");
    } else if matches!(path.as_str(), "/healthz" | "/readyz") {
        // Asked all the time.
        tracing::debug!(request = id, %method, path, status, milliseconds, "request");
    } else {
        tracing::info!(request = id, %method, path, status, milliseconds, "request");
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(NAME.clone(), id);
    }
    response
}
