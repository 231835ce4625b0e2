//! Finds the forms of secrets in bytes.
//!
//! Most text is skipped: of a window as long as the shortest form, the last four bytes say how far the next
//! place is at which a form can begin (Wu and Manber, *A fast algorithm for multi-pattern searching*, 1994).
//! Where one can, it is looked up among all, which are sorted. What it takes in memory is the forms themselves
//! and tables of a fixed size, so that each step under way can have its own.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use super::variants::SHORTEST;

/// So many bytes are looked at together. No form is shorter.
const BLOCK: usize = 4;
const _: () = assert!(BLOCK <= SHORTEST);

/// Bits of a block's hash: a table of this many bytes stays in the cache that a core has for itself.
const HASH: u32 = 16;

/// The longest window. A longer one skips more, and more of its blocks are in the table by chance.
const WINDOW: usize = 32;

/// What is looked for; at least one.
pub(super) struct Forms {
    sorted: Vec<Vec<u8>>,
    /// The first bytes of each, so that most places need no look at the forms.
    heads: Vec<[u8; BLOCK]>,
    /// For each, the longest other one that it begins with.
    inner: Vec<Option<usize>>,
    /// By the hash of the last block of a window: how far the next window is that may be the beginning of a
    /// form; 0 where this one may.
    skip: Vec<u8>,
    /// By its hash, whether a form begins with a block.
    begins: Vec<bool>,
    window: usize,
    longest: usize,
}

impl Forms {
    /// `None` when there is nothing to look for. Each has at least [`SHORTEST`] bytes; what is shorter is
    /// not looked for.
    pub fn new(forms: BTreeSet<Vec<u8>>) -> Option<Self> {
        let sorted: Vec<Vec<u8>> = forms.into_iter().filter(|form| form.len() >= BLOCK).collect();
        let window = sorted.iter().map(Vec::len).min()?.min(WINDOW);
        let longest = sorted.iter().map(Vec::len).max()?;
        let heads = sorted.iter().filter_map(|form| form.first_chunk().copied()).collect();
        // At most WINDOW - BLOCK + 1, which is small.
        let far = u8::try_from(window - BLOCK + 1).unwrap_or(1);
        let mut skip = vec![far; 1 << HASH];
        let mut begins = vec![false; 1 << HASH];
        for form in &sorted {
            let blocks = form.windows(BLOCK).filter_map(|block| block.first_chunk().map(hash));
            for (left, block) in (0..far).rev().zip(blocks) {
                if let Some(skip) = skip.get_mut(block) {
                    *skip = left.min(*skip);
                }
            }
            if let Some(begins) = form.first_chunk().and_then(|head| begins.get_mut(hash(head))) {
                *begins = true;
            }
        }
        Some(Self { heads, inner: inner(&sorted), skip, begins, window, longest, sorted })
    }

    /// The first place, at `at` or behind it, where a form is; of several that begin there, the longest.
    pub fn find(&self, bytes: &[u8], mut at: usize) -> Option<Range<usize>> {
        let last = self.window - BLOCK;
        while let Some(block) = bytes.get(at + last..).and_then(<[u8]>::first_chunk) {
            let skip = self.skip.get(hash(block)).map_or(0, |skip| usize::from(*skip));
            if skip == 0
                && let Some(length) = bytes.get(at..).and_then(|text| self.whole(text))
            {
                return Some(at..at + length);
            }
            at += skip.max(1);
        }
        None
    }

    /// The first place from which on the rest of `bytes` is the beginning of a form, and less than all of it;
    /// the end where there is none.
    pub fn begun(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest - 1);
        let begun = |at: &usize| bytes.get(*at..).is_some_and(|rest| self.is_beginning(rest));
        (from..bytes.len()).find(begun).unwrap_or(bytes.len())
    }

    /// The length of the longest form that `text` begins with.
    fn whole(&self, text: &[u8]) -> Option<usize> {
        let head = text.first_chunk().filter(|head| self.may_begin(head))?;
        let from = self.heads.partition_point(|other| other < head);
        let same = self.heads.get(from..)?.partition_point(|other| other == head);
        let forms = self.sorted.get(from..from + same)?;
        // Whatever the text begins with is not greater than it; the greatest of those either is such a form, or
        // begins with it.
        let mut nearest = (from + forms.partition_point(|form| form.as_slice() <= text)).checked_sub(1);
        while let Some(at) = nearest {
            let form = self.sorted.get(at)?;
            if text.starts_with(form) {
                return Some(form.len());
            }
            nearest = *self.inner.get(at)?;
        }
        None
    }

    fn is_beginning(&self, rest: &[u8]) -> bool {
        if rest.first_chunk().is_some_and(|head| !self.may_begin(head)) {
            return false;
        }
        // The least that is greater begins with it, if any does.
        let next = self.sorted.partition_point(|form| form.as_slice().cmp(rest) != Ordering::Greater);
        self.sorted.get(next).is_some_and(|form| form.starts_with(rest))
    }

    fn may_begin(&self, head: &[u8; BLOCK]) -> bool {
        self.begins.get(hash(head)).is_some_and(|begins| *begins)
    }
}

/// For each of what is sorted, the longest other one that it begins with.
fn inner(sorted: &[Vec<u8>]) -> Vec<Option<usize>> {
    let mut inner = Vec::with_capacity(sorted.len());
    let mut above: Vec<usize> = Vec::new();
    for (number, form) in sorted.iter().enumerate() {
        while above.pop_if(|above| !sorted.get(*above).is_some_and(|other| form.starts_with(other))).is_some()
        {
        }
        inner.push(above.last().copied());
        above.push(number);
    }
    inner
}

/// Multiplicative (Knuth, *Sorting and Searching*, section 6.4), with 2^32 by the golden ratio.
fn hash(block: &[u8; BLOCK]) -> usize {
    (u32::from_le_bytes(*block).wrapping_mul(0x9E37_79B1) >> (32 - HASH)) as usize
}
