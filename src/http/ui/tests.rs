use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::tests::{Holder, submission};
use crate::http::{Access, SOCKET, Server};
use crate::run::event::Commit;
use crate::run::view::Status;

/// A browser without credentials.
struct Browser<'a>(&'a Holder);

struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Browser<'_> {
    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = crate::ipc::connect(self.0.data.path(), SOCKET).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }

    async fn read(&self, request: Request<Full<Bytes>>) -> Page {
        let response = self.send(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.into_body().collect().await.unwrap().to_bytes();
        Page { status, headers, text: String::from_utf8(text.to_vec()).unwrap() }
    }

    async fn open(&self, path: &str) -> Page {
        let request = Request::get(path).header("host", "localhost:7430").header("accept", "text/html");
        self.read(request.body(Full::default()).unwrap()).await
    }

    async fn post(&self, path: &str, origin: &str, form: &str) -> Page {
        let request = Request::post(path)
            .header("host", "localhost:7430")
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded");
        self.read(request.body(Full::from(form.to_owned())).unwrap()).await
    }
}

const HERE: &str = "http://localhost:7430";

#[tokio::test]
async fn a_run_is_looked_at_and_cancelled_by_a_form() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let browser = Browser(&holder);
    let page = browser.open("/runs/hello/1").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("<h1>hello/1</h1>") && page.text.contains("Cancel the run"), "{}", page.text);
    assert!(browser.open("/").await.text.contains("href=\"/runs/hello/1\""));
    assert!(browser.open("/runs?pipeline=hello&status=").await.text.contains("href=\"/runs/hello/1\""));

    let form = "name=Ada+L%C3%B6v&reason=enough";
    let done = browser.post("/runs/hello/1/cancel", HERE, form).await;
    assert_eq!(
        (done.status, &done.headers["location"]),
        (303, &"/runs/hello/1?said=cancelled".parse().unwrap())
    );
    let cookie = done.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("windlass-name=Ada%20L%C3%B6v; Path=/;"), "{cookie}");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let last =
        holder.client.changes(&run).await.unwrap().fold(None, async |_, view| Some(view.unwrap())).await;
    assert_eq!(last.unwrap().cancelled_by.as_deref(), Some("Ada Löv: enough"));

    let again = browser.post("/runs/hello/1/cancel", HERE, form).await;
    assert_eq!(again.status, 409);
    assert!(again.text.contains("has ended already") && again.text.contains("<h1>hello/1</h1>"));
}

#[tokio::test]
async fn a_form_from_elsewhere_does_nothing() {
    let holder = Holder::start().await;
    holder.submit("a").await;
    let browser = Browser(&holder);
    let shutdown = CancellationToken::new();
    let server = Server::new(holder.engine.clone(), holder.data.path().to_owned(), shutdown.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { server.serve_tcp(listener, Access::default()).await });
    for (host, origin) in [
        (address.to_string(), "http://evil.example".to_owned()),
        (address.to_string(), "null".to_owned()),
        (format!("evil.example:{}", address.port()), format!("http://evil.example:{}", address.port())),
    ] {
        for act in ["promote", "reject", "cancel"] {
            let request = Request::post(format!("/runs/hello/1/{act}"))
                .header("host", &host)
                .header("origin", &origin)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Full::<Bytes>::from("name=octocat&reason=x&environment=production&shown=x"))
                .unwrap();
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let status = sender.send_request(request).await.unwrap().status().as_u16();
            assert!(matches!(status, 403 | 421), "{act} from {origin} at {host}: {status}");
        }
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    let nameless = browser.post("/runs/hello/1/cancel", HERE, "name=+&reason=").await;
    assert_eq!(nameless.status, 400);
    assert!(nameless.text.contains("say who you are") && nameless.text.contains("Cancel the run"));
    let run = "hello/1".parse().unwrap();
    assert!(holder.client.run(&run).await.unwrap().cancelled_by.is_none());
    assert!(!holder.client.run(&run).await.unwrap().status.is_final());
}

#[tokio::test]
async fn what_comes_from_outside_is_text() {
    let holder = Holder::start().await;
    let mut hostile = submission("name: hello\nstages: { one: { steps: [{ run: say }] } }", "a");
    hostile.origin.commit = Some(Commit {
        sha: "9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b9f3c2a1b".parse().unwrap(),
        branch: "<script>alert(1)</script>".to_owned(),
        author: "Eve \u{202e}<eve@example.com>".to_owned(),
        message: "\"><img src=x onerror=alert(1)>\u{1b}[31m".to_owned(),
    });
    holder.client.submit(&hostile).await.unwrap();
    let page = Browser(&holder).open("/runs/hello/1").await;
    assert!(!page.text.contains("<script>alert") && !page.text.contains("<img"), "{}", page.text);
    assert!(page.text.contains("alert(1)") && page.text.contains("‹U+202E›") && page.text.contains("␛[31m"));
    assert!(!page.text.contains('\u{202e}') && !page.text.contains('\u{1b}'));
}

#[tokio::test]
async fn every_answer_is_strict_and_every_error_a_page() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let mut changes = holder.client.changes(&run).await.unwrap();
    while changes.next().await.unwrap().unwrap().stages[0].steps[0].started_at.is_none() {}
    let browser = Browser(&holder);
    for (path, status) in [
        ("/", 200),
        ("/runs", 200),
        ("/runs?status=fine", 400),
        ("/runs?before=x", 400),
        ("/runs/hello/1", 200),
        ("/runs/hello/2", 404),
        ("/runs/hello/x", 404),
        ("/runs/hello/1/logs/none", 404),
        ("/runs/hello/1/logs/one", 200),
        ("/runs/hello/1/logs/one?attempt=7", 404),
        ("/fleets/production/none", 404),
        ("/fleets/production/none?said=unlocked", 303),
        ("/pipelines", 200),
        ("/deliveries", 200),
        ("/deliveries?status=handled", 200),
        ("/deliveries?status=fine", 400),
        ("/fleets/pro%20duction/none", 404),
        ("/assets/pages-0.css", 404),
        ("/nothing", 404),
        (assets::CSS.path.as_str(), 200),
        (assets::LIVE.path.as_str(), 200),
        (assets::LOG.path.as_str(), 200),
    ] {
        let page = browser.open(path).await;
        assert_eq!(page.status, status, "{path}: {}", page.text);
        assert_eq!(page.headers["content-security-policy"], POLICY, "{path}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff", "{path}");
        let kind = page.headers.get("content-type").map_or("", |kind| kind.to_str().unwrap());
        assert!(
            status == 303 || path.starts_with("/assets/") && status == 200 || kind.starts_with("text/html"),
            "{path} {kind}"
        );
        assert!(!page.text.contains(" style=") && !page.text.contains("<style"), "{path}");
        let scripts = page.text.matches("<script").count();
        assert_eq!(scripts, page.text.matches("<script type=\"module\" src=\"/assets/").count(), "{path}");
    }
}

#[tokio::test]
async fn a_log_is_read_and_followed() {
    let holder = Holder::start().await;
    let run = holder.submit("a").await.run;
    let mut changes = holder.client.changes(&run).await.unwrap();
    while changes.next().await.unwrap().unwrap().stages[0].steps[0].started_at.is_none() {}
    holder.say("red <b>");
    let browser = Browser(&holder);
    let live = Request::get("/runs/hello/1/logs/one/live?step=1&attempt=1").header("host", "x");
    let mut events = browser.send(live.body(Full::default()).unwrap()).await.into_body();
    let mut seen = String::new();
    while !seen.contains("red <b>") {
        let frame = events.frame().await.unwrap().unwrap().into_data().unwrap();
        seen.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert!(seen.contains(r#"[{"class":"","text":""#), "{seen}");
    let page = browser.open("/runs/hello/1/logs/one").await;
    assert!(page.text.contains("red &#60;b&#62;\n</div></pre>"), "{}", page.text);
    assert!(page.text.contains("data-live=\"/runs/hello/1/logs/one/live?"), "{}", page.text);
    holder.say("more");
    holder.end();
    let rest = events.collect().await.unwrap().to_bytes();
    let rest = std::str::from_utf8(&rest).unwrap();
    assert!(rest.contains("more") && rest.contains("event: end\ndata: 0\n"), "{rest}");

    // A browser that lost the connection goes on where it was.
    let place = seen.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let again = Request::get("/runs/hello/1/logs/one/live?step=1").header("last-event-id", place);
    let again = browser.read(again.body(Full::default()).unwrap()).await;
    assert!(again.text.contains("more") && !again.text.contains("red"), "{}", again.text);
    let whole = browser.open("/runs/hello/1/logs/one/text?step=1").await;
    assert!(whole.text.contains("red <b>\n") && whole.text.ends_with("more\n"), "{}", whole.text);
    assert_eq!(holder.client.run(&run).await.unwrap().status, Status::Succeeded);
    let ended = browser.open("/runs/hello/1/logs/one").await;
    assert!(!ended.text.contains("data-live") && ended.text.contains("complete"), "{}", ended.text);
}

#[tokio::test]
async fn lists_are_told_of_changes() {
    let holder = Holder::start().await;
    let ticks = Request::get("/api/v1/changes").body(Full::default()).unwrap();
    let mut ticks = Browser(&holder).send(ticks).await.into_body();
    let mut next = async || {
        let frame = ticks.frame().await.unwrap().unwrap().into_data().unwrap();
        String::from_utf8(frame.to_vec()).unwrap()
    };
    let first = next().await;
    assert!(first.starts_with("event: change\n"), "{first}");
    holder.submit("a").await;
    while next().await == first {}
}

#[tokio::test]
async fn a_refused_form_says_why_wherever_it_stands() {
    let holder = Holder::start().await;
    let browser = Browser(&holder);
    for (path, form, status, said) in [
        ("/fleets/production/none/unlock", "name=Ada&what=fleet", 409, "production/none is not locked"),
        ("/fleets/production/none/rollback", "name=Ada&shown=img-1", 409, "does not run any more"),
        // This holder takes nothing in.
        ("/pipelines/hello/trigger", "name=Ada&params=", 403, "takes nothing in"),
        ("/pipelines/hello/trigger", "name=Ada&params=flavour", 400, "name=value"),
        ("/pipelines/hello/trigger", "name=Ada&params=a=1%0D%0Aa=2", 400, "twice"),
        ("/pipelines/hello/trigger", "name=&params=", 400, "say who you are"),
        ("/deliveries/again", "delivery=d1", 403, "takes nothing in"),
    ] {
        let page = browser.post(path, HERE, form).await;
        assert_eq!(page.status, status, "{path}: {}", page.text);
        assert!(page.text.contains(said), "{path}: {}", page.text);
        assert!(page.headers.get("set-cookie").is_none(), "{path}");
    }
}
