//! The same over TCP: guarded, proved, described.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::{Person, SecretSource, Settings};
use crate::secret::Secret;

const TOKEN: &str = "0123456789abcdef-octocat";

/// A holder that serves TCP too.
struct Open {
    holder: Holder,
    address: SocketAddr,
    server: Arc<Server>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Open {
    /// With a token of octocat's, or without any.
    async fn start(token: Option<&str>) -> Self {
        let holder = Holder::start().await;
        let mut settings = Settings::default();
        if let Some(token) = token {
            let path = holder.data.path().join("token");
            std::fs::write(&path, token).unwrap();
            let octocat = Person { token: Some(SecretSource::File(path)), ..Person::default() };
            settings.people.insert("octocat".to_owned(), octocat);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let data = holder.data.path().to_owned();
        let server = Arc::new(Server::new(holder.engine.clone(), data, holder.shutdown.clone()).at(address));
        let (serves, access) = (server.clone(), Access::new(&settings).unwrap());
        let serving = tokio::spawn(async move { serves.serve_tcp(listener, access).await });
        Self { holder, address, server, serving }
    }

    fn client(&self, token: Option<&str>) -> Client {
        let token = token.map(|token| Secret::new(token.to_owned()));
        Client::server(&format!("http://{}", self.address), token).unwrap()
    }

    /// Sends bytes, and answers all that comes back.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// A request line, and a body; with what else a good request has.
    async fn ask(&self, line: &str, body: &[u8]) -> String {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }
}

#[tokio::test]
async fn a_run_is_taken_to_its_end_over_tcp() {
    let open = Open::start(None).await;
    let client = open.client(None);
    let text = "name: hello\nstages: { one: { steps: [{ run: say }] } }";
    let run = client.submit(&submission(text, "a")).await.unwrap();
    assert!(!run.actor_verified);
    open.holder.say("said");
    open.holder.end();
    let last = client.changes(&run.run).await.unwrap().fold(None, async |_, view| Some(view.unwrap())).await;
    assert_eq!(last.unwrap().status, Status::Succeeded);
    let step = "one".parse().unwrap();
    let attempt = crate::ids::AttemptId { run: run.run, stage: step, attempt: 1 };
    let step = crate::ids::StepId { attempt, step: 1 };
    let chunks: Vec<_> = client.log(&step, 0, true).await.unwrap().collect().await;
    let said: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
    assert!(String::from_utf8(said).unwrap().ends_with(" said\n"));
    assert_eq!(client.holder().await.unwrap().url, Some(format!("http://{}", open.address)));
}

#[tokio::test]
async fn a_token_says_who_acts_and_nothing_else_does() {
    let open = Open::start(Some(TOKEN)).await;
    let text = "name: hello\nstages: { one: { steps: [{ run: say }] } }";
    let unproved = open.client(None).submit(&submission(text, "a")).await.unwrap_err();
    assert!(matches!(unproved, client::Error::Problem(problem) if problem.status == 401));
    let client = open.client(Some(TOKEN));
    assert_eq!(client.holder().await.unwrap().you.as_deref(), Some("octocat"));
    // Whoever the command line takes itself for: the token counts.
    let mut somebody = submission(text, "a");
    somebody.origin.actor = Actor { name: "ada".to_owned(), verified: true };
    let run = client.submit(&somebody).await.unwrap();
    assert_eq!((run.actor.as_str(), run.actor_verified), ("octocat", true));
    let body = br#"{"act":"cancel","reason":"","actor":"ada"}"#;
    let head = format!(
        "POST /api/v1/runs/hello/1/acts HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        open.address,
        body.len()
    );
    let said = open.raw(&[head.as_bytes(), body].concat()).await;
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    let cancel = Act::Cancel { reason: String::new() };
    let acted = client.act(&run.run, &cancel, &Actor::named("ada").unwrap()).await.unwrap();
    assert_eq!(acted.run.cancelled_by.as_deref(), Some("octocat"));
}

#[tokio::test]
async fn nobody_makes_himself_verified_without_a_token() {
    let open = Open::start(None).await;
    let mut liar = submission("name: hello\nstages: { one: { steps: [{ run: say }] } }", "a");
    liar.origin.actor.verified = true;
    let on_socket = open.holder.client.submit(&liar).await.unwrap();
    assert!(!on_socket.actor_verified);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_take_nothing_for_what_it_is_not() {
    let open = Open::start(None).await;
    for line in ["GET /healthz", "GET /nothing", "GET /api/v1/runs", "POST /api/v1/runs"] {
        let said = open.ask(line, b"").await;
        for header in [
            "x-content-type-options: nosniff",
            "frame-ancestors 'none'",
            "default-src 'none'",
            "referrer-policy: same-origin",
            "x-request-id: ",
        ] {
            assert!(said.contains(header), "{line}: no {header} in {said}");
        }
        assert!(!said.to_ascii_lowercase().contains("access-control-"), "{said}");
    }
}

#[tokio::test]
async fn hostile_input_is_refused_and_never_an_error_of_the_server() {
    let open = Open::start(None).await;
    let deep = "[".repeat(200_000);
    let large = format!("{{\"trigger_key\": 1{}}}", "0".repeat(1_000));
    let many = format!("{{\"act\":\"cancel\",\"reason\":{}}}", "9".repeat(400));
    for (line, body) in [
        ("POST /api/v1/runs", deep.as_bytes()),
        ("POST /api/v1/runs", large.as_bytes()),
        ("POST /api/v1/runs", b"\xff\xfe\x00"),
        ("POST /api/v1/runs", b"null"),
        ("POST /api/v1/runs/hello/1/acts", many.as_bytes()),
        ("POST /api/v1/runs/hello/1/acts", br#"{"act":"cancel","reason":"\ud800","actor":"a"}"#),
        ("GET /api/v1/runs/%ff%fe/1", b""),
        ("GET /api/v1/runs/a%00b/1", b""),
        ("GET /api/v1/runs/hello/99999999999999999999999999", b""),
        ("GET /api/v1/runs/hello/-1", b""),
        ("GET /api/v1/runs/hello/18446744073709551615", b""),
        ("GET /api/v1/runs/hello/9223372036854775808/changes", b""),
        ("GET /api/v1/runs/..%2f..%2fetc%2fpasswd/1", b""),
        ("GET /api/v1/runs?limit=-1", b""),
        ("GET /api/v1/runs?limit=4294967296", b""),
        ("GET /api/v1/runs?pipeline=%00", b""),
        ("GET /api/v1/runs?status=%ff", b""),
        ("GET /api/v1/runs?nothing=1", b""),
        ("GET /api/v1/runs/hello/1/logs?stage=..%2f..&step=1", b""),
        (
            "GET /api/v1/runs/hello/1/logs?stage=one&step=4294967295&attempt=0&offset=18446744073709551615",
            b"",
        ),
        ("POST /api/v1/fleets/%ff/%00/down", br#"{"actor":"a"}"#),
        ("PATCH /api/v1/runs", b"{}"),
        ("TRACE /api/v1/holder", b""),
        ("BREW /api/v1/holder", b""),
        ("POST /api/v1/holder", b"{}"),
    ] {
        let said = open.ask(line, body).await;
        assert!(said.starts_with("HTTP/1.1 4"), "{line}: {said}");
        assert!(said.contains("content-type: application/problem+json"), "{line}: {said}");
    }
    // What is good in every other way, and far too much.
    assert!(open.ask("GET /api/v1/runs?limit=4294967295", b"").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn what_is_described_is_routed_for_its_methods_and_no_others() {
    let open = Open::start(None).await;
    let document = open.ask("GET /api/v1/openapi.json", b"").await;
    let document: serde_json::Value =
        serde_json::from_str(document.split_once("\r\n\r\n").unwrap().1).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let real = path.replace("{pipeline}", "none").replace("{number}", "1");
        let real = real.replace("{environment}", "none").replace("{service}", "none");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let described = operations.get(method.to_ascii_lowercase()).is_some();
            // A stream that is there has no end: of that one the head is enough.
            let streams = operations["get"]["responses"]["200"]["content"].get("text/event-stream").is_some();
            let method_of = if streams && method == "GET" { "HEAD" } else { method };
            let said = open.ask(&format!("{method_of} {real}"), b"{}").await;
            let taken = !said.starts_with("HTTP/1.1 405") && !said.contains("there is no such path here");
            assert_eq!(taken, described, "{method} {path}: {said}");
        }
    }
}

#[tokio::test]
async fn readiness_says_what_is_still_to_be_done() {
    let open = Open::start(None).await;
    assert!(open.ask("GET /healthz", b"").await.starts_with("HTTP/1.1 200"));
    open.server.readiness().awaits("runs", "the runs are being taken up");
    let said = open.ask("GET /readyz", b"").await;
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("the runs are being taken up"), "{said}");
    open.server.readiness().done("runs");
    assert!(open.ask("GET /readyz", b"").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_end_takes_under_a_second_with_streams_open() {
    let open = Open::start(None).await;
    let run = open.holder.submit("a").await.run;
    let client = open.client(None);
    let mut changes = client.changes(&run).await.unwrap();
    changes.next().await.unwrap().unwrap();
    let began = Instant::now();
    open.holder.shutdown.cancel();
    open.serving.await.unwrap().unwrap();
    while changes.next().await.is_some() {}
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(TcpStream::connect(open.address).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_none_is_said() {
    for url in ["localhost:7430", "http://", "http://x/api", "ftp://x", "http://a@b", "http://x:1?y", ""] {
        assert!(matches!(Client::server(url, None), Err(client::AddressError::Shape(_))), "{url}");
    }
    assert!(matches!(Client::server("https://x", None), Err(client::AddressError::Https(_))));
    let broken = Secret::new("two\nlines".to_owned());
    assert!(matches!(Client::server("http://x", Some(broken)), Err(client::AddressError::Token)));
}
