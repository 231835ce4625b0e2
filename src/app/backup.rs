//! Takes a backup of a data directory, also while somebody holds it; see [`crate::backup`].

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::check;
use crate::backup::Copier;
use crate::balancer;
use crate::check::Verdict;
use crate::runner;
use crate::store;
use crate::store::sqlite::Sqlite;

/// Why a backup could not be taken. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} holds no runs: there is nothing to back up", .0.display())]
    Nothing(PathBuf),
    #[error("{} is there already, and is {what}; a backup makes a directory of its own", .path.display())]
    Taken { path: PathBuf, what: &'static str },
    #[error("{} is inside the data directory: name a place outside of it, best on another disk", .0.display())]
    Inside(PathBuf),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the records of the runner cannot be copied: {0}")]
    Runner(io::Error),
    #[error("{0}")]
    Balancer(String),
    #[error("the disk of {} is full: nothing is left of the backup; free some space and try again", .0.display())]
    Full(PathBuf),
    #[error(transparent)]
    Check(#[from] check::Error),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
}

/// What was done, as it is done: how far the copy is after one of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `journal`, `logs`.
    pub name: String,
    pub files: u64,
    pub bytes: u64,
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub path: PathBuf,
    /// Nothing later is in it.
    pub taken_at: Timestamp,
    pub files: u64,
    pub bytes: u64,
    /// Steps that were under way; the copy has them as lost.
    pub steps_under_way: usize,
    /// What is wrong with what was copied.
    pub verdict: Verdict,
}

/// Copies the data directory `data` to `target`, which must not be there, or be an empty directory. The
/// copy appears under its name when all of it is on disk, or not at all.
pub async fn backup(
    data: &Path,
    target: &Path,
    mut told: impl FnMut(Part) + Send + 'static,
) -> Result<Taken, Error> {
    let nothing = || Error::Nothing(data.to_owned());
    let data = data.canonicalize().map_err(|_| nothing())?;
    let (parent, name) = place(target)?;
    if parent.starts_with(&data) {
        return Err(Error::Inside(target.to_owned()));
    }
    if Sqlite::is_missing(&data) {
        return Err(nothing());
    }
    let target = parent.join(&name);
    let unfinished = tempfile::Builder::new()
        .prefix(&format!(".{}.unfinished-", name.display()))
        .tempdir_in(&parent)
        .map_err(|error| wrong(&parent, error))?;
    let taken_at = Timestamp::now();
    // First: all that it names is there by now, and stays.
    match Sqlite::copy(&data, unfinished.path()).await {
        Ok(true) => {}
        Ok(false) => return Err(nothing()),
        Err(store::Error::Full { .. }) => return Err(Error::Full(target)),
        Err(error) => return Err(error.into()),
    }
    let of = target.clone();
    let work = move || copy(&data, unfinished, &of, taken_at, &mut told);
    let copied = match tokio::task::spawn_blocking(work).await {
        Ok(copied) => copied?,
        Err(error) => return Err(Error::Io { what: "copying".to_owned(), error: io::Error::other(error) }),
    };
    // What is wrong with the original is wrong with its copy, and is better known today.
    let verdict = check::examine(copied.unfinished.path(), check::List::Trusted).await?;
    name_it(copied, target, taken_at, verdict)
}

/// A copy that has everything but its name.
struct Copied {
    unfinished: tempfile::TempDir,
    files: u64,
    bytes: u64,
    steps_under_way: usize,
}

fn name_it(copied: Copied, target: PathBuf, taken_at: Timestamp, verdict: Verdict) -> Result<Taken, Error> {
    let Copied { unfinished, files, bytes, steps_under_way } = copied;
    let failed = |error| wrong(&target, error);
    // Gives way to an empty directory, and to nothing else.
    std::fs::rename(unfinished.path(), &target).map_err(failed)?;
    let _renamed = unfinished.keep();
    let parent = target.parent().unwrap_or(Path::new("/"));
    std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    Ok(Taken { path: target, taken_at, files, bytes, steps_under_way, verdict })
}

fn copy(
    data: &Path,
    unfinished: tempfile::TempDir,
    target: &Path,
    taken_at: Timestamp,
    told: &mut impl FnMut(Part),
) -> Result<Copied, Error> {
    let to = unfinished.path();
    let failed = |error| wrong(target, error);
    let mut copier = Copier::new(data, to, taken_at).map_err(failed)?;
    let mut tell = |copier: &Copier, name: &str| {
        let (files, bytes) = copier.copied();
        told(Part { name: name.to_owned(), files, bytes });
    };
    copier.made("windlass.db").map_err(failed)?;
    tell(&copier, "journal");
    // Before the logs: a log is never shorter than the record of its end says.
    let steps_under_way = runner::carry_over(data, to).map_err(Error::Runner)?;
    copier.made("runner/journal").map_err(failed)?;
    balancer::carry_over(data, to).map_err(Error::Balancer)?;
    copier.made("balancer.json").map_err(failed)?;
    for part in copier.parts().map_err(failed)? {
        copier.part(&part).map_err(failed)?;
        tell(&copier, &part.display().to_string());
    }
    let (files, bytes) = copier.copied();
    copier.finish().map_err(failed)?;
    Ok(Copied { unfinished, files, bytes, steps_under_way })
}

/// Where the backup is going to be: the directory above it, which is there, and its name.
fn place(target: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let target = std::path::absolute(target).map_err(|error| wrong(target, error))?;
    let taken = |what| Err(Error::Taken { path: target.clone(), what });
    match std::fs::symlink_metadata(&target) {
        Ok(there) if !there.is_dir() => return taken("no directory"),
        Ok(_) => {
            let mut entries = std::fs::read_dir(&target).map_err(|error| wrong(&target, error))?;
            if entries.next().is_some() {
                return taken("not empty");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(wrong(&target, error)),
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return taken("the root of everything");
    };
    std::fs::create_dir_all(parent).map_err(|error| wrong(parent, error))?;
    let parent = parent.canonicalize().map_err(|error| wrong(parent, error))?;
    Ok((parent, PathBuf::from(name)))
}

fn wrong(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full(path.to_owned()),
        _ => Error::Io { what: format!("the backup at {}", path.display()), error },
    }
}
