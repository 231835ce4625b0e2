//! The client of [`super::Server`]: HTTP over the holder's socket or TCP, a connection for each request.
//!
//! Always true: what is asked is answered within [`DEADLINE`] or given up, streams and what takes as
//! long as it takes excepted; those are given up when nobody is there any more.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::Stream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use super::peer::AddressError;
use super::peer::Peer;
use super::pipelines;
use super::runs::{Filter, Order};
use super::{Acted, FleetDown, FleetList, HolderView, Lifted, Locked, Problem, RunList, SOCKET, Submission};
use super::{acts, fleets, gc};
use crate::engine::Target;
use crate::engine::gc::{self as reaper, GcView};
use crate::ids::{FleetId, PipelineName, RunId, StepId};
use crate::intake::{DeliveryList, DeliveryView, PipelineList};
use crate::ipc;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::{RunView, Status};
use crate::secret::Secret;

/// Most bytes of an answer: thousands of stages with thousands of steps.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Who answers at all does it within this time; a holder that is stopped or hangs never does.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Asks the holder of a data directory, or a server.
#[derive(Debug, Clone)]
pub struct Client {
    peer: Peer,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side went away, or is going.
    #[error("{who} does not answer: {message}")]
    Gone { who: String, message: String },
    /// It is there, and says nothing.
    #[error("{who} gave no answer within {} s: it may be stopped, or have too much to do", DEADLINE.as_secs())]
    Silent { who: String },
    /// It answered that it cannot or will not.
    #[error(transparent)]
    Problem(Problem),
    /// It answered something that this program does not understand.
    #[error("{who} answers what this windlass does not understand: {message}")]
    Foreign { who: String, message: String },
}

impl Client {
    /// A client of the process that serves `data`; `None` when nobody does.
    pub async fn connect(data: &Path) -> io::Result<Option<Self>> {
        match ipc::connect(data, SOCKET).await {
            Ok(_) => Ok(Some(Self { peer: Peer::Holder(data.to_owned()) })),
            // A socket that nobody listens at is what a holder that was killed leaves.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A client of the server at `url`, `http://host:port`, which is not asked yet.
    pub fn server(url: &str, token: Option<Secret>) -> Result<Self, AddressError> {
        Ok(Self { peer: Peer::server(url, token)? })
    }

    /// Whether the other side sees by a credential who acts.
    fn is_proved(&self) -> bool {
        self.peer.token().is_some()
    }

    /// What is said of who acts: nothing where a credential tells.
    fn said(&self, actor: &Actor) -> Option<String> {
        (!self.is_proved()).then(|| actor.name.clone())
    }

    pub async fn holder(&self) -> Result<HolderView, Error> {
        self.get("/api/v1/holder").await
    }

    /// Runs, newest first.
    pub async fn runs(
        &self,
        pipeline: Option<PipelineName>,
        status: Option<Status>,
        limit: Option<u32>,
    ) -> Result<RunList, Error> {
        let filter = Filter { pipeline, status, limit };
        // Names, words and numbers: nothing that needs escaping.
        let mut query = Vec::new();
        query.extend(filter.pipeline.map(|pipeline| format!("pipeline={pipeline}")));
        query.extend(filter.status.map(|status| format!("status={}", status.as_str())));
        query.extend(filter.limit.map(|limit| format!("limit={limit}")));
        self.get(&format!("/api/v1/runs?{}", query.join("&"))).await
    }

    /// Creates a run; the holder drives it.
    pub async fn submit(&self, submission: &Submission) -> Result<RunView, Error> {
        if !self.is_proved() {
            return self.post("/api/v1/runs", submission).await;
        }
        let mut submission = submission.clone();
        submission.origin.actor = Actor::unverified("");
        self.post("/api/v1/runs", &submission).await
    }

    pub async fn run(&self, run: &RunId) -> Result<RunView, Error> {
        self.get(&path(run, "")).await
    }

    /// Lets the holder drive the run.
    pub async fn resume(&self, run: &RunId) -> Result<RunView, Error> {
        self.post(&path(run, "/resume"), &()).await
    }

    /// Does what somebody asks of a run. Durable when it returns.
    pub async fn act(&self, run: &RunId, act: &Act, actor: &Actor) -> Result<Acted, Error> {
        self.post(&path(run, "/acts"), &Order { act: act.clone(), actor: self.said(actor) }).await
    }

    /// The run as it is now, and again whenever it changed; see [`super::changes`].
    pub async fn changes(
        &self,
        run: &RunId,
    ) -> Result<impl Stream<Item = Result<RunView, Error>> + Send + Unpin + use<>, Error> {
        let request = self.request(Method::GET, &path(run, "/changes"), Bytes::new());
        let response = self.in_time(self.send(request?)).await?;
        let events = Events { client: self.clone(), body: response.into_body(), held: Vec::new() };
        Ok(Box::pin(futures_util::stream::try_unfold(events, async |mut events| {
            Ok(events.next().await?.map(|view| (view, events)))
        })))
    }

    /// Starts a run of a pipeline that the server knows.
    pub async fn trigger(
        &self,
        pipeline: &PipelineName,
        reference: Option<&str>,
        params: BTreeMap<String, String>,
        actor: &Actor,
    ) -> Result<RunView, Error> {
        let reference = reference.map(ToOwned::to_owned);
        let order = pipelines::Order { reference, params, actor: self.said(actor), key: None };
        self.post(&format!("/api/v1/pipelines/{pipeline}/trigger"), &order).await
    }

    /// Every pipeline file of the server.
    pub async fn pipelines(&self) -> Result<PipelineList, Error> {
        self.get("/api/v1/pipelines").await
    }

    /// What came in, newest first.
    pub async fn deliveries(&self, limit: Option<u32>) -> Result<DeliveryList, Error> {
        let query = limit.map(|limit| format!("?limit={limit}")).unwrap_or_default();
        self.get(&format!("/api/v1/deliveries{query}")).await
    }

    /// Handles a delivery again, and answers what came of it.
    pub async fn again(&self, id: &str) -> Result<DeliveryView, Error> {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        self.post(&format!("/api/v1/deliveries/{id}/again"), &()).await
    }

    /// Fleets by name.
    pub async fn fleets(&self) -> Result<FleetList, Error> {
        self.get("/api/v1/fleets").await
    }

    /// Takes a fleet down; returns when it is.
    pub async fn down(&self, fleet: &FleetId, actor: &Actor) -> Result<FleetDown, Error> {
        let path = format!("/api/v1/fleets/{}/{}/down", fleet.environment, fleet.service);
        let body = serde_json::to_vec(&fleets::Order { actor: self.said(actor) });
        let body = body.map_err(|error| self.foreign(error))?;
        let request = self.request(Method::POST, &path, body.into())?;
        // Takes as long as the instances drain.
        self.while_there(self.answer(request)).await
    }

    /// Ends what nobody needs any more, or lists it; returns when it is gone.
    pub async fn gc(&self, order: &reaper::Order, actor: &Actor) -> Result<GcView, Error> {
        let reaper::Order { dry_run, service } = order.clone();
        let body = serde_json::to_vec(&gc::Order { actor: self.said(actor), dry_run, service });
        let body = body.map_err(|error| self.foreign(error))?;
        let request = self.request(Method::POST, "/api/v1/gc", body.into())?;
        // Takes as long as the cloud does.
        self.while_there(self.answer(request)).await
    }

    /// What a step said, behind the first `offset` bytes; with `follow` until it has ended.
    pub async fn log(
        &self,
        step: &StepId,
        offset: u64,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<>, Error> {
        let attempt = &step.attempt;
        let query = format!(
            "/logs?stage={}&attempt={}&step={}&offset={offset}&follow={follow}",
            attempt.stage, attempt.attempt, step.step
        );
        let request = self.request(Method::GET, &path(&attempt.run, &query), Bytes::new());
        let response = self.in_time(self.send(request?)).await?;
        let state = (self.clone(), response.into_body());
        Ok(Box::pin(futures_util::stream::try_unfold(state, async |(client, mut body)| {
            loop {
                let Some(frame) = client.while_there(async { Ok(body.frame().await) }).await? else {
                    return Ok(None);
                };
                let frame = frame.map_err(|error| client.gone(error))?;
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some((bytes, (client, body))));
                }
            }
        })))
    }

    /// Creates the run that takes a fleet back to what it ran before; the holder drives it.
    pub async fn rollback(&self, fleet: &FleetId, actor: &Actor, reason: &str) -> Result<RunView, Error> {
        let path = format!("/api/v1/fleets/{}/{}/rollback", fleet.environment, fleet.service);
        self.order(&path, actor, reason).await
    }

    /// Lets no run enter until somebody unlocks it.
    pub async fn lock(&self, target: &Target, actor: &Actor, reason: &str) -> Result<Locked, Error> {
        self.order(&format!("{}/lock", place(target)), actor, reason).await
    }

    /// Lets runs enter again.
    pub async fn unlock(&self, target: &Target, actor: &Actor) -> Result<Locked, Error> {
        self.order(&format!("{}/unlock", place(target)), actor, "").await
    }

    /// Allows an image again that is in quarantine; `image` is its id or name.
    pub async fn lift(
        &self,
        service: &PipelineName,
        image: &str,
        actor: &Actor,
        reason: &str,
    ) -> Result<Lifted, Error> {
        let image = escaped(image);
        self.order(&format!("/api/v1/services/{service}/images/{image}/lift"), actor, reason).await
    }

    async fn order<T: DeserializeOwned>(&self, path: &str, actor: &Actor, reason: &str) -> Result<T, Error> {
        let (actor, reason) = (self.said(actor), reason.to_owned());
        self.post(path, &acts::Order { actor, reason }).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::GET, path, Bytes::new());
        self.in_time(self.answer(request?)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(error))?;
        let request = self.request(Method::POST, path, body.into());
        self.in_time(self.answer(request?)).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.peer.host())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.foreign(error))?;
        if let Some(token) = self.peer.token() {
            let value = format!("Bearer {}", token.expose());
            let mut value = HeaderValue::try_from(value).map_err(|error| self.foreign(error))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Gives an answer up that does not come in time.
    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Silent { who: self.peer.by_process() }),
        }
    }

    /// Waits for an answer as long as somebody is there to give it. The end of a connection tells that
    /// nobody is, but not always: one that was stopped still has connections made to it.
    async fn while_there<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::pin!(answer);
        loop {
            if let Ok(answer) = tokio::time::timeout(SILENCE, answer.as_mut()).await {
                return answer;
            }
            tokio::select! {
                biased;
                answer = answer.as_mut() => return answer,
                there = self.is_there() => there?,
            }
        }
    }

    /// Fails when the other side does not answer anything.
    async fn is_there(&self) -> Result<(), Error> {
        let request = self.request(Method::GET, "/healthz", Bytes::new())?;
        match self.in_time(self.send(request)).await {
            // Whatever it says, it does say something.
            Ok(_) | Err(Error::Problem(_) | Error::Foreign { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn answer<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, Error> {
        let body = self.read(self.send(request).await?).await?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(error))
    }

    /// Sends a request and waits for the head of its answer, which is a good one.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let stream = self.peer.open().await.map_err(|error| self.gone(error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.gone(error))?;
        // Ends with the connection; what goes wrong with it, the request says.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| self.gone(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.read(response).await?;
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(Error::Problem(problem)),
            Err(_) => Err(self.foreign(status)),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, Error> {
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok(body.map_err(|error| self.gone(error))?.to_bytes())
    }

    fn gone(&self, error: impl ToString) -> Error {
        Error::Gone { who: self.peer.to_string(), message: error.to_string() }
    }

    fn foreign(&self, error: impl ToString) -> Error {
        Error::Foreign { who: self.peer.to_string(), message: error.to_string() }
    }
}

fn place(target: &Target) -> String {
    match target {
        Target::Environment(environment) => format!("/api/v1/environments/{environment}"),
        Target::Fleet(fleet) => format!("/api/v1/fleets/{}/{}", fleet.environment, fleet.service),
    }
}

fn path(run: &RunId, rest: &str) -> String {
    format!("/api/v1/runs/{run}{rest}")
}

/// When nothing was heard for so long, it is made sure that the other side still listens.
const SILENCE: Duration = Duration::from_secs(5);

/// Server-sent events that are read: `event` and `data` lines, an empty line after each, comments in
/// between (HTML standard, section 9.2).
struct Events {
    client: Client,
    body: Incoming,
    /// What came of the event that is not complete yet.
    held: Vec<u8>,
}

impl Events {
    async fn next(&mut self) -> Result<Option<RunView>, Error> {
        let mut searched = 0;
        loop {
            while let Some(end) = end_of_event(&self.held, searched) {
                let event: Vec<u8> = self.held.drain(..end).collect();
                searched = 0;
                if let Some(view) = self.read(&event)? {
                    return Ok(Some(view));
                }
            }
            searched = self.held.len().saturating_sub(1);
            if self.held.len() > ANSWER_LIMIT {
                return Err(self.client.foreign("an event without an end"));
            }
            // A run may have nothing to say for days.
            let frame = self.client.while_there(async { Ok(self.body.frame().await) }).await?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| self.client.gone(error))?;
            self.held.extend(frame.into_data().unwrap_or_default());
        }
    }

    fn read(&self, event: &[u8]) -> Result<Option<RunView>, Error> {
        let text = std::str::from_utf8(event).map_err(|error| self.client.foreign(error))?;
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        let Some(data) = field("data:") else { return Ok(None) };
        let foreign = |error| self.client.foreign(error);
        match field("event:") {
            Some("problem") => Err(Error::Problem(serde_json::from_str(data).map_err(foreign)?)),
            _ => Ok(Some(serde_json::from_str(data).map_err(foreign)?)),
        }
    }
}

/// Where the first event ends, its empty line included. The first `searched` bytes are known to hold
/// none.
fn end_of_event(held: &[u8], searched: usize) -> Option<usize> {
    let rest = held.get(searched..)?;
    rest.windows(2).position(|pair| pair == b"\n\n").map(|at| searched + at + 2)
}

/// A piece of a path, with all but what never means anything there escaped (RFC 3986, section 2.3).
fn escaped(piece: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    piece.bytes().map(escape).collect()
}
