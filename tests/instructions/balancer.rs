//! A balancer with one target, in threads of this process, which end with it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Builder;
use windlass::balancer::{self, Client, Options, Start};
use windlass::cloud::{Balancer as _, HealthCheck, Listener, TargetState};
use windlass::ids::{FleetId, InstanceId};

/// What a client sends.
const REQUEST: &[u8] = b"GET /cart HTTP/1.1\r\nhost: shop.example\r\naccept: */*\r\n\r\n";

/// How what the target says ends.
const END: &[u8] = b"a cart";

/// Nothing is checked again while it is counted, and valgrind takes its time.
const LONG: Duration = Duration::from_secs(3600);

pub struct Balancer {
    address: SocketAddr,
}

impl Balancer {
    pub fn start(data: &Path) -> Self {
        let runtime = || Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (ready, is_ready) = std::sync::mpsc::channel();
        let options = Options { data: data.to_owned(), start: Start::Fresh };
        std::thread::spawn(move || {
            let ready = || ready.send(()).expect("somebody who waits");
            runtime().block_on(balancer::run(options, ready)).expect("a balancer");
        });
        is_ready.recv().expect("a balancer");

        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
        let address = free.expect("a port");
        // Without a program, as no other process is to take over from this one.
        let client = Client::new(data.to_owned(), PathBuf::new());
        runtime().block_on(take(&client, address.port(), target()));
        Self { address }
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).expect("a connection")
    }
}

/// Through the balancer to its target, and back.
pub fn exchange(client: &mut TcpStream) {
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    client.write_all(REQUEST).expect("a request");
    while !answer.ends_with(END) {
        let count = client.read(&mut part).expect("an answer");
        assert!(count > 0, "the connection was closed");
        answer.extend_from_slice(&part[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Returns when requests to the port reach the target.
async fn take(client: &Client, port: u16, target: SocketAddr) {
    let fleet = FleetId::new("shop".parse().expect("a name"), "production".parse().expect("a name"));
    let id: InstanceId = "shop-production-1".parse().expect("a name");
    let health =
        HealthCheck { path: "/".to_owned(), interval: LONG, timeout: LONG, healthy: 1, unhealthy: 1 };
    let listener = Listener { fleet: fleet.clone(), port, health, drain: LONG };
    client.put_listener(&listener).await.expect("a listener");
    client.register(&fleet, &[(id, target)]).await.expect("a target");
    while !client.targets(&fleet).await.expect("targets").iter().any(|t| t.state == TargetState::Healthy) {
        let _ = client.changed(&fleet, LONG).await;
    }
}

/// Answers whatever comes, as long as this process lives.
fn target() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.expect("a connection")));
        }
    });
    address
}

/// A request has no body, and is shorter than what one read takes.
fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|count| count > 0) {
        let said = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\na cart");
        if said.is_err() {
            return;
        }
    }
}
