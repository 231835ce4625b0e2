//! Terminal output as styled text: colours and weights (ECMA-48, SGR) as class names; every other
//! escape sequence is dropped, whatever it would do to a terminal.
//!
//! Always true: no byte of output can swallow more than its own line, and what is left is text.

use super::text::push_visible;

/// How text looks: what SGR sequences have set so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// 1 to 16; 0 is the page's own.
    front: u8,
    back: u8,
    /// Bits of [`WEIGHTS`].
    weights: u8,
}

/// What else there is: the code that sets it, and its class.
const WEIGHTS: [(u16, &str); 4] = [(1, "bold"), (2, "dim"), (3, "italic"), (4, "under")];

impl Style {
    /// For the address of a place in a log; [`Self::unpack`] reads it.
    pub fn pack(self) -> u32 {
        u32::from(self.front) << 16 | u32::from(self.back) << 8 | u32::from(self.weights)
    }

    /// Any number is some style.
    pub fn unpack(packed: u32) -> Self {
        let [_, front, back, weights] = packed.to_be_bytes();
        Self { front: front.min(16), back: back.min(16), weights: weights & 0xf }
    }

    /// The names of its classes, none for plain text.
    pub fn classes(self) -> String {
        let mut classes = Vec::new();
        if self.front > 0 {
            classes.push(format!("f{}", self.front - 1));
        }
        if self.back > 0 {
            classes.push(format!("b{}", self.back - 1));
        }
        for (bit, (_, class)) in WEIGHTS.iter().enumerate() {
            if self.weights & (1 << bit) != 0 {
                classes.push((*class).to_owned());
            }
        }
        classes.join(" ")
    }

    /// Takes in the parameters of one SGR sequence; codes without a class change nothing.
    fn set(&mut self, parameters: &str) {
        let mut codes = parameters.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1..=4 => self.weights |= 1 << (code - 1),
                22 => self.weights &= !0b0011,
                23 => self.weights &= !0b0100,
                24 => self.weights &= !0b1000,
                30..=37 => self.front = code as u8 - 29,
                90..=97 => self.front = code as u8 - 81,
                39 => self.front = 0,
                40..=47 => self.back = code as u8 - 39,
                100..=107 => self.back = code as u8 - 91,
                49 => self.back = 0,
                38 | 48 => {
                    let colour = extended(&mut codes);
                    if code == 38 { self.front = colour } else { self.back = colour }
                }
                _ => {}
            }
        }
    }
}

/// `5;N` or `2;R;G;B`: the first sixteen of the palette, everything else as the page's own.
fn extended(codes: &mut impl Iterator<Item = u16>) -> u8 {
    match codes.next() {
        Some(5) => codes.next().filter(|n| *n < 16).map_or(0, |n| n as u8 + 1),
        Some(2) => {
            codes.by_ref().take(3).for_each(drop);
            0
        }
        _ => 0,
    }
}

/// A stretch of text in one style.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Span {
    pub class: String,
    pub text: String,
}

/// Longest escape sequence; a longer one is dropped as far as it got.
const LONGEST: usize = 4096;

/// What the bytes show, and how many of them were read: an escape sequence or a character that is not
/// whole yet stays for the next time, unless this is the `end`.
pub fn read(style: &mut Style, bytes: &[u8], end: bool) -> (Vec<Span>, usize) {
    let mut spans = Spans { done: Vec::new(), text: String::new(), style: *style };
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let (step, length) = next(rest, end);
        match step {
            Step::Wait => break,
            Step::Drop => {}
            Step::Char(c) => push_visible(&mut spans.text, c),
            Step::Style(parameters) => spans.restyle(|style| style.set(parameters)),
        }
        at += length;
    }
    *style = spans.style;
    spans.cut();
    (spans.done, at)
}

enum Step<'a> {
    Char(char),
    Style(&'a str),
    Drop,
    /// More has to come.
    Wait,
}

struct Spans {
    done: Vec<Span>,
    text: String,
    style: Style,
}

impl Spans {
    fn cut(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.done.push(Span { class: self.style.classes(), text });
        }
    }

    fn restyle(&mut self, change: impl FnOnce(&mut Style)) {
        let mut style = self.style;
        change(&mut style);
        if style != self.style {
            self.cut();
            self.style = style;
        }
    }
}

/// What comes next, and how long it is.
fn next(bytes: &[u8], end: bool) -> (Step<'_>, usize) {
    match bytes {
        [0x1b, rest @ ..] => escape(rest, end),
        [b'\r', b'\n', ..] => (Step::Char('\n'), 2),
        [b'\r'] if !end => (Step::Wait, 0),
        // What a terminal would write over stays, as a line of its own.
        [b'\r', ..] => (Step::Char('\n'), 1),
        [byte @ 0..=0x7f, ..] => (Step::Char(char::from(*byte)), 1),
        _ => character(bytes, end),
    }
}

/// One character that is not ASCII.
fn character(bytes: &[u8], end: bool) -> (Step<'_>, usize) {
    let some = bytes.get(..4).unwrap_or(bytes);
    let Some(chunk) = some.utf8_chunks().next() else { return (Step::Wait, 0) };
    match chunk.valid().chars().next() {
        Some(c) => (Step::Char(c), c.len_utf8()),
        // Cut off in the middle, and the rest may come.
        None if !end && some.len() < 4 && chunk.invalid().len() == some.len() => (Step::Wait, 0),
        None => (Step::Char('\u{fffd}'), chunk.invalid().len().max(1)),
    }
}

/// What follows the escape character; lengths count that one too.
fn escape(rest: &[u8], end: bool) -> (Step<'_>, usize) {
    let open = || match end || rest.len() > LONGEST {
        true => (Step::Drop, rest.len() + 1),
        false => (Step::Wait, 0),
    };
    match rest.first() {
        None => open(),
        Some(b'[') => {
            let parameters = |byte: &u8| (0x20..=0x3f).contains(byte);
            let length = rest.iter().skip(1).take_while(|byte| parameters(byte)).count();
            match rest.get(1 + length) {
                None => open(),
                Some(b'm') => {
                    let text = rest.get(1..1 + length).and_then(|text| std::str::from_utf8(text).ok());
                    (text.map_or(Step::Drop, Step::Style), length + 3)
                }
                Some(0x40..=0x7e) => (Step::Drop, length + 3),
                // Not a sequence after all: what came is dropped, and this byte is looked at anew.
                Some(_) => (Step::Drop, length + 2),
            }
        }
        // Strings for the terminal: up to their terminator, and never past the end of the line.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let ends = |byte: &u8| matches!(byte, 0x07 | 0x1b | b'\n' | b'\r');
            match rest.iter().position(ends) {
                None => open(),
                Some(at) if rest.get(at) == Some(&0x07) => (Step::Drop, at + 2),
                Some(at) if rest.get(at) == Some(&0x1b) && rest.get(at + 1) == Some(&b'\\') => {
                    (Step::Drop, at + 3)
                }
                Some(at) => (Step::Drop, at + 1),
            }
        }
        // Two characters, perhaps with some between.
        Some(0x20..=0x2f) => {
            let length = rest.iter().take_while(|byte| (0x20..=0x2f).contains(*byte)).count();
            match rest.get(length) {
                None => open(),
                Some(0x30..=0x7e) => (Step::Drop, length + 2),
                Some(_) => (Step::Drop, length + 1),
            }
        }
        Some(0x30..=0x7e) => (Step::Drop, 2),
        Some(_) => (Step::Drop, 1),
    }
}

#[cfg(test)]
mod tests;
