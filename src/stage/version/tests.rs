use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::cloud::InstanceState;
use crate::rollout::{Life, Member};

/// A service that gives one answer after the other, and the last one from then on.
async fn service(answers: &'static [&'static str]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            assert!(request[..read].starts_with(b"GET /version HTTP/1.1\r\n"));
            let n = count.fetch_add(1, Ordering::SeqCst);
            let (status, body) = answers[n.min(answers.len() - 1)].split_once(' ').unwrap();
            let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

struct Fleet {
    instances: BTreeMap<InstanceId, Instance>,
    member: Member,
    versions: Versions,
}

impl Fleet {
    fn at(address: SocketAddr, traffic: Traffic) -> Self {
        let (id, now): (InstanceId, _) = ("shop-1".parse().unwrap(), Timestamp::now());
        let release = Digest::of(b"new");
        let instance = Instance {
            id: id.clone(),
            name: "shop-production-42-9f3c2a1b-1".to_owned(),
            fleet: crate::ids::FleetId::new("shop".parse().unwrap(), "production".parse().unwrap()),
            image: "image".parse().unwrap(),
            release: release.clone(),
            key: "key".parse().unwrap(),
            state: InstanceState::Running,
            address,
            launched_at: now,
        };
        let member = Member {
            id: id.clone(),
            release: release.clone(),
            life: Life::Running,
            traffic,
            launched_at: now,
        };
        let version = "42-9f3c2a1b".to_owned();
        let versions = Versions::new("/version", version, release, now, Duration::from_secs(5));
        Self { instances: BTreeMap::from([(id, instance)]), member, versions }
    }

    async fn seen(&mut self) -> Traffic {
        let members = vec![self.member.clone()];
        let mut observed = Observed { now: Timestamp::now(), members };
        self.versions.confirm(&self.instances, &mut observed).await;
        observed.members.remove(0).traffic
    }
}

#[tokio::test]
async fn who_names_the_version_is_asked_once() {
    let (address, asked) = service(&["200 shop 42-9f3c2a1b"]).await;
    let mut fleet = Fleet::at(address, Traffic::Standby(Check::Healthy));
    for _ in 0..3 {
        assert_eq!(fleet.seen().await, Traffic::Standby(Check::Healthy));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(fleet.versions.again(), None);
}

#[tokio::test]
async fn who_names_another_is_not_healthy_until_it_does() {
    let (address, asked) = service(&["200 shop 41-00000000", "200 42-9f3c2a1b"]).await;
    let mut fleet = Fleet::at(address, Traffic::Healthy);
    let why = format!("http://{address}/version does not name 42-9f3c2a1b: it says \"shop 41-00000000\"");
    for _ in 0..2 {
        assert_eq!(fleet.seen().await, Traffic::Unhealthy(why.clone()), "it is not asked again at once");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let pause = fleet.versions.again().unwrap();
    assert!(pause <= AGAIN.0);
    tokio::time::sleep(pause).await;
    assert_eq!(fleet.seen().await, Traffic::Healthy);
}

#[tokio::test]
async fn an_error_and_silence_are_no_answers() {
    let (address, _) = service(&["500 42-9f3c2a1b"]).await;
    let mut fleet = Fleet::at(address, Traffic::Standby(Check::Healthy));
    let said = fleet.seen().await;
    let Traffic::Standby(Check::Unhealthy(why)) = said else { panic!("{said:?}") };
    assert!(why.ends_with("answers 500: \"42-9f3c2a1b\""), "{why}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = Fleet::at(closed, Traffic::Healthy).seen().await;
    let Traffic::Unhealthy(why) = said else { panic!("{said:?}") };
    assert!(why.contains("does not answer: "), "{why}");
}

#[tokio::test]
async fn who_is_not_healthy_or_not_new_is_not_asked() {
    let (address, asked) = service(&["500 no"]).await;
    let mut fleet = Fleet::at(address, Traffic::Initial);
    assert_eq!(fleet.seen().await, Traffic::Initial);
    fleet.member.traffic = Traffic::Healthy;
    fleet.member.release = Digest::of(b"old");
    assert_eq!(fleet.seen().await, Traffic::Healthy);
    fleet.member.release = Digest::of(b"new");
    fleet.versions.since = Timestamp::MAX;
    assert_eq!(fleet.seen().await, Traffic::Healthy);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_version_is_a_word_of_its_own() {
    for body in [
        "4-9f3c2a1b",
        "{\"version\":\"4-9f3c2a1b\"}",
        "shop-4-9f3c2a1b, 14-9f3c2a1b",
        "v 14-9f3c2a1b or 4-9f3c2a1b",
    ] {
        assert!(names(body, "4-9f3c2a1b"), "{body}");
    }
    for body in ["14-9f3c2a1b", "4-9f3c2a1b0", "", "4-9f3c2a1"] {
        assert!(!names(body, "4-9f3c2a1b"), "{body}");
    }
    assert!(names("run 4", "4") && !names("run 14", "4") && !names("4-9f3c2a1b", "4"));
}
