//! From the parser's events to the tree.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::super::problem::Problems;
use super::{ALIAS_LIMIT, DEPTH_LIMIT, Entry, Node, Scalar, Value};

/// A list or map that is being read.
struct Open {
    start: usize,
    anchor: usize,
    weight: usize,
    height: usize,
    content: Content,
}

impl Open {
    fn kind(&self) -> &'static str {
        match self.content {
            Content::List(_) => "list",
            Content::Map { .. } => "map",
        }
    }
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, seen: HashMap<String, usize>, key: Option<(String, Range<usize>)> },
}

pub(super) struct Builder<'a> {
    text: &'a str,
    /// What is added to every place: what comes before the text.
    skip: usize,
    places: Places,
    problems: &'a mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    from_aliases: usize,
    root: Option<Rc<Node>>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(text: &'a str, skip: usize, problems: &'a mut Problems) -> Self {
        Self {
            text,
            skip,
            places: Places::new(text),
            problems,
            open: Vec::new(),
            anchors: HashMap::new(),
            from_aliases: 0,
            root: None,
        }
    }

    /// The tree, unless the text is no YAML or beyond a limit. Without a document it is null.
    pub(super) fn build(mut self) -> Option<Rc<Node>> {
        let mut parser = Parser::new_from_str(self.text);
        let mut documents = 0;
        loop {
            let (event, span) = match parser.next_event()? {
                Ok(next) => next,
                Err(error) => {
                    self.syntax(&error);
                    return None;
                }
            };
            let at = self.places.byte(span.start.index())..self.places.byte(span.end.index());
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        self.error(at, "a file has one document, and here a second one starts");
                        return None;
                    }
                }
                event => self.event(event, at)?,
            }
        }
        Some(self.root.unwrap_or_else(|| {
            let value = Value::Scalar(Scalar { text: String::new(), style: ScalarStyle::Plain });
            Rc::new(Node { at: self.skip..self.skip, value, weight: 1, height: 0 })
        }))
    }

    /// `None`: reading is over.
    fn event(&mut self, event: Event<'_>, at: Range<usize>) -> Option<()> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.untagged(tag.is_some(), &at)?;
                if style == ScalarStyle::Plain && text.is_empty() {
                    // Nothing stands there: point at the key, as the event points at what follows.
                    let at = self.pending_key().unwrap_or(at);
                    return self.scalar(String::new(), style, anchor, at);
                }
                self.scalar(text.into_owned(), style, anchor, at)
            }
            Event::SequenceStart(anchor, tag) => {
                self.untagged(tag.is_some(), &at)?;
                self.start(at, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.untagged(tag.is_some(), &at)?;
                self.start(at, anchor, Content::Map { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Some(()),
        }
    }

    fn scalar(&mut self, text: String, style: ScalarStyle, anchor: usize, at: Range<usize>) -> Option<()> {
        if let Some(Open { content: Content::Map { key: key @ None, .. }, .. }) = self.open.last_mut() {
            *key = Some((text, at));
            return Some(());
        }
        let value = Value::Scalar(Scalar { text, style });
        self.close(Rc::new(Node { at: self.shifted(at), value, weight: 1, height: 0 }), anchor)
    }

    fn start(&mut self, at: Range<usize>, anchor: usize, content: Content) -> Option<()> {
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            self.error(at, "a key is a text, not a list or a map");
            return None;
        }
        if self.open.len() >= DEPTH_LIMIT {
            self.error(at, format!("lists and maps are nested more than {DEPTH_LIMIT} deep"));
            return None;
        }
        self.open.push(Open { start: at.start, anchor, weight: 1, height: 0, content });
        Some(())
    }

    fn end(&mut self, at: Range<usize>) -> Option<()> {
        let open = self.open.pop()?;
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        // A block ends where the next thing starts: the blank space between belongs to nobody.
        let within = self.text.get(open.start..at.end.max(open.start)).unwrap_or_default();
        let end = open.start + within.trim_end().len();
        let at = self.shifted(open.start..end);
        let node = Node { at, value, weight: open.weight, height: open.height + 1 };
        self.close(Rc::new(node), open.anchor)
    }

    /// Puts a value that is complete where it belongs.
    fn close(&mut self, node: Rc<Node>, anchor: usize) -> Option<()> {
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let skip = self.skip;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        parent.weight = parent.weight.saturating_add(node.weight);
        parent.height = parent.height.max(node.height);
        match &mut parent.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, key } => {
                let (key, at) = key.take()?;
                let at = at.start + skip..at.end + skip;
                match seen.get(&key) {
                    Some(first) => {
                        let line = self.problems.line(*first);
                        self.problems.error(at, format!("the key {key:?} was given already, in line {line}"));
                    }
                    None => {
                        seen.insert(key.clone(), at.start);
                        entries.push(Entry { key, at, value: node });
                    }
                }
            }
        }
        Some(())
    }

    fn alias(&mut self, anchor: usize, at: Range<usize>) -> Option<()> {
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            self.error(at, "an alias cannot be a key");
            return None;
        }
        let Some(node) = self.anchors.get(&anchor).map(Rc::clone) else {
            self.error(at, "this alias stands inside the value that it names");
            return None;
        };
        self.from_aliases = self.from_aliases.saturating_add(node.weight);
        if self.from_aliases > ALIAS_LIMIT {
            self.error(at, format!("aliases expand to more than {ALIAS_LIMIT} values"));
            return None;
        }
        if self.open.len() + node.height > DEPTH_LIMIT {
            self.error(
                at,
                format!("with this alias, lists and maps are nested more than {DEPTH_LIMIT} deep"),
            );
            return None;
        }
        self.close(node, 0)
    }

    fn untagged(&mut self, tagged: bool, at: &Range<usize>) -> Option<()> {
        if !tagged {
            return Some(());
        }
        let line = self.problems.line(at.start + self.skip);
        self.error(
            at.clone(),
            format!("the value in line {line} has a YAML tag, and tags are not supported"),
        );
        None
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = self.places.byte(error.marker().index());
        let line_start = self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let rest = self.text.get(line_start..).unwrap_or_default();
        let indent = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let tab = rest.get(..indent).and_then(|blank| blank.find('\t'));
        match tab {
            Some(tab) => {
                let at = line_start + tab;
                self.error(at..at + 1, "a tab in the indentation; YAML is indented with spaces");
            }
            None => self.not_yaml(at, error, rest.lines().next().is_some_and(|line| line.contains("${{"))),
        }
    }

    fn not_yaml(&mut self, at: usize, error: &ScanError, expression: bool) {
        let flow =
            |open: &&Open| self.text.get(open.start..).is_some_and(|rest| rest.starts_with(['[', '{']));
        let unclosed = self.open.last().filter(flow).map(|open| (open.start + self.skip, open.kind()));
        let at = at + self.skip;
        match unclosed {
            // At the end of the file nobody looks for what is missing.
            Some((start, kind))
                if self.text.get(at - self.skip..).is_none_or(|rest| rest.trim().is_empty()) =>
            {
                self.problems.error(start..start + 1, format!("this {kind} is never closed"));
            }
            unclosed => {
                let opened = unclosed.map(|(start, kind)| (self.problems.line(start), kind));
                let problem = self.problems.error(at..at, format!("this is not YAML: {}", error.info()));
                if expression {
                    problem.help("inside of { } and [ ], an expression stands in quotes: \"${{ … }}\"");
                } else if let Some((line, kind)) = opened {
                    problem.help(format!("perhaps the {kind} of line {line} is not closed"));
                }
            }
        }
    }

    fn pending_key(&self) -> Option<Range<usize>> {
        match self.open.last()?.content {
            Content::Map { ref key, .. } => key.as_ref().map(|(_, at)| at.clone()),
            Content::List(_) => None,
        }
    }

    fn shifted(&self, at: Range<usize>) -> Range<usize> {
        at.start + self.skip..at.end + self.skip
    }

    fn error(&mut self, at: Range<usize>, message: impl Into<String>) {
        let at = self.shifted(at);
        self.problems.error(at, message);
    }
}

/// From the parser's places, counted in characters, to bytes.
struct Places {
    /// The byte of every character; nothing when each character is one byte.
    bytes: Option<Vec<usize>>,
    length: usize,
}

impl Places {
    fn new(text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { bytes, length: text.len() }
    }

    fn byte(&self, character: usize) -> usize {
        match &self.bytes {
            Some(bytes) => bytes.get(character).copied().unwrap_or(self.length),
            None => character.min(self.length),
        }
    }
}
