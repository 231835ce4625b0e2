//! Unix sockets in the data directory, and messages on them: one JSON value a line.
//!
//! A socket's path may be as long as the data directory makes it: the kernel's limit of 107 bytes is
//! kept out of sight by going through the directory's descriptor.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};

/// Longest message, in bytes. A start request carries a whole shell command and its environment.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// The longest path that `sockaddr_un` takes, without the final NUL; see unix(7).
const PATH_LIMIT: usize = 107;

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

/// Connects to `directory/name`.
pub async fn connect(directory: &Path, name: &str) -> io::Result<UnixStream> {
    // Connecting to a unix socket never waits for the other side, so the blocking call is enough,
    // and it keeps the directory's descriptor open while its path is in use.
    let stream = through(directory, name, std::os::unix::net::UnixStream::connect)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The number of the process that listens at `directory/name`, if one does.
pub fn peer(directory: &Path, name: &str) -> Option<u32> {
    let stream = through(directory, name, std::os::unix::net::UnixStream::connect).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    credentials.pid.as_raw_nonzero().get().try_into().ok()
}

fn through<T>(directory: &Path, name: &str, act: impl FnOnce(PathBuf) -> io::Result<T>) -> io::Result<T> {
    let path = directory.join(name);
    if path.as_os_str().len() <= PATH_LIMIT {
        return act(path);
    }
    let directory = std::fs::File::open(directory)?;
    act(PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())))
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
}
