//! What is the same in every store of objects: which names they may have, and their digests.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::Digest as _;

use super::Error;
use crate::ids::Digest;

/// Longest key, in bytes: what S3 allows, so that a pipeline works on every cloud.
const KEY_LIMIT: usize = 1024;

/// Checks that a key can be the name of an object in every store: a path of parts that are not empty
/// and do not start with a dot, so that none leads out of a directory or is kept for a store's own use.
pub fn check_key(key: &str) -> Result<(), Error> {
    let wrong = |reason| Err(Error::Failed(format!("{key:?} cannot be the name of an object: {reason}")));
    if key.len() > KEY_LIMIT {
        return wrong("it has more than 1024 bytes");
    }
    if key.contains('\0') {
        return wrong("it has a NUL character");
    }
    for part in key.split('/') {
        if part.is_empty() {
            return wrong("it has an empty part");
        }
        if part.starts_with('.') {
            return wrong("a part of it starts with a dot");
        }
    }
    Ok(())
}

/// The digest of a file's content, read in pieces.
pub fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hash = sha2::Sha256::new();
    in_pieces(&mut File::open(path)?, |piece| hash.update(piece))?;
    Ok(Digest::from_hash(hash.finalize().as_slice()))
}

/// Reads to the end.
pub(super) fn in_pieces(from: &mut impl Read, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => each(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The error of content that is not what was said it is.
pub(super) fn not_as_promised(key: &str, file: &Path, promised: &Digest, is: &Digest) -> Error {
    Error::Failed(format!(
        "{} is not what was to be stored as {key}: its digest is {is} instead of {promised}",
        file.display()
    ))
}
