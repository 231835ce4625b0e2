//! What SQLite says, by what a caller can do about it.

use std::path::Path;

use crate::space;
use crate::store::Error;

// Result codes of SQLite, https://www.sqlite.org/rescode.html. The lowest byte is the primary code.
const BUSY: i32 = 5;
const READ_ONLY: i32 = 8;
const IO: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CONSTRAINT: i32 = 19;
const TOO_BIG: i32 = 18;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;
/// SQLITE_IOERR_SHMSIZE: the index of the write-ahead log cannot grow, which is a full disk.
const SHARED_MEMORY_SIZE: i32 = 4874;

fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

pub fn understand(path: &Path, error: sqlx::Error) -> Error {
    let code = code(&error);
    match code.map(|code| code & 0xff) {
        Some(FULL) => full(path),
        _ if code == Some(SHARED_MEMORY_SIZE) => full(path),
        Some(CORRUPT | NOT_A_DATABASE) => damaged(path, text(&error)),
        Some(BUSY) => failed(path, "another process has been writing to it for too long"),
        // SQLite does not say why; the disk does.
        Some(IO | CANNOT_OPEN)
            if space::of(path.parent().unwrap_or(path)).is_ok_and(|disk| disk.is_full()) =>
        {
            full(path)
        }
        Some(CANNOT_OPEN) => failed(path, why_not_opened(path)),
        Some(READ_ONLY) => failed(
            path,
            "it cannot be written: its file system is read-only, or the files belong to another user",
        ),
        _ => failed(path, text(&error)),
    }
}

/// Whether the file could not be read in the ordinary way because nothing can be made or written beside
/// it: the index of the write-ahead log.
pub fn is_locked_out(error: &sqlx::Error) -> bool {
    matches!(code(error).map(|code| code & 0xff), Some(CANNOT_OPEN | READ_ONLY))
}

fn why_not_opened(path: &Path) -> String {
    match std::fs::File::open(path) {
        Err(error) => format!("it cannot be opened: {error}"),
        Ok(_) => {
            "the files beside it, windlass.db-wal and windlass.db-shm, cannot be opened or made: is the \
                  directory another user's, or on a read-only file system?"
                .to_owned()
        }
    }
}

/// Whether what was to be written is at fault, and not the place it is written to.
pub fn blames_content(error: &sqlx::Error) -> bool {
    matches!(code(error).map(|code| code & 0xff), Some(CONSTRAINT | TOO_BIG))
}

fn text(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

fn full(path: &Path) -> Error {
    Error::Full { path: path.display().to_string() }
}

pub fn damaged(path: &Path, message: impl Into<String>) -> Error {
    Error::Damaged { path: path.display().to_string(), message: message.into() }
}

pub fn failed(path: &Path, message: impl Into<String>) -> Error {
    Error::Failed { path: path.display().to_string(), message: message.into() }
}
