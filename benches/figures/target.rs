//! What stands behind a load balancer: this program in another mode, as cheap as an HTTP server can be,
//! so that the machine is left to what is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::load::{BUFFER, content_length, end_of_head, field};

/// What makes this program a target: `--target PORT`, or `--target` and `PORT` in the environment.
pub const WORD: &str = "--target";

/// The bytes of what is answered at `/`, and at `/large`.
pub const SMALL: usize = 1024;
pub const LARGE: usize = 1024 * 1024;

/// A target that runs. Killed when it is dropped.
pub struct Target {
    child: Child,
    pub address: SocketAddr,
}

impl Target {
    pub fn start() -> Self {
        let address = free_address();
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program).arg(WORD).arg(address.port().to_string()).spawn();
        let target = Self { child: child.expect("a target starts"), address };
        let listens = || std::net::TcpStream::connect(address).ok();
        crate::bench::wait_for("a target", std::time::Duration::from_secs(10), listens);
        target
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on this machine that nobody listens on.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// Where a target is to listen, if that is what this process was started for.
pub fn asked() -> Option<u16> {
    let mut words = std::env::args().skip(1);
    if words.next()? != WORD {
        return None;
    }
    words.next().or_else(|| std::env::var("PORT").ok())?.parse().ok()
}

/// Answers until it is killed.
pub fn serve(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a port");
        let answers: &'static Answers = Box::leak(Box::new(Answers::new()));
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(converse(stream, answers));
        }
    });
}

struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Answers {
    fn new() -> Self {
        let of = |length: usize| {
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n");
            [head.as_bytes(), &vec![b'x'; length]].concat()
        };
        Self { small: of(SMALL), large: of(LARGE) }
    }
}

/// Answers the requests of a connection; what is sent with them is read and forgotten.
async fn converse(mut stream: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut asked = Vec::with_capacity(BUFFER);
    loop {
        asked.clear();
        let head = loop {
            if stream.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
            if let Some(end) = end_of_head(&asked) {
                break end;
            }
        };
        let length = content_length(&asked[..head]).unwrap_or(0);
        let large = asked.starts_with(b"GET /large");
        let closes = field(&asked[..head], "connection") == Some(b"close");
        let mut have = asked.len() - head;
        while have < length {
            asked.clear();
            match stream.read_buf(&mut asked).await? {
                0 => return Ok(()),
                read => have += read,
            }
        }
        stream.write_all(if large { &answers.large } else { &answers.small }).await?;
        if closes {
            return Ok(());
        }
    }
}
