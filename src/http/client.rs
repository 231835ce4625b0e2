//! The client of [`super::serve`]: HTTP over the holder's socket, a connection for each request.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::Stream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::runs::{Filter, Order};
use super::{Acted, FleetDown, FleetList, HolderView, Lifted, Locked, Problem, RunList, SOCKET, Submission};
use super::{acts, fleets};
use crate::engine::Target;
use crate::ids::{FleetId, PipelineName, RunId};
use crate::ipc;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::{RunView, Status};

/// Most bytes of an answer: thousands of stages with thousands of steps.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Asks the holder of a data directory.
#[derive(Debug, Clone)]
pub struct Client {
    data: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The holder went away, or is going.
    #[error("the process that holds {} does not answer: {message}", .data.display())]
    Gone { data: PathBuf, message: String },
    /// It answered that it cannot or will not.
    #[error(transparent)]
    Problem(Problem),
    /// It answered something that this program does not understand.
    #[error("the process that holds {} answers what this windlass does not understand: {message}", .data.display())]
    Foreign { data: PathBuf, message: String },
}

impl Client {
    /// A client of the process that serves `data`; `None` when nobody does.
    pub async fn connect(data: &Path) -> io::Result<Option<Self>> {
        match ipc::connect(data, SOCKET).await {
            Ok(_) => Ok(Some(Self { data: data.to_owned() })),
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
        self.post("/api/v1/runs", submission).await
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
        self.post(&path(run, "/acts"), &Order { act: act.clone(), actor: actor.name.clone() }).await
    }

    /// The run as it is now, and again whenever it changed; see [`super::changes`].
    pub async fn changes(
        &self,
        run: &RunId,
    ) -> Result<impl Stream<Item = Result<RunView, Error>> + Send + Unpin + use<>, Error> {
        let request = self.request(Method::GET, &path(run, "/changes"), Bytes::new());
        let response = self.send(request?).await?;
        let events = Events { client: self.clone(), body: response.into_body(), held: Vec::new() };
        Ok(Box::pin(futures_util::stream::try_unfold(events, async |mut events| {
            Ok(events.next().await?.map(|view| (view, events)))
        })))
    }

    /// Fleets by name.
    pub async fn fleets(&self) -> Result<FleetList, Error> {
        self.get("/api/v1/fleets").await
    }

    /// Takes a fleet down; returns when it is.
    pub async fn down(&self, fleet: &FleetId, actor: &Actor) -> Result<FleetDown, Error> {
        let path = format!("/api/v1/fleets/{}/{}/down", fleet.environment, fleet.service);
        self.post(&path, &fleets::Order { actor: actor.name.clone() }).await
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
        let (actor, reason) = (actor.name.clone(), reason.to_owned());
        self.post(path, &acts::Order { actor, reason }).await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::GET, path, Bytes::new());
        self.answer(request?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let body = serde_json::to_vec(body).map_err(|error| self.foreign(error))?;
        let request = self.request(Method::POST, path, body.into());
        self.answer(request?).await
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Error> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "windlass")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.foreign(error))
    }

    async fn answer<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, Error> {
        let body = self.read(self.send(request).await?).await?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(error))
    }

    /// Sends a request and waits for the head of its answer, which is a good one.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let stream = ipc::connect(&self.data, SOCKET).await.map_err(|error| self.gone(error))?;
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
        Error::Gone { data: self.data.clone(), message: error.to_string() }
    }

    fn foreign(&self, error: impl ToString) -> Error {
        Error::Foreign { data: self.data.clone(), message: error.to_string() }
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

/// When nothing was heard for so long, it is made sure that the other side still listens: the end of
/// a connection tells that at once, but not always.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(5);

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
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                // A run may have nothing to say for days. Is anybody there to say it?
                Err(_) => {
                    drop(ipc::connect(&self.client.data, SOCKET).await.map_err(|e| self.client.gone(e))?)
                }
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    let frame = frame.map_err(|error| self.client.gone(error))?;
                    self.held.extend(frame.into_data().unwrap_or_default());
                }
            }
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
