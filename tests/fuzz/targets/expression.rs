//! Expressions: every error lies in the text, every value is bounded, and a text without any is itself.

use std::collections::BTreeMap;

use windlass::pipeline::expression::{
    Context, Expression, ParseError, StageContext, Template, VALUE_LIMIT, occurrences,
};

use super::text;

pub const WORDS: &[&str] = &[
    "${{",
    "}}",
    "(",
    ")",
    "((((((((",
    "!!!!!!!!",
    "[",
    "]",
    "'",
    "''",
    "&&",
    "||",
    "==",
    "!=",
    "<=",
    ">",
    "!",
    ",",
    ".",
    "*",
    "format(",
    "contains(",
    "case(",
    "startsWith(",
    "always()",
    "failure()",
    "success()",
    "run.number",
    "run.trigger",
    "commit.message",
    "params.flavour",
    "params['flavour']",
    "stages.build.outputs.image",
    "stages.build.status",
    "environment.name",
    "'{0}{0}{0}{0}'",
    "'{{'",
    "{99999999999999999999}",
    "0x1F",
    "1e308",
    "-0",
    "NaN",
    "null",
    "true",
    "github.sha",
    "toJSON(",
    "hashFiles(",
    "ä",
];

pub fn target(data: &[u8]) {
    let text = text(data);
    for found in occurrences(text) {
        assert!(text.get(found.clone()).is_some_and(|found| found.starts_with("${{")), "{found:?}");
    }
    let context = context();
    match Template::parse(text) {
        Err(errors) => inside(text, &errors),
        Ok(template) => {
            for (_, at) in template.references() {
                assert!(text.get(at.clone()).is_some(), "{at:?} lies in no text");
            }
            let value = template.evaluate(&context);
            assert_eq!(value, template.evaluate(&context));
            if let Ok(value) = value {
                assert!(value.len() <= VALUE_LIMIT, "{} bytes", value.len());
                if occurrences(text).is_empty() {
                    assert_eq!(value, text);
                }
            }
        }
    }
    match Expression::parse(text) {
        Err(errors) => inside(text, &errors),
        Ok(expression) => {
            for (_, at) in expression.references() {
                assert!(text.get(at.clone()).is_some(), "{at:?} lies in no text");
            }
            let holds = expression.holds(&context);
            assert_eq!(holds, expression.holds(&context));
            if !expression.asks_status() {
                let unlucky = Context { success: false, ..context };
                assert_eq!(expression.holds(&unlucky), Ok(false), "success() is meant");
            }
        }
    }
}

fn inside(text: &str, errors: &[ParseError]) {
    assert!(!errors.is_empty(), "refused, and nothing is wrong");
    for error in errors {
        assert!(text.get(error.at.clone()).is_some(), "{error:?} lies in no text");
    }
}

fn context() -> Context {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let build = StageContext {
        status: "succeeded".to_owned(),
        outputs: map(&[("image", "img-1"), ("big", &"x".repeat(60_000))]),
    };
    Context {
        run: map(&[("number", "42"), ("version", "42-9f3c2a1b"), ("trigger", "push")]),
        commit: map(&[
            ("sha", "9f3c2a1b"),
            ("branch", "main"),
            ("author", "Ada <ada@example.com>"),
            ("message", "}} ${{ run.number }}"),
        ]),
        params: map(&[("flavour", "{0} '{1}'"), ("empty", "")]),
        environment: map(&[("name", "production"), ("group", "production")]),
        stages: [("build".parse().unwrap(), build)].into(),
        success: true,
        failure: false,
    }
}
