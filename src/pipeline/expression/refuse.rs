//! What to write instead of an expression where none may stand.

use super::{Expression, Reference};

/// What is wrong with an expression in a place that takes none, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub help: String,
}

/// Why the expression `found` (braces included) cannot stand in `what`, and what to do instead.
pub fn refusal(found: &str, what: &str) -> Refusal {
    let inner = found.trim_start_matches("${{").trim_end_matches("}}").trim();
    match what {
        "\"run\"" => in_shell(inner),
        "\"start\"" => Refusal {
            message: "no expression can stand in \"start\": the image is the same in every environment"
                .to_owned(),
            help: "what differs comes as environment variables, from the fleet's `env` in the settings"
                .to_owned(),
        },
        _ => Refusal {
            message: format!("no expression can stand in {what}"),
            help: "expressions are for `env` and `if`".to_owned(),
        },
    }
}

fn in_shell(inner: &str) -> Refusal {
    let parsed = Expression::parse(inner).ok();
    let only = parsed.as_ref().and_then(|parsed| match parsed.references().as_slice() {
        [(reference, at)] if at.len() == inner.len() => Some((*reference).clone()),
        _ => None,
    });
    let given = match &only {
        Some(Reference::Commit(field)) if field == "sha" => Some("WINDLASS_COMMIT"),
        Some(Reference::Commit(field)) if field == "branch" => Some("WINDLASS_BRANCH"),
        Some(Reference::Run(field)) if field == "version" => Some("WINDLASS_VERSION"),
        _ => None,
    };
    let (variable, help) = match (given, inner.strip_prefix("secrets.")) {
        (Some(variable), _) => (variable.to_owned(), "every step has this variable".to_owned()),
        (None, Some(name)) => {
            (short(name).to_owned(), format!("list it in the stage, `secrets: [{}]`", short(name)))
        }
        (None, None) => {
            let name = only.as_ref().map_or_else(|| "VALUE".to_owned(), variable_for);
            let help = format!("give it to the stage: `env: {{ {name}: \"${{{{ {} }}}}\" }}`", short(inner));
            (name, help)
        }
    };
    Refusal {
        message: format!(
            "no expression can stand in \"run\", where a value would become code; use \"${variable}\""
        ),
        help,
    }
}

/// The start of a text that may be of any length.
fn short(text: &str) -> &str {
    text.char_indices().nth(80).and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// A good name for the variable that carries a value.
fn variable_for(reference: &Reference) -> String {
    let word = match reference {
        Reference::Run(field) => format!("run_{field}"),
        Reference::Commit(field) => format!("commit_{field}"),
        Reference::Environment(field) => format!("environment_{field}"),
        Reference::Param(name) => name.clone(),
        Reference::Output { output, .. } => output.clone(),
        Reference::Status { stage } => format!("{stage}_status"),
    };
    word.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
