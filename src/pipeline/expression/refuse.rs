//! What to write instead of an expression where none may stand.

use super::{Expression, Reference};

/// Why the expression `found` (braces included) cannot stand in `what`, and what to do instead.
pub fn refusal(found: &str, what: &str) -> (String, String) {
    let inner = found.trim_start_matches("${{").trim_end_matches("}}").trim();
    let shell = matches!(what, "\"run\"" | "\"start\"");
    if !shell {
        let message = format!("no expression can stand in {what}");
        return (message, "expressions are for `env` and `if`".to_owned());
    }
    let message = format!("no expression can stand in {what}: a value must not become code");
    if let Some(name) = inner.strip_prefix("secrets.") {
        return (message, format!("list it in the stage, `secrets: [{name}]`, and use \"${name}\""));
    }
    if what == "\"start\"" {
        return (
            message,
            "the service gets what differs as environment variables, from the fleet's `env`".to_owned(),
        );
    }
    let parsed = Expression::parse(inner);
    let only = parsed.as_ref().ok().and_then(|parsed| match parsed.references().as_slice() {
        [(reference, at)] if at.len() == inner.len() => Some((*reference).clone()),
        _ => None,
    });
    let variable = match &only {
        Some(Reference::Commit(field)) if field == "sha" => Some("WINDLASS_COMMIT"),
        Some(Reference::Commit(field)) if field == "branch" => Some("WINDLASS_BRANCH"),
        Some(Reference::Run(field)) if field == "version" => Some("WINDLASS_VERSION"),
        _ => None,
    };
    match variable {
        Some(variable) => (message, format!("use \"${variable}\" instead")),
        None => {
            let name = only.map_or_else(|| "VALUE".to_owned(), |reference| variable_for(&reference));
            (message, format!("give it to the stage, `env: {{ {name}: \"{found}\" }}`, and use \"${name}\""))
        }
    }
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
