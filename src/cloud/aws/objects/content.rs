//! What a file holds, and how it is taken apart for sending.
//!
//! S3 does not tell the metadata of an upload that is under way, so nobody could see for which content
//! it was begun; two contents may well start alike. So the size of the parts says it: it is made of the
//! content's digest. A part that is there counts when its number, its size and its sum are right.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use aws_sdk_s3::types::Part;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::cloud::{Error, objects};
use crate::ids::Digest;

const MIB: u64 = 1024 * 1024;

/// Content of this size is sent in one request, and is in memory meanwhile.
pub(super) const SMALL: u64 = 5 * MIB;

/// The smallest part: S3 takes none below 5 MiB but the last ("Amazon S3 multipart upload limits").
const PART: u64 = 5 * MIB;

/// The largest part, where the content is not too large for that: what is in memory at once.
const LARGE_PART: u64 = 64 * MIB;

/// So many parts there are at least of what is larger than that many small ones.
const SHARES: u64 = 100;

/// So much larger are the parts at most that say a digest.
const SPREAD: u64 = MIB;

/// So many parts make an object at most ("Amazon S3 multipart upload limits").
const PARTS: u64 = 10_000;

/// How it is made sure that a part arrives as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// S3 checks it, and tells it for each part.
    Sha256,
    /// Whatever answers like S3 knows this one: it is the tag of a part.
    Md5,
}

/// The sum of a piece of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Sha256([u8; 32]),
    Md5([u8; 16]),
}

impl Sum {
    pub(super) fn of(check: Check, piece: &[u8]) -> Self {
        match check {
            Check::Sha256 => Self::Sha256(Sha256::digest(piece).into()),
            Check::Md5 => Self::Md5(Md5::digest(piece).into()),
        }
    }

    /// As requests have it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Sha256(sum) => STANDARD.encode(sum),
            Self::Md5(sum) => STANDARD.encode(sum),
        }
    }

    fn is_of(&self, part: &Part) -> bool {
        match self {
            Self::Sha256(_) => part.checksum_sha256() == Some(&self.text()),
            Self::Md5(sum) => part.e_tag().is_some_and(|tag| {
                let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                tag.trim_matches('"').eq_ignore_ascii_case(&hex)
            }),
        }
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Content {
    Small(Bytes, Sum),
    Large(Large),
}

/// Content that is sent in parts.
#[derive(Debug)]
pub(super) struct Large {
    file: PathBuf,
    check: Check,
    pub(super) size: u64,
    part: u64,
    /// Of each part, in order.
    sums: Vec<Sum>,
}

/// Reads the file once, and looks whether it is what was promised.
pub(super) fn read(key: &str, file: &Path, promised: &Digest, check: Check) -> Result<Content, Error> {
    let unreadable = |error: io::Error| Error::Failed(format!("{}: {error}", file.display()));
    let mut open = File::open(file).map_err(unreadable)?;
    let size = open.metadata().map_err(unreadable)?.len();
    let part = if size <= SMALL { SMALL } else { part_size(size, promised) };
    let (mut hash, mut sums, mut last) = (Sha256::new(), Vec::new(), Vec::new());
    loop {
        let mut piece = Vec::new();
        open.by_ref().take(part).read_to_end(&mut piece).map_err(unreadable)?;
        if piece.is_empty() {
            break;
        }
        hash.update(&piece);
        sums.push(Sum::of(check, &piece));
        last = piece;
    }
    let is = Digest::from_hash(hash.finalize().as_slice());
    if is != *promised {
        return Err(objects::not_as_promised(key, file, promised, &is));
    }
    if size <= SMALL {
        let sum = Sum::of(check, &last);
        return Ok(Content::Small(Bytes::from(last), sum));
    }
    Ok(Content::Large(Large { file: file.to_owned(), check, size, part, sums }))
}

/// The size of each part but the last: it says which content they are of.
fn part_size(size: u64, digest: &Digest) -> u64 {
    let said = digest.as_str().get(..12).and_then(|digits| u64::from_str_radix(digits, 16).ok());
    (size / SHARES).clamp(PART, LARGE_PART).max(size.div_ceil(PARTS)) + said.unwrap_or_default() % SPREAD
}

impl Large {
    /// The numbers of its parts, from 1.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i32> + use<> {
        (1..).take(self.sums.len())
    }

    /// So many may be in memory at once.
    pub(super) fn at_once(&self) -> usize {
        usize::try_from(2 * LARGE_PART / self.part).unwrap_or(1).clamp(1, 4)
    }

    fn index(&self, number: i32) -> Option<(u64, Sum)> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        Some((index as u64 * self.part, *self.sums.get(index)?))
    }

    pub(super) fn length(&self, number: i32) -> u64 {
        self.index(number).map_or(0, |(start, _)| self.part.min(self.size - start))
    }

    /// Whether a part that is there is one of this content.
    pub(super) fn has(&self, part: &Part) -> bool {
        let Some(number) = part.part_number() else { return false };
        let Some((_, sum)) = self.index(number) else { return false };
        let length = part.size().and_then(|size| u64::try_from(size).ok());
        length == Some(self.length(number)) && sum.is_of(part)
    }

    /// Reads a part. It is what it was before, or none.
    pub(super) fn piece(&self, number: i32) -> Result<(Bytes, Sum), Error> {
        let changed =
            |why: String| Error::Failed(format!("{} changed while it was sent{why}", self.file.display()));
        let (start, sum) = self.index(number).ok_or_else(|| changed(format!(": it has no part {number}")))?;
        let read = || {
            let mut file = File::open(&self.file)?;
            file.seek(SeekFrom::Start(start))?;
            let mut piece = Vec::new();
            file.take(self.length(number)).read_to_end(&mut piece)?;
            Ok(piece)
        };
        let piece = read().map_err(|error: io::Error| changed(format!(": {error}")))?;
        if Sum::of(self.check, &piece) != sum {
            return Err(changed(String::new()));
        }
        Ok((Bytes::from(piece), sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Digest) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        (file, Digest::of(content))
    }

    fn large(content: &[u8], check: Check) -> (tempfile::NamedTempFile, Large) {
        let (file, digest) = file(content);
        let Content::Large(large) = read("a", file.path(), &digest, check).unwrap() else { panic!() };
        (file, large)
    }

    #[test]
    fn content_of_any_size_fits_into_the_parts_that_there_may_be() {
        let ones = "f".repeat(64).parse().unwrap();
        for digest in [&Digest::of(b"one"), &Digest::of(b"two"), &ones] {
            for size in [SMALL + 1, 1 << 30, 1 << 40, 5 << 40] {
                let part = part_size(size, digest);
                assert!(size.div_ceil(part) <= PARTS, "{size} in parts of {part}");
                assert!((5 * MIB..=5 * 1024 * MIB).contains(&part), "{part}");
            }
        }
        assert_ne!(part_size(1 << 30, &Digest::of(b"one")), part_size(1 << 30, &Digest::of(b"two")));
    }

    #[test]
    fn what_is_not_as_promised_is_refused_whatever_its_size() {
        for size in [0, 5, SMALL as usize, SMALL as usize + 1] {
            let (file, digest) = file(&vec![7; size]);
            let content = read("a", file.path(), &digest, Check::Md5).unwrap();
            assert_eq!(matches!(content, Content::Small(..)), size as u64 <= SMALL, "{size}");
            let refused = read("a", file.path(), &Digest::of(b"another"), Check::Md5);
            assert!(matches!(refused, Err(Error::Failed(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_part_counts_when_its_number_its_size_and_its_sum_are_right() {
        let content: Vec<u8> = (0..SMALL as usize * 2).map(|n| (n / 1000) as u8).collect();
        for check in [Check::Sha256, Check::Md5] {
            let (_file, large) = large(&content, check);
            let numbers: Vec<i32> = large.numbers().collect();
            assert_eq!(numbers.iter().map(|number| large.length(*number)).sum::<u64>(), large.size);
            for &number in &numbers {
                let (piece, sum) = large.piece(number).unwrap();
                let part = |number: i32, size: usize, of: Sum| {
                    let part = Part::builder().part_number(number).size(size as i64);
                    match of {
                        sum @ Sum::Sha256(_) => part.checksum_sha256(sum.text()).e_tag("any"),
                        Sum::Md5(sum) => {
                            let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                            part.e_tag(format!("\"{hex}\""))
                        }
                    }
                    .build()
                };
                assert!(large.has(&part(number, piece.len(), sum)));
                assert!(!large.has(&part(number + 1, piece.len(), sum)));
                assert!(!large.has(&part(number, piece.len() - 1, sum)));
                assert!(!large.has(&part(number, piece.len(), Sum::of(check, b"another"))));
                assert!(!large.has(&Part::builder().part_number(number).build()));
            }
        }
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_not_sent() {
        let (file, large) = large(&vec![1; SMALL as usize + 1], Check::Sha256);
        large.piece(1).unwrap();
        std::fs::write(file.path(), vec![2; SMALL as usize + 1]).unwrap();
        let refused = large.piece(1);
        assert!(matches!(&refused, Err(Error::Failed(why)) if why.contains("changed")), "{refused:?}");
        assert!(matches!(large.piece(3), Err(Error::Failed(_))), "a part that there is not");
    }
}
