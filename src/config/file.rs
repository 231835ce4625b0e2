//! Reading the files that people write.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::pipeline::yaml::SIZE_LIMIT;

/// Where the shell's pipes and files are found, whatever they are.
const STDIN: &str = "/dev/stdin";

/// All that is in a pipeline or settings file: a regular file, a pipe (as of `<(…)`), or the standard
/// input. A pipe can be read once.
///
/// # Errors
/// It cannot be read, is something else, or has more than [`SIZE_LIMIT`] bytes, of which no more are
/// read.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened: opening a device may do something.
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() && !kind.is_fifo() && path != Path::new(STDIN) {
        return Err(io::Error::other("it is neither a file nor a pipe"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.len() > SIZE_LIMIT {
        true => Err(io::Error::other(format!("it is larger than {} MiB", SIZE_LIMIT / (1024 * 1024)))),
        false => Ok(bytes),
    }
}
