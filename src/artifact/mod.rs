//! Content-addressed files: what stages produced, kept by the digest of what is in it.
//!
//! An artifact is a [`Manifest`] (paths, modes, digests; no times, no owners) and the contents it
//! names, each stored once in `blobs/ab/…`. Its digest is the manifest's, so equal content has an
//! equal digest on every machine. What is always true:
//!
//! - a blob appears whole or not at all, is flushed before it is named, and never changes;
//! - a manifest is stored after everything it names;
//! - nothing is read from outside the directory that is stored, nor written outside the one that is
//!   restored into, whatever paths and links say;
//! - what is restored was compared with its digest, and is a copy: editing it leaves the shelf as it
//!   is.
//!
//! Everything here blocks; asynchronous callers use `spawn_blocking`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ids::Digest;

mod blob;
mod examine;
mod manifest;
mod pack;
mod place;
mod restore;
mod store;
#[cfg(test)]
mod tests;

pub use examine::Examined;
pub use manifest::{Entry, FORMAT, Manifest};

/// Where artifacts are kept.
#[derive(Debug, Clone)]
pub struct Shelf {
    directory: PathBuf,
    limits: Limits,
}

/// How large an artifact may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links together.
    pub entries: usize,
    /// Sum of the sizes of its files.
    pub bytes: u64,
}

impl Default for Limits {
    /// Ten times what a large web front end with all its packages has, and far more bytes than
    /// belong into one machine image; meant to stop a stage that stores its whole disk by mistake.
    fn default() -> Self {
        Self { entries: 500_000, bytes: 32 * 1024 * 1024 * 1024 }
    }
}

/// An artifact on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Of its manifest: the same content has the same digest.
    pub digest: Digest,
    /// Sum of the sizes of its files.
    pub bytes: u64,
}

/// Why an artifact could not be stored or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stage promised it and did not make it.
    #[error("the artifact path {path:?} does not exist in the workspace: the stage's steps did not make it")]
    Missing { path: String },
    #[error("{path:?} cannot be the path of an artifact: {reason}")]
    Path { path: String, reason: &'static str },
    /// A link leads out of the directory it belongs to.
    #[error(
        "{path:?} is a link to {target:?}, outside of the artifact: \
         copy what it points to, or leave the link out"
    )]
    Outside { path: String, target: String },
    #[error("{path:?} is {kind}: an artifact has files, directories and links only")]
    Unsupported { path: String, kind: &'static str },
    /// Something that the artifact may not replace, or write through, is at the place of one of its
    /// paths.
    #[error("cannot restore {path:?}: {reason} is in the way")]
    InTheWay { path: PathBuf, reason: &'static str },
    #[error("the artifact at {path:?} is larger than {limit}")]
    TooLarge { path: String, limit: String },
    #[error("there is no artifact {0} here")]
    NotFound(Digest),
    /// What is stored is not what was stored. It was put aside, so that making the artifact again
    /// stores it anew.
    #[error("the stored content {blob} is damaged ({reason}): run the stage that made the artifact again")]
    Damaged { blob: Digest, reason: String },
    #[error("no space is left on the disk of {}: free some, then try again", .path.display())]
    Full { path: PathBuf },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    /// Whether what was to be stored is at fault, and not the place where it is kept.
    pub fn blames_content(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Path { .. }
                | Self::Outside { .. }
                | Self::Unsupported { .. }
                | Self::TooLarge { .. }
        )
    }

    fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { path: path.to_owned(), source },
        }
    }
}

impl Shelf {
    /// A shelf in `directory`, which is made when something is first stored.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, limits: Limits::default() }
    }

    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// What the artifact is made of.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] when the stored manifest is not the one of `digest`,
    /// or none that [`Shelf::store`] writes.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        let path = self.blob(digest);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(digest.clone()));
            }
            other => other.map_err(Error::at(&path))?,
        };
        if Digest::of(&bytes) != *digest {
            return Err(self.put_aside(digest, "it has another digest".to_owned()));
        }
        Manifest::read(&bytes).map_err(|reason| Error::Damaged { blob: digest.clone(), reason })
    }
}
