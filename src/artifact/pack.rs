//! An artifact as one file, as object stores take it: a plain tar archive that any tar unpacks, the
//! same bytes for the same artifact.

use std::fs;
use std::io::BufWriter;
use std::io::Write;
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};

use super::blob::Intake;
use super::{Entry, Error, Shelf, Stored};
use crate::ids::Digest;

impl Shelf {
    /// Writes the artifact to the file `to`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`]; [`Error::Full`].
    pub fn pack(&self, digest: &Digest, to: &Path) -> Result<(), Error> {
        let manifest = self.manifest(digest)?;
        let here = Error::at(to);
        let directory = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::NamedTempFile::new_in(directory).map_err(&here)?;
        let mut archive = tar::Builder::new(BufWriter::new(temporary.as_file()));
        for entry in manifest.entries() {
            match entry {
                Entry::Directory { path, mode } => {
                    let name = if path.is_empty() { "." } else { path };
                    let mut header = header(EntryType::Directory, *mode, 0);
                    archive.append_data(&mut header, format!("{name}/"), std::io::empty()).map_err(&here)?;
                }
                Entry::Link { path, target } => {
                    let mut header = header(EntryType::Symlink, 0o777, 0);
                    archive.append_link(&mut header, path, target).map_err(&here)?;
                }
                Entry::File { path, mode, digest, bytes } => {
                    let mut content = self.open(digest, *bytes)?;
                    let mut header = header(EntryType::Regular, *mode, *bytes);
                    archive.append_data(&mut header, path, &mut content).map_err(&here)?;
                    self.verify(digest, content)?;
                }
            }
        }
        let writer = archive.into_inner().and_then(|mut writer| writer.flush());
        writer.and_then(|()| temporary.as_file().sync_all()).map_err(&here)?;
        temporary.persist(to).map_err(|error| here(error.error))?;
        Ok(())
    }

    /// Puts the artifact that [`Shelf::pack`] wrote to `from` on this shelf, if it is the one of
    /// `digest`. Nothing of the archive is written anywhere but into blobs, whatever its paths say.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is another, or no such archive; [`Error::TooLarge`];
    /// [`Error::Full`].
    pub fn unpack(&self, from: &Path, digest: &Digest) -> Result<Stored, Error> {
        let damaged = |reason: String| Error::Damaged { blob: digest.clone(), reason };
        let unreadable = |error: std::io::Error| damaged(error.to_string());
        let file = fs::File::open(from).map_err(Error::at(from))?;
        let mut archive = tar::Archive::new(std::io::BufReader::new(file));
        let mut intake = Intake::new(self, &from.display().to_string())?;
        for entry in archive.entries().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = text(entry.path().map_err(unreadable)?.into_owned()).map_err(damaged)?;
            let mode = entry.header().mode().map_err(unreadable)?;
            match entry.header().entry_type() {
                EntryType::Directory => intake.directory(path, mode)?,
                EntryType::Symlink => {
                    let target = entry.link_name().map_err(unreadable)?.unwrap_or_default();
                    intake.link(path, text(target.into_owned()).map_err(damaged)?)?;
                }
                EntryType::Regular => intake.file(path, mode, entry, from)?,
                other => return Err(damaged(format!("{path:?} is of the kind {other:?}"))),
            }
        }
        intake.finish_as(digest)
    }
}

/// A header with nothing in it that two machines could differ in.
fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A path as manifests have it: `./` is the empty path of the root.
fn text(path: PathBuf) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    let text = text.trim_end_matches('/');
    Ok(if text == "." { String::new() } else { text.to_owned() })
}
