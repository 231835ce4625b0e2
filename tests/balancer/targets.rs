//! What becomes of targets, and that no request is lost while they come and go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use windlass::cloud::{Balancer, Error, TargetState};

use crate::support::{Bench, Caller, Instance, Load, free_port, get, listener};

#[tokio::test]
async fn a_target_gets_traffic_only_while_it_is_well() {
    let instance = Instance::start("one").await;
    instance.shared.sick.store(true, Ordering::SeqCst);
    let bench = Bench::new().await;
    let reply = get(bench.address(), "/").await.unwrap();
    assert_eq!((reply.status, reply.text()), (503, "storefront-production has no instances\n"));

    bench.client.register(bench.fleet(), &[(instance.id(), instance.address)]).await.unwrap();
    bench.until("one", |state| state == TargetState::Unhealthy).await;
    assert_eq!(bench.target("one").await.unwrap().reason.as_deref(), Some("answered 500"));
    let reply = get(bench.address(), "/").await.unwrap();
    assert_eq!(
        (reply.status, reply.text()),
        (503, "storefront-production has no healthy instance: 0 initial, 1 unhealthy, 0 draining\n")
    );

    instance.shared.sick.store(false, Ordering::SeqCst);
    bench.until("one", |state| state == TargetState::Healthy).await;
    assert_eq!(bench.target("one").await.unwrap().reason, None);
    assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");

    // Nobody else is well: an answer from a sick instance is better than none.
    instance.shared.sick.store(true, Ordering::SeqCst);
    bench.until("one", |state| state == TargetState::Unhealthy).await;
    assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    assert_eq!(instance.served(), 2);

    bench.client.forget(bench.fleet(), &[instance.id()]).await.unwrap();
    assert_eq!(bench.state("one").await, None);
    bench.end().await;
}

#[tokio::test]
async fn a_target_that_refuses_says_so_and_is_found_soon_after_it_listens() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let bench = Bench::new().await;
    let mut slow = bench.listener.clone();
    slow.health.interval = Duration::from_secs(3600);
    slow.health.healthy = 1;
    bench.client.put_listener(&slow).await.unwrap();

    bench.client.register(bench.fleet(), &[("late".parse().unwrap(), address)]).await.unwrap();
    while bench.target("late").await.unwrap().reason.is_none() {
        bench.client.changed(bench.fleet(), Duration::from_secs(30)).await.unwrap();
    }
    let target = bench.target("late").await.unwrap();
    assert_eq!((target.state, target.reason.as_deref()), (TargetState::Initial, Some("connection refused")));

    // One interval is an hour: only the quick look can find it.
    let instance = Instance::listen("late", socket.listen(16).unwrap());
    bench.until("late", |state| state == TargetState::Healthy).await;
    drop(instance);
    bench.end().await;
}

#[tokio::test]
async fn a_target_drains_until_its_slow_request_is_done() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    one.shared.arrived.notified().await;
    bench.register(&two).await;

    bench.deregister("one").await;
    let before = match bench.state("one").await {
        Some(TargetState::Draining { open_requests: 1, since }) => since,
        other => panic!("{other:?}"),
    };
    for _ in 0..20 {
        assert_eq!(get(bench.address(), "/").await.unwrap().text(), "two");
    }
    assert_eq!(bench.state("one").await, Some(TargetState::Draining { open_requests: 1, since: before }));

    one.shared.go_on.notify_one();
    assert_eq!(caller.reply().await.unwrap().text(), "one");
    bench.until("one", |state| state == TargetState::Drained).await;
    assert_eq!((one.served(), two.served()), (1, 20));
    bench.end().await;
}

#[tokio::test]
async fn the_drain_time_ends_the_wait_for_a_slow_request() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let short = windlass::cloud::Listener { drain: Duration::from_millis(100), ..bench.listener.clone() };
    bench.client.put_listener(&short).await.unwrap();
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    one.shared.arrived.notified().await;
    bench.deregister("one").await;
    bench.until("one", |state| state == TargetState::Drained).await;
    // It is not cut off by that.
    one.shared.go_on.notify_one();
    assert_eq!(caller.reply().await.unwrap().text(), "one");
    bench.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_longer_counted() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    one.shared.arrived.notified().await;
    bench.deregister("one").await;
    assert!(matches!(bench.state("one").await, Some(TargetState::Draining { open_requests: 1, .. })));
    drop(caller);
    bench.until("one", |state| state == TargetState::Drained).await;
    one.shared.abandoned.notified().await;
    bench.end().await;
}

#[tokio::test]
async fn a_target_that_refuses_is_passed_over() {
    let (one, gone) = (Instance::start("one").await, Instance::start("gone").await);
    let bench = Bench::with(&[&one, &gone]).await;
    // Its checks come too seldom to notice.
    let mut seldom = bench.listener.clone();
    seldom.health.interval = Duration::from_secs(3600);
    seldom.health.unhealthy = 1000;
    bench.client.put_listener(&seldom).await.unwrap();
    drop(gone);
    for _ in 0..10 {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        assert_eq!(caller.reply().await.unwrap().text(), "5");
        assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    }
    assert_eq!(one.served(), 20);
    drop(one);
    let reply = get(bench.address(), "/").await.unwrap();
    assert_eq!(reply.status, 502);
    assert!(reply.text().contains("connection refused"), "{}", reply.text());
    bench.end().await;
}

#[tokio::test]
async fn no_request_is_lost_while_targets_come_and_go() {
    let mut instances =
        vec![Instance::start("i0").await, Instance::start("i1").await, Instance::start("i2").await];
    let bench = Bench::with(&instances.iter().collect::<Vec<_>>()).await;
    let load = Load::start(bench.address(), 12);
    let mut served = 0;
    for number in 3..15 {
        let new = Instance::start(&format!("i{number}")).await;
        bench.register(&new).await;
        instances.push(new);
        let old = instances.remove(0);
        bench.deregister(&old.name).await;
        bench.until(&old.name, |state| state == TargetState::Drained).await;
        // From here on it must not be asked any more: its end breaks every connection it has.
        served += old.served();
        bench.client.forget(bench.fleet(), &[old.id()]).await.unwrap();
    }
    let sent = load.end().await;
    served += instances.iter().map(Instance::served).sum::<u64>();
    assert_eq!(served, sent, "each request was served once");
    assert!(sent > 500, "only {sent} requests");
    bench.end().await;
}

#[tokio::test]
async fn what_nobody_knows_is_told_apart() {
    let bench = Bench::new().await;
    let nobody = listener("nobody", 1).fleet;
    let address = "127.0.0.1:1".parse().unwrap();
    let error = bench.client.register(&nobody, &[("x".parse().unwrap(), address)]).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    bench.client.deregister(&nobody, &["x".parse().unwrap()]).await.unwrap();
    bench.client.forget(&nobody, &["x".parse().unwrap()]).await.unwrap();
    bench.client.remove_listener(&nobody).await.unwrap();
    assert!(bench.client.targets(&nobody).await.unwrap().is_empty());
    bench.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_conflict_that_says_so() {
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let bench = Bench::new().await;
    let error = bench.client.put_listener(&listener("books", port)).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("port {port} of books-production is already in use by another program")),
        "{message}"
    );
    let error = bench.client.put_listener(&listener("books", bench.listener.port)).await.unwrap_err();
    assert!(error.to_string().contains("already in use for storefront-production"), "{error}");

    // Nothing of it stays, and the port can be had later.
    drop(taken);
    bench.client.put_listener(&listener("books", port)).await.unwrap();
    assert_eq!(get(([127, 0, 0, 1], port).into(), "/").await.unwrap().status, 503);
    bench.end().await;
}

#[tokio::test]
async fn a_listener_can_move_and_end() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let moved = listener("storefront", free_port());
    bench.client.put_listener(&moved).await.unwrap();
    assert_eq!(get(([127, 0, 0, 1], moved.port).into(), "/").await.unwrap().text(), "one");
    assert!(get(bench.address(), "/").await.is_err(), "nobody listens there any more");
    bench.client.remove_listener(bench.fleet()).await.unwrap();
    assert!(get(([127, 0, 0, 1], moved.port).into(), "/").await.is_err());
    assert!(bench.client.targets(bench.fleet()).await.unwrap().is_empty());
    bench.end().await;
}
