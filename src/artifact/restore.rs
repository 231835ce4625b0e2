//! From the shelf to a workspace.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Entry, Error, Shelf, place};
use crate::ids::Digest;

impl Shelf {
    /// Copies an artifact to `path` (relative) below `workspace`. Directories that are there already
    /// are kept and added to, files and links are replaced; nothing is written through a link. What
    /// was written by the time of an error stays, except for a file that is not what it should be.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`]; [`Error::InTheWay`]; [`Error::Full`].
    pub fn restore(&self, digest: &Digest, workspace: &Path, path: &str) -> Result<(), Error> {
        let manifest = self.manifest(digest)?;
        let base = place::make(workspace, path)?;
        let mut modes = Vec::new();
        for entry in manifest.entries() {
            match entry {
                Entry::Directory { path, mode } => {
                    let to = below(&base, path);
                    place::directory(&to)?;
                    // Writable until everything is in it.
                    set_mode(&to, mode | 0o700)?;
                    modes.push((to, *mode));
                }
                Entry::Link { path, target } => {
                    let to = below(&base, path);
                    clear(&to)?;
                    std::os::unix::fs::symlink(target, &to).map_err(Error::at(&to))?;
                }
                Entry::File { mode, digest, bytes, .. } if manifest.is_file() => {
                    self.restore_file(&base, *mode, digest, *bytes)?;
                }
                Entry::File { path, mode, digest, bytes } => {
                    self.restore_file(&below(&base, path), *mode, digest, *bytes)?;
                }
            }
        }
        for (directory, mode) in modes.iter().rev() {
            set_mode(directory, *mode)?;
        }
        Ok(())
    }

    fn restore_file(&self, to: &Path, mode: u32, digest: &Digest, bytes: u64) -> Result<(), Error> {
        clear(to)?;
        let mut content = self.open(digest, bytes)?;
        let file = fs::OpenOptions::new().write(true).create_new(true).open(to).map_err(Error::at(to))?;
        content.copy_to(&file).map_err(Error::at(to))?;
        drop(file);
        if let Err(error) = self.verify(digest, content) {
            fs::remove_file(to).map_err(Error::at(to))?;
            return Err(error);
        }
        set_mode(to, mode)
    }
}

/// The root's path is empty, and joining that would end in a slash, which follows a link.
fn below(base: &Path, path: &str) -> PathBuf {
    if path.is_empty() { base.to_owned() } else { base.join(path) }
}

/// Removes a file or link that is where something else is to be.
fn clear(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Err(Error::InTheWay { path: path.to_owned(), reason: "a directory" }),
        Ok(_) => fs::remove_file(path).map_err(Error::at(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::at(path)(error)),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::at(path))
}
