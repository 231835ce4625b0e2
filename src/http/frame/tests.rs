use axum::body::{Body, Bytes};
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: std::net::SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

async fn start(limits: Limits) -> Served {
    let endless =
        async || Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    let router = Router::new().route("/", get(async || "hello")).route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    Served { address, shutdown, serving }
}

impl Served {
    async fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

/// All that comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it is never closed");
    String::from_utf8(all).unwrap()
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_ends_its_head_loses_its_connection() {
    let served = start(Limits { head_time: Duration::from_millis(50), ..Limits::default() }).await;
    for head in ["", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let said = rest(served.send(head).await).await;
        assert!(!said.contains("hello"), "{said}");
    }
    assert!(rest(served.send(REQUEST).await).await.contains("hello"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let served = start(Limits { head_bytes: 8 * 1024, ..Limits::default() }).await;
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "a".repeat(16 * 1024));
    assert!(rest(served.send(&large).await).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(HEADERS + 1));
    assert!(rest(served.send(&many).await).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_another_ends() {
    let served = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = served.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    // Kept alive, so there is no room for a second one.
    let mut second = served.send(REQUEST).await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "answered beside the only connection that there may be");
    drop(first);
    assert!(rest(second).await.contains("hello"));
}

#[tokio::test]
async fn the_end_does_not_wait_for_streams_that_do_not_end() {
    let served = start(Limits::default()).await;
    let mut stream = served.send("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.unwrap();
    let idle = served.send("").await;
    let began = Instant::now();
    served.shutdown.cancel();
    served.serving.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    rest(stream).await;
    rest(idle).await;
    assert!(TcpStream::connect(served.address).await.is_err());
}
