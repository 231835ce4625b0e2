//! Trees of files: copied, merged, compared and removed. Links are never followed.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use walkdir::WalkDir;

use super::disk::{failed, found};
use crate::cloud::Error;
use crate::ids::Digest;

/// What is found below a directory, the directory itself first, in the order of names.
pub(super) fn walk(root: &Path) -> impl Iterator<Item = Result<Found, Error>> + use<> {
    let root = root.to_owned();
    WalkDir::new(&root).follow_links(false).follow_root_links(false).sort_by_file_name().into_iter().map(
        move |entry| {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(&root).to_owned();
                failed(&path)(error.into())
            })?;
            Found::new(&root, entry.into_path())
        },
    )
}

/// What is at `path`, if something is.
pub(super) fn look(path: &Path) -> Result<Option<Found>, Error> {
    match found(fs::symlink_metadata(path)).map_err(failed(path))? {
        Some(_) => Found::new(path, path.to_owned()).map(Some),
        None => Ok(None),
    }
}

/// A file, directory or link in a tree.
pub(super) struct Found {
    pub path: PathBuf,
    /// Below the root of the tree; empty for the root.
    pub relative: PathBuf,
    pub kind: Kind,
    /// The nine permission bits: an image sets no other user's rights.
    pub mode: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
}

impl Found {
    fn new(root: &Path, path: PathBuf) -> Result<Self, Error> {
        let metadata = fs::symlink_metadata(&path).map_err(failed(&path))?;
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File,
            kind if kind.is_symlink() => Kind::Link,
            _ => {
                let reason = "is a socket, pipe or device: an image has files, directories and links only";
                return Err(Error::Failed(format!("{} {reason}", path.display())));
            }
        };
        let relative = path.strip_prefix(root).map(Path::to_owned).unwrap_or_default();
        Ok(Self { relative, kind, mode: metadata.permissions().mode() & 0o777, path })
    }

    /// Makes a copy at `to`, where nothing may be. A directory is made writable and without what is
    /// in it; [`Modes`] closes it again.
    pub(super) fn copy(&self, to: &Path, modes: &mut Modes) -> Result<(), Error> {
        let made = match self.kind {
            Kind::Directory => {
                modes.0.push((to.to_owned(), self.mode));
                fs::create_dir(to).and_then(|()| set_mode(to, 0o700 | self.mode))
            }
            Kind::Link => fs::read_link(&self.path).and_then(|target| std::os::unix::fs::symlink(target, to)),
            // Shares the blocks where the file system can, and copies inside the kernel elsewhere.
            Kind::File => fs::copy(&self.path, to).and_then(|_| set_mode(to, self.mode)),
        };
        made.map_err(failed(to))
    }

    /// What tells it from another one at its path.
    pub(super) fn content(&self) -> Result<Digest, Error> {
        let mut hash = sha2::Sha256::new();
        match self.kind {
            Kind::Directory => hash.update(b"directory"),
            Kind::Link => {
                let target = fs::read_link(&self.path).map_err(failed(&self.path))?;
                hash.update(b"link\0");
                hash.update(target.as_os_str().as_bytes());
            }
            Kind::File => {
                hash.update(b"file\0");
                let mut file = fs::File::open(&self.path).map_err(failed(&self.path))?;
                let mut writer = io::BufWriter::with_capacity(128 * 1024, Hashing(&mut hash));
                io::copy(&mut file, &mut writer).map_err(failed(&self.path))?;
                io::Write::flush(&mut writer).map_err(failed(&self.path))?;
            }
        }
        Ok(Digest::from_hash(hash.finalize().as_slice()))
    }
}

struct Hashing<'a>(&'a mut sha2::Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The modes that copied directories get at the end: something may have to be put into one that is
/// not writable.
#[derive(Default)]
pub(super) struct Modes(Vec<(PathBuf, u32)>);

impl Modes {
    pub(super) fn apply(self) -> Result<(), Error> {
        self.0.iter().rev().try_for_each(|(path, mode)| set_mode(path, *mode).map_err(failed(path)))
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Copies the tree at `from` to `to`, where nothing may be. The root's own mode may be anything, and
/// the copy's lets us in.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let mut modes = Modes::default();
    for found in walk(from) {
        let found = found?;
        let to = if found.relative.as_os_str().is_empty() { to.to_owned() } else { to.join(&found.relative) };
        found.copy(&to, &mut modes)?;
    }
    modes.apply()
}

/// The digest of everything below `root`: paths, modes, links, contents. The root's own mode and
/// all times and owners do not count.
pub(super) fn digest(root: &Path) -> Result<Digest, Error> {
    let mut hash = sha2::Sha256::new();
    for found in walk(root) {
        let found = found?;
        let path = found.relative.as_os_str().as_bytes();
        if path.is_empty() {
            continue;
        }
        // No path has a NUL, and a digest has a fixed length: no two trees make the same text.
        hash.update(path);
        hash.update(format!("\0{:o} {}\n", found.mode, found.content()?));
    }
    Ok(Digest::from_hash(hash.finalize().as_slice()))
}

/// Removes a tree, also where it took our own permission away. What is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let remove = || match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match found(remove()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path);
            found(remove()).map(drop).map_err(failed(path))
        }
        other => other.map(drop).map_err(failed(path)),
    }
}

/// Gives us every directory of a tree back. Done from the top, as what is below cannot be seen
/// before.
fn open_up(path: &Path) {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if is_directory && set_mode(path, 0o700).is_ok() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| open_up(&entry.path()));
    }
}
