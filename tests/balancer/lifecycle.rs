//! The process itself: started, replaced under load, killed, started again, ended.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use windlass::balancer::Client;
use windlass::cloud::{Balancer, Role, TargetState};

use crate::support::{
    Bench, Caller, Instance, Load, PATIENCE, PROGRAM, free_port, get, kill, listener, processes,
};

fn only_process(bench: &Bench) -> i32 {
    let pids = processes(bench.data.path());
    assert_eq!(pids.len(), 1, "{pids:?}");
    pids[0]
}

/// Waits for the end of a process.
async fn gone(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    tokio::task::spawn_blocking(move || {
        let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut polled = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut polled, Some(&patience)), Ok(1), "{pid:?} does not end");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn no_request_is_lost_while_the_balancer_is_replaced() {
    let mut instances = vec![Instance::start("i0").await, Instance::start("i1").await];
    let bench = Bench::with(&instances.iter().collect::<Vec<_>>()).await;
    let load = Load::start(bench.address(), 12);
    let mut served = 0;
    let mut pids = vec![only_process(&bench)];
    for number in 2..8 {
        let before = load.answered.load(Ordering::SeqCst);
        pids.push(i32::try_from(bench.client.replace().await.unwrap()).unwrap());
        // A rollout goes on in the new process.
        let new = Instance::start(&format!("i{number}")).await;
        bench.register(&new).await;
        instances.push(new);
        let old = instances.remove(0);
        bench.deregister(&old.name).await;
        bench.until(&old.name, |state| state == TargetState::Drained).await;
        served += old.served();
        bench.client.forget(bench.fleet(), &[old.id()]).await.unwrap();
        drop(old);
        assert!(load.answered.load(Ordering::SeqCst) > before, "traffic flows");
    }
    let sent = load.end().await;
    served += instances.iter().map(Instance::served).sum::<u64>();
    assert_eq!(served, sent, "each request was served once");
    let last = pids.pop().unwrap();
    for pid in pids {
        gone(pid).await;
    }
    assert_eq!(only_process(&bench), last);
    bench.end().await;
}

#[tokio::test]
async fn the_command_replaces_the_running_process() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut kept = Caller::connect(bench.address()).await.unwrap();
    assert_eq!(kept.get("/").await.unwrap().field("connection"), None);
    let old = only_process(&bench);

    let command =
        Command::new(PROGRAM).args(["balancer", "--replace", "--data"]).arg(bench.data.path()).output();
    let output = command.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("now serves the balancer"));

    // The old connection is served once more, by the new process, and says that it ends.
    let reply = kept.get("/seen").await.unwrap();
    assert_eq!(reply.field("connection"), Some("close"));
    assert_eq!(reply.text().matches("x-forwarded-for: 127.0.0.1").count(), 1, "{}", reply.text());
    assert!(!reply.text().contains("127.0.0.1, 127.0.0.1"), "{}", reply.text());
    let mut rest = Vec::new();
    assert_eq!(kept.read.read_to_end(&mut rest).await.unwrap(), 0);
    gone(old).await;
    assert_ne!(only_process(&bench), old);
    assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    bench.end().await;
}

/// Waits until `one` drains with so many open requests. Their number alone is no change that wakes a
/// watcher, so it is looked at again and again.
async fn open_requests(bench: &Bench, expected: u64) {
    let reached = async {
        loop {
            match bench.state("one").await {
                Some(TargetState::Draining { open_requests, .. }) if open_requests == expected => return,
                Some(TargetState::Draining { open_requests, .. }) => assert!(open_requests > expected),
                other => panic!("{other:?} with {expected} open"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

#[tokio::test]
async fn what_old_processes_have_open_keeps_a_target_from_being_drained() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Caller::connect(bench.address()).await.unwrap();
        caller.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        one.shared.arrived.notified().await;
        callers.push(caller);
        bench.client.replace().await.unwrap();
    }
    bench.deregister("one").await;
    for open in (1..=3).rev() {
        open_requests(&bench, open).await;
        one.shared.go_on.notify_one();
        let answered = callers.iter_mut().map(|caller| Box::pin(caller.reply()));
        let (reply, index, _) = futures_util::future::select_all(answered).await;
        assert_eq!(reply.unwrap().text(), "one");
        callers.remove(index);
    }
    bench.until("one", |state| state == TargetState::Drained).await;
    bench.end().await;
}

#[tokio::test]
async fn a_take_over_that_breaks_off_changes_nothing() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let old = only_process(&bench);
    for _ in 0..3 {
        let mut socket = windlass::ipc::connect(bench.data.path(), "balancer.sock").await.unwrap();
        let hello = "{\"protocol\":1,\"build\":{\"version\":\"0\",\"size\":0,\"modified\":0},\"pid\":1}\n";
        socket.write_all(hello.as_bytes()).await.unwrap();
        socket.write_all(b"{\"ask\":\"take_over\"}\n").await.unwrap();
        let mut some = [0; 64];
        assert!(socket.read(&mut some).await.unwrap() > 0);
        drop(socket);
        assert_eq!(get(bench.address(), "/").await.unwrap().text(), "one");
    }
    let two = Instance::start("two").await;
    bench.register(&two).await;
    assert_eq!(only_process(&bench), old);
    bench.end().await;
}

#[tokio::test]
async fn after_a_kill_the_next_use_goes_on_with_the_same_state() {
    let (one, two, three) =
        (Instance::start("one").await, Instance::start("two").await, Instance::start("three").await);
    let bench = Bench::with(&[&one, &two, &three]).await;
    bench.deregister("two").await;
    let mut caller = Caller::connect(bench.address()).await.unwrap();
    caller.get("/").await.unwrap();
    let killed = only_process(&bench);
    kill(killed);
    gone(killed).await;
    assert!(get(bench.address(), "/").await.is_err());

    // Checks would take an hour: that they are healthy is remembered.
    let mut seldom = bench.listener.clone();
    seldom.health.interval = Duration::from_secs(3600);
    bench.client.put_listener(&seldom).await.unwrap();
    let targets = bench.client.targets(bench.fleet()).await.unwrap();
    let states: Vec<_> = targets.iter().map(|target| (target.id.to_string(), target.state)).collect();
    let expected =
        [("one", TargetState::Healthy), ("two", TargetState::Drained), ("three", TargetState::Healthy)];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state)));
    assert_eq!(get(bench.address(), "/").await.unwrap().status, 200);
    assert_ne!(only_process(&bench), killed);
    bench.end().await;
}

#[tokio::test]
async fn a_watcher_is_woken_when_the_process_dies_and_starts_it_again() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    bench.client.targets(bench.fleet()).await.unwrap();
    let watching = tokio::spawn({
        let (client, fleet) = (bench.client.clone(), bench.fleet().clone());
        async move { client.changed(&fleet, PATIENCE * 10).await }
    });
    kill(only_process(&bench));
    tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap().unwrap();
    assert_eq!(bench.state("one").await, Some(TargetState::Healthy));
    bench.end().await;
}

#[tokio::test]
async fn many_who_start_it_at_once_find_one_process() {
    let data = tempfile::tempdir().unwrap();
    let listeners: Vec<_> = ["a", "b", "c", "d"].map(|name| listener(name, free_port())).into();
    let clients: Vec<_> =
        (0..4).map(|_| Arc::new(Client::new(data.path().to_owned(), PathBuf::from(PROGRAM)))).collect();
    let puts = clients.iter().zip(&listeners).map(|(client, listener)| client.put_listener(listener));
    for outcome in futures_util::future::join_all(puts).await {
        outcome.unwrap();
    }
    assert_eq!(processes(data.path()).len(), 1);
    for listener in &listeners {
        assert_eq!(get(([127, 0, 0, 1], listener.port).into(), "/").await.unwrap().status, 503);
    }
    clients[0].stop().await.unwrap();
    clients[1].stop().await.unwrap();
    assert!(processes(data.path()).is_empty());
}

#[tokio::test]
async fn a_newer_program_replaces_an_older_process_and_not_the_other_way_round() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let old = only_process(&bench);
    let place = tempfile::tempdir().unwrap();
    let newer = place.path().join("windlass");
    std::fs::copy(PROGRAM, &newer).unwrap();
    let file = std::fs::File::options().write(true).open(&newer).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    drop(file);

    let client = Client::new(bench.data.path().to_owned(), newer);
    assert_eq!(client.targets(bench.fleet()).await.unwrap().len(), 1);
    gone(old).await;
    let new = only_process(&bench);
    assert_ne!(new, old);
    assert_eq!(bench.state("one").await, Some(TargetState::Healthy));
    assert_eq!(only_process(&bench), new, "the older program leaves it alone");
    bench.end().await;
}

#[tokio::test]
async fn it_ends_by_itself_when_no_listener_is_left() {
    let bench = Bench::new().await;
    let pid = only_process(&bench);
    bench.client.remove_listener(bench.fleet()).await.unwrap();
    gone(pid).await;
    assert!(processes(bench.data.path()).is_empty());
    assert!(bench.client.targets(bench.fleet()).await.unwrap().is_empty());
    assert!(processes(bench.data.path()).is_empty(), "nothing to start it for");
    bench.client.put_listener(&bench.listener).await.unwrap();
    bench.end().await;
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_not_thrown_away() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("balancer.json");
    std::fs::write(&path, "{\"format\":99,\"fleets\":[]}").unwrap();
    let client = Client::new(data.path().to_owned(), PathBuf::from(PROGRAM));
    let error = client.put_listener(&listener("shop", free_port())).await.unwrap_err().to_string();
    assert!(error.contains("balancer.json cannot be read: it has format 99"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"format\":99,\"fleets\":[]}");
    assert!(processes(data.path()).is_empty());
}

#[tokio::test]
async fn who_stands_by_does_so_after_a_kill_and_after_a_hand_over() {
    let (blue, green) = (Instance::start("blue").await, Instance::start("green").await);
    let bench = Bench::with(&[&blue]).await;
    bench.client.stand_by(bench.fleet(), &[(green.id(), green.address)]).await.unwrap();
    bench.until("green", |state| state == TargetState::Healthy).await;
    let only = async |name: &str| {
        for _ in 0..4 {
            assert_eq!(get(bench.address(), "/").await.unwrap().text(), name);
        }
    };
    only("blue").await;
    kill(only_process(&bench));
    bench.client.targets(bench.fleet()).await.unwrap();
    only("blue").await;
    bench.client.replace().await.unwrap();
    only("blue").await;

    bench.client.switch(bench.fleet(), &[green.id()]).await.unwrap();
    only("green").await;
    bench.client.replace().await.unwrap();
    only("green").await;
    let targets = bench.client.targets(bench.fleet()).await.unwrap();
    let roles: Vec<_> = targets.iter().map(|target| (target.id.as_str(), target.role)).collect();
    assert_eq!(roles, [("blue", Role::Standby), ("green", Role::Serving)]);
    bench.end().await;
}

#[tokio::test]
async fn one_that_was_stopped_goes_on_for_whoever_asks() {
    let one = Instance::start("one").await;
    let bench = Bench::with(&[&one]).await;
    let pid = only_process(&bench);
    let stop = || {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    };
    stop();
    bench.until("one", |state| state == TargetState::Healthy).await;
    // Also in the middle of a watch, which is silent for a while and then is not.
    let asked = std::time::Instant::now();
    let (changed, ()) = tokio::join!(bench.client.changed(bench.fleet(), Duration::from_secs(1)), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop();
    });
    changed.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert_eq!(only_process(&bench), pid);
    bench.end().await;
}
