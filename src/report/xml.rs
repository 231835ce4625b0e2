//! A document as a sequence of elements and text, for readers that do not trust it.

use std::borrow::Cow;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, BytesText, Event};
use quick_xml::reader::Reader;

use super::{Error, check_size};

/// Deepest nesting: test runners come to about ten.
const DEPTH_LIMIT: usize = 100;
/// Longest value of an attribute that is looked at, in bytes.
const VALUE_LIMIT: usize = 64 * 1024;

/// What to do about a document type that names a definition somewhere else. None is ever fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentType {
    Refused,
    /// Passed over: writers of Cobertura name the format's definition.
    NamePassedOver,
}

/// The next piece of a document.
#[derive(Debug)]
pub enum Piece<'a> {
    Open(Element<'a>),
    Close,
    Text(Cow<'a, str>),
    End,
}

/// The start of an element.
#[derive(Debug)]
pub struct Element<'a> {
    start: BytesStart<'a>,
}

pub struct Document<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    document_type: DocumentType,
    depth: usize,
    seen_root: bool,
    /// An element without content was opened and is closed next.
    closes: bool,
}

impl<'a> Document<'a> {
    /// Text out of a report's bytes. What is not UTF-8 in the middle of it (tests print anything) becomes
    /// U+FFFD.
    pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
        check_size(bytes)?;
        if bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
            return Err(Error::Encoding("UTF-16".to_owned()));
        }
        // "<" in an encoding of two or four bytes a character.
        if bytes.starts_with(&[0, b'<']) || bytes.starts_with(&[b'<', 0]) || bytes.starts_with(&[0, 0]) {
            return Err(Error::Encoding("UTF-16 or UTF-32".to_owned()));
        }
        Ok(String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)))
    }

    pub fn new(text: &'a str, document_type: DocumentType) -> Self {
        let reader = Reader::from_str(text);
        Self { text, reader, document_type, depth: 0, seen_root: false, closes: false }
    }

    /// The next piece. After an error there is no next one.
    pub fn next(&mut self) -> Result<Piece<'a>, Error> {
        if std::mem::take(&mut self.closes) {
            self.depth -= 1;
            return Ok(Piece::Close);
        }
        loop {
            let event = self.reader.read_event().map_err(|error| self.malformed(error))?;
            match event {
                Event::Start(start) => return self.open(start),
                Event::Empty(start) => {
                    self.closes = true;
                    return self.open(start);
                }
                Event::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    return Ok(Piece::Close);
                }
                Event::Text(text) => return Ok(Piece::Text(text.xml10_content())),
                Event::CData(text) => return Ok(Piece::Text(text.xml10_content())),
                Event::GeneralRef(reference) => return self.reference(&reference),
                Event::Decl(declaration) => check_encoding(&declaration)?,
                Event::DocType(text) => self.check_document_type(&text)?,
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof if self.depth > 0 => return Err(self.malformed("it ends in the middle")),
                Event::Eof if !self.seen_root => {
                    return Err(self.malformed("it is no XML: it has no element"));
                }
                Event::Eof => return Ok(Piece::End),
            }
        }
    }

    fn open(&mut self, start: BytesStart<'a>) -> Result<Piece<'a>, Error> {
        if self.depth >= DEPTH_LIMIT {
            return Err(Error::TooDeep { line: self.line(), limit: DEPTH_LIMIT });
        }
        if self.depth == 0 && std::mem::replace(&mut self.seen_root, true) {
            return Err(self.malformed("a second document begins"));
        }
        self.depth += 1;
        Ok(Piece::Open(Element { start }))
    }

    fn reference(&self, reference: &BytesRef<'a>) -> Result<Piece<'a>, Error> {
        if reference.is_char_ref() {
            // Characters that XML cannot have are what a test printed all the same.
            let c = reference.resolve_char_ref().ok().flatten().unwrap_or(char::REPLACEMENT_CHARACTER);
            return Ok(Piece::Text(Cow::Owned(c.to_string())));
        }
        let name: &str = reference.as_ref();
        match resolve_xml_entity(name) {
            Some(text) => Ok(Piece::Text(Cow::Borrowed(text))),
            None => {
                Err(Error::Entity { line: self.line(), name: super::text::cut(&super::text::line(name), 60) })
            }
        }
    }

    fn check_document_type(&self, text: &BytesText<'_>) -> Result<(), Error> {
        let text: &str = text.as_ref();
        match self.document_type {
            DocumentType::NamePassedOver if !text.contains(['[', '<', '%', '&']) => Ok(()),
            _ => Err(Error::DocumentType),
        }
    }

    /// The line that was read last, from 1.
    fn line(&self) -> usize {
        let position = self.reader.buffer_position().max(self.reader.error_position()) as usize;
        let before = self.text.as_bytes().get(..position).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    pub fn malformed(&self, why: impl ToString) -> Error {
        Error::Malformed {
            line: self.line(),
            why: super::text::cut(&super::text::line(&why.to_string()), 200),
        }
    }
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), Error> {
    let Some(Ok(name)) = declaration.encoding() else { return Ok(()) };
    let known = ["utf-8", "utf8", "us-ascii", "ascii"];
    match known.contains(&name.to_ascii_lowercase().as_str()) {
        true => Ok(()),
        false => Err(Error::Encoding(super::text::cut(&super::text::line(&name), 60))),
    }
}

impl Element<'_> {
    /// The name without its namespace's prefix.
    pub fn name(&self) -> &str {
        self.start.local_name().into_inner()
    }

    /// The first attribute of each of these names, in their order.
    pub fn attributes<const N: usize>(&self, names: [&str; N]) -> [Option<String>; N] {
        let mut found = [const { None }; N];
        let mut all = self.start.attributes();
        // Looking for repeats takes the square of their number, and one may be as good as the other.
        for attribute in all.with_checks(false).filter_map(Result::ok) {
            let at = names.iter().position(|name| *name == attribute.key.local_name().into_inner());
            let Some(place) = at.and_then(|at| found.get_mut(at)) else { continue };
            if place.is_none() && attribute.value.len() <= VALUE_LIMIT {
                *place = Some(value(&attribute));
            }
        }
        found
    }
}

/// A value with its line ends kept: messages have some, and most writers escape them.
fn value(attribute: &quick_xml::events::attributes::Attribute<'_>) -> String {
    match attribute.normalized_value(XmlVersion::Implicit1_0) {
        Ok(text) => text.into_owned(),
        // A reference to nothing: better as it stands than not at all.
        Err(_) => attribute.value.clone().into_owned(),
    }
}
