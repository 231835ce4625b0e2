//! From an expression and its context to a value. Total: every expression that was read has a value
//! or an error, and ends.

use std::cmp::Ordering;

use super::{Context, EvalError, Function, Node, Operator, Reference, VALUE_LIMIT, Value};

impl Node {
    pub(super) fn evaluate(&self, context: &Context) -> Result<Value, EvalError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Reference(reference, _) => reference.evaluate(context),
            Self::Not(inner) => Ok(Value::Bool(!inner.evaluate(context)?.is_true())),
            Self::Binary(operator, left, right) => operator.apply(left, right, context),
            Self::Call(function, arguments) => function.call(arguments, context),
        }
    }
}

impl Reference {
    fn evaluate(&self, context: &Context) -> Result<Value, EvalError> {
        let found = match self {
            Self::Run(field) => context.run.get(field),
            Self::Commit(field) => context.commit.get(field),
            Self::Param(name) => context.params.get(name),
            Self::Environment(field) => context.environment.get(field),
            Self::Status { stage } => context.stages.get(stage.as_str()).map(|stage| &stage.status),
            Self::Output { stage, output } => return output_of(context, stage, output),
        };
        let text = found.ok_or_else(|| EvalError::Missing(self.clone()))?;
        Ok(match self {
            // The one number there is: as a text, 9 would come after 10.
            Self::Run(field) if field == "number" => {
                number(text).map_or(Value::Text(text.clone()), Value::Number)
            }
            _ => Value::Text(text.clone()),
        })
    }
}

/// The output of an ancestor. One that did not succeed has none, which is null, so that a stage that
/// runs `always()` can look.
fn output_of(context: &Context, stage: &str, output: &str) -> Result<Value, EvalError> {
    let Some(ancestor) = context.stages.get(stage) else {
        return Ok(Value::Null);
    };
    match ancestor.outputs.get(output) {
        Some(text) => Ok(Value::Text(text.clone())),
        None if ancestor.status == "succeeded" => {
            Err(EvalError::MissingOutput { stage: stage.to_owned(), output: output.to_owned() })
        }
        None => Ok(Value::Null),
    }
}

impl Operator {
    fn apply(self, left: &Node, right: &Node, context: &Context) -> Result<Value, EvalError> {
        let left = left.evaluate(context)?;
        // `a && b` and `a || b` give one of the two, so that `a && b || c` chooses.
        match self {
            Self::And if !left.is_true() => return Ok(left),
            Self::Or if left.is_true() => return Ok(left),
            Self::And | Self::Or => return right.evaluate(context),
            _ => {}
        }
        let right = right.evaluate(context)?;
        let order = left.compare(&right);
        Ok(Value::Bool(match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Self::And | Self::Or => false,
        }))
    }
}

impl Function {
    fn call(self, arguments: &[Node], context: &Context) -> Result<Value, EvalError> {
        match self {
            Self::Always => return Ok(Value::Bool(true)),
            Self::Success => return Ok(Value::Bool(context.success)),
            Self::Failure => return Ok(Value::Bool(context.failure)),
            Self::Case => return case(arguments, context),
            _ => {}
        }
        let mut texts = Vec::with_capacity(arguments.len());
        for argument in arguments {
            texts.push(argument.evaluate(context)?.into_text());
        }
        match (self, texts.as_slice()) {
            (Self::Contains, [text, part]) => Ok(Value::Bool(text.contains(part.as_str()))),
            (Self::StartsWith, [text, part]) => Ok(Value::Bool(text.starts_with(part.as_str()))),
            (Self::EndsWith, [text, part]) => Ok(Value::Bool(text.ends_with(part.as_str()))),
            (Self::Format, [pattern, values @ ..]) => format(pattern, values).map(Value::Text),
            // The number of arguments was checked on reading.
            _ => Ok(Value::Null),
        }
    }
}

/// `case(condition, value, condition, value, …, otherwise)`
fn case(arguments: &[Node], context: &Context) -> Result<Value, EvalError> {
    let mut rest = arguments;
    while let [condition, value, more @ ..] = rest {
        if condition.evaluate(context)?.is_true() {
            return value.evaluate(context);
        }
        rest = more;
    }
    match rest {
        [otherwise, ..] => otherwise.evaluate(context),
        [] => Ok(Value::Null),
    }
}

/// `{0}` is the first value, `{{` and `}}` are braces.
fn format(pattern: &str, values: &[String]) -> Result<String, EvalError> {
    let wrong = |why| EvalError::Format(pattern.to_owned(), why);
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        out.push_str(before);
        rest = if let Some(more) = brace.strip_prefix("{{") {
            out.push('{');
            more
        } else if let Some(more) = brace.strip_prefix("}}") {
            out.push('}');
            more
        } else if let Some((place, more)) = brace.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let place: usize =
                place.parse().map_err(|_| wrong("a place is written {0}; a brace {{ or }}"))?;
            out.push_str(values.get(place).ok_or_else(|| wrong("there are fewer values than places"))?);
            more
        } else {
            return Err(wrong("a brace is written {{ or }}"));
        };
        // Nested calls can double a text at every level.
        if out.len() > VALUE_LIMIT {
            return Err(EvalError::TooLong);
        }
    }
    out.push_str(rest);
    match out.len() > VALUE_LIMIT {
        true => Err(EvalError::TooLong),
        false => Ok(out),
    }
}

impl Value {
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty() && text != "false",
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }

    fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(text), Self::Bool(value)) => truth(text).map(|text| text.cmp(value)),
            (Self::Bool(value), Self::Text(text)) => truth(text).map(|text| value.cmp(&text)),
            (Self::Null, Self::Text(text)) => Some("".cmp(text.as_str())),
            (Self::Text(text), Self::Null) => Some(text.as_str().cmp("")),
            (a, b) => a.as_number().partial_cmp(&b.as_number()),
        }
    }

    fn as_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(number) => *number,
            Self::Text(text) => number(text).unwrap_or(f64::NAN),
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}
