//! Listeners, targets and their health, with real HTTP services and requests.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::PATIENCE;
use crate::cloud::local::free_port;
use crate::cloud::{Balancer, Error, HealthCheck, Listener, Role, Target, TargetState};
use crate::ids::{FleetId, InstanceId};

/// Longer than any test takes: this drain never ends by itself.
const LONG: Duration = Duration::from_secs(600);

/// Every promise of [`Balancer`]. `make` makes one that serves nothing yet, on a machine from which
/// its URLs and the loopback addresses of this process can be reached.
pub async fn balancer<B: Balancer>(make: impl AsyncFn() -> B) {
    let suite = Suite { balancer: make().await, ports: Mutex::default() };
    suite.standing().await;
    suite.listeners().await;
    suite.health().await;
    suite.drains().await;
    suite.drain_time().await;
    suite.forgetting().await;
    suite.standing_by().await;
}

struct Suite<B> {
    balancer: B,
    /// Given out so far.
    ports: Mutex<std::collections::BTreeSet<u16>>,
}

/// An HTTP server that is told how to answer.
struct Service {
    id: InstanceId,
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    name: String,
    healthy: AtomicBool,
    /// Requests but for health checks.
    requests: AtomicU64,
    /// Requests for `/slow` are answered when they get one of these.
    released: Semaphore,
    /// One for each request for `/slow` that has arrived.
    arrived: Semaphore,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Service {
    async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            healthy: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            released: Semaphore::new(0),
            arrived: Semaphore::new(0),
        });
        let serving = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, shared.clone()));
                }
            }
        });
        Self { id: name.parse().expect("a legal id"), address, shared, serving }
    }

    fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    fn target(&self) -> (InstanceId, SocketAddr) {
        (self.id.clone(), self.address)
    }
}

/// Answers the requests of one connection, as long as it is kept.
async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        loop {
            let start = request.len();
            if stream.read_line(&mut request).await? == 0 {
                return Ok(());
            }
            if request.get(start..) == Some("\r\n") {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let mut status = "200 OK";
        match path {
            "/health" if !shared.healthy.load(Ordering::SeqCst) => status = "503 Service Unavailable",
            "/health" => {}
            path => {
                shared.requests.fetch_add(1, Ordering::SeqCst);
                if path == "/slow" {
                    shared.arrived.add_permits(1);
                    shared.released.acquire().await.map_err(io::Error::other)?.forget();
                }
            }
        }
        let body = &shared.name;
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Asks for a path; answers the status and who answered.
async fn get(url: &str, path: &str) -> io::Result<(u16, String)> {
    let host = url.strip_prefix("http://").unwrap_or(url);
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let wrong = || io::Error::other(format!("no HTTP answer: {answer:?}"));
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    Ok((status, body.to_owned()))
}

fn fleet(environment: &str) -> FleetId {
    let [service, environment] = ["shop", environment];
    FleetId::new(service.parse().expect("a legal name"), environment.parse().expect("a legal name"))
}

impl<B: Balancer> Suite<B> {
    fn listener(&self, environment: &str, drain: Duration) -> Listener {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let port = free_port(&ports).expect("a port is free");
        ports.insert(port);
        let health = HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            healthy: 2,
            unhealthy: 2,
        };
        Listener { fleet: fleet(environment), port, health, drain }
    }

    async fn put(&self, listener: &Listener) -> String {
        self.balancer.put_listener(listener).await.expect("a listener is made");
        self.balancer.url(listener).await.expect("it has an address")
    }

    async fn targets(&self, fleet: &FleetId) -> Vec<Target> {
        self.balancer.targets(fleet).await.expect("targets are told")
    }

    async fn register(&self, fleet: &FleetId, services: &[&Service]) {
        let targets: Vec<_> = services.iter().map(|service| service.target()).collect();
        self.balancer.register(fleet, &targets).await.expect("targets are registered");
    }

    /// Waits, as a rollout does, until the target is as wanted.
    async fn until(
        &self,
        fleet: &FleetId,
        service: &Service,
        what: &str,
        is: impl Fn(&Target) -> bool,
    ) -> Target {
        let waiting = async {
            loop {
                if let Some(target) =
                    self.targets(fleet).await.into_iter().find(|target| target.id == service.id && is(target))
                {
                    return target;
                }
                self.balancer.changed(fleet, PATIENCE).await.expect("changes are awaited");
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(target) => target,
            Err(_) => panic!("{} is not {what}: {:?}", service.id, self.targets(fleet).await),
        }
    }

    async fn healthy(&self, fleet: &FleetId, services: &[&Service]) {
        for service in services {
            self.until(fleet, service, "healthy", |target| target.state == TargetState::Healthy).await;
        }
    }

    /// Sends some requests at once and one after the other; all must succeed. Answers who answered.
    async fn answered_by(&self, url: &str) -> std::collections::BTreeSet<String> {
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let requests = (0..4).map(|_| get(url, "/"));
            for answer in futures_util::future::join_all(requests).await {
                let (status, name) = answer.expect("a request is answered");
                assert_eq!(status, 200, "no request fails while a target is healthy");
                names.insert(name);
            }
        }
        names
    }

    /// What is promised wherever the targets are.
    async fn standing(&self) {
        let listener = self.listener("standing", LONG);
        let services = Mutex::new(Vec::new());
        let start = async |name| {
            let service = Service::start(name).await;
            let target = service.target();
            services.lock().unwrap_or_else(PoisonError::into_inner).push(service);
            target
        };
        super::targets(&self.balancer, &listener, start).await;
    }

    async fn listeners(&self) {
        let listener = self.listener("staging", LONG);
        assert_eq!(self.targets(&listener.fleet).await, [], "a fleet without a listener has no targets");
        self.balancer.remove_listener(&listener.fleet).await.expect("a listener that is not there is fine");

        let one = Service::start("listen-one").await;
        let url = self.put(&listener).await;
        let (status, _) = get(&url, "/").await.expect("it listens");
        assert!(status >= 500, "without a target a request gets an error of the server, not {status}");
        self.register(&listener.fleet, &[&one]).await;
        self.healthy(&listener.fleet, &[&one]).await;
        let before = self.targets(&listener.fleet).await;
        self.put(&listener).await;
        let changed = Listener { drain: Duration::from_secs(1), ..listener.clone() };
        self.put(&changed).await;
        assert_eq!(self.targets(&listener.fleet).await, before, "putting it again leaves the targets");
        assert_eq!(self.answered_by(&url).await, ["listen-one".to_owned()].into());

        let same_port = Listener { fleet: fleet("canary"), ..listener.clone() };
        let taken = self.balancer.put_listener(&same_port).await;
        assert!(matches!(taken, Err(Error::Conflict(_))), "a port of another fleet is a conflict: {taken:?}");
        let foreign = Listener { port: one.address.port(), ..self.listener("canary", LONG) };
        let taken = self.balancer.put_listener(&foreign).await;
        assert!(matches!(taken, Err(Error::Conflict(_))), "so is one of another process: {taken:?}");

        let moved = Listener { port: self.listener("staging", LONG).port, ..changed };
        let url = self.put(&moved).await;
        assert_eq!(
            self.answered_by(&url).await,
            ["listen-one".to_owned()].into(),
            "it moves to another port"
        );

        for _ in 0..2 {
            self.balancer.remove_listener(&listener.fleet).await.expect("it is removed, and again");
            assert_eq!(self.targets(&listener.fleet).await, []);
        }
        self.put(&Listener { port: moved.port, ..same_port }).await;
        self.balancer.remove_listener(&fleet("canary")).await.expect("it is removed");
    }

    async fn health(&self) {
        let listener = self.listener("qa", LONG);
        let url = self.put(&listener).await;
        let (good, bad) = (Service::start("good").await, Service::start("bad").await);
        bad.shared.healthy.store(false, Ordering::SeqCst);
        self.register(&listener.fleet, &[&good, &bad]).await;
        self.healthy(&listener.fleet, &[&good]).await;
        let unhealthy = |target: &Target| target.state == TargetState::Unhealthy;
        let told = self.until(&listener.fleet, &bad, "unhealthy", unhealthy).await;
        assert_eq!((told.address, told.reason.is_some()), (bad.address, true), "with a reason: {told:?}");
        assert_eq!(self.answered_by(&url).await, ["good".to_owned()].into());
        assert_eq!(bad.requests(), 0, "a target that was never healthy gets no request");

        bad.shared.healthy.store(true, Ordering::SeqCst);
        self.healthy(&listener.fleet, &[&bad]).await;
        assert_eq!(self.answered_by(&url).await, ["bad".to_owned(), "good".to_owned()].into());

        good.shared.healthy.store(false, Ordering::SeqCst);
        self.until(&listener.fleet, &good, "unhealthy", unhealthy).await;
        let before = good.requests();
        assert_eq!(self.answered_by(&url).await, ["bad".to_owned()].into());
        assert_eq!(good.requests(), before, "an unhealthy target gets no request");
        self.balancer.remove_listener(&listener.fleet).await.expect("it is removed");
    }

    async fn drains(&self) {
        let listener = self.listener("production", LONG);
        let url = self.put(&listener).await;
        let (old, new) = (Service::start("old").await, Service::start("new").await);
        self.register(&listener.fleet, &[&old]).await;
        self.healthy(&listener.fleet, &[&old]).await;
        let open = tokio::spawn({
            let url = url.clone();
            async move { get(&url, "/slow").await }
        });
        old.shared.arrived.acquire().await.expect("it is never closed").forget();
        self.register(&listener.fleet, &[&new, &old]).await;
        assert_eq!(
            self.targets(&listener.fleet)
                .await
                .iter()
                .find(|target| target.id == old.id)
                .map(|old| old.state),
            Some(TargetState::Healthy),
            "registering a target again leaves it as it is"
        );
        self.healthy(&listener.fleet, &[&new]).await;

        let ids = [old.id.clone()];
        for _ in 0..2 {
            self.balancer.deregister(&listener.fleet, &ids).await.expect("it is deregistered, and again");
            let before = old.requests();
            assert_eq!(self.answered_by(&url).await, ["new".to_owned()].into());
            assert_eq!(old.requests(), before, "from the answer on it gets no new request");
            let open =
                |target: &Target| matches!(target.state, TargetState::Draining { open_requests: 1, .. });
            self.until(&listener.fleet, &old, "draining with one open request", open).await;
        }
        assert!(!open.is_finished(), "a drain does not cut an open request");
        old.shared.released.add_permits(1);
        self.until(&listener.fleet, &old, "drained", |target| target.state == TargetState::Drained).await;
        let (status, name) = open.await.expect("it does not panic").expect("it is answered");
        assert_eq!((status, name.as_str()), (200, "old"), "the open request is answered by whom it went to");

        let ids = [new.id.clone(), old.id.clone()];
        self.balancer.deregister(&listener.fleet, &ids).await.expect("all are deregistered");
        self.until(&listener.fleet, &new, "drained", |target| target.state == TargetState::Drained).await;
        self.balancer.remove_listener(&listener.fleet).await.expect("it is removed");
    }

    async fn drain_time(&self) {
        let listener = self.listener("dev", Duration::from_millis(200));
        let url = self.put(&listener).await;
        let stuck = Service::start("stuck").await;
        self.register(&listener.fleet, &[&stuck]).await;
        self.healthy(&listener.fleet, &[&stuck]).await;
        let open = tokio::spawn(async move { get(&url, "/slow").await });
        stuck.shared.arrived.acquire().await.expect("it is never closed").forget();
        self.balancer.deregister(&listener.fleet, std::slice::from_ref(&stuck.id)).await.expect("it drains");
        let drained = |target: &Target| target.state == TargetState::Drained;
        self.until(&listener.fleet, &stuck, "drained when the time is over", drained).await;
        open.abort();
        self.balancer.remove_listener(&listener.fleet).await.expect("it is removed");
    }

    async fn forgetting(&self) {
        let listener = self.listener("preview", LONG);
        let url = self.put(&listener).await;
        let (kept, gone) = (Service::start("kept").await, Service::start("gone").await);
        self.register(&listener.fleet, &[&kept, &gone]).await;
        self.healthy(&listener.fleet, &[&kept, &gone]).await;
        for _ in 0..2 {
            let ids = [gone.id.clone(), "never-was".parse().expect("a legal id")];
            self.balancer.forget(&listener.fleet, &ids).await.expect("it is forgotten, and again");
            let left = self.targets(&listener.fleet).await;
            assert_eq!(left.iter().map(|target| &target.id).collect::<Vec<_>>(), [&kept.id]);
        }
        let before = gone.requests();
        assert_eq!(self.answered_by(&url).await, ["kept".to_owned()].into());
        assert_eq!(gone.requests(), before, "a forgotten target gets no request");
        self.register(&listener.fleet, &[&gone]).await;
        self.healthy(&listener.fleet, &[&gone]).await;

        let nowhere = fleet("nowhere");
        let waiting = self.balancer.changed(&nowhere, Duration::from_millis(20));
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("patience ends")
            .expect("also without a listener");
        self.balancer.remove_listener(&listener.fleet).await.expect("it is removed");
    }

    async fn role(&self, fleet: &FleetId, service: &Service) -> Option<Role> {
        self.targets(fleet).await.into_iter().find(|t| t.id == service.id).map(|target| target.role)
    }

    async fn standing_by(&self) {
        let listener = self.listener("swapped", LONG);
        let (url, fleet) = (self.put(&listener).await, &listener.fleet);
        let (blue, green) = (Service::start("blue").await, Service::start("green").await);
        self.register(fleet, &[&blue]).await;
        self.healthy(fleet, &[&blue]).await;
        for _ in 0..2 {
            self.balancer.stand_by(fleet, &[green.target()]).await.expect("it stands by, and again");
        }
        self.healthy(fleet, &[&green]).await;
        assert_eq!(self.role(fleet, &green).await, Some(Role::Standby), "it is checked, and stands by");
        assert_eq!(self.answered_by(&url).await, ["blue".to_owned()].into());
        self.register(fleet, &[&green]).await;
        assert_eq!(self.role(fleet, &green).await, Some(Role::Standby), "registered again it stays so");

        let unknown: InstanceId = "never-was".parse().expect("a legal id");
        let refused = self.balancer.switch(fleet, &[green.id.clone(), unknown]).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "all or nothing: {refused:?}");
        green.shared.healthy.store(false, Ordering::SeqCst);
        self.until(fleet, &green, "unhealthy", |target| target.state == TargetState::Unhealthy).await;
        let refused = self.balancer.switch(fleet, std::slice::from_ref(&green.id)).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "not to a sick one: {refused:?}");
        assert_eq!(self.answered_by(&url).await, ["blue".to_owned()].into(), "nothing has changed");
        green.shared.healthy.store(true, Ordering::SeqCst);
        self.healthy(fleet, &[&green]).await;
        assert_eq!(green.requests(), 0, "who stands by gets no request");

        let open = tokio::spawn({
            let url = url.clone();
            async move { get(&url, "/slow").await }
        });
        blue.shared.arrived.acquire().await.expect("it is never closed").forget();
        for _ in 0..2 {
            self.balancer.switch(fleet, std::slice::from_ref(&green.id)).await.expect("switched, and again");
            let before = blue.requests();
            assert_eq!(self.answered_by(&url).await, ["green".to_owned()].into());
            assert_eq!(blue.requests(), before, "from the answer on the old one gets no new request");
        }
        assert_eq!(self.role(fleet, &blue).await, Some(Role::Standby));
        assert!(!open.is_finished(), "a switch does not cut an open request");
        blue.shared.released.add_permits(1);
        let (status, name) = open.await.expect("it does not panic").expect("it is answered");
        assert_eq!((status, name.as_str()), (200, "blue"));

        self.balancer.switch(fleet, std::slice::from_ref(&blue.id)).await.expect("it is switched back");
        assert_eq!(self.answered_by(&url).await, ["blue".to_owned()].into());
        self.balancer.deregister(fleet, std::slice::from_ref(&green.id)).await.expect("it drains");
        self.until(fleet, &green, "drained", |target| target.state == TargetState::Drained).await;
        let missing = self.balancer.stand_by(&self.listener("nowhere", LONG).fleet, &[green.target()]).await;
        assert!(matches!(missing, Err(Error::NotFound(_))), "there is no listener: {missing:?}");
        self.balancer.remove_listener(fleet).await.expect("it is removed");
    }
}
