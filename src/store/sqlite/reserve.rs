//! Room that the journal has ahead, so that it goes on when the disk is full.
//!
//! It is taken inside the write-ahead log, beyond its end, where nothing else can use it: so a cancel, and
//! what comes of it, is still recorded when a step has filled the disk. Always true: the reserve changes
//! nothing that SQLite reads, and a file system that knows no such reserve is as good as one without.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// How much is kept: a commit takes some pages of 4 KiB, so that this is about a hundred of them.
const KEPT: u64 = 1024 * 1024;

/// What of it may be used up before more is taken.
const LEAST: u64 = KEPT / 2;

/// The room ahead of the write-ahead log of one database.
pub struct Reserve {
    log: PathBuf,
    /// Open while the log is the one it was taken in. SQLite has no locks on this file, so that
    /// closing it lets go of none.
    file: Option<File>,
}

impl Reserve {
    pub fn new(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Self { log: log.into(), file: None }
    }

    /// Takes what is missing, if the disk has it. To be called after each commit.
    pub fn keep(&mut self) {
        if self.file.is_none() {
            self.file = OpenOptions::new().write(true).open(&self.log).ok();
        }
        let Some(file) = &self.file else { return };
        let Ok(log) = file.metadata() else { return };
        // In units of 512 bytes, whatever the file system's blocks are; see stat(2).
        let taken = log.blocks().saturating_mul(512);
        if taken < log.len() + LEAST
            && let Err(error) = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, log.len(), KEPT)
        {
            tracing::debug!(%error, "no room can be kept for the journal");
        }
    }

    /// The database was closed: its next log may be another file.
    pub fn forget(&mut self) {
        self.file = None;
    }
}
