//! Copying, with digests. What goes away while it is copied was not needed: whatever is named by the
//! journal stays.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::OFlags;
use sha2::Digest as _;
use walkdir::WalkDir;

use super::{is_copied, manifest};
use crate::ids::Digest;

/// Read and written at a time: large enough that system calls do not count.
const BUFFER: usize = 128 * 1024;

const IMAGES: &str = "images";

/// Copies a data directory, file by file, and lists them.
pub struct Copier {
    from: PathBuf,
    to: PathBuf,
    list: manifest::Writer,
    /// Modes of directories that were copied, to be given at the end: something may have to be put into
    /// one that is not writable.
    modes: Vec<(PathBuf, u32)>,
    /// What was copied of images and is not in the list yet, as they may turn out to be gone.
    images: Vec<(PathBuf, u64, Digest)>,
}

impl Copier {
    /// From the data directory `from` to `to`, which exists and is empty but for what `taken_at` was
    /// copied of the journal.
    pub fn new(from: &Path, to: &Path, taken_at: Timestamp) -> io::Result<Self> {
        let list = manifest::Writer::create(to, taken_at, from)?;
        Ok(Self { from: from.to_owned(), to: to.to_owned(), list, modes: Vec::new(), images: Vec::new() })
    }

    /// How many files were copied so far, and how many bytes.
    pub fn copied(&self) -> (u64, u64) {
        (self.list.files, self.list.bytes)
    }

    /// Takes a file into the list that somebody else has put into the copy, if it is there.
    pub fn made(&mut self, relative: &str) -> io::Result<()> {
        let path = self.to.join(relative);
        match fs::metadata(&path) {
            Ok(there) => self.list.file(relative.to_owned(), there.len(), digest(&path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What the data directory holds of its own, in the order in which it is copied.
    pub fn parts(&self) -> io::Result<Vec<PathBuf>> {
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.from)? {
            let name = PathBuf::from(entry?.file_name());
            parts.extend(is_copied(&name).then_some(name));
        }
        parts.sort();
        Ok(parts)
    }

    /// Copies one of the [`parts`](Self::parts). A directory may be a link to another disk: the copy has
    /// what it leads to.
    pub fn part(&mut self, part: &Path) -> io::Result<()> {
        let root = self.from.join(part);
        let leads_to_directory = fs::metadata(&root).is_ok_and(|there| there.is_dir());
        if part == Path::new("cache") {
            // References first: what they name is there by then, and these repositories only grow.
            self.tree(&root, part, leads_to_directory, |path| !is_git_object(path))?;
            return self.tree(&root, part, leads_to_directory, is_git_object);
        }
        self.tree(&root, part, leads_to_directory, |_| true)?;
        match part == Path::new(IMAGES) && leads_to_directory {
            true => self.list_images(),
            false => Ok(()),
        }
    }

    /// Makes all of it durable.
    pub fn finish(self) -> io::Result<()> {
        for (path, mode) in self.modes.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(*mode))?;
        }
        self.list.finish()?;
        // One call for all files instead of one for each.
        Ok(rustix::fs::syncfs(File::open(&self.to)?)?)
    }

    fn tree(
        &mut self,
        root: &Path,
        part: &Path,
        follow: bool,
        wanted: impl Fn(&Path) -> bool,
    ) -> io::Result<()> {
        let below = |path: &Path| match path.strip_prefix(root) {
            Ok(rest) if rest.as_os_str().is_empty() => part.to_owned(),
            Ok(rest) => part.join(rest),
            Err(_) => part.to_owned(),
        };
        let walk = WalkDir::new(root).follow_links(false).follow_root_links(follow).sort_by_file_name();
        for found in walk.into_iter().filter_entry(|entry| is_copied(&below(entry.path()))) {
            let found = match found {
                Err(error) if error.io_error().is_some_and(is_gone) => continue,
                found => found?,
            };
            let relative = below(found.path());
            let is_directory = found.file_type().is_dir() || (follow && found.depth() == 0);
            if !is_directory && !wanted(&relative) {
                continue;
            }
            match self.entry(found.path(), &relative, is_directory) {
                Err(error) if is_gone(&error) && !found.path().exists() => {}
                done => done.map_err(|error| at(found.path(), &error))?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, relative: &Path, is_directory: bool) -> io::Result<()> {
        let to = self.to.join(relative);
        let there = if is_directory { fs::metadata(from)? } else { fs::symlink_metadata(from)? };
        let kind = there.file_type();
        if is_directory {
            match fs::create_dir(&to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                made => made?,
            }
            let mode = there.permissions().mode() & 0o777;
            fs::set_permissions(&to, Permissions::from_mode(0o700 | mode))?;
            self.modes.push((to, mode));
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            self.file(from, &to, relative)?;
        }
        // Sockets, pipes and devices belong to processes.
        Ok(())
    }

    /// Copies a file as long as it is now: one that grows is copied up to here.
    fn file(&mut self, from: &Path, to: &Path, relative: &Path) -> io::Result<()> {
        let mut options = File::options();
        let source = options
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(from)?;
        let there = source.metadata()?;
        let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        let (digest, bytes) = pour(source.take(there.len()), &mut target)?;
        target.set_permissions(Permissions::from_mode(there.permissions().mode() & 0o777))?;
        match relative.starts_with(IMAGES) {
            true => self.images.push((relative.to_owned(), bytes, digest)),
            false => self.list.file(name(relative), bytes, digest)?,
        }
        Ok(())
    }

    /// Takes the images into the list, but for those that were removed while they were copied: half of
    /// one is none.
    fn list_images(&mut self) -> io::Result<()> {
        for image in fs::read_dir(self.to.join(IMAGES))? {
            let relative = Path::new(IMAGES).join(image?.file_name());
            if !self.from.join(&relative).join("manifest.json").exists() {
                let copy = self.to.join(&relative);
                self.modes.retain(|(directory, _)| !directory.starts_with(&copy));
                self.images.retain(|(file, ..)| !file.starts_with(&relative));
                fs::remove_dir_all(copy)?;
            }
        }
        self.images.drain(..).try_for_each(|(file, bytes, digest)| self.list.file(name(&file), bytes, digest))
    }
}

fn is_git_object(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "objects")
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// The same error, which says where.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A path as a text. One that is not UTF-8, or could be taken for such a one, is escaped.
pub(super) fn name(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.contains('\\') => text.to_owned(),
        _ => path.as_os_str().as_encoded_bytes().escape_ascii().to_string(),
    }
}

pub(super) fn digest(path: &Path) -> io::Result<Digest> {
    Ok(pour(File::open(path)?, &mut io::sink())?.0)
}

fn pour(mut from: impl Read, to: &mut impl Write) -> io::Result<(Digest, u64)> {
    let (mut hash, mut bytes) = (sha2::Sha256::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        to.write_all(piece)?;
        bytes += count as u64;
    }
    Ok((Digest::from_hash(hash.finalize().as_slice()), bytes))
}
