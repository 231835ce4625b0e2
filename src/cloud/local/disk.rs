//! Records on disk: whole or not there, flushed before they are named, with their version.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cloud::Error;

/// A file that was not finished within this time never will be: whoever wrote it was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// An error of this machine, by what it means to whoever asked the cloud.
pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Denied(text),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::NoCapacity(format!("the disk is full: {text}"))
            }
            _ => Error::Failed(text),
        }
    }
}

/// `Ok(None)` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    value: T,
}

/// Writes a record durably in place of the one that is there.
pub(super) fn write(path: &Path, version: u32, value: &impl Serialize) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let store = || {
        let mut text = serde_json::to_vec_pretty(&Versioned { version, value })?;
        text.push(b'\n');
        let mut temporary = tempfile::Builder::new().prefix(".new-").tempfile_in(directory)?;
        temporary.write_all(&text)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        sync(directory)
    };
    store().map_err(failed(path))
}

/// Reads a record; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path, version: u32) -> Result<Option<T>, Error> {
    #[derive(serde::Deserialize)]
    struct Only {
        version: u32,
    }
    let Some(text) = found(fs::read(path)).map_err(failed(path))? else { return Ok(None) };
    let unreadable = |reason: String| Error::Failed(format!("{} cannot be read: {reason}", path.display()));
    let only: Only = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    if only.version != version {
        let reason = format!("it has version {}, and this Windlass reads version {version}", only.version);
        return Err(unreadable(reason));
    }
    let record: Versioned<T> =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    Ok(Some(record.value))
}

/// Makes the names in a directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed(path))
}

/// Removes the unfinished files that killed processes left. What cannot be removed is tried again
/// next time.
pub(super) fn sweep(directory: &Path) {
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED)) {
            let _ = fs::remove_file(file.path());
        }
    }
}
