//! JUnit's XML, in the dialects that test runners write. There is no standard; what they share is
//! `testcase` elements below `testsuite` elements, and what stands in a case: `failure` or `error` when it
//! went wrong, `skipped` when it did not run. A case with a `flakyFailure` passed in the end; a
//! `rerunFailure` stands beside the `failure` of a case that never did.

use std::rc::Rc;

use super::xml::{Document, DocumentType, Element, Piece};
use super::{Error, FAILURES_KEPT, MESSAGE_KEPT, SLOWEST_KEPT, place, text};
use crate::run::report::{SlowTest, TestFailure, Tests};

/// Of a failure's text that is kept while a file is read, in bytes: places are looked for in it.
const CAPTURED: usize = 32 * 1024;
/// Of the name of a suite or a case, in characters.
const NAME_KEPT: usize = 300;
/// Messages that say nothing which the text below them does not say better.
const EMPTY_WORDS: [&str; 5] = ["failed", "failure", "test failed", "error", "test failure"];

/// The cases of all files that were read so far.
#[derive(Debug, Default)]
pub struct Cases {
    tests: Tests,
}

/// What an element means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Suite,
    Case,
    Failure,
    Error,
    Skipped,
    Other,
}

/// A case under way.
#[derive(Debug, Default)]
struct Case {
    /// Most often its suite's name, which may be long where cases are many.
    class: Rc<str>,
    name: String,
    file: Option<String>,
    line: Option<u32>,
    milliseconds: u64,
    failed: bool,
    broke: bool,
    skipped: bool,
    /// Of its first failure or error.
    message: Option<String>,
    text: String,
}

impl Cases {
    /// Takes in a file. `root` is the directory that places below it are told relative to.
    pub fn read(&mut self, bytes: &[u8], root: &str) -> Result<(), Error> {
        let text = Document::decode(bytes)?;
        let mut reading = Reading {
            tests: Tests::default(),
            slowest: Vec::new(),
            open: Vec::new(),
            suites: Vec::new(),
            case: None,
            root,
        };
        reading.document(Document::new(&text, DocumentType::Refused))?;
        self.merge(reading.tests, reading.slowest);
        Ok(())
    }

    fn merge(&mut self, other: Tests, slowest: Vec<Slow>) {
        let tests = &mut self.tests;
        tests.files = tests.files.saturating_add(1);
        tests.passed = tests.passed.saturating_add(other.passed);
        tests.failed = tests.failed.saturating_add(other.failed);
        tests.errors = tests.errors.saturating_add(other.errors);
        tests.skipped = tests.skipped.saturating_add(other.skipped);
        tests.milliseconds = tests.milliseconds.saturating_add(other.milliseconds);
        let room = FAILURES_KEPT.saturating_sub(tests.failures.len());
        tests.failures.extend(other.failures.into_iter().take(room));
        for Slow { suite, name, milliseconds } in slowest {
            let slow = SlowTest { suite: suite.to_string(), name, milliseconds };
            keep_slowest(&mut tests.slowest, slow, |slow| slow.milliseconds);
        }
    }

    /// The sums and what is kept. Every text of a report passes through `redact` before it is cut.
    pub fn finish(self, mut redact: impl FnMut(&str) -> String) -> Tests {
        let mut tests = self.tests;
        let mut shorten = |kept: &mut String, limit| *kept = text::cut(&redact(kept), limit);
        for failure in &mut tests.failures {
            shorten(&mut failure.suite, NAME_KEPT);
            shorten(&mut failure.name, NAME_KEPT);
            shorten(&mut failure.message, MESSAGE_KEPT);
            failure.place.iter_mut().for_each(|place| shorten(place, NAME_KEPT));
        }
        for slow in &mut tests.slowest {
            shorten(&mut slow.suite, NAME_KEPT);
            shorten(&mut slow.name, NAME_KEPT);
        }
        tests
    }
}

fn keep_slowest<T>(kept: &mut Vec<T>, slow: T, took: fn(&T) -> u64) {
    let at = kept.partition_point(|other| took(other) >= took(&slow));
    if at < SLOWEST_KEPT {
        kept.insert(at, slow);
        kept.truncate(SLOWEST_KEPT);
    }
}

/// One of the slowest cases of a file under way.
struct Slow {
    suite: Rc<str>,
    name: String,
    milliseconds: u64,
}

/// A file under way.
struct Reading<'r> {
    /// Without the slowest, which are beside.
    tests: Tests,
    slowest: Vec<Slow>,
    open: Vec<Kind>,
    /// The names of the suites around.
    suites: Vec<Rc<str>>,
    case: Option<Case>,
    root: &'r str,
}

impl Reading<'_> {
    fn document(&mut self, mut document: Document<'_>) -> Result<(), Error> {
        loop {
            match document.next()? {
                Piece::Open(element) => self.enter(&element).map_err(|why| match why {
                    Refused::Nested => document.malformed("a testcase inside a testcase"),
                    Refused::Root(found) => {
                        Error::Root { format: "JUnit XML", found, expected: "<testsuites> or <testsuite>" }
                    }
                })?,
                Piece::Text(more) => self.text(&more),
                Piece::Close => self.leave(),
                Piece::End => return Ok(()),
            }
        }
    }

    fn enter(&mut self, element: &Element<'_>) -> Result<(), Refused> {
        let inside = self.open.last().copied();
        let kind = match (element.name(), inside) {
            ("testsuites" | "testsuite", None | Some(Kind::Suite)) => Kind::Suite,
            (found, None) => return Err(Refused::Root(text::cut(&text::line(found), 60))),
            ("testcase", _) if self.case.is_some() => return Err(Refused::Nested),
            ("testcase", _) => Kind::Case,
            ("failure", Some(Kind::Case | Kind::Suite)) => Kind::Failure,
            ("error", Some(Kind::Case | Kind::Suite)) => Kind::Error,
            ("skipped", Some(Kind::Case)) => Kind::Skipped,
            _ => Kind::Other,
        };
        self.open.push(kind);
        match kind {
            Kind::Suite => {
                let [name] = element.attributes(["name"]);
                self.suites.push(text::line(&name.unwrap_or_default()).into());
            }
            Kind::Case => self.case = Some(Case::of(element, self.suites.last())),
            Kind::Failure | Kind::Error => self.problem(kind, element),
            Kind::Skipped => self.case.iter_mut().for_each(|case| case.skipped = true),
            Kind::Other => {}
        }
        Ok(())
    }

    /// A failure of the case at hand, or of a suite that broke outside its cases.
    fn problem(&mut self, kind: Kind, element: &Element<'_>) {
        let suite = self.suites.last();
        let case = self.case.get_or_insert_with(|| Case {
            class: suite.cloned().unwrap_or_default(),
            name: "(outside its test cases)".to_owned(),
            ..Case::default()
        });
        match kind {
            Kind::Failure => case.failed = true,
            _ => case.broke = true,
        }
        let [message, kind, file, line] = element.attributes(["message", "type", "file", "line"]);
        if case.message.is_none() {
            let message = message.filter(|message| !message.trim().is_empty());
            case.message = Some(message.or(kind).unwrap_or_default());
        }
        if let (Some(file), Some(line)) = (file, line.and_then(|line| line.parse().ok())) {
            (case.file, case.line) = (Some(file), Some(line));
        }
    }

    fn text(&mut self, more: &str) {
        let Some(Kind::Failure | Kind::Error) = self.open.last() else { return };
        let Some(case) = &mut self.case else { return };
        let room = CAPTURED.saturating_sub(case.text.len()).min(more.len());
        case.text.push_str(&more[..more.floor_char_boundary(room)]);
    }

    fn leave(&mut self) {
        let kind = self.open.pop();
        match kind {
            Some(Kind::Suite) => drop(self.suites.pop()),
            Some(Kind::Case) => self.end_case(),
            // Of a suite, not of a case.
            Some(Kind::Failure | Kind::Error) if self.open.last() == Some(&Kind::Suite) => self.end_case(),
            _ => {}
        }
    }

    fn end_case(&mut self) {
        let Some(case) = self.case.take() else { return };
        let tests = &mut self.tests;
        let count = match (case.failed, case.broke, case.skipped) {
            (true, _, _) => &mut tests.failed,
            (_, true, _) => &mut tests.errors,
            (_, _, true) => &mut tests.skipped,
            _ => &mut tests.passed,
        };
        *count = count.saturating_add(1);
        tests.milliseconds = tests.milliseconds.saturating_add(case.milliseconds);
        if case.milliseconds > 0 {
            let (suite, name) = (case.class.clone(), case.name.clone());
            let slow = Slow { suite, name, milliseconds: case.milliseconds };
            keep_slowest(&mut self.slowest, slow, |slow| slow.milliseconds);
        }
        if (case.failed || case.broke) && tests.failures.len() < FAILURES_KEPT {
            tests.failures.push(case.failure(self.root));
        }
    }
}

/// An element that cannot stand where it does.
enum Refused {
    Nested,
    Root(String),
}

impl Case {
    fn of(element: &Element<'_>, suite: Option<&Rc<str>>) -> Self {
        let [name, class, file, line, time, status] =
            element.attributes(["name", "classname", "file", "line", "time", "status"]);
        let class = class.map(|class| text::line(&class)).filter(|class| !class.is_empty());
        // GoogleTest lists disabled tests so, and CTest as well.
        let idle = ["notrun", "disabled"];
        Self {
            class: class.map(Rc::from).or_else(|| suite.cloned()).unwrap_or_default(),
            name: text::line(&name.unwrap_or_default()),
            file,
            line: line.and_then(|line| line.parse().ok()),
            milliseconds: time.map_or(0, |time| milliseconds(&time)),
            skipped: status.is_some_and(|status| idle.contains(&status.as_str())),
            ..Self::default()
        }
    }

    fn failure(self, root: &str) -> TestFailure {
        let body = text::lines(&self.text);
        let message = text::lines(&self.message.unwrap_or_default());
        let (message, body) = (message.trim(), body.trim());
        let place = {
            let told = self.file.as_deref().map(|file| (file, self.line));
            let hints = [&*self.class, self.name.as_str(), self.file.as_deref().unwrap_or_default()];
            let found = || place::find(body, &hints, root).or_else(|| place::find(message, &hints, root));
            match told {
                // The case's own line is where the test begins; its text knows where it failed.
                Some((file, line)) => found()
                    .filter(|place| same_file(place, file))
                    .or_else(|| line.map(|line| place::at(file, line, root))),
                None => found(),
            }
        };
        let empty = EMPTY_WORDS.contains(&message.to_lowercase().as_str());
        let message = match (message, body) {
            (message, "") => message.to_owned(),
            (message, body) if empty || message.is_empty() || body.starts_with(message) => body.to_owned(),
            (message, body) => format!("{message}\n{body}"),
        };
        TestFailure {
            suite: self.class.to_string(),
            name: self.name,
            message,
            place: place.map(|place| text::line(&place)),
        }
    }
}

/// Whether a place lies in a file, either of them told from the root or from further inside.
fn same_file(place: &str, file: &str) -> bool {
    let path = place.rsplit_once(':').map_or(place, |(path, _)| path);
    path.ends_with(file) || file.ends_with(path)
}

/// Seconds, as runners write them; some have a comma between the thousands.
fn milliseconds(text: &str) -> u64 {
    let seconds: f64 = text.trim().replace(',', "").parse().unwrap_or(0.0);
    match seconds.is_finite() {
        true => (seconds * 1e3).round().clamp(0.0, 1e12) as u64,
        false => 0,
    }
}
