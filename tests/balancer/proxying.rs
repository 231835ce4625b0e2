//! Requests and answers on their way through.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use windlass::cloud::{Balancer, TargetState};

use crate::support::{Bench, Caller, Instance, get};

/// A target that tests answer for by hand; health checks are answered with 200.
async fn by_hand<F>(
    answer: impl Fn(BufReader<TcpStream>, String) -> F + Send + Sync + 'static,
) -> std::net::SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
                if head.starts_with("GET /healthz") {
                    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nwell").await.unwrap();
                } else {
                    answer(stream, head).await;
                }
            });
        }
    });
    address
}

async fn bench_for(address: std::net::SocketAddr) -> Bench {
    let bench = Bench::new().await;
    bench.client.register(bench.fleet(), &[("hand".parse().unwrap(), address)]).await.unwrap();
    bench.until("hand", |state| state == TargetState::Healthy).await;
    bench
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    assert_eq!(get(bench.address(), "/big").await.unwrap().body, vec![b'x'; 10_000_000]);

    // Far more than fits into all buffers: it comes back only because it streams.
    let sent: Vec<u8> = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
    for head in [
        format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", sent.len()),
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
    ] {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send(&head).await.unwrap();
        let mut write = caller.write;
        let body = sent.clone();
        let chunked = head.contains("chunked");
        let sending = tokio::spawn(async move {
            for chunk in body.chunks(70_000) {
                if chunked {
                    write.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
                }
                write.write_all(chunk).await.unwrap();
                if chunked {
                    write.write_all(b"\r\n").await.unwrap();
                }
            }
            if chunked {
                write.write_all(b"0\r\n\r\n").await.unwrap();
            }
            write
        });
        let (_, unused) = tokio::net::TcpStream::connect(bench.address()).await.unwrap().into_split();
        let mut caller = Caller { read: caller.read, write: unused };
        let reply = caller.reply().await.unwrap();
        assert!(reply.body == sent, "{} bytes came back", reply.body.len());
        drop(sending.await.unwrap());
    }
    bench.end().await;
}

#[tokio::test]
async fn a_head_arrives_before_its_body_is_complete() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    assert_eq!(caller.head().await.unwrap().status, 200);
    for word in ["first", "other"] {
        caller.send(&format!("5\r\n{word}\r\n")).await.unwrap();
        let mut chunk = vec![0; 10];
        caller.read.read_exact(&mut chunk).await.unwrap();
        assert_eq!(chunk, format!("5\r\n{word}\r\n").as_bytes());
    }
    bench.end().await;
}

#[tokio::test]
async fn a_target_learns_for_whom_it_is_asked_and_nothing_of_the_clients_hop() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller
        .send(
            "GET http://shop.example/seen?a=b%20c HTTP/1.1\r\nHost: other\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=1\r\nAccept: */*\r\n\r\n",
        )
        .await
        .unwrap();
    let reply = caller.reply().await.unwrap();
    assert_eq!(
        reply.text(),
        "GET /seen?a=b%20c\nhost: shop.example\naccept: */*\nx-forwarded-for: 127.0.0.1\nx-forwarded-proto: http\n\
         x-forwarded-host: shop.example"
    );
    assert_eq!(caller.get("/seen").await.unwrap().status, 200, "the connection is kept");
    bench.end().await;
}

#[tokio::test]
async fn head_and_old_clients_are_served() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(caller.head().await.unwrap().field("content-length"), Some("10000000"));
    assert_eq!(caller.get("/").await.unwrap().text(), "one", "nothing of a body came after the head");

    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let reply = caller.reply().await.unwrap();
    assert_eq!((reply.version.as_str(), reply.text()), ("HTTP/1.0", "one"));
    let mut rest = Vec::new();
    caller.read.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "and the connection is closed");

    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("CONNECT shop.example:443 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(caller.reply().await.unwrap().status, 501);
    bench.end().await;
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller
        .send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(caller.head().await.unwrap().status, 100);
    caller.send("abc").await.unwrap();
    assert_eq!(caller.reply().await.unwrap().text(), "3");
    bench.end().await;
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways_and_counts_as_open() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller
        .send("GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let head = caller.head().await.unwrap();
    assert_eq!((head.status, head.field("upgrade")), (101, Some("echo")));
    bench.deregister("one").await;
    for word in ["hello", "again"] {
        caller.send(word).await.unwrap();
        let mut echo = vec![0; 5];
        caller.read.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, word.as_bytes());
    }
    assert!(matches!(bench.state("one").await, Some(TargetState::Draining { open_requests: 1, .. })));
    drop(caller);
    bench.until("one", |state| state == TargetState::Drained).await;
    bench.end().await;
}

#[tokio::test]
async fn a_server_of_http_1_0_is_a_good_target() {
    let address = by_hand(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nuntil the end").await.unwrap();
    })
    .await;
    let bench = bench_for(address).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    for _ in 0..3 {
        let reply = caller.get("/").await.unwrap();
        assert_eq!((reply.version.as_str(), reply.text()), ("HTTP/1.1", "until the end"));
    }
    bench.end().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let address = by_hand(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await.unwrap();
    })
    .await;
    let bench = bench_for(address).await;
    let error = get(bench.address(), "/").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    bench.deregister("hand").await;
    assert_eq!(bench.state("hand").await, Some(TargetState::Drained), "it is not counted any more");
    bench.end().await;
}

#[tokio::test]
async fn only_what_may_be_sent_twice_is_sent_twice() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let address = by_hand(move |stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Closed without a word.
        async move { drop(stream) }
    })
    .await;
    let bench = bench_for(address).await;
    let one = Instance::start("one").await;
    bench.register(&one).await;

    // Both go to the bad target first, whose turn it is, and then to the good one.
    for _ in 0..2 {
        assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    }
    assert_eq!((asked.load(Ordering::SeqCst), one.served()), (2, 2));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        answers.push(caller.reply().await.unwrap().status);
    }
    answers.sort();
    assert_eq!(answers, [200, 502]);
    assert_eq!((asked.load(Ordering::SeqCst), one.served()), (3, 3));
    bench.end().await;
}

#[tokio::test]
async fn connections_are_kept_and_closed_before_the_target_would() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let closed = Arc::new(tokio::sync::Notify::new());
    let telling = closed.clone();
    let address = by_hand(move |mut stream, mut head| {
        counted.fetch_add(1, Ordering::SeqCst);
        let telling = telling.clone();
        async move {
            while !head.is_empty() {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                head.clear();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
            }
            telling.notify_one();
        }
    })
    .await;
    let bench = bench_for(address).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(caller.get("/").await.unwrap().text(), "ok");
    }
    let used = connections.load(Ordering::SeqCst);
    assert!(used <= 3, "{used} connections for ten requests");
    for _ in 0..used {
        closed.notified().await;
    }
    bench.end().await;
}

#[tokio::test]
async fn what_is_no_http_and_slow_clients_harm_nobody() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send("GET / HTTP/1.1\r\nHos").await.unwrap();
        slow.push(caller);
    }
    for garbage in ["\u{0}\u{1}\u{2}\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n"] {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send(garbage).await.unwrap();
        assert_eq!(caller.reply().await.unwrap().status, 400, "{garbage:?}");
    }
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    // The balancer may close before all of it is sent.
    let _ = caller.send(&format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(80_000))).await;
    assert_eq!(caller.head().await.unwrap().status, 431);
    assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    for caller in &mut slow {
        caller.send("t: a\r\n\r\n").await.unwrap();
        assert_eq!(caller.reply().await.unwrap().text(), "one");
    }
    bench.end().await;
}

#[tokio::test]
async fn garbage_on_the_admin_socket_harms_nobody() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let hello = r#"{"protocol":1,"build":{"version":"0","size":0,"modified":0},"pid":1}"#;
    let long = "x".repeat(5 * 1024 * 1024);
    let lines = [
        "garbage\n",
        "{}\n",
        "\u{0}\n",
        "[1,2]\n",
        &format!("{long}\n"),
        &format!("{hello}\n{{\"ask\":\"x\"}}\n"),
    ];
    for line in lines {
        let mut socket = windlass::ipc::connect(bench.data.path(), "balancer.sock").await.unwrap();
        // It may be closed before all of it is sent.
        let _ = socket.write_all(line.as_bytes()).await;
        let mut said = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut said)).await;
        let _ = closed.expect("the conversation is ended");
    }
    assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    assert_eq!(bench.state("one").await, Some(TargetState::Healthy));
    bench.end().await;
}
