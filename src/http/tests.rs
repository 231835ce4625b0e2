use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

mod tcp;

use crate::clock::SystemClock;
use crate::engine::{Parts, Slots, Surveyor};
use crate::run::command::Act;
use crate::run::event::{Actor, Failure, Outcome, Shipment};
use crate::run::view::{StageStatus, Status};
use crate::stage::{Attempt, Next, Stage, Work};
use crate::store::memory::Memory;

/// A holder that serves a directory, and whose one kind of stage does what the test says.
pub(super) struct Holder {
    pub(super) data: tempfile::TempDir,
    pub(super) client: Client,
    pub(super) engine: Engine,
    /// What the stages say, and when they end: each says the lines that are new.
    script: watch::Sender<Script>,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

#[derive(Debug, Clone, Default)]
struct Script {
    lines: Vec<&'static str>,
    ends: bool,
}

struct Scripted(watch::Receiver<Script>);

#[async_trait]
impl Stage for Scripted {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let Next::Do(mut step) = attempt.next::<()>("Say").await? else { return Ok(Outcome::default()) };
        let (mut script, mut said) = (self.0.clone(), 0);
        let done = loop {
            let now = script.borrow_and_update().clone();
            now.lines[said..].iter().for_each(|line| step.say(line));
            said = now.lines.len();
            if now.ends {
                break Ok(());
            }
            let changed = async { script.changed().await.map_err(|_| Failure::infrastructure("no script")) };
            if let Err(failure) = attempt.unless_stopped(changed).await {
                break Err(failure);
            }
        };
        attempt.finish(*step, done).await.map(|()| Outcome::default())
    }

    fn stop_bound(&self, _: &Work) -> Duration {
        Duration::from_secs(10)
    }
}

struct NoGit;

#[async_trait]
impl Surveyor for NoGit {
    async fn survey(&self, _: &Origin, _: &CommitSha) -> Result<Shipment, String> {
        Err("there is no git here".to_owned())
    }
}

impl Holder {
    pub(super) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (script, scripts) = watch::channel(Script::default());
        let engine = Engine::new(Parts {
            data: data.path().to_owned(),
            store: Arc::new(Memory::new()),
            clock: Arc::new(SystemClock),
            stages: BTreeMap::from([("script", Arc::new(Scripted(scripts)) as Arc<dyn Stage>)]),
            surveyor: Arc::new(NoGit),
            clouds: crate::app::clouds(data.path()).unwrap().0,
            slots: Slots::new(4),
        });
        let shutdown = CancellationToken::new();
        let listener = crate::ipc::listen(data.path(), SOCKET).unwrap();
        let serving = tokio::spawn(serve(listener, engine.clone(), data.path().to_owned(), shutdown.clone()));
        let client = Client::connect(data.path()).await.unwrap().unwrap();
        Self { data, client, engine, script, shutdown, serving }
    }

    pub(super) async fn submit(&self, key: &str) -> RunView {
        self.client
            .submit(&submission("name: hello\nstages: { one: { steps: [{ run: say }] } }", key))
            .await
            .unwrap()
    }

    pub(super) fn say(&self, line: &'static str) {
        self.script.send_modify(|script| script.lines.push(line));
    }

    pub(super) fn end(&self) {
        self.script.send_modify(|script| script.ends = true);
    }

    /// Asks in any way, and answers status, kind of content and body.
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, String, Bytes) {
        let stream = crate::ipc::connect(self.data.path(), SOCKET).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "x");
        let response =
            sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let status = response.status();
        (status, kind.unwrap_or_default(), response.into_body().collect().await.unwrap().to_bytes())
    }
}

pub(super) fn submission(pipeline: &str, key: &str) -> Submission {
    let origin = Origin::new(pipeline, "/hello.yaml", Actor::named("octocat").unwrap());
    Submission { origin, trigger_key: Some(key.to_owned()) }
}

#[tokio::test]
async fn a_submitted_run_is_driven_and_followed_to_its_end() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    assert_eq!(run.to_string(), "hello/1");
    let mut changes = holder.client.changes(&run).await.unwrap();
    while changes.next().await.unwrap().unwrap().stages[0].status != StageStatus::Running {}
    let list = holder.client.runs(None, None, None).await.unwrap();
    assert_eq!((list.runs.len(), list.runs[0].status.as_str()), (1, "running"));
    holder.end();
    let mut last = None;
    while let Some(view) = changes.next().await {
        last = Some(view.unwrap());
    }
    let last = last.unwrap();
    assert_eq!(last.status, Status::Succeeded);
    assert_eq!(holder.client.run(&run).await.unwrap(), last);
    let succeeded = holder.client.runs(None, Some(Status::Succeeded), Some(5)).await.unwrap();
    assert_eq!(succeeded.runs.len(), 1);
    assert_eq!(holder.client.runs(None, Some(Status::Failed), None).await.unwrap().runs, []);
}

#[tokio::test]
async fn following_causes_no_changes() {
    let holder = Holder::start().await;
    let run = holder.submit("key").await.run;
    let mut changes = holder.client.changes(&run).await.unwrap();
    while changes.next().await.unwrap().unwrap().stages[0].status != StageStatus::Running {}
    // Ten would fit in.
    let second = tokio::time::sleep(Duration::from_secs(1));
    let views = changes.by_ref().take_until(second).count().await;
    assert!(views <= 2, "{views} views of a run in which nothing happens");
    holder.end();
}

#[tokio::test]
async fn submitting_again_makes_no_second_run() {
    let holder = Holder::start().await;
    let first = holder.submit("same").await.run;
    assert_eq!(holder.submit("same").await.run, first);
    assert_ne!(holder.submit("other").await.run, first);
}

#[tokio::test]
async fn a_run_is_cancelled_through_the_api() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let cancel = Act::Cancel { reason: "enough".to_owned() };
    let actor = Actor::named("octocat").unwrap();
    assert!(holder.client.act(&run, &cancel, &actor).await.unwrap().driven);
    let changes = holder.client.changes(&run).await.unwrap();
    let last = changes.fold(None, async |_, view| Some(view.unwrap())).await.unwrap();
    assert_eq!(last.status, Status::Cancelled);
    assert_eq!(last.cancelled_by.as_deref(), Some("octocat: enough"));
    let again = holder.client.act(&run, &cancel, &actor).await;
    assert!(matches!(again, Err(client::Error::Problem(problem)) if problem.status == 409));
}

#[tokio::test]
async fn a_run_that_nobody_drives_says_so_until_it_is_resumed() {
    let holder = Holder::start().await;
    let Submission { origin, .. } =
        submission("name: hello\nstages: { one: { steps: [{ run: say }] } }", "a");
    let run = holder.engine.create("hello".parse().unwrap(), origin, None).await.unwrap();
    let waits = Some("interrupted: windlass resume hello/1 carries it on".to_owned());
    assert_eq!(holder.client.run(&run).await.unwrap().waiting_for, waits);
    assert_eq!(holder.client.runs(None, None, None).await.unwrap().runs[0].waiting_for, waits);
    assert_eq!(holder.client.changes(&run).await.unwrap().count().await, 1);
    holder.end();
    holder.client.resume(&run).await.unwrap();
    let last =
        holder.client.changes(&run).await.unwrap().fold(None, async |_, view| Some(view.unwrap())).await;
    assert_eq!(last.unwrap().status, Status::Succeeded);
}

#[tokio::test]
async fn output_is_followed_until_its_step_has_ended() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let stream = crate::ipc::connect(holder.data.path(), SOCKET).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let path = format!("/api/v1/runs/{run}/logs?stage=one&step=1&attempt=1&follow=true");
    let request = Request::get(path).header("host", "x").body(Full::new(Bytes::new())).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let mut seen = String::new();
    for line in ["first", "second"] {
        holder.say(line);
        while !seen.contains(line) {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            seen.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }
    holder.end();
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
    let (status, _, whole) = holder
        .ask(Method::GET, &format!("/api/v1/runs/{run}/logs?stage=one&step=1&offset=5"), Vec::new())
        .await;
    assert_eq!((status, whole), (StatusCode::OK, Bytes::from(seen.split_off(5))));
}

#[tokio::test]
async fn what_cannot_be_done_is_a_problem() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let invalid = serde_json::to_vec(&submission("name: hello\nstages: {}", "b")).unwrap();
    let mut liar = submission("name: hello\nstages: { one: { steps: [{ run: say }] } }", "c");
    liar.origin.actor = Actor::command_line_policy();
    let liar = serde_json::to_vec(&liar).unwrap();
    let act = |text: &str| text.as_bytes().to_vec();
    let promote = act(r#"{"act":"promote","environment":"production","actor":"octocat"}"#);
    let nameless = act(r#"{"act":"cancel","reason":"","actor":"\u0007"}"#);
    let (get, post) = (Method::GET, Method::POST);
    let (runs, acts) = ("/api/v1/runs", format!("/api/v1/runs/{run}/acts"));
    for (method, path, body, expected) in [
        (&get, "/nothing", Vec::new(), 404),
        (&get, "/api/v1/runs/hello/99", Vec::new(), 404),
        (&get, "/api/v1/runs/hello/99/changes", Vec::new(), 404),
        (&get, "/api/v1/runs/hello/x", Vec::new(), 404),
        (&get, "/api/v1/runs/hello/1/logs?stage=none&step=1", Vec::new(), 404),
        (&get, "/api/v1/runs/hello/1/logs", Vec::new(), 400),
        (&get, "/api/v1/runs?status=fine", Vec::new(), 400),
        (&Method::DELETE, runs, Vec::new(), 405),
        (&post, runs, b"{".to_vec(), 400),
        (&post, runs, vec![b' '; BODY_LIMIT + 1], 413),
        (&post, runs, invalid, 422),
        (&post, runs, liar, 400),
        (&post, &acts, promote, 404),
        (&post, &acts, nameless, 400),
    ] {
        let (status, kind, body) = holder.ask(method.clone(), path, body).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!((status.as_u16(), kind.as_str()), (expected, "application/problem+json"), "{path} {text}");
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.status, expected);
        assert!(problem.kind.starts_with("urn:windlass:problem:") && !problem.detail.is_empty(), "{text}");
    }
}

#[tokio::test]
async fn leaving_ends_what_streams_and_takes_the_socket_along() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let mut changes = holder.client.changes(&run).await.unwrap();
    changes.next().await.unwrap().unwrap();
    holder.shutdown.cancel();
    while changes.next().await.is_some() {}
    holder.serving.await.unwrap().unwrap();
    assert!(Client::connect(holder.data.path()).await.unwrap().is_none());
    assert!(!holder.data.path().join(SOCKET).exists());
}

#[tokio::test]
async fn the_socket_of_a_holder_that_died_is_nobody() {
    let data = tempfile::tempdir().unwrap();
    assert!(Client::connect(data.path()).await.unwrap().is_none());
    assert!(Client::connect(&data.path().join("none")).await.unwrap().is_none());
    drop(crate::ipc::listen(data.path(), SOCKET).unwrap());
    assert!(data.path().join(SOCKET).exists());
    assert!(Client::connect(data.path()).await.unwrap().is_none());
}
