//! A YAML file as a tree in which every value knows its place. Shared by pipelines and settings.
//!
//! The structure and the places come from `saphyr-parser`'s events. The values are read a second
//! time by `serde_yaml`, along the same tree: where the two understand a text differently, the file
//! is refused rather than one of them believed. A scalar stays the text that the author wrote
//! (`1.10` and `yes` are no numbers and no truth values here); whoever needs a number asks for one.
//!
//! Reading always ends quickly: size, depth and what aliases expand to are bounded, and nothing here
//! recurses deeper than [`DEPTH_LIMIT`].

use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::ScalarStyle;

use super::problem::Problems;

mod agree;
mod build;
mod locate;

pub use locate::Locator;

/// Largest file, in bytes.
pub const SIZE_LIMIT: usize = 1024 * 1024;
/// Deepest nesting of lists and maps. A pipeline needs eight.
pub const DEPTH_LIMIT: usize = 32;
/// So many values may come from aliases, besides those that stand in the file.
pub const ALIAS_LIMIT: usize = 10_000;

/// A value and its place.
#[derive(Debug)]
pub struct Node {
    /// Bytes of the file, from the first character of the value to its last.
    pub at: Range<usize>,
    pub value: Value,
    /// How many values it has, itself included, aliases expanded.
    weight: usize,
    /// How many levels of lists and maps it has, aliases expanded.
    height: usize,
}

#[derive(Debug, Clone)]
pub enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    /// In the order of the file, no key twice.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub struct Scalar {
    pub text: String,
    style: ScalarStyle,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub key: String,
    /// Where the key stands.
    pub at: Range<usize>,
    pub value: Rc<Node>,
}

impl Node {
    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if !self.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// The text of a scalar without quotes, as numbers and truth values are written.
    pub fn plain(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if scalar.style == ScalarStyle::Plain => self.text(),
            _ => None,
        }
    }

    /// Nothing at all, `~` or `null`.
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar(Scalar { text, style: ScalarStyle::Plain }) => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The values of a list; of anything else none.
    pub fn items(&self) -> &[Rc<Node>] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The entries of a map; of anything else none.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a map with that key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a map at that key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &*entry.value)
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Reads `text`, adding to `problems` what is wrong with it as YAML. Answers nothing when it cannot
/// be understood; duplicate keys are problems too, but do not end the reading.
pub fn read(text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    if text.len() > SIZE_LIMIT {
        let size = text.len();
        problems
            .error(0..0, format!("the file has {size} bytes; at most {SIZE_LIMIT} are read"))
            .help("split it into several pipelines, or move long commands into scripts of the repository");
        return None;
    }
    let (body, skip) = body(text);
    let root = read_at(body, skip, problems)?;
    if root.is_null() {
        problems.error(0..0, "the file is empty").help("`windlass reference` prints a whole one");
        return None;
    }
    Some(root)
}

/// Reads one value of YAML whose text starts at this place of what `problems` is about. A text without a
/// value is null.
pub fn read_at(text: &str, start: usize, problems: &mut Problems) -> Option<Rc<Node>> {
    if let Some((at, bad)) = text.char_indices().find(|(_, c)| unreadable(*c)) {
        let message = format!("the character U+{:04X} has no place in a text file", u32::from(bad));
        problems.error(start + at..start + at + bad.len_utf8(), message);
        return None;
    }
    build::Builder::new(text, start, problems).build()
}

/// A value that stands in a tree instead of another.
pub struct Put {
    /// The keys that lead there, at least one. What is missing on the way is made.
    pub path: Vec<String>,
    /// Where the text is that says so.
    pub at: Range<usize>,
    pub value: Rc<Node>,
}

/// The tree with another value in one place. Unchanged where something on the way is no map: that is a
/// mistake of its own.
pub fn put(root: &Rc<Node>, put: &Put) -> Rc<Node> {
    replaced(root, &put.path, put)
}

fn replaced(node: &Rc<Node>, path: &[String], put: &Put) -> Rc<Node> {
    let Some((key, rest)) = path.split_first() else { return Rc::clone(&put.value) };
    let Value::Map(entries) = &node.value else { return Rc::clone(node) };
    let mut entries = entries.clone();
    match entries.iter_mut().find(|entry| entry.key == *key) {
        Some(entry) => {
            entry.value = replaced(&entry.value, rest, put);
            if rest.is_empty() {
                entry.at = put.at.clone();
            }
        }
        None => {
            let nothing =
                Rc::new(Node { at: put.at.clone(), value: Value::Map(Vec::new()), weight: 1, height: 1 });
            entries.push(Entry {
                key: key.clone(),
                at: put.at.clone(),
                value: replaced(&nothing, rest, put),
            });
        }
    }
    Rc::new(Node {
        at: node.at.clone(),
        value: Value::Map(entries),
        weight: node.weight,
        height: node.height,
    })
}

/// Reads the values of a tree a second time, with `serde_yaml`. Worth its time only for a file in
/// which nothing else is wrong; after a duplicate key the two would differ anyway.
pub fn confirm(root: &Node, text: &str, problems: &mut Problems) {
    let (body, skip) = body(text);
    confirm_at(root, body, skip, problems);
}

/// The same for what [`read_at`] gave.
pub fn confirm_at(root: &Node, text: &str, start: usize, problems: &mut Problems) {
    if let Err((at, message)) = agree::check(root, text) {
        let at = at.map_or(start, |at| at + start);
        problems
            .error(at..at, message)
            .help("write it more plainly: quote the text, or indent with spaces only");
    }
}

/// The text without a byte order mark, and how long that is. It is harmless and invisible, so it is no
/// reason to refuse a file.
fn body(text: &str) -> (&str, usize) {
    match text.strip_prefix('\u{feff}') {
        Some(body) => (body, text.len() - body.len()),
        None => (text, 0),
    }
}

/// Control characters but tab, line feed, carriage return. NUL would end the text for some readers.
fn unreadable(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{2028}' | '\u{2029}')
}
