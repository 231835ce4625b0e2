//! Who holds a data directory: one process at a time.
//!
//! The hold is a lock (`flock`) on the file `lock` in it, so the kernel ends it with the process,
//! however that ends. The descriptor is not inherited by child processes. The file says who holds;
//! it stays when nobody does, and only the lock counts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::space::Trouble;

const FILE: &str = "lock";

/// How often to look again while the lock and what the file says do not fit yet, and how long to
/// leave the others to it in between: together a second, where microseconds should do.
const LOOKS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// The directory is this process's until this is dropped.
#[derive(Debug)]
pub struct Hold {
    /// Carries the lock.
    file: File,
}

/// Who holds a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    /// The command, as a person would type it: `windlass run`.
    pub what: String,
    pub since: Timestamp,
    /// When the process started, in the kernel's words: a reused pid is another process.
    started: Option<u64>,
}

/// Why a directory cannot be held.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    #[error(
        "{} is held by {holder}; use --data for another directory, or ask that process: windlass status",
        .directory.display()
    )]
    Held { directory: PathBuf, holder: Holder },
    /// Somebody has the lock who did not write down who it is.
    #[error(
        "{0} is held by an unknown process; use --data for another directory, or find that process: \
         fuser {0}/{FILE}",
        .directory.display()
    )]
    Unnamed { directory: PathBuf },
    #[error("cannot hold {}: {cause}{}", .directory.display(), advice(cause))]
    Io { directory: PathBuf, cause: io::Error },
}

/// What to do about it, where that is known.
fn advice(cause: &io::Error) -> &'static str {
    match (Trouble::of(cause), cause.kind()) {
        (Some(Trouble::Full), _) => "; free some space and try again",
        (Some(Trouble::ReadOnly), _) => {
            "; what only reads works there: windlass runs, show, logs and status; for the rest name another \
             directory with --data, or mount it to be written"
        }
        (None, io::ErrorKind::PermissionDenied) => {
            "; the directory is another user's: work as that user, or name another one with --data"
        }
        (None, io::ErrorKind::Unsupported) => NO_LOCKS,
        _ if cause.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) => NO_LOCKS,
        _ => "",
    }
}

const NO_LOCKS: &str = "; the file system has no locks, without which two could work there at once: keep the \
                        data directory on a local disk, named with --data";

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let here = TimeZone::system();
        let since = self.since.to_zoned(here.clone());
        let today = Timestamp::now().to_zoned(here).date() == since.date();
        let since = since.strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" });
        write!(f, "process {} ({}, since {since})", self.pid, self.what)
    }
}

/// How the lock was found.
enum Lock {
    Ours,
    Theirs,
    /// Somebody looks who holds; that is over at once.
    Looked,
}

impl Hold {
    /// Takes the directory for this process, for the command `what`; makes it, for this user only,
    /// when it is not there.
    pub fn take(directory: &Path, what: &str) -> Result<Self, HoldError> {
        let io = |cause| HoldError::Io { directory: directory.to_owned(), cause };
        crate::directory::make_private(directory).map_err(io)?;
        let path = directory.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(io)?;
        for _ in 0..LOOKS {
            match lock(&file).map_err(io)? {
                Lock::Ours => {
                    let mut hold = Self { file };
                    hold.introduce(what).map_err(io)?;
                    return Ok(hold);
                }
                Lock::Theirs => match Self::holder(directory)? {
                    Some(holder) => {
                        return Err(HoldError::Held { directory: directory.to_owned(), holder });
                    }
                    // It ended meanwhile.
                    None => continue,
                },
                Lock::Looked => std::thread::sleep(PAUSE),
            }
        }
        Err(HoldError::Unnamed { directory: directory.to_owned() })
    }

    /// Who holds the directory at this moment; `None` when nobody does. Creates nothing.
    pub fn holder(directory: &Path) -> Result<Option<Holder>, HoldError> {
        let io = |cause| HoldError::Io { directory: directory.to_owned(), cause };
        let mut file = match File::open(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io)?,
        };
        let mut last = None;
        for _ in 0..LOOKS {
            if !held(&file).map_err(io)? {
                return Ok(None);
            }
            let holder = read(&mut file).map_err(io)?;
            // Whoever has just taken the lock may not have written yet: then the file still names
            // a process that is no more.
            if holder.as_ref().is_some_and(Holder::lives) {
                return Ok(holder);
            }
            last = holder;
            std::thread::sleep(PAUSE);
        }
        // A living holder whose pid means nothing here, as from within another container.
        match last {
            Some(holder) => Ok(Some(holder)),
            None => Err(HoldError::Unnamed { directory: directory.to_owned() }),
        }
    }

    fn introduce(&mut self, what: &str) -> io::Result<()> {
        let pid = std::process::id();
        let holder = Holder { pid, what: what.to_owned(), since: Timestamp::now(), started: started(pid) };
        let text = serde_json::to_string(&holder).map_err(io::Error::other)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // So that the next one is never taken for this one. Closing the file gives up the lock.
        let _ = self.file.set_len(0);
    }
}

impl Holder {
    fn lives(&self) -> bool {
        self.started.is_some() && started(self.pid) == self.started
    }
}

fn lock(file: &File) -> io::Result<Lock> {
    match file.try_lock() {
        Ok(()) => Ok(Lock::Ours),
        Err(TryLockError::Error(error)) => Err(error),
        // Those who look share the lock for a moment: that is no holder.
        Err(TryLockError::WouldBlock) => match held(file)? {
            true => Ok(Lock::Theirs),
            false => Ok(Lock::Looked),
        },
    }
}

/// Whether somebody else has the lock for himself.
fn held(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn read(file: &mut File) -> io::Result<Option<Holder>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

/// When the process started, in clock ticks since boot: field 22 of /proc/PID/stat, see proc(5).
/// The fields are counted from behind the command's name, which may contain anything.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
