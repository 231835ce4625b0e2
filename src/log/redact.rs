//! Masks secrets in a stream of bytes, however it is cut into pieces.

use std::collections::{BTreeSet, HashMap};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, Span, packed};

use super::variants;

/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// The secrets are too many or too long to be searched for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the secrets cannot be masked, they are too long: {0}")]
pub struct TooLarge(String);

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
    search: Option<Search>,
    state: State,
}

struct Search {
    automaton: NFA,
    start: StateID,
    /// How much of a form each state has seen: what has to be held back in it. States that are not
    /// here have seen nothing.
    depth: HashMap<StateID, usize>,
    /// Finds whole forms much faster than the automaton steps; not there for very many forms.
    fast: Option<packed::Searcher>,
    longest: usize,
}

#[derive(Default)]
struct State {
    automaton: Option<StateID>,
    /// What is held back.
    held: Vec<u8>,
    /// Parts of `held` that are covered by secrets: sorted, apart from each other.
    covered: Vec<Span>,
    /// What came out last is a mask that a secret starting right here would be part of.
    open: bool,
}

impl Redactor {
    /// Masks `secrets` and their forms.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, TooLarge> {
        let forms: BTreeSet<Vec<u8>> = secrets.into_iter().flat_map(|s| variants::of(s.as_ref())).collect();
        Ok(Self { search: Search::new(&forms)?, state: State::default() })
    }

    /// Takes in `bytes` and appends to `out` what is certain by now.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(search) = &self.search else {
            out.extend_from_slice(bytes);
            return;
        };
        let from = self.state.held.len();
        self.state.held.extend_from_slice(bytes);
        let state = search.advance(&mut self.state, from);
        // A form that may have begun inside what is masked already is longer than what is held.
        let begun = search.depth.get(&state).copied().unwrap_or(0);
        let certain = self.state.held.len().saturating_sub(begun);
        self.state.automaton = Some(state);
        self.state.release(certain, out);
    }

    /// The stream is at its end: appends the rest to `out`. What comes after is a new stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.state.release(self.state.held.len(), out);
        self.state = State::default();
    }
}

impl Search {
    fn new(forms: &BTreeSet<Vec<u8>>) -> Result<Option<Self>, TooLarge> {
        if forms.is_empty() {
            return Ok(None);
        }
        let too_large = |error: &dyn std::error::Error| TooLarge(error.to_string());
        let automaton = NFA::new(forms).map_err(|error| too_large(&error))?;
        let start = automaton.start_state(Anchored::No).map_err(|error| too_large(&error))?;
        let root = automaton.start_state(Anchored::Yes).map_err(|error| too_large(&error))?;
        let mut depth = HashMap::new();
        for form in forms {
            let mut state = root;
            for (seen, byte) in form.iter().enumerate() {
                state = automaton.next_state(Anchored::Yes, state, *byte);
                depth.insert(state, seen + 1);
            }
        }
        let longest = automaton.max_pattern_len();
        Ok(Some(Self { automaton, start, depth, fast: packed::Searcher::new(forms), longest }))
    }

    /// Runs the automaton over `state.held` from `at` on, noting what is covered.
    fn advance(&self, state: &mut State, mut at: usize) -> StateID {
        let bytes = state.held.as_slice();
        let mut current = state.automaton.unwrap_or(self.start);
        // Up to here a form that began would be whole, so that the fast search sees it.
        let whole = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        while at < bytes.len() {
            if current == self.start
                && at < whole
                && let Some(fast) = &self.fast
            {
                let next = fast.find_in(bytes, Span { start: at, end: bytes.len() });
                at = next.map_or(whole, |found| found.start().min(whole));
            }
            let Some(byte) = bytes.get(at) else { break };
            current = self.automaton.next_state(Anchored::No, current, *byte);
            at += 1;
            if self.automaton.is_match(current) {
                let lengths = (0..self.automaton.match_len(current))
                    .map(|i| self.automaton.pattern_len(self.automaton.match_pattern(current, i)));
                let start = at - lengths.max().unwrap_or(0).min(at);
                cover(&mut state.covered, Span { start, end: at });
            }
        }
        current
    }
}

/// Adds `span`, which ends after all that are there, and joins what overlaps or touches.
fn cover(covered: &mut Vec<Span>, mut span: Span) {
    while let Some(last) = covered.last()
        && last.end >= span.start
    {
        span.start = span.start.min(last.start);
        covered.pop();
    }
    covered.push(span);
}

impl State {
    /// Appends to `out` what is held, up to `certain`: no secret starts before it that is not
    /// covered already. A mask that starts there or before comes out at once, whole.
    fn release(&mut self, certain: usize, out: &mut Vec<u8>) {
        let mut at = 0;
        let mut done = 0;
        for span in &self.covered {
            if span.start > certain {
                break;
            }
            done += 1;
            if let Some(plain) = self.held.get(at..span.start)
                && !plain.is_empty()
            {
                out.extend_from_slice(plain);
                self.open = false;
            }
            if !self.open {
                out.extend_from_slice(MASK);
            }
            self.open = true;
            at = span.end;
        }
        if let Some(plain) = self.held.get(at..certain)
            && !plain.is_empty()
        {
            out.extend_from_slice(plain);
            self.open = false;
            at = certain;
        }
        self.held.drain(..at);
        self.covered.drain(..done);
        for span in &mut self.covered {
            *span = Span { start: span.start - at, end: span.end - at };
        }
    }
}
