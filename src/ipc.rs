//! Unix sockets in the data directory, and messages on them: one JSON value a line.
//!
//! A socket's path may be as long as the data directory makes it: the kernel's limit of 107 bytes is
//! kept out of sight by going through the directory's descriptor.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

/// Longest message, in bytes. A start request carries a whole shell command and its environment.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// The longest path that `sockaddr_un` takes, without the final NUL; see unix(7).
const PATH_LIMIT: usize = 107;

/// A queue of clients that stays full for so long is one that nobody takes from, and the pause between
/// two looks at it.
const FULL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Listens at `directory/name`, readable by this user only. Replaces a socket file that is there:
/// whoever calls this holds the lock that makes it the only listener.
pub fn listen(directory: &Path, name: &str) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = directory.join(name);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = through(directory, name, |short| UnixListener::bind(short))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to `directory/name`. Fails with `TimedOut` when so many wait to be let in that nobody else
/// can, as it comes to be with a process that was stopped.
pub async fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    let deadline = tokio::time::Instant::now() + FULL;
    loop {
        match through(directory, name, connect_at_once) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            connected => return UnixStream::from_std(connected?),
        }
        if tokio::time::Instant::now() > deadline {
            let why = "it lets nobody in any more: it may be stopped, or have too much to do";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Connects without waiting for the other side, which the standard library's call would do where its
/// queue is full.
fn connect_at_once(path: PathBuf) -> io::Result<std::os::unix::net::UnixStream> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

fn through<T>(directory: &Path, name: &str, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let path = directory.join(name);
    if path.as_os_str().len() <= PATH_LIMIT {
        return act(path);
    }
    let directory = std::fs::File::open(directory)?;
    act(PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())))
}

/// Tells a process of ours that was stopped (SIGSTOP) to go on, and answers whether it was: it would
/// never answer whoever waits for it.
pub fn go_on(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // See proc_pid_stat(5): the name, in parentheses, may itself have some.
    let is_stopped = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'));
    let told = is_stopped && rustix::process::kill_process(pid, Signal::CONT).is_ok();
    if told {
        tracing::warn!(%pid, "a process was stopped (SIGSTOP) and is told to go on, as somebody waits for it");
    }
    told
}

/// Reads messages.
pub struct Reader<R>(FramedRead<R, LinesCodec>);

impl<R: tokio::io::AsyncRead + Unpin> Reader<R> {
    pub fn new(inner: R) -> Self {
        Self(FramedRead::new(inner, LinesCodec::new_with_max_length(MESSAGE_LIMIT)))
    }

    /// What it reads from, for what is no message: descriptors that come beside them.
    pub fn get_ref(&self) -> &R {
        self.0.get_ref()
    }

    /// The next message; `None` at the end of the stream. A line that is no such message is an
    /// error of kind `InvalidData`.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        match self.0.next().await {
            None => Ok(None),
            Some(Err(error)) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Some(Ok(line)) => serde_json::from_str(&line)
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}

/// Writes messages.
pub struct Writer<W>(FramedWrite<W, LinesCodec>);

impl<W: tokio::io::AsyncWrite + Unpin> Writer<W> {
    pub fn new(inner: W) -> Self {
        Self(FramedWrite::new(inner, LinesCodec::new_with_max_length(MESSAGE_LIMIT)))
    }

    /// Sends one message.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let line = serde_json::to_string(message).map_err(io::Error::other)?;
        self.0.send(line).await.map_err(io::Error::other)
    }
}

/// What a process that outlives its starter is given of the starter's environment.
const INHERITED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "WINDLASS_LOG",
    "RUST_BACKTRACE",
];

/// The environment of a process that outlives its starter: nothing that may be a secret, as whatever
/// it starts can read its environment in /proc.
pub fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_works_below_a_long_path() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = listen(&deep, "x.sock").unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, write) = stream.into_split();
            let message: Option<String> = Reader::new(read).next().await.unwrap();
            Writer::new(write).send(&message).await.unwrap();
        });
        let (read, write) = connect(&deep, "x.sock").await.unwrap().into_split();
        Writer::new(write).send(&"hello").await.unwrap();
        let answer: Option<Option<String>> = Reader::new(read).next().await.unwrap();
        assert_eq!(answer, Some(Some("hello".to_owned())));
        server.await.unwrap();
    }

    #[tokio::test]
    async fn who_lets_nobody_in_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let listener = listen(root.path(), "x.sock").unwrap();
        // As long a queue as there can be at least.
        rustix::net::listen(&listener, 0).unwrap();
        let first = connect(root.path(), "x.sock").await.unwrap();
        let second = connect(root.path(), "x.sock").await.unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        listener.accept().await.unwrap();
        drop((first, connect(root.path(), "x.sock").await.unwrap()));
    }
}
