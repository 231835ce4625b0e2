//! From the bytes of a report's files to what they say: test cases from JUnit XML, lines from LCOV and
//! Cobertura. No IO: whoever calls has read the files.
//!
//! Always true: what comes out is bounded however large or deep the input is, takes time in proportion
//! to it, and no bytes panic. A file counts as a whole or not at all. Counts are taken from the cases and
//! lines themselves; the sums that a file claims of itself are not believed.
//!
//! Deliberately absent: anything that a document could make a reader fetch or expand. A document that
//! defines entities is refused.

mod cobertura;
mod junit;
mod lcov;
mod lines;
mod place;
mod text;
mod xml;

pub use junit::Cases;
pub use lines::Lines;

/// Largest file, in bytes: a report of a million test cases fits.
pub const FILE_LIMIT: u64 = 64 * 1024 * 1024;
/// Most files of one stage.
pub const FILES_LIMIT: usize = 1_000;
/// Failures that are kept.
pub const FAILURES_KEPT: usize = 100;
/// Of a failure's message, in characters.
pub const MESSAGE_KEPT: usize = 2_000;
/// Of the slowest cases.
pub const SLOWEST_KEPT: usize = 10;

/// Why a file is no report that can be read. Reads on from the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it has {0} bytes; at most {FILE_LIMIT} are read")]
    TooLarge(u64),
    #[error("it is empty")]
    Empty,
    #[error("it is written in {0}; only UTF-8 is read")]
    Encoding(String),
    #[error("it has a document type (<!DOCTYPE …>), which reports need not have and which is not read")]
    DocumentType,
    #[error("line {line}: &{name}; is an entity that XML does not have by itself; no others are read")]
    Entity { line: usize, name: String },
    #[error("line {line}: its elements are nested deeper than {limit}")]
    TooDeep { line: usize, limit: usize },
    #[error("line {line}: {why}")]
    Malformed { line: usize, why: String },
    #[error("it is no {format}: it begins with <{found}> instead of {expected}")]
    Root { format: &'static str, found: String, expected: &'static str },
    #[error("it is no {format}: {why}")]
    Other { format: &'static str, why: &'static str },
}

fn check_size(bytes: &[u8]) -> Result<(), Error> {
    match bytes.len() as u64 {
        0 => Err(Error::Empty),
        length if length > FILE_LIMIT => Err(Error::TooLarge(length)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
