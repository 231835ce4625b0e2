//! Whether what is healthy is also what was meant: the setting `version` of a fleet.
//!
//! Each new member is asked itself, past the balancer, and its answer has to contain the version of the
//! image. Until it does the member does not count as healthy; it runs out of its patience like any
//! other. Who answered rightly once is not asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cloud::Instance;
use crate::ids::{Digest, InstanceId};
use crate::rollout::{Check, Observed, Traffic};

/// So much of an answer is read.
const LONGEST: usize = 64 * 1024;
/// So much of a wrong one is told.
const TOLD: usize = 120;
/// One that answered wrongly is asked again after this, and each time later, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What new members have to answer, and who did.
pub struct Versions {
    path: String,
    /// `42-9f3c2a1b`
    version: String,
    release: Digest,
    /// Who was launched before is not asked: it served before anybody wanted to know.
    since: Timestamp,
    timeout: Duration,
    right: BTreeSet<InstanceId>,
    wrong: BTreeMap<InstanceId, Wrong>,
}

/// What somebody answered instead.
struct Wrong {
    why: String,
    pause: Duration,
    again: Instant,
}

impl Versions {
    pub fn new(path: &str, version: String, release: Digest, since: Timestamp, timeout: Duration) -> Self {
        let (right, wrong) = (BTreeSet::new(), BTreeMap::new());
        Self { path: path.to_owned(), version, release, since, timeout, right, wrong }
    }

    /// Asks the new members that are healthy and did not answer yet. Who does not answer rightly is
    /// unhealthy in `observed`, with what it said.
    pub async fn confirm(&mut self, instances: &BTreeMap<InstanceId, Instance>, observed: &mut Observed) {
        let asked = observed.members.iter_mut().filter(|member| {
            member.release == self.release
                && member.launched_at >= self.since
                && !self.right.contains(&member.id)
                && matches!(member.traffic, Traffic::Healthy | Traffic::Standby(Check::Healthy))
        });
        let asked: Vec<_> =
            asked.filter_map(|member| Some((instances.get(&member.id)?.address, member))).collect();
        let now = Instant::now();
        let due = |id: &InstanceId| self.wrong.get(id).is_none_or(|wrong| wrong.again <= now);
        let answers = join_all(asked.iter().map(async |(address, member)| match due(&member.id) {
            true => Some(self.ask(*address).await),
            false => None,
        }))
        .await;
        for ((address, member), answer) in asked.into_iter().zip(answers) {
            match answer {
                Some(Ok(())) => {
                    self.wrong.remove(&member.id);
                    self.right.insert(member.id.clone());
                    continue;
                }
                Some(Err(why)) => {
                    let pause = self.wrong.get(&member.id).map_or(AGAIN.0, |wrong| wrong.pause * 2);
                    let pause = pause.min(AGAIN.1);
                    let why = format!("http://{address}{} {why}", self.path);
                    self.wrong.insert(member.id.clone(), Wrong { why, pause, again: Instant::now() + pause });
                }
                None => {}
            }
            let Some(wrong) = self.wrong.get(&member.id) else { continue };
            member.traffic = match member.traffic {
                Traffic::Standby(_) => Traffic::Standby(Check::Unhealthy(wrong.why.clone())),
                _ => Traffic::Unhealthy(wrong.why.clone()),
            };
        }
        let there: BTreeSet<&InstanceId> = instances.keys().collect();
        self.wrong.retain(|id, _| there.contains(id));
    }

    /// How long until somebody is asked again; `None` where nobody is.
    pub fn again(&self) -> Option<Duration> {
        let next = self.wrong.values().map(|wrong| wrong.again).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// What is wrong with what the instance answers, to be said after its address.
    async fn ask(&self, address: SocketAddr) -> Result<(), String> {
        let answer = match tokio::time::timeout(self.timeout, get(address, &self.path)).await {
            Ok(answer) => answer.map_err(|error| format!("does not answer: {error}"))?,
            Err(_) => return Err(format!("does not answer within {} ms", self.timeout.as_millis())),
        };
        let (status, body) = answer;
        let body = String::from_utf8_lossy(&body);
        match (status, names(&body, &self.version)) {
            (200..=299, true) => Ok(()),
            (200..=299, false) => Err(format!("does not name {}: it says {}", self.version, told(&body))),
            (status, _) => Err(format!("answers {status}: {}", told(&body))),
        }
    }
}

/// Whether the text has the version, and not as a part of another: `14-9f3c2a1b` does not name
/// `4-9f3c2a1b`; the name of an instance, `shop-production-4-9f3c2a1b-1`, does. A version without a commit is
/// not named by one with a commit.
fn names(body: &str, version: &str) -> bool {
    body.match_indices(version).any(|(at, found)| {
        let before = body[..at].chars().next_back();
        let after = body[at + found.len()..].chars().next();
        let goes_on = after == Some('-') && !version.contains('-');
        !goes_on && !before.into_iter().chain(after).any(char::is_alphanumeric)
    })
}

/// The beginning of what was answered, on one line.
fn told(body: &str) -> String {
    let line = body.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{:?} …", &line[..end]),
        None => format!("{line:?}"),
    }
}

async fn get(
    address: SocketAddr,
    path: &str,
) -> Result<(u16, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, address.to_string())
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let asking = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await?;
        Ok((status, body.to_bytes()))
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        answer = &mut asking => answer,
        // It may be over with the last byte of the answer.
        _ = &mut connection => asking.await,
    }
}

#[cfg(test)]
mod tests;
