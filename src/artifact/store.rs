//! From a workspace to the shelf.

use std::fs;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use walkdir::WalkDir;

use super::blob::Intake;
use super::{Error, Shelf, Stored, place};

impl Shelf {
    /// Stores the file or directory at `path` (relative) below `workspace`: files with their
    /// permission bits, empty directories, and links as links. Neither times nor owners count.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Outside`] for a link that leads out of the artifact, as it would
    /// lead somewhere else where the artifact is restored; [`Error::Unsupported`] for sockets, pipes,
    /// devices and names that are not UTF-8; [`Error::TooLarge`]; [`Error::Full`]. Nothing that is
    /// stored by then is visible.
    pub fn store(&self, workspace: &Path, path: &str) -> Result<Stored, Error> {
        let source = place::find(workspace, path)?;
        let mut intake = Intake::new(self, path)?;
        for found in WalkDir::new(&source).follow_links(false).sort_by_file_name() {
            let found = found.map_err(|error| {
                let at = error.path().unwrap_or(&source).to_owned();
                Error::at(&at)(error.into())
            })?;
            let name = relative(&source, found.path())?;
            let shown = || match name.as_str() {
                "" => path.to_owned(),
                name => format!("{path}/{name}"),
            };
            let kind = found.file_type();
            let unsupported = |kind| Error::Unsupported { path: shown(), kind };
            if kind.is_dir() {
                let metadata = fs::symlink_metadata(found.path()).map_err(Error::at(found.path()))?;
                intake.directory(name, metadata.permissions().mode())?;
            } else if kind.is_symlink() {
                let target = fs::read_link(found.path()).map_err(Error::at(found.path()))?;
                let target =
                    target.to_str().ok_or_else(|| unsupported("a link whose target is not UTF-8"))?;
                intake.link(name.clone(), target.to_owned())?;
            } else if kind.is_file() {
                let file = open(found.path())?;
                let metadata = file.metadata().map_err(Error::at(found.path()))?;
                if !metadata.is_file() {
                    return Err(unsupported("no file any more"));
                }
                // An artifact that is a file is called by its name, also when it is unpacked
                // elsewhere.
                let name = match name.as_str() {
                    "" => relative(source.parent().unwrap_or(&source), &source)?,
                    _ => name,
                };
                intake.file(name, metadata.permissions().mode(), file, found.path())?;
            } else {
                return Err(unsupported(match kind {
                    kind if kind.is_socket() => "a socket",
                    kind if kind.is_fifo() => "a pipe",
                    _ => "a device",
                }));
            }
        }
        intake.finish()
    }
}

/// Opens a file that was just seen to be one. Were it replaced meanwhile, neither a link is followed
/// nor is the opening of a pipe waited for.
fn open(path: &Path) -> Result<fs::File, Error> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(flags.cast_signed());
    options.open(path).map_err(Error::at(path))
}

fn relative(base: &Path, path: &Path) -> Result<String, Error> {
    let relative = path.strip_prefix(base).unwrap_or(path);
    let text = relative.to_str().ok_or_else(|| Error::Unsupported {
        path: relative.display().to_string(),
        kind: "a name that is not UTF-8",
    })?;
    Ok(text.to_owned())
}
