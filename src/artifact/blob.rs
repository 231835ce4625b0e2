//! One content on the shelf: how it gets there, how it is read, what is done when it is damaged.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::Digest as _;

use super::{Entry, Error, Manifest, Shelf, Stored};
use crate::ids::Digest;

/// Read and written at a time: large enough that system calls do not count.
const BUFFER: usize = 128 * 1024;

/// A blob that was not finished within this time never will be: whoever wrote it was killed.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads on, and knows the digest of what went by.
pub(super) struct Hashing<R> {
    inner: R,
    hash: sha2::Sha256,
    length: u64,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: sha2::Sha256::new(), length: 0 }
    }

    /// The digest and length of everything that was read.
    pub(super) fn finish(self) -> (Digest, u64) {
        (Digest::from_hash(self.hash.finalize().as_slice()), self.length)
    }

    /// Copies everything that is left to `file`.
    pub(super) fn copy_to(&mut self, file: &fs::File) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(BUFFER, file);
        io::copy(self, &mut writer)?;
        writer.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }
}

impl Shelf {
    /// Where the content with that digest lies, if it does.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let (first, rest) = digest.as_str().split_at(2);
        self.directory.join("blobs").join(first).join(rest)
    }

    /// The content with that digest, to be compared with it by [`Shelf::verify`] at its end.
    pub(super) fn open(&self, digest: &Digest, bytes: u64) -> Result<Hashing<fs::File>, Error> {
        let path = self.blob(digest);
        let file = fs::File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Error::Damaged { blob: digest.clone(), reason: "it is not there".to_owned() }
            }
            _ => Error::at(&path)(error),
        })?;
        match file.metadata().map_err(Error::at(&path))?.len() {
            length if length == bytes => Ok(Hashing::new(file)),
            length => Err(self.put_aside(digest, format!("{length} bytes instead of {bytes}"))),
        }
    }

    /// Whether what was read is what was stored.
    pub(super) fn verify(&self, digest: &Digest, content: Hashing<fs::File>) -> Result<(), Error> {
        match content.finish().0 == *digest {
            true => Ok(()),
            false => Err(self.put_aside(digest, "it has another digest".to_owned())),
        }
    }

    /// Makes room for the true content: whoever stores it next finds its place empty. What was there
    /// is kept beside, for people who want to know what happened to their disk.
    pub(super) fn put_aside(&self, digest: &Digest, reason: String) -> Error {
        let aside = self.directory.join("damaged");
        let moved = fs::create_dir_all(&aside)
            .and_then(|()| fs::rename(self.blob(digest), aside.join(digest.as_str())));
        if let Err(error) = moved {
            tracing::warn!(%digest, %error, "a damaged blob could not be put aside");
        }
        Error::Damaged { blob: digest.clone(), reason }
    }
}

/// Takes the entries of one artifact in, wherever they come from, and ends with its manifest.
pub(super) struct Intake<'a> {
    shelf: &'a Shelf,
    /// For messages.
    path: String,
    /// Where blobs are written before they have their name.
    incoming: PathBuf,
    entries: Vec<Entry>,
    bytes: u64,
    /// Directories in which names were given and that are not flushed yet.
    touched: BTreeSet<PathBuf>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(shelf: &'a Shelf, path: &str) -> Result<Self, Error> {
        let incoming = shelf.directory.join("incoming");
        fs::create_dir_all(&incoming).map_err(Error::at(&incoming))?;
        sweep(&incoming);
        let (entries, touched) = (Vec::new(), BTreeSet::new());
        Ok(Self { shelf, path: path.to_owned(), incoming, entries, bytes: 0, touched })
    }

    pub(super) fn directory(&mut self, path: String, mode: u32) -> Result<(), Error> {
        self.push(Entry::Directory { path, mode: mode & 0o777 })
    }

    pub(super) fn link(&mut self, path: String, target: String) -> Result<(), Error> {
        self.push(Entry::Link { path, target })
    }

    /// Takes a file in. Its content is read once, and what is stored is what was hashed, also when
    /// somebody writes to the file meanwhile. `origin` is where the content comes from.
    pub(super) fn file(
        &mut self,
        path: String,
        mode: u32,
        content: impl Read,
        origin: &Path,
    ) -> Result<(), Error> {
        let left = self.shelf.limits.bytes.saturating_sub(self.bytes);
        let (digest, bytes) = self.blob(content.take(left.saturating_add(1)), origin)?;
        self.bytes += bytes;
        if bytes > left {
            return Err(self.too_large(format!("{} bytes", self.shelf.limits.bytes)));
        }
        self.push(Entry::File { path, mode: mode & 0o777, digest, bytes })
    }

    /// Checks the whole, and stores the manifest after everything that it names is on disk.
    pub(super) fn finish(mut self) -> Result<Stored, Error> {
        let manifest = Manifest::new(std::mem::take(&mut self.entries));
        if let Some((path, target)) = manifest.link_outside() {
            return Err(Error::Outside { path: path.to_owned(), target: target.to_owned() });
        }
        self.keep(&manifest)
    }

    /// The same for what claims to be the artifact of `digest`: anything else is refused.
    pub(super) fn finish_as(mut self, digest: &Digest) -> Result<Stored, Error> {
        let manifest = Manifest::new(std::mem::take(&mut self.entries));
        let damaged = |reason| Error::Damaged { blob: digest.clone(), reason };
        manifest.check().map_err(damaged)?;
        let text = manifest.write().map_err(Error::at(&self.shelf.directory))?;
        match Digest::of(&text) == *digest {
            true => self.keep(&manifest),
            false => Err(damaged("it is another artifact".to_owned())),
        }
    }

    fn keep(mut self, manifest: &Manifest) -> Result<Stored, Error> {
        self.flush()?;
        let directory = self.shelf.directory.clone();
        let text = manifest.write().map_err(Error::at(&directory))?;
        let (digest, _) = self.blob(text.as_slice(), &directory)?;
        self.flush()?;
        Ok(Stored { digest, bytes: self.bytes })
    }

    fn push(&mut self, entry: Entry) -> Result<(), Error> {
        self.entries.push(entry);
        match self.entries.len() > self.shelf.limits.entries {
            true => Err(self.too_large(format!("{} entries", self.shelf.limits.entries))),
            false => Ok(()),
        }
    }

    fn too_large(&self, limit: String) -> Error {
        Error::TooLarge { path: self.path.clone(), limit }
    }

    /// Stores one content: flushed before it gets its name, so that a name never stands for half of
    /// it.
    fn blob(&mut self, content: impl Read, origin: &Path) -> Result<(Digest, u64), Error> {
        let here = Error::at(&self.incoming);
        let temporary = tempfile::NamedTempFile::new_in(&self.incoming).map_err(&here)?;
        let mut content = Hashing::new(content);
        content.copy_to(temporary.as_file()).map_err(Error::at(origin))?;
        let (digest, bytes) = content.finish();

        let blob = self.shelf.blob(&digest);
        if fs::metadata(&blob).is_ok_and(|there| there.len() == bytes) {
            return Ok((digest, bytes));
        }
        let file = temporary.as_file();
        file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(&here)?;
        file.sync_all().map_err(&here)?;
        if let Some(parent) = blob.parent() {
            fs::create_dir_all(parent).map_err(Error::at(parent))?;
            self.touched.insert(parent.to_owned());
        }
        temporary.persist(&blob).map_err(|error| Error::at(&blob)(error.error))?;
        Ok((digest, bytes))
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.touched.is_empty() {
            return Ok(());
        }
        let above = [self.shelf.directory.clone(), self.shelf.directory.join("blobs")];
        for directory in std::mem::take(&mut self.touched).iter().chain(&above) {
            let synced = fs::File::open(directory).and_then(|file| file.sync_all());
            synced.map_err(Error::at(directory))?;
        }
        Ok(())
    }
}

/// Removes what killed processes left. What cannot be removed is tried again next time.
fn sweep(incoming: &Path) {
    for file in fs::read_dir(incoming).into_iter().flatten().flatten() {
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED)) {
            let _ = fs::remove_file(file.path());
        }
    }
}
