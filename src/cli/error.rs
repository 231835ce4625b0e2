//! What a command says when it cannot do what it was asked: what kind of thing went wrong, what it
//! was, and what to type next.

use std::io;

use super::Exit;
use crate::app;
use crate::engine;
use crate::http::client;
use crate::journal;
use crate::pipeline::Problems;
use crate::pipeline::problem::Style;
use crate::run::command::Refusal;
use crate::source;
use crate::space::Trouble;
use crate::store;

/// Whose fault it is, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong input, or an invalid pipeline: exit code 2.
    Input,
    /// The world failed: exit code 3.
    World,
    /// Whoever read our output went away. That is their business: exit code 0, and silence.
    Pipe,
}

/// A command that could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// What to do about it, each a sentence or a command.
    pub hints: Vec<String>,
    /// All that is wrong with a file; said instead of the message.
    pub problems: Option<Box<Problems>>,
}

impl Error {
    fn new(kind: Kind, message: impl ToString) -> Self {
        Self { kind, message: message.to_string(), hints: Vec::new(), problems: None }
    }

    pub fn input(message: impl ToString) -> Self {
        Self::new(Kind::Input, message)
    }

    /// Where the disk is what failed, what to do about it is said besides.
    pub fn world(message: impl ToString) -> Self {
        let error = Self::new(Kind::World, message);
        match Trouble::told_by(&error.message) {
            Some(Trouble::Full) if !error.message.contains("free some") => {
                error.hint("free some space and try again; df -h says which disk is full")
            }
            Some(Trouble::ReadOnly) if !error.message.contains("--data") => {
                error.hint("mount it to be written, or name another directory with --data")
            }
            _ => error,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Input => Exit::Invalid,
            Kind::World => Exit::World,
            Kind::Pipe => Exit::Good,
        }
    }

    /// Says it on the standard error.
    pub fn print(&self) {
        use std::io::{IsTerminal as _, Write as _};
        if self.kind == Kind::Pipe {
            return;
        }
        // Where nobody reads the standard error either, there is nobody left to tell.
        let mut out = anstream::stderr().lock();
        let red = super::text::RED.bold();
        let _ = match &self.problems {
            Some(problems) => {
                let style = if io::stderr().is_terminal() { Style::Colour } else { Style::Plain };
                write!(out, "{}", problems.render(style))
            }
            None => writeln!(out, "{red}error{red:#}: {}", super::text::clean_lines(&self.message)),
        };
        let cyan = super::text::CYAN.bold();
        for hint in &self.hints {
            let _ = writeln!(out, "{cyan}hint{cyan:#}: {}", super::text::clean_lines(hint));
        }
    }
}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let message = format!("{} cannot be used", problems.file());
        Self { problems: Some(Box::new(problems)), ..Self::input(message) }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::Pipe, error),
            _ => Self::world(error),
        }
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Self {
        use engine::Error as Engine;
        match error {
            Engine::Journal(error) => error.into(),
            // Not because of what was asked.
            Engine::Refused(Refusal::Unwritable(_)) => Self::world(error),
            Engine::Settings(_)
            | Engine::Refused(_)
            | Engine::NoFleet(_)
            | Engine::NotNow(_)
            | Engine::Held { .. } => Self::input(error),
            Engine::Cloud(_) | Engine::Gone => Self::world(error),
        }
    }
}

impl From<journal::Error> for Error {
    fn from(error: journal::Error) -> Self {
        match error {
            journal::Error::NoRun(_) => Self::input(error),
            journal::Error::Store(_) | journal::Error::Illegal { .. } => Self::world(error),
        }
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        match error {
            client::Error::Problem(problem) => {
                let kind = if problem.is_request() { Kind::Input } else { Kind::World };
                let hints = problem.hint.into_iter().collect();
                Self { hints, ..Self::new(kind, problem.detail) }
            }
            error @ client::Error::Silent { .. } => {
                Self::world(error).hint("a process that was stopped goes on with: kill -CONT PID")
            }
            error => Self::world(error),
        }
    }
}

impl From<app::Error> for Error {
    fn from(error: app::Error) -> Self {
        Self::world(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::world(error)
    }
}

impl From<source::Error> for Error {
    fn from(error: source::Error) -> Self {
        use source::Error as Source;
        match error {
            Source::Git { .. } | Source::NoGit(_) | Source::Disk { .. } => Self::world(error),
            _ => Self::input(error),
        }
    }
}

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self::world(format!("{error:#}"))
    }
}
