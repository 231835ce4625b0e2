//! Asks targets whether they are well: `GET` of the path that the listener names, on a connection of
//! its own, answered with 2xx.
//!
//! Checks that count are one interval apart. While a target that never was healthy refuses
//! connections it is most likely about to listen, so it is asked more often then; those extra
//! failures do not count against it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::upstream::{describe, refusal};
use crate::cloud::HealthCheck;

/// How soon a starting target that refused a connection is asked again, at the latest.
const KNOCK: Duration = Duration::from_millis(50);

/// No target is asked more often, whatever the settings say.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// No target is asked more seldom: a time so long that a clock cannot tell it would end the checks.
const MOST_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// No service needs to say more about its health; the rest is not read.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a check failed.
enum Sickness {
    /// Nobody listens at the address.
    Refused(String),
    Other(String),
}

impl Sickness {
    fn into_reason(self) -> String {
        match self {
            Self::Refused(why) | Self::Other(why) => why,
        }
    }
}

/// Checks a target until it drains or is forgotten.
pub(super) async fn keep_checking(fleet: Arc<Fleet>, slot: u64) {
    let mut counted_at: Option<Instant> = None;
    while let Some(plan) = fleet.check_plan(slot) {
        let interval = plan.check.interval.clamp(LEAST_INTERVAL, MOST_INTERVAL);
        let started = Instant::now();
        let outcome = check(plan.address, &plan.check).await;
        let knocking = !plan.proven && matches!(outcome, Err(Sickness::Refused(_)));
        let due = counted_at.is_none_or(|counted| started.duration_since(counted) >= interval);
        let counted = outcome.is_ok() || !knocking || due;
        if counted {
            counted_at = Some(started);
        }
        fleet.checked(slot, outcome.map_err(Sickness::into_reason), counted);
        let pause = if knocking { interval.min(KNOCK) } else { spread(interval) };
        tokio::time::sleep_until(started + pause).await;
    }
}

/// Up to 3 % less, so that the checks of targets that were registered together drift apart.
fn spread(interval: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 1000;
    interval - interval.mul_f64(0.03 * chance as f64 / 1000.0)
}

async fn check(address: SocketAddr, check: &HealthCheck) -> Result<(), Sickness> {
    match tokio::time::timeout(check.timeout, ask(address, &check.path)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Sickness::Other(format!("no answer within {:?}", check.timeout))),
    }
}

async fn ask(address: SocketAddr, path: &str) -> Result<(), Sickness> {
    let stream = TcpStream::connect(address).await.map_err(|error| Sickness::Refused(refusal(&error)))?;
    let other = |error: hyper::Error| Sickness::Other(describe(&error));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, concat!("windlass-health-check/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Sickness::Other(format!("{path:?} is no path: {error}")))?;
    // Both in this task, so that a check that is given up leaves nothing behind.
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        read(response).await;
        Ok(status)
    };
    let mut answer = std::pin::pin!(answer);
    let status = tokio::select! {
        status = answer.as_mut() => status,
        // What it still had to say is known to the answer.
        _ = connection => answer.await,
    };
    let status = status.map_err(other)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(Sickness::Other(format!("answered {}", status.as_u16()))),
    }
}

/// Reads what was answered, so that the target does not see its answer refused.
async fn read(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut length = 0;
    while length < BODY_LIMIT
        && let Some(Ok(frame)) = body.frame().await
    {
        length += frame.data_ref().map_or(0, Bytes::len);
    }
}
