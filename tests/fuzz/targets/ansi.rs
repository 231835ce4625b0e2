//! Terminal output as styled text: however it comes in pieces the same, with nothing in it that is no text,
//! and with classes from the style sheet only.

use windlass::http::ui::ansi::{Span, Style, read};

pub const WORDS: &[&str] = &[
    "\u{1b}[",
    "\u{1b}]",
    "\u{1b}P",
    "\u{1b}\\",
    "\u{7}",
    "m",
    "0m",
    "1;31m",
    "38;5;9m",
    "48;2;1;2;3m",
    "38;5",
    ";",
    ":",
    "99999",
    "\r",
    "\n",
    "\r\n",
    "\u{1b}(B",
    "\u{1b}7",
    "\u{8}",
    "<script>",
    "&amp;",
    "\"",
    "ä",
    "\u{202e}",
    "0;",
    "K",
    "2J",
];

/// So long a sequence is given up where it is read in pieces.
const LONGEST: usize = 4096;

pub fn target(data: &[u8]) {
    let (style, spans, count) = whole(data);
    assert_eq!(count, data.len(), "at the end nothing is left over");
    for span in &spans {
        assert!(!span.text.is_empty());
        for c in span.text.chars() {
            assert!(!c.is_control() || matches!(c, '\n' | '\t'), "{c:?} is no text");
        }
        for class in span.class.split(' ').filter(|class| !class.is_empty()) {
            let colour = class.strip_prefix(['f', 'b']).and_then(|number| number.parse::<u8>().ok());
            let known =
                matches!(class, "bold" | "dim" | "italic" | "under") || colour.is_some_and(|n| n < 16);
            assert!(known, "{class:?} is no class");
        }
    }
    assert_eq!(Style::unpack(style.pack()), style);
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    let shown: usize = spans.iter().map(|span| lines(span.text.as_bytes())).sum();
    assert!(shown >= lines(data), "a line was swallowed");

    // The first byte says how it is cut.
    let long = data.split(|byte| *byte == 0x1b).any(|sequence| sequence.len() > LONGEST / 2);
    if let Some(first) = data.first().filter(|_| !long) {
        let size = usize::from(*first % 7) + 1;
        assert_eq!(joined(pieces(data, size)), joined(spans), "in pieces of {size} bytes it reads otherwise");
    }
}

fn whole(data: &[u8]) -> (Style, Vec<Span>, usize) {
    let mut style = Style::default();
    let (spans, count) = read(&mut style, data, true);
    (style, spans, count)
}

/// As a page that follows a log reads it.
fn pieces(data: &[u8], size: usize) -> Vec<Span> {
    let (mut style, mut held, mut spans) = (Style::default(), Vec::new(), Vec::new());
    for piece in data.chunks(size) {
        held.extend_from_slice(piece);
        let (more, count) = read(&mut style, &held, false);
        held.drain(..count);
        spans.extend(more);
    }
    let (more, count) = read(&mut style, &held, true);
    assert_eq!(count, held.len());
    spans.extend(more);
    spans
}

fn joined(spans: Vec<Span>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for Span { class, text } in spans {
        match all.last_mut().filter(|(last, _)| *last == class) {
            Some((_, before)) => before.push_str(&text),
            None => all.push((class, text)),
        }
    }
    all
}
