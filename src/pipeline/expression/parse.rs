//! From text to expressions that name only what exists. The grammar is `github-actions-expressions`';
//! which contexts, fields and functions there are is decided here.

use std::ops::Range;

use github_actions_expressions::call::{self, Call};
use github_actions_expressions::context::Context as ContextPath;
use github_actions_expressions::literal::Literal;
use github_actions_expressions::op::{BinExpr, BinOp, UnOp};
use github_actions_expressions::{Error, Expr, SpannedExpr};

use super::{Function, LENGTH_LIMIT, Node, Operator, Part, Reference, Value};

const CONTEXTS: &[&str] = &["run", "commit", "params", "stages", "environment"];
const RUN: &[&str] = &["number", "version", "trigger"];
const COMMIT: &[&str] = &["sha", "branch", "author", "message"];
const ENVIRONMENT: &[&str] = &["name", "group"];
const STAGE: &[&str] = &["outputs", "status"];
const FUNCTIONS: &[&str] =
    &["contains", "startsWith", "endsWith", "format", "case", "always", "success", "failure"];

/// What is wrong with an expression, and where in the text that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    pub at: Range<usize>,
    pub message: String,
    /// A word that is none of those known here.
    pub unknown: Option<(String, &'static [&'static str])>,
    pub help: Option<String>,
}

impl ParseError {
    fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), unknown: None, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn unknown(mut self, word: &str, known: &'static [&'static str]) -> Self {
        self.unknown = Some((word.to_owned(), known));
        self
    }
}

/// What an expression may use beyond values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Condition,
    Value,
}

/// Where the `${{ … }}` of a text are, braces included. One without an end goes to the end.
pub fn occurrences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text.get(from..).and_then(|rest| rest.find("${{")).map(|at| from + at) {
        let end = closing(text, start + 3).map_or(text.len(), |end| end + 2);
        found.push(start..end);
        from = end;
    }
    found
}

/// Where the `}}` stands that ends an expression, past texts in quotes.
fn closing(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for at in from..bytes.len() {
        match bytes[at] {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
    }
    None
}

pub(super) fn template(text: &str) -> Result<Vec<Part>, Vec<ParseError>> {
    let mut parts = Vec::new();
    let mut errors = Vec::new();
    let mut from = 0;
    for found in occurrences(text) {
        let before = text.get(from..found.start).unwrap_or_default();
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        from = found.end;
        match wrapped(text, &found, Use::Value) {
            Ok(node) => parts.push(Part::Expression(node)),
            Err(more) => errors.extend(more),
        }
    }
    let rest = text.get(from..).unwrap_or_default();
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    match errors.is_empty() {
        true => Ok(parts),
        false => Err(errors),
    }
}

pub(super) fn condition(text: &str) -> Result<Node, Vec<ParseError>> {
    match occurrences(text).as_slice() {
        [] => expression(text, 0, Use::Condition),
        [only] if text.trim().len() == only.len() => wrapped(text, only, Use::Condition),
        [first, ..] => Err(vec![
            ParseError::new(first.clone(), "a condition is one expression")
                .help("leave `${{` and `}}` out, or put them around all of it"),
        ]),
    }
}

/// The expression between the braces at `found`.
fn wrapped(text: &str, found: &Range<usize>, usage: Use) -> Result<Node, Vec<ParseError>> {
    let inner = found.start + 3..found.end.saturating_sub(2);
    match text.get(inner.clone()) {
        Some(inside) if text.get(inner.end..found.end) == Some("}}") && found.len() >= 5 => {
            expression(inside, inner.start, usage)
        }
        _ => Err(vec![ParseError::new(found.start..found.start + 3, "`${{` without `}}`")]),
    }
}

/// Parses `text`, which starts at `base` of the text that errors are about.
fn expression(text: &str, base: usize, usage: Use) -> Result<Node, Vec<ParseError>> {
    if text.len() > LENGTH_LIMIT {
        let message = format!("an expression has at most {LENGTH_LIMIT} bytes, this one {}", text.len());
        return Err(vec![ParseError::new(base..base + text.len(), message)]);
    }
    let parsed = Expr::parse(text).map_err(|error| vec![shifted(syntax(text, error), base)])?;
    let mut reader = Reader { text, usage, errors: Vec::new() };
    let node = reader.node(&parsed);
    match (node, reader.errors.is_empty()) {
        (Some(mut node), true) => {
            shift(&mut node, base);
            Ok(node)
        }
        _ => Err(reader.errors.into_iter().map(|error| shifted(error, base)).collect()),
    }
}

fn shifted(mut error: ParseError, base: usize) -> ParseError {
    error.at = error.at.start + base..error.at.end + base;
    error
}

fn shift(node: &mut Node, base: usize) {
    match node {
        Node::Literal(_) => {}
        Node::Reference(_, at) => *at = at.start + base..at.end + base,
        Node::Not(inner) => shift(inner, base),
        Node::Binary(_, left, right) => {
            shift(left, base);
            shift(right, base);
        }
        Node::Call(_, arguments) => arguments.iter_mut().for_each(|argument| shift(argument, base)),
    }
}

/// The parser's error in our words.
fn syntax(text: &str, error: Error) -> ParseError {
    let whole = text.len() - text.trim_start().len()..text.trim_end().len().max(1);
    match error {
        Error::Syntax(_) if text.trim().is_empty() => ParseError::new(0..text.len(), "an empty expression"),
        Error::Syntax(error) => {
            let at = text.floor_char_boundary(error.offset);
            let end = text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |c| at + c.len_utf8());
            let problem = ParseError::new(at..end, format!("this is no expression: {}", error.message));
            match text.contains('"') {
                true => problem.help("texts are written in single quotes"),
                false => problem,
            }
        }
        Error::Depth => ParseError::new(whole, "the expression is nested too deeply"),
        Error::Call(call::Error::UnknownFunction(name)) => {
            let at = text.find(&name).unwrap_or(0);
            ParseError::new(at..at + name.len(), format!("unknown function \"{name}\""))
                .unknown(&name, FUNCTIONS)
                .help(format!("functions are {}", FUNCTIONS.join(", ")))
        }
        Error::Call(call::Error::Arity(function, expected)) => {
            let name = format!("{function:?}");
            let at = text.to_ascii_lowercase().find(&name.to_ascii_lowercase()).unwrap_or(0);
            let written = text.get(at..at + name.len()).unwrap_or(&name).to_owned();
            ParseError::new(at..at + name.len(), format!("{written}() takes {expected}"))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    usage: Use,
    errors: Vec<ParseError>,
}

impl Reader<'_> {
    fn node(&mut self, expr: &SpannedExpr<'_>) -> Option<Node> {
        let at = expr.origin.span.start..expr.origin.span.end;
        match &expr.inner {
            Expr::Literal(literal) => Some(Node::Literal(match literal {
                Literal::Number(number) => Value::Number(*number),
                Literal::String(text) => Value::Text(text.to_string()),
                Literal::Boolean(value) => Value::Bool(*value),
                Literal::Null => Value::Null,
            })),
            Expr::Call(call) => self.call(call, at),
            Expr::Context(path) => self.reference(path, at),
            Expr::BinExpr(BinExpr { lhs, op, rhs }) => {
                let left = self.node(lhs);
                let right = self.node(rhs);
                Some(Node::Binary(operator(op), Box::new(left?), Box::new(right?)))
            }
            Expr::UnExpr { op: UnOp::Not, expr } => Some(Node::Not(Box::new(self.node(expr)?))),
            Expr::Star | Expr::Identifier(_) | Expr::Index(_) => {
                self.errors.push(ParseError::new(at, "this cannot stand here"));
                None
            }
        }
    }

    fn call(&mut self, call: &Call<'_>, at: Range<usize>) -> Option<Node> {
        let end = self.text.get(at.clone()).and_then(|text| text.find('(')).unwrap_or(0);
        let name = at.start..at.start + end;
        let function = match call.func {
            call::Function::Contains => Function::Contains,
            call::Function::StartsWith => Function::StartsWith,
            call::Function::EndsWith => Function::EndsWith,
            call::Function::Format => Function::Format,
            call::Function::Case => Function::Case,
            call::Function::Always => Function::Always,
            call::Function::Success => Function::Success,
            call::Function::Failure => Function::Failure,
            // A run that was cancelled starts nothing more: there is nothing to ask.
            call::Function::Cancelled
            | call::Function::Join
            | call::Function::ToJSON
            | call::Function::FromJSON
            | call::Function::HashFiles => {
                let written = self.text.get(name.clone()).unwrap_or_default().trim_end();
                let error = ParseError::new(name, format!("{written}() is not supported"));
                self.errors.push(error.help(format!("functions are {}", FUNCTIONS.join(", "))));
                return None;
            }
        };
        if function.is_status() && self.usage == Use::Value {
            let written = self.text.get(name.clone()).unwrap_or_default();
            self.errors.push(ParseError::new(name, format!("{written}() has a meaning in `if` only")));
            return None;
        }
        if function == Function::Format && call.args.is_empty() {
            self.errors.push(ParseError::new(name, "format() takes at least 1 argument"));
            return None;
        }
        let arguments: Vec<Option<Node>> = call.args.iter().map(|argument| self.node(argument)).collect();
        Some(Node::Call(function, arguments.into_iter().collect::<Option<_>>()?))
    }

    fn reference(&mut self, path: &ContextPath<'_>, at: Range<usize>) -> Option<Node> {
        let mut words = Vec::new();
        for part in &path.parts {
            let place = part.origin.span.start..part.origin.span.end;
            match &part.inner {
                Expr::Identifier(name) => words.push((name.as_str().to_owned(), place)),
                Expr::Index(index) => match &index.inner {
                    Expr::Literal(Literal::String(name)) => words.push((name.to_string(), place)),
                    _ => {
                        self.errors
                            .push(ParseError::new(place, "in brackets stands a name in single quotes"));
                        return None;
                    }
                },
                Expr::Star => {
                    self.errors.push(ParseError::new(place, "`*` is not supported; name one value"));
                    return None;
                }
                _ => {
                    self.errors.push(ParseError::new(place, "only a context has fields"));
                    return None;
                }
            }
        }
        match resolve(&words, at.clone()) {
            Ok(reference) => Some(Node::Reference(reference, at)),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

/// The reference that a path such as `commit.sha` is.
fn resolve(words: &[(String, Range<usize>)], at: Range<usize>) -> Result<Reference, ParseError> {
    let Some(((context, place), fields)) = words.split_first() else {
        return Err(ParseError::new(at, "this cannot stand here"));
    };
    match (context.as_str(), fields) {
        ("run", [field]) => known("run", field, RUN).map(Reference::Run),
        ("commit", [field]) => known("commit", field, COMMIT).map(Reference::Commit),
        ("environment", [field]) => known("environment", field, ENVIRONMENT).map(Reference::Environment),
        ("params", [(name, _)]) => Ok(Reference::Param(name.clone())),
        ("stages", [(stage, _), (outputs, _), (output, _)]) if outputs == "outputs" => {
            Ok(Reference::Output { stage: stage.clone(), output: output.clone() })
        }
        ("stages", [(stage, _), (status, _)]) if status == "status" => {
            Ok(Reference::Status { stage: stage.clone() })
        }
        ("stages", [(stage, _), (field, place), ..]) if !STAGE.contains(&field.as_str()) => {
            let message = format!("unknown field \"{field}\" in stages.{stage}");
            Err(ParseError::new(place.clone(), message).unknown(field, STAGE).help(shape("stages")))
        }
        (context, _) if CONTEXTS.contains(&context) => {
            Err(ParseError::new(at, format!("`{context}` is not used like that")).help(shape(context)))
        }
        ("secrets", _) => {
            let name = fields.first().map_or("NAME", |(name, _)| name.as_str());
            Err(ParseError::new(at, "secrets are never values of expressions")
                .help(format!("list it in the stage, `secrets: [{name}]`, and its steps have it as ${name}")))
        }
        (context, _) => {
            let error = ParseError::new(place.clone(), format!("unknown context \"{context}\""))
                .unknown(context, CONTEXTS);
            Err(match context {
                "github" => error.help(
                    "here it is `commit` (sha, branch, author, message) and `run` (number, version, trigger)",
                ),
                "inputs" | "vars" | "parameters" => error.help("here it is `params`"),
                "needs" | "jobs" | "steps" => error.help("here it is `stages.STAGE.outputs.NAME`"),
                _ => error.help(format!("contexts are {}", CONTEXTS.join(", "))),
            })
        }
    }
}

fn known(
    context: &str,
    (field, place): &(String, Range<usize>),
    fields: &'static [&'static str],
) -> Result<String, ParseError> {
    match fields.contains(&field.as_str()) {
        true => Ok(field.clone()),
        false => Err(ParseError::new(place.clone(), format!("unknown field \"{field}\" in {context}"))
            .unknown(field, fields)
            .help(shape(context))),
    }
}

/// How a context is used.
fn shape(context: &str) -> String {
    match context {
        "run" => format!("run has {}", RUN.join(", ")),
        "commit" => format!("commit has {}", COMMIT.join(", ")),
        "environment" => format!("environment has {}", ENVIRONMENT.join(", ")),
        "params" => "a param is written params.NAME".to_owned(),
        _ => "an output is written stages.STAGE.outputs.NAME; a status stages.STAGE.status".to_owned(),
    }
}

fn operator(op: &BinOp) -> Operator {
    match op {
        BinOp::And => Operator::And,
        BinOp::Or => Operator::Or,
        BinOp::Eq => Operator::Equal,
        BinOp::Neq => Operator::Unequal,
        BinOp::Gt => Operator::Greater,
        BinOp::Ge => Operator::GreaterOrEqual,
        BinOp::Lt => Operator::Less,
        BinOp::Le => Operator::LessOrEqual,
    }
}
