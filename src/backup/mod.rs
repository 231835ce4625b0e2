//! Copies of data directories: which of their files are copied, and the list that says what a copy
//! holds.
//!
//! A backup *is* a data directory, with the file [`MANIFEST`] in addition. What is always true:
//!
//! - the journal is copied first. What it names was stored before it was named and never changes
//!   afterwards, and logs only grow: so what is copied later has all of it, whoever writes meanwhile;
//! - no file is shared with the original, not even by a hard link: what happens to one happens to one;
//! - what belongs to living processes stays behind: sockets, locks, workspaces, builders, instances;
//! - a file of which nothing is known here is copied. People keep settings beside their data.
//!
//! The files that need more than copying (the journal, the runner's records, the balancer's state) are
//! copied by their own rooms.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};

mod copy;
mod manifest;
#[cfg(test)]
mod tests;

pub use copy::Copier;
pub use manifest::{Difference, Header, MANIFEST, Manifest, OPENED, Unreadable};

/// Files and directories that are of a moment, of a process, or copied by those who know them.
const LEFT: [&str; 23] = [
    "backup.jsonl",
    "restored.jsonl",
    // Where the original is at home.
    "home.json",
    "lock",
    "home.json",
    "windlass.db",
    "windlass.db-wal",
    "windlass.db-shm",
    "windlass.db-journal",
    "windlass.sock",
    "workspaces",
    "builders",
    "runner",
    "runner.lock",
    "runner.log",
    "runner.sock",
    "balancer.json",
    "balancer.lock",
    "balancer.start.lock",
    "balancer.log",
    "balancer.sock",
    // Half written, or damaged and put aside.
    "artifacts/incoming",
    "artifacts/damaged",
];

/// What is copied of directories of which the rest is left.
const ONLY: [(&str, &str); 2] = [
    // What became of instances that were terminated, and not those that run.
    ("instances", ".ended"),
    // Commits that their repository may have forgotten since; anything else there is fetched again.
    ("cache", "git"),
];

/// Beginnings of the names of files that are not finished, and of directories on their way out.
const UNFINISHED: [&str; 7] = [".new-", ".balancer.json", ".home.json", ".incoming", ".gone", ".tmp", "tmp_"];

/// Whether a path below a data directory is copied as it is.
pub fn is_copied(path: &Path) -> bool {
    if LEFT.iter().any(|left| path.starts_with(left)) {
        return false;
    }
    let mut parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let (first, second) = (parts.next(), parts.next());
    for (above, only) in ONLY {
        if first == Some(OsStr::new(above)) && second.is_some_and(|second| second != only) {
            return false;
        }
    }
    // What an image or an artifact holds may have any name.
    let depth = path.components().count();
    if first == Some(OsStr::new("images")) && depth > 2 {
        return true;
    }
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    let in_git = path.starts_with("cache/git");
    let unfinished = UNFINISHED.iter().any(|begin| name.starts_with(begin));
    let locks = in_git && name.ends_with(".lock");
    !unfinished && !locks
}

/// A data directory that is opened to work on is a backup no more: its list is put aside, under the
/// name [`OPENED`]. Answers what it was a copy of, the first time.
///
/// # Errors
/// The list cannot be renamed. One that cannot be read is put aside all the same.
pub fn open_up(directory: &Path) -> io::Result<Option<Header>> {
    let path = directory.join(MANIFEST);
    if !path.try_exists()? {
        return Ok(None);
    }
    let header = Manifest::header(directory).ok().flatten();
    std::fs::rename(&path, directory.join(OPENED))?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(header)
}
