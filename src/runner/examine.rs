//! What a runner's records look like from outside. Nothing is changed.

use std::io;
use std::path::Path;

use super::journal::Record;
use super::{journal, place};

/// How many lines of the records below `data` cannot be read. The last one may be on its way.
///
/// # Errors
/// The file cannot be read, or a newer version wrote it.
pub fn examine(data: &Path) -> io::Result<u64> {
    let path = place::own_directory(data).join("journal");
    let text = match std::fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        text => text?,
    };
    let mut unreadable = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        match serde_json::from_slice(line) {
            Ok(Record::Opened { version, .. }) => journal::known(version)?,
            Ok(_) => {}
            Err(_) if line == b"\n" => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok(unreadable)
}
