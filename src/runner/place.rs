//! Which runner is the one of a data directory.
//!
//! Whoever holds the lock `DATA/runner.lock` is. Taking it and listening are one act for others, and
//! so are hanging up and letting it go, as both are done behind a gate that is held for an instant:
//! who passes it and finds the lock held knows that the holder listens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::{UnixListener, UnixStream};

use super::process::Process;
use super::protocol::SOCKET;
use crate::ipc;
use crate::wake;

/// The lock that the runner of a data directory holds.
const LOCK: &str = "runner.lock";

/// The commands that are a runner and its guard.
pub(super) const RUNNER: &str = "runner";
pub(super) const GUARD: &str = "guard";

/// The lock of whoever holds the data directory (`serve`, `run`, `demo`).
const HOLDER: &str = "lock";

/// The runner's place in a data directory, as long as this is there.
pub struct Place {
    data: PathBuf,
    own: PathBuf,
    listener: UnixListener,
    _lock: File,
}

impl Place {
    /// Takes the place and listens; `None` if another has it.
    pub fn take(data: &Path) -> io::Result<Option<Self>> {
        let own = own_directory(data);
        crate::directory::make_private(&own)?;
        let _gate = gate(&own)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).append(true).mode(0o600).open(data.join(LOCK))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked?,
        }
        // For whoever waits for this process to end.
        lock.set_len(0)?;
        (&lock).write_all(std::process::id().to_string().as_bytes())?;
        let listener = ipc::listen(data, SOCKET)?;
        Ok(Some(Self { data: data.to_owned(), own, listener, _lock: lock }))
    }

    /// Where the runner keeps what is its own.
    pub fn own(&self) -> &Path {
        &self.own
    }

    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Gives up the place, unless somebody is just coming in: then it is kept.
    pub fn leave(self) -> Result<(), Box<(Self, UnixStream)>> {
        let gate = gate(&self.own);
        // Asked of the kernel: tokio only knows of those that came before it last looked.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let came = rustix::net::accept_with(&self.listener, flags).map(std::os::unix::net::UnixStream::from);
        if let Some(stream) = came.ok().and_then(|stream| UnixStream::from_std(stream).ok()) {
            return Err(Box::new((self, stream)));
        }
        let _ = fs::remove_file(self.data.join(SOCKET));
        drop(self);
        drop(gate);
        Ok(())
    }
}

/// The runner's own directory below a data directory.
pub(super) fn own_directory(data: &Path) -> PathBuf {
    data.join("runner")
}

fn gate(own: &Path) -> io::Result<File> {
    let gate = File::open(own)?;
    rustix::fs::flock(&gate, FlockOperation::LockExclusive)?;
    Ok(gate)
}

/// The file whose lock says that somebody holds the data directory.
pub fn holder(data: &Path) -> PathBuf {
    data.join(HOLDER)
}

/// Whether somebody holds the data directory. Read from the kernel's list of locks: trying the lock
/// would make it look held to somebody who tries it at that instant.
pub fn is_held(data: &Path) -> bool {
    let Ok(inode) = fs::metadata(holder(data)).map(|file| file.ino()) else { return false };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // See proc_locks(5): `1: FLOCK  ADVISORY  WRITE 708 08:02:793 0 EOF`. The device is left out, as
    // some file systems show another here.
    locks.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next() == Some("FLOCK")
            && fields.nth(3).and_then(|file| file.rsplit(':').next()?.parse().ok()) == Some(inode)
    })
}

/// The file with the runner's records, below a data directory.
pub fn records(data: &Path) -> PathBuf {
    own_directory(data).join("journal")
}

/// Waits until the runner of `data` has ended, its process and its guard's too; `false` when that takes
/// longer than `patience`.
pub async fn left(data: &Path, patience: Duration) -> bool {
    let Some((pid, runner)) = process(data) else { return true };
    // Asked while the runner is there: afterwards nobody knows.
    let guard = Process::read(pid).and_then(|process| process.parent);
    let guard = guard.and_then(|guard| open(guard, GUARD, data));
    let ended = async {
        for process in std::iter::once(runner).chain(guard) {
            drop(wake::readable(process)?.readable().await?);
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(patience, ended).await.is_ok()
}

/// The process that took the place last, if it is still there.
pub fn process(data: &Path) -> Option<(Pid, OwnedFd)> {
    let pid = Pid::from_raw(fs::read_to_string(data.join(LOCK)).ok()?.trim().parse().ok()?)?;
    Some((pid, open(pid, RUNNER, data)?))
}

/// The process that has this number, if it is `windlass COMMAND --data DATA` and not somebody else by now.
fn open(pid: Pid, command: &str, data: &Path) -> Option<OwnedFd> {
    let data = std::path::absolute(data).ok()?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0).skip(1);
    let ours = data.as_os_str().as_encoded_bytes();
    (words.next() == Some(command.as_bytes()) && words.any(|word| word == ours)).then_some(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_has_the_place_and_who_comes_in_keeps_it() {
        let data = tempfile::tempdir().unwrap();
        let place = Place::take(data.path()).unwrap().unwrap();
        assert!(Place::take(data.path()).unwrap().is_none());

        let _coming = ipc::connect(data.path(), SOCKET).await.unwrap();
        let Err(kept) = place.leave() else { panic!("left with somebody at the door") };
        assert!(kept.0.leave().is_ok());
        assert!(!data.path().join(SOCKET).exists());
        assert!(Place::take(data.path()).unwrap().is_some());
    }

    #[test]
    fn a_held_data_directory_is_seen_without_touching_its_lock() {
        let data = tempfile::tempdir().unwrap();
        assert!(!is_held(data.path()));
        let file = File::create(holder(data.path())).unwrap();
        assert!(!is_held(data.path()));
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        assert!(is_held(data.path()));
        drop(file);
        assert!(!is_held(data.path()));
    }
}
