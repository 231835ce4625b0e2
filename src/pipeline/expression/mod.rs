//! `${{ … }}`: parsed when the file is read, evaluated once for each attempt.
//!
//! The grammar is that of GitHub Actions. The values are texts, numbers, truth values and null; there
//! are no lists and no objects. Where GitHub's rules surprise people, these are plainer:
//!
//! - texts compare exactly: `Main` and `main` are two branches;
//! - false are `false`, `null`, `0`, the empty text and the text `false`; everything else is true;
//! - a text compared with a number is read as a number, one compared with a truth value as such.
//!
//! Secrets are never values here, and nothing an expression gives ever becomes code: it reaches a
//! step as an environment variable.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::ids::StageName;

mod evaluate;
mod parse;
mod refuse;
#[cfg(test)]
mod tests;

pub use parse::{ParseError, occurrences};
pub use refuse::{Refusal, refusal};

/// Longest expression, in bytes. It also bounds how deep one can nest.
pub const LENGTH_LIMIT: usize = 1_000;

/// Longest text that an expression or a template may give, in bytes: what Linux takes as one
/// environment variable (`MAX_ARG_STRLEN`, 128 KiB) less its name.
pub const VALUE_LIMIT: usize = 120 * 1024;

/// A condition, as behind `if`.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As it was written, without `${{ }}`.
    text: String,
    root: Node,
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text with expressions in it.
#[derive(Debug, Clone)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expression(Node),
}

#[derive(Debug, Clone)]
enum Node {
    Literal(Value),
    Reference(Reference, Range<usize>),
    Not(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Case,
    Always,
    Success,
    Failure,
}

/// What an expression reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// `run.number`, `run.version`, `run.trigger`
    Run(String),
    /// `commit.sha`, `commit.branch`, `commit.author`, `commit.message`
    Commit(String),
    /// `params.NAME`
    Param(String),
    /// `environment.name`, `environment.group`
    Environment(String),
    /// `stages.STAGE.outputs.NAME`
    Output { stage: String, output: String },
    /// `stages.STAGE.status`
    Status { stage: String },
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(field) => write!(f, "run.{field}"),
            Self::Commit(field) => write!(f, "commit.{field}"),
            Self::Param(name) => write!(f, "params.{name}"),
            Self::Environment(field) => write!(f, "environment.{field}"),
            Self::Output { stage, output } => write!(f, "stages.{stage}.outputs.{output}"),
            Self::Status { stage } => write!(f, "stages.{stage}.status"),
        }
    }
}

/// What expressions are evaluated on. Made for one attempt of one stage by whoever records its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// `number`, `version`, `trigger`.
    pub run: BTreeMap<String, String>,
    /// `sha`, `branch`, `author`, `message`; empty for a run without a commit.
    pub commit: BTreeMap<String, String>,
    /// Every param of the pipeline, defaults filled in.
    pub params: BTreeMap<String, String>,
    /// `name`, `group`; empty for a stage without an environment.
    pub environment: BTreeMap<String, String>,
    /// The ancestors of the stage.
    pub stages: BTreeMap<StageName, StageContext>,
    /// What `success()` says: every stage that is needed has succeeded.
    pub success: bool,
    /// What `failure()` says: an ancestor has failed.
    pub failure: bool,
}

/// An ancestor, as expressions see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StageContext {
    /// `succeeded`, `failed`, `skipped` or `cancelled`.
    pub status: String,
    /// Of its newest successful attempt; empty when there is none.
    pub outputs: BTreeMap<String, String>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A stage succeeded and did not hand on what is asked for.
    #[error(
        "the stage {stage} succeeded without the output {output:?}; a step writes {output}=VALUE to the file $WINDLASS_OUTPUT"
    )]
    MissingOutput { stage: String, output: String },
    /// The run has no such thing, as a run without a commit.
    #[error("this run has no {0}")]
    Missing(Reference),
    /// The text of `format` and its values do not fit together.
    #[error("format({0:?}, …): {1}")]
    Format(String, &'static str),
    #[error("the value has more than {VALUE_LIMIT} bytes")]
    TooLong,
}

impl Expression {
    /// Reads a condition, with or without `${{ }}` around it.
    pub fn parse(text: &str) -> Result<Self, Vec<ParseError>> {
        let bare = text.trim().trim_start_matches("${{").trim_end_matches("}}").trim().to_owned();
        parse::condition(text).map(|root| Self { text: bare, root })
    }

    /// What it reads, and where in its text.
    pub fn references(&self) -> Vec<(&Reference, Range<usize>)> {
        let mut found = Vec::new();
        self.root.references(&mut found);
        found
    }

    /// Whether it asks for a status itself (`always()`, `success()`, `failure()`).
    /// One that does not holds only where `success()` does.
    pub fn asks_status(&self) -> bool {
        self.root.asks_status()
    }

    /// Whether the stage runs. `success()` is meant too unless a status function is used.
    pub fn holds(&self, context: &Context) -> Result<bool, EvalError> {
        if !self.asks_status() && !context.success {
            return Ok(false);
        }
        Ok(self.root.evaluate(context)?.is_true())
    }
}

impl Template {
    /// Reads a text with `${{ … }}` in it.
    pub fn parse(text: &str) -> Result<Self, Vec<ParseError>> {
        parse::template(text).map(|parts| Self { parts })
    }

    /// What it reads, and where in its text.
    pub fn references(&self) -> Vec<(&Reference, Range<usize>)> {
        let mut found = Vec::new();
        for part in &self.parts {
            if let Part::Expression(node) = part {
                node.references(&mut found);
            }
        }
        found
    }

    /// The text with the values in place; at most [`VALUE_LIMIT`] bytes.
    pub fn evaluate(&self, context: &Context) -> Result<String, EvalError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expression(node) => out.push_str(&node.evaluate(context)?.into_text()),
            }
            if out.len() > VALUE_LIMIT {
                return Err(EvalError::TooLong);
            }
        }
        Ok(out)
    }
}

impl Node {
    fn references<'a>(&'a self, found: &mut Vec<(&'a Reference, Range<usize>)>) {
        match self {
            Self::Literal(_) => {}
            Self::Reference(reference, at) => found.push((reference, at.clone())),
            Self::Not(inner) => inner.references(found),
            Self::Binary(_, left, right) => {
                left.references(found);
                right.references(found);
            }
            Self::Call(_, arguments) => arguments.iter().for_each(|argument| argument.references(found)),
        }
    }

    fn asks_status(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Reference(..) => false,
            Self::Not(inner) => inner.asks_status(),
            Self::Binary(_, left, right) => left.asks_status() || right.asks_status(),
            Self::Call(function, arguments) => {
                function.is_status() || arguments.iter().any(Node::asks_status)
            }
        }
    }
}

impl Function {
    fn is_status(self) -> bool {
        matches!(self, Self::Always | Self::Success | Self::Failure)
    }
}
