//! From a place in a scalar's value to the place in the file: quotes, escapes and indentation are in
//! between.

use saphyr_parser::ScalarStyle;

use super::{Node, Value};

impl Node {
    /// The byte of the file at which byte `offset` of the scalar's value stands. Where the text was
    /// folded beyond recognition, the start of the scalar.
    pub fn locate(&self, source: &str, offset: usize) -> usize {
        let Value::Scalar(scalar) = &self.value else { return self.at.start };
        let written = source.get(self.at.clone()).unwrap_or_default();
        let within = match scalar.style {
            ScalarStyle::SingleQuoted => quoted(written, &scalar.text, offset, single),
            ScalarStyle::DoubleQuoted => quoted(written, &scalar.text, offset, double),
            ScalarStyle::Plain if written == scalar.text => Some(offset),
            ScalarStyle::Literal => literal(written, &scalar.text, offset),
            _ => searched(written, &scalar.text, offset),
        };
        self.at.start + within.or_else(|| searched(written, &scalar.text, offset)).unwrap_or(0)
    }
}

/// Walks a quoted text and its value side by side. `length` is how many bytes of the text make the
/// next character of the value.
fn quoted(written: &str, value: &str, offset: usize, length: fn(&str) -> usize) -> Option<usize> {
    let mut at = 1;
    for _ in value.get(..offset)?.chars() {
        let rest = written.get(at..)?;
        if rest.starts_with(['\n', '\r']) {
            return None;
        }
        at += length(rest);
    }
    Some(at)
}

fn single(rest: &str) -> usize {
    match rest.starts_with("''") {
        true => 2,
        false => rest.chars().next().map_or(0, char::len_utf8),
    }
}

fn double(rest: &str) -> usize {
    let mut characters = rest.chars();
    match (characters.next(), characters.next()) {
        (Some('\\'), Some('x')) => 4,
        (Some('\\'), Some('u')) => 6,
        (Some('\\'), Some('U')) => 10,
        (Some('\\'), Some(escaped)) => 1 + escaped.len_utf8(),
        (Some(plain), _) => plain.len_utf8(),
        (None, _) => 0,
    }
}

/// A literal block keeps its lines, each behind the indentation; the first line is the header.
fn literal(written: &str, value: &str, offset: usize) -> Option<usize> {
    let before = value.get(..offset)?;
    let line = before.matches('\n').count();
    let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
    let content = value.split('\n').nth(line)?;
    // The span of a block starts at its header or at its first line, by the parser's choice.
    let header = usize::from(written.starts_with('|'));
    let mut start = 0;
    for _ in 0..line + header {
        start += written.get(start..)?.find('\n')? + 1;
    }
    let shown = written.get(start..)?.split('\n').next()?.trim_end_matches('\r');
    Some(start + shown.len().checked_sub(content.len())? + column)
}

/// Looks for what stands at the offset, counting how often the same stood before it.
fn searched(written: &str, value: &str, offset: usize) -> Option<usize> {
    let rest = value.get(offset..)?;
    let word: String = rest.chars().take_while(|c| !c.is_whitespace()).take(40).collect();
    if word.is_empty() {
        return None;
    }
    let before = value.get(..offset)?.matches(word.as_str()).count();
    written.match_indices(word.as_str()).nth(before).map(|(at, _)| at)
}
