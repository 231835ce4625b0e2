//! What is wrong with a file, for people and for editors: every problem at once, each with its place.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// So many problems of one file are kept; what comes after is only counted. A person reads fewer,
/// and a file of noise must not cost memory and time.
const KEPT: usize = 1_000;

/// Comparisons that finding "did you mean" may cost in one file.
const COMPARISONS: usize = 20_000;

/// Longest piece of a source line that is drawn, in bytes.
const DRAWN: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not do what its author wants.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What probably was meant, to be put in place of `span`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// What to do about it, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Bytes of the file.
    pub span: Range<usize>,
    /// The edit that it is about, `bake.with.start`; line, column and span are then those of the edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<String>,
    /// Which of the texts that were read.
    #[serde(skip)]
    text: usize,
}

impl Problem {
    /// Adds what to do about it.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// The message with what probably was meant: `unknown stage "biuld"; did you mean "build"?`
    pub fn sentence(&self) -> String {
        match &self.suggestion {
            Some(word) => format!("{}; did you mean \"{word}\"?", self.message),
            None => self.message.clone(),
        }
    }
}

/// A text that was read.
#[derive(Debug, Clone)]
struct Text {
    text: Arc<str>,
    /// Where it starts in the row of all texts.
    start: usize,
    /// Where each line starts in it.
    lines: Vec<usize>,
    /// What the text is, unless it is the file.
    edit: Option<String>,
}

impl Text {
    fn new(text: &str, start: usize, edit: Option<&str>) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text: text.into(), start, lines, edit: edit.map(str::to_owned) }
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).max(1)
    }

    /// Line and column of a byte, both from 1, the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.line(at);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}

/// All that is wrong with one file and the edits that are read with it, in their order.
///
/// A place is a byte in the row of all texts: the file, and after it each edit. What is kept is the
/// place in the one text.
#[derive(Debug, Clone)]
pub struct Problems {
    file: String,
    /// The file first.
    texts: Vec<Text>,
    list: Vec<Problem>,
    /// How many more there were than are kept.
    more: usize,
    /// The last one that was not kept.
    scratch: Option<Box<Problem>>,
    comparisons: usize,
}

impl Problems {
    /// No problems yet with `file`, whose content is `text`.
    pub fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            texts: vec![Text::new(text, 0, None)],
            list: Vec::new(),
            more: 0,
            scratch: None,
            comparisons: COMPARISONS,
        }
    }

    /// Adds an edit that is read with the file. Answers where its text starts: one byte behind the text
    /// before it.
    pub(super) fn attach(&mut self, edit: &str, text: &str) -> usize {
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.texts.push(Text::new(text, start, Some(edit)));
        start
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }

    /// Whether the file cannot be used.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Records an error at these bytes of the file.
    pub fn error(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Error, at, message.into())
    }

    /// Records a warning at these bytes of the file.
    pub fn warning(&mut self, at: Range<usize>, message: impl Into<String>) -> &mut Problem {
        self.add(Severity::Warning, at, message.into())
    }

    /// Records an error about a word that is none of `known`, with the one that probably was meant.
    pub fn unknown<'a>(
        &mut self,
        at: Range<usize>,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> &mut Problem {
        let suggestion = self.nearest(word, known);
        let problem = self.error(at, message);
        problem.suggestion = suggestion;
        problem
    }

    fn add(&mut self, severity: Severity, at: Range<usize>, message: String) -> &mut Problem {
        let mut problem = Problem {
            severity,
            message,
            suggestion: None,
            help: None,
            line: 0,
            column: 0,
            span: 0..0,
            edit: None,
            text: 0,
        };
        if self.list.len() >= KEPT {
            self.more += 1;
            // Somebody may still want to add a help to it.
            return self.scratch.insert(Box::new(problem));
        }
        let (number, text) = self.text_of(at.start);
        // The nearest place at or before it where a character starts.
        let start = text.text.floor_char_boundary(at.start - text.start);
        let end = text.text.floor_char_boundary(at.end.saturating_sub(text.start)).max(start);
        problem.span = start..end;
        (problem.line, problem.column) = text.position(start);
        problem.edit = text.edit.clone();
        problem.text = number;
        let place = self.list.len();
        self.list.push(problem);
        &mut self.list[place]
    }

    /// The word of `known` that is nearest to `word`, if one is near. Stops looking when a file full
    /// of noise has cost enough.
    fn nearest<'a>(&mut self, word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
        let length = word.chars().take(100).count();
        let allowed = 1 + length / 4;
        let mut best: Option<(usize, &str)> = None;
        for candidate in known {
            if self.comparisons == 0 || length > 64 || self.list.len() >= KEPT {
                return None;
            }
            if candidate.len().abs_diff(word.len()) > allowed + 2 || candidate == word {
                continue;
            }
            self.comparisons -= 1;
            let lower = (word.to_ascii_lowercase(), candidate.to_ascii_lowercase());
            let distance = strsim::damerau_levenshtein(&lower.0, &lower.1);
            if distance <= allowed && distance < length && best.is_none_or(|(least, _)| distance < least) {
                best = Some((distance, candidate));
            }
        }
        best.map(|(_, candidate)| candidate.to_owned())
    }

    /// The text that a place is in.
    fn text_of(&self, at: usize) -> (usize, &Text) {
        let place = self.texts.partition_point(|text| text.start <= at).saturating_sub(1);
        (place, &self.texts[place])
    }

    /// The line of a byte, from 1.
    pub fn line(&self, at: usize) -> usize {
        let (_, text) = self.text_of(at);
        text.line(at - text.start)
    }

    /// Puts them in the order of the file and says each once.
    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by(|a, b| {
            let key = |problem: &Problem| (problem.text, problem.span.start, problem.severity as u8);
            key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
        });
        self.list.dedup_by(|a, b| (a.text, a.span.start) == (b.text, b.span.start) && a.message == b.message);
        self
    }

    /// Every problem as `file:line:column: error: message`, followed by the source line with a caret.
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colour => Renderer::styled(),
        };
        let mut out = String::new();
        for problem in &self.list {
            self.render_one(&mut out, problem, &renderer, style);
        }
        if self.more > 0 {
            let _ = writeln!(out, "{}: and {} more problems", self.file, self.more);
        }
        out
    }

    fn render_one(&self, out: &mut String, problem: &Problem, renderer: &Renderer, style: Style) {
        let level = match (problem.severity, style) {
            (severity, Style::Plain) => severity.word().to_owned(),
            (Severity::Error, Style::Colour) => "\x1b[1;31merror\x1b[0m".to_owned(),
            (Severity::Warning, Style::Colour) => "\x1b[1;33mwarning\x1b[0m".to_owned(),
        };
        let place = match &problem.edit {
            Some(edit) => format!("the edit of {}", printable(edit)),
            None => format!("{}:{}:{}", self.file, problem.line, problem.column),
        };
        let _ = writeln!(out, "{place}: {level}: {}", printable(&problem.sentence()));
        // Of a file without text there is nothing to draw.
        let Some(text) = self.texts.get(problem.text).filter(|text| !text.text.is_empty()) else {
            if let Some(help) = &problem.help {
                let _ = writeln!(out, "  = help: {}", printable(help));
            }
            return;
        };
        let (source, span) = drawn(text, problem);
        let primary = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let snippet = Snippet::source(source)
            .line_start(problem.line)
            .fold(false)
            .annotation(AnnotationKind::Primary.span(span));
        let mut group = Group::with_level(primary).element(snippet);
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        let _ = writeln!(out, "{}\n", renderer.render(&[group]));
    }
}

/// The part of the first line of a problem that is drawn, and the span within it. Only this is given to
/// the renderer, so that the cost does not grow with the file.
fn drawn(text: &Text, problem: &Problem) -> (String, Range<usize>) {
    let start = text.lines.get(problem.line - 1).copied().unwrap_or(0);
    let next = text.lines.get(problem.line).copied().unwrap_or(text.text.len());
    let line = text.text.get(start..next).unwrap_or_default().trim_end_matches(['\n', '\r']);
    let from = (problem.span.start - start).min(line.len());
    let to = (problem.span.end - start).clamp(from, line.len());
    let cut = line.floor_char_boundary(from.saturating_sub(DRAWN / 2));
    let end = line.floor_char_boundary(cut + DRAWN).max(from);
    (printable(&line[cut..end]), from - cut..to.min(end) - cut)
}

/// How problems are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Colour,
}

/// Text from a file with nothing in it that moves a terminal's cursor. Keeps the length in bytes.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let shown = if c.is_control() { ' ' } else { c };
            std::iter::repeat_n(shown, if c.is_control() { c.len_utf8() } else { 1 })
        })
        .collect()
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Problems {}

impl Serialize for Problems {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.list.serialize(serializer)
    }
}
