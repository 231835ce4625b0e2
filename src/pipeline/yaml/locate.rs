//! From a place in a scalar's value to the place in the file: quotes, escapes and indentation are in
//! between.

use saphyr_parser::ScalarStyle;

use super::{Node, Value};

/// Finds the places of one scalar. Made once and asked often: the text is walked once.
pub struct Locator {
    start: usize,
    way: Way,
}

enum Way {
    /// The value stands in the file as it is.
    Straight,
    /// For each byte of the value the byte of the file, relative to the start.
    Bytes(Vec<usize>),
    /// Where each line starts in the value and in the file.
    Lines(Vec<(usize, usize)>),
    /// Folded: where expressions start in the value and in the file, the only places that are asked
    /// for. What was folded within one is not followed.
    Expressions(Vec<(usize, usize)>),
}

impl Node {
    /// How places in the value of this scalar are found in `source`, the text of the file.
    pub fn locator(&self, source: &str) -> Locator {
        let written = source.get(self.at.clone()).unwrap_or_default();
        let way = match &self.value {
            Value::Scalar(scalar) => {
                let exact = match scalar.style {
                    ScalarStyle::Plain if written == scalar.text => Some(Way::Straight),
                    ScalarStyle::SingleQuoted => quoted(written, &scalar.text, single).map(Way::Bytes),
                    ScalarStyle::DoubleQuoted => quoted(written, &scalar.text, double).map(Way::Bytes),
                    ScalarStyle::Literal => literal(written, &scalar.text).map(Way::Lines),
                    _ => None,
                };
                exact.unwrap_or_else(|| Way::Expressions(expressions(written, &scalar.text)))
            }
            _ => Way::Expressions(Vec::new()),
        };
        Locator { start: self.at.start, way }
    }
}

impl Locator {
    /// The byte of the file at which byte `offset` of the value stands.
    pub fn locate(&self, offset: usize) -> usize {
        let before = |places: &[(usize, usize)]| {
            let next = places.partition_point(|(value, _)| *value <= offset);
            let (value, file) = places.get(next.checked_sub(1)?)?;
            Some(file + (offset - value))
        };
        self.start
            + match &self.way {
                Way::Straight => offset,
                Way::Bytes(bytes) => bytes.get(offset).or(bytes.last()).copied().unwrap_or(0),
                Way::Lines(places) | Way::Expressions(places) => before(places).unwrap_or(0),
            }
    }
}

/// Walks a quoted text and its value side by side. `length` is how many bytes of the text make the
/// next character of the value. Nothing for a text of several lines.
fn quoted(written: &str, value: &str, length: fn(&str) -> usize) -> Option<Vec<usize>> {
    if written.contains('\n') {
        return None;
    }
    let mut bytes = Vec::with_capacity(value.len() + 1);
    let mut at = 1;
    for character in value.chars() {
        bytes.extend(std::iter::repeat_n(at, character.len_utf8()));
        at += length(written.get(at..)?);
    }
    bytes.push(at);
    Some(bytes)
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
fn literal(written: &str, value: &str) -> Option<Vec<(usize, usize)>> {
    // The span of a block starts at its header or at its first line, by the parser's choice.
    let header = usize::from(written.starts_with('|'));
    let mut lines = Vec::new();
    let mut value_start = 0;
    let mut file_start = 0;
    let mut contents = value.split_inclusive('\n');
    for (number, line) in written.split_inclusive('\n').enumerate() {
        if number >= header {
            let Some(content) = contents.next() else { break };
            let shown = line.trim_end_matches(['\n', '\r']).len();
            let indent = shown.checked_sub(content.trim_end_matches('\n').len())?;
            lines.push((value_start, file_start + indent));
            value_start += content.len();
        }
        file_start += line.len();
    }
    Some(lines)
}

/// Where the expressions of a folded text start, the nth in the value being the nth in the file.
fn expressions(written: &str, value: &str) -> Vec<(usize, usize)> {
    let starts = |text: &str| text.match_indices("${{").map(|(at, _)| at).collect::<Vec<_>>();
    starts(value).into_iter().zip(starts(written)).collect()
}
