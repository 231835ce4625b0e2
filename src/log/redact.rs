//! Masks secrets in a stream of bytes, however it is cut into pieces.

use std::collections::BTreeSet;

use super::forms::Forms;
use super::variants;

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// Masks secrets in a stream of bytes.
///
/// Each stretch of bytes that secrets cover, overlapping or touching, becomes one `***`. What
/// comes out does not depend on how the input was cut. A byte is held back only while it may still
/// turn out to be part of a secret.
///
/// Besides a secret itself its usual forms are masked: each of its lines, and how it looks in JSON,
/// in a URL, in a shell's trace, in base64 at each alignment. What has less than
/// [`SHORTEST`](super::SHORTEST) bytes is not masked.
pub struct Redactor {
    /// `None` when there is nothing to mask.
    forms: Option<Forms>,
    state: State,
}

#[derive(Default)]
struct State {
    /// What is held back: from the first byte on that a form may have begun with.
    held: Vec<u8>,
    /// So many bytes of `held` have come out already, as part of a mask.
    out: usize,
    /// What came out last is a mask that a secret starting right behind it would be part of.
    open: bool,
}

impl Redactor {
    /// Masks `secrets` and their forms.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let forms: BTreeSet<Vec<u8>> = secrets.into_iter().flat_map(|s| variants::of(s.as_ref())).collect();
        Self { forms: Forms::new(forms), state: State::default() }
    }

    /// Takes in `bytes` and appends to `out` what is certain by now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(forms) = &self.forms else {
            out.extend_from_slice(bytes);
            return;
        };
        self.state.held.extend_from_slice(bytes);
        let certain = forms.begun(&self.state.held);
        self.state.release(forms, certain, out);
    }

    /// The stream is at its end: appends the rest to `out`. What comes after is a new stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(forms) = &self.forms {
            self.state.release(forms, self.state.held.len(), out);
        }
        self.state = State::default();
    }
}

impl State {
    /// Appends to `out` what is held, up to `certain`: no form begins before it that is not whole. The mask of
    /// one that begins there or before comes out at once, whole.
    fn release(&mut self, forms: &Forms, certain: usize, out: &mut Vec<u8>) {
        let mut at = self.out;
        let mut from = 0;
        while let Some(found) = forms.find(&self.held, from).filter(|found| found.start <= certain) {
            from = found.start + 1;
            if found.end <= at {
                continue;
            }
            self.say(at..found.start, out);
            if !self.open {
                out.extend_from_slice(MASK);
            }
            self.open = true;
            at = found.end;
        }
        self.say(at..certain, out);
        self.held.drain(..certain);
        self.out = at.saturating_sub(certain);
    }

    /// Appends what is no secret; nothing where the range has none.
    fn say(&mut self, plain: std::ops::Range<usize>, out: &mut Vec<u8>) {
        if let Some(plain) = self.held.get(plain)
            && !plain.is_empty()
        {
            out.extend_from_slice(plain);
            self.open = false;
        }
    }
}
