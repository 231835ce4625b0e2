//! A real balancer process in a directory of its own, instances that tests can look into, and a
//! client that speaks HTTP/1.1 by hand, so that nothing is retried or repaired behind a test's back.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use windlass::balancer::Client;
use windlass::cloud::{Balancer, HealthCheck, Listener, Target, TargetState};
use windlass::ids::{FleetId, InstanceId};

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_windlass");

/// A data directory with a balancer for one fleet.
pub struct Bench {
    pub data: tempfile::TempDir,
    pub client: Arc<Client>,
    pub listener: Listener,
}

impl Bench {
    /// A fleet with a listener and no targets.
    pub async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let client = Arc::new(Client::new(data.path().to_owned(), PathBuf::from(PROGRAM)));
        let listener = listener("storefront", free_port());
        client.put_listener(&listener).await.unwrap();
        Self { data, client, listener }
    }

    /// The same with healthy instances.
    pub async fn with(instances: &[&Instance]) -> Self {
        let bench = Self::new().await;
        for instance in instances {
            bench.register(instance).await;
        }
        bench
    }

    pub fn fleet(&self) -> &FleetId {
        &self.listener.fleet
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listener.port))
    }

    /// Registers and waits until it is healthy.
    pub async fn register(&self, instance: &Instance) {
        self.client.register(self.fleet(), &[(instance.id(), instance.address)]).await.unwrap();
        self.until(&instance.name, |state| state == TargetState::Healthy).await;
    }

    pub async fn deregister(&self, name: &str) {
        self.client.deregister(self.fleet(), &[name.parse().unwrap()]).await.unwrap();
    }

    pub async fn state(&self, name: &str) -> Option<TargetState> {
        self.target(name).await.map(|target| target.state)
    }

    pub async fn target(&self, name: &str) -> Option<Target> {
        let targets = self.client.targets(self.fleet()).await.unwrap();
        targets.into_iter().find(|target| target.id.as_str() == name)
    }

    /// Waits for a target's state by the balancer's word only.
    pub async fn until(&self, name: &str, wanted: impl Fn(TargetState) -> bool) {
        let reached = async {
            loop {
                if self.state(name).await.is_some_and(&wanted) {
                    return;
                }
                self.client.changed(self.fleet(), PATIENCE * 2).await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{name} stays {:?}", self.target(name).await);
        }
    }

    /// Ends the process and sees that nothing is left.
    pub async fn end(self) {
        self.client.stop().await.unwrap();
        assert_eq!(processes(self.data.path()), Vec::<i32>::new());
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in processes(self.data.path()) {
            kill(pid);
        }
    }
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The balancer processes of a data directory.
pub fn processes(data: &Path) -> Vec<i32> {
    let ours = |pid: i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == data.as_os_str().as_encoded_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| ours(*pid))
        .collect()
}

/// A port nobody listens on, below those that the kernel gives to outgoing connections (32768 and
/// up), so that none of the many here takes it meanwhile.
pub fn free_port() -> u16 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let start = u64::from(std::process::id()) * 101;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::SeqCst)) % 9_000;
        let port = u16::try_from(port).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn listener(service: &str, port: u16) -> Listener {
    Listener {
        fleet: FleetId::new(service.parse().unwrap(), "production".parse().unwrap()),
        port,
        health: HealthCheck {
            path: "/healthz".to_owned(),
            interval: Duration::from_millis(30),
            timeout: Duration::from_secs(5),
            healthy: 2,
            unhealthy: 2,
        },
        drain: Duration::from_secs(20),
    }
}

/// An HTTP server that counts what it is asked.
pub struct Instance {
    pub name: String,
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
pub struct Shared {
    name: String,
    /// Requests that were answered to the end, but for health checks.
    pub served: AtomicU64,
    /// Woken for each `/slow` request that has arrived.
    pub arrived: Notify,
    /// Lets one `/slow` request go on.
    pub go_on: Notify,
    pub sick: AtomicBool,
    /// Woken when a request was given up by whoever asked.
    pub abandoned: Notify,
}

impl Instance {
    pub async fn start(name: &str) -> Self {
        Self::listen(name, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn listen(name: &str, listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { name: name.to_owned(), ..Shared::default() });
        let serving = shared.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = serving.clone();
                let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new();
                connections.spawn(connection.serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        });
        Self { name: name.to_owned(), address, shared, accepting }
    }

    pub fn id(&self) -> InstanceId {
        self.name.parse().unwrap()
    }

    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }
}

impl Drop for Instance {
    /// As abrupt as SIGKILL: every connection ends at once.
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Wakes when a request is dropped before it was answered.
struct Guard(Option<Arc<Shared>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.abandoned.notify_one();
        }
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

fn text(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

async fn answer(shared: Arc<Shared>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(text(shared.name.clone()));
    match request.uri().path() {
        "/healthz" => {
            if shared.sick.load(Ordering::SeqCst) {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            return Ok(response);
        }
        "/slow" => {
            let mut guard = Guard(Some(shared.clone()));
            shared.arrived.notify_one();
            shared.go_on.notified().await;
            guard.0 = None;
        }
        "/echo" => response = Response::new(request.into_body().boxed()),
        "/length" => {
            let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            response = Response::new(text(length.to_string()));
        }
        "/big" => response = Response::new(text(vec![b'x'; 10_000_000])),
        "/seen" => {
            let line = format!("{} {}", request.method(), request.uri());
            let fields = request
                .headers()
                .iter()
                .map(|(name, value)| format!("\n{name}: {}", value.to_str().unwrap()));
            response = Response::new(text(line + &fields.collect::<String>()));
        }
        "/tunnel" => {
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        }
        _ => {}
    }
    shared.served.fetch_add(1, Ordering::SeqCst);
    Ok(response)
}

/// One client connection.
pub struct Caller {
    pub read: BufReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub version: String,
    pub status: u16,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether the connection may be used again.
    pub fn keeps(&self) -> bool {
        self.version == "HTTP/1.1" && self.field("connection") != Some("close")
    }
}

impl Caller {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self { read: BufReader::new(read), write })
    }

    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write.write_all(text.as_bytes()).await
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).await?;
        self.reply().await
    }

    /// Reads an answer to the end of its body.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head().await?;
        if reply.field("transfer-encoding") == Some("chunked") {
            loop {
                let length =
                    usize::from_str_radix(&line(&mut self.read).await?, 16).map_err(io::Error::other)?;
                let start = reply.body.len();
                reply.body.resize(start + length, 0);
                self.read.read_exact(&mut reply.body[start..]).await?;
                line(&mut self.read).await?;
                if length == 0 {
                    return Ok(reply);
                }
            }
        }
        match reply.field("content-length").map(|length| length.parse::<usize>()) {
            Some(length) => {
                reply.body = vec![0; length.map_err(io::Error::other)?];
                self.read.read_exact(&mut reply.body).await?;
            }
            None => {
                self.read.read_to_end(&mut reply.body).await?;
            }
        }
        Ok(reply)
    }

    /// Reads an answer's head only.
    pub async fn head(&mut self) -> io::Result<Reply> {
        let first = line(&mut self.read).await?;
        let (version, status) = first.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let status =
            status.get(..3).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut fields = Vec::new();
        loop {
            let field = line(&mut self.read).await?;
            if field.is_empty() {
                return Ok(Reply { version: version.to_owned(), status, fields, body: Vec::new() });
            }
            let (name, value) = field.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }
}

async fn line(read: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    match read.read_line(&mut line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// One request on a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    Caller::connect(address).await?.get(path).await
}

/// Clients that ask without a pause, half of them on kept connections, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<u64, String>>>,
    /// Answers so far.
    pub answered: Arc<AtomicU64>,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let clients = (0..clients).map(|number| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut kept: Option<Caller> = None;
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    let asked = async {
                        let mut caller = match kept.take() {
                            Some(caller) => caller,
                            None => Caller::connect(address).await?,
                        };
                        // Every third cannot be sent twice.
                        let reply = match count % 3 {
                            0 => {
                                let head =
                                    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
                                caller.send(head).await?;
                                caller.reply().await?
                            }
                            _ => caller.get("/").await?,
                        };
                        Ok::<_, io::Error>((caller, reply))
                    };
                    let (caller, reply) = asked.await.map_err(|error| format!("request {count}: {error}"))?;
                    if reply.status != 200 {
                        return Err(format!("request {count}: {} {}", reply.status, reply.text()));
                    }
                    count += 1;
                    answered.fetch_add(1, Ordering::SeqCst);
                    if number % 2 == 0 && reply.keeps() {
                        kept = Some(caller);
                    }
                }
                Ok(count)
            })
        });
        Self { clients: clients.collect(), stop, answered }
    }

    /// Ends the clients; the number of requests, all answered with 200, or the first that was not.
    pub async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        let mut sum = 0;
        for client in self.clients {
            sum += client.await.unwrap().unwrap();
        }
        sum
    }
}
