//! Objects as files below a directory.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use walkdir::{DirEntry, WalkDir};

use super::disk::{self, failed};
use crate::cloud::{Error, Objects, objects};
use crate::ids::Digest;

/// Where objects are written before they have their name. No key starts with a dot.
const INCOMING: &str = ".incoming";

/// A store of objects in a directory. The object `a/b` is the file `a/b`: people find it without
/// Windlass.
#[derive(Debug, Clone)]
pub struct LocalObjects {
    directory: PathBuf,
}

impl LocalObjects {
    /// The store in `directory`, which is made when something is first stored.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory: std::path::absolute(&directory).unwrap_or(directory) }
    }

    /// Where an object lies, or would.
    fn path(&self, key: &str) -> Result<PathBuf, Error> {
        objects::check_key(key)?;
        Ok(self.directory.join(key))
    }

    fn put_now(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error> {
        let path = self.path(key)?;
        if self.digest_now(key)?.as_ref() == Some(digest) {
            return Ok(());
        }
        let incoming = self.directory.join(INCOMING);
        disk::make_directory(&incoming)?;
        disk::sweep(&incoming);
        let temporary = tempfile::NamedTempFile::new_in(&incoming).map_err(failed(&incoming))?;
        fs::copy(file, temporary.path()).map_err(failed(file))?;
        let copied = objects::digest_of(temporary.path()).map_err(failed(temporary.path()))?;
        if copied != *digest {
            return Err(objects::not_as_promised(key, file, digest, &copied));
        }
        temporary.as_file().sync_all().map_err(failed(&incoming))?;
        let parent = path.parent().unwrap_or(&self.directory);
        fs::create_dir_all(parent).map_err(|error| taken(key, parent, error))?;
        temporary.persist(&path).map_err(|error| taken(key, &path, error.error))?;
        // Directories that were just made, too.
        let above = parent.ancestors().take_while(|above| above.starts_with(&self.directory));
        above.into_iter().try_for_each(|above| disk::sync(above).map_err(failed(above)))
    }

    fn get_now(&self, key: &str, to: &Path) -> Result<(), Error> {
        let path = self.path(key)?;
        let directory = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::NamedTempFile::new_in(directory).map_err(failed(to))?;
        match fs::copy(&path, temporary.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(format!("the object {key}")));
            }
            other => other.map_err(failed(&path))?,
        };
        temporary.persist(to).map_err(|error| failed(to)(error.error))?;
        Ok(())
    }

    pub(super) fn digest_now(&self, key: &str) -> Result<Option<Digest>, Error> {
        let path = self.path(key)?;
        match fs::metadata(&path) {
            Ok(there) if there.is_file() => objects::digest_of(&path).map(Some).map_err(failed(&path)),
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(failed(&path)(error))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn list_now(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let is_key = |entry: &DirEntry| entry.depth() == 0 || !entry.file_name().as_bytes().starts_with(b".");
        for entry in WalkDir::new(&self.directory).into_iter().filter_entry(is_key) {
            let entry = match entry {
                // Removed meanwhile, or nothing was ever stored.
                Err(error) if error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                    continue;
                }
                other => other.map_err(|error| failed(&self.directory)(error.into()))?,
            };
            let key = entry.path().strip_prefix(&self.directory).ok().and_then(Path::to_str);
            if entry.file_type().is_file() {
                keys.extend(key.filter(|key| key.starts_with(prefix)).map(str::to_owned));
            }
        }
        keys.sort();
        Ok(keys)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || act(&this)).await;
        done.map_err(|error| Error::Ambiguous(format!("the object store stopped working: {error}")))?
    }
}

/// In a directory a name is either a file or leads to others, in S3 it may be both.
fn taken(key: &str, path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            Error::Conflict(format!("{key} cannot be stored beside an object whose name is a part of it"))
        }
        _ => failed(path)(error),
    }
}

#[async_trait]
impl Objects for LocalObjects {
    async fn put(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error> {
        let (key, file, digest) = (key.to_owned(), file.to_owned(), digest.clone());
        self.blocking(move |objects| objects.put_now(&key, &file, &digest)).await
    }

    async fn get(&self, key: &str, to: &Path) -> Result<(), Error> {
        let (key, to) = (key.to_owned(), to.to_owned());
        self.blocking(move |objects| objects.get_now(&key, &to)).await
    }

    async fn digest(&self, key: &str) -> Result<Option<Digest>, Error> {
        let key = key.to_owned();
        self.blocking(move |objects| objects.digest_now(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let prefix = prefix.to_owned();
        self.blocking(move |objects| objects.list_now(&prefix)).await
    }

    /// A URL as RFC 8089 has it, with everything escaped that could end it.
    fn location(&self, key: &str) -> String {
        let path = self.directory.join(key);
        let mut url = "file://".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' | b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => {
                    url.push(char::from(*byte));
                }
                other => url.push_str(&format!("%{other:02X}")),
            }
        }
        url
    }
}
