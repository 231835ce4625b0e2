//! The pipeline reader, with and without edits: either a model or what is wrong, each problem at a place of
//! the text; what is accepted is acyclic, within the limits, and accepted by the schema too.

use std::sync::LazyLock;

use windlass::pipeline::graph::Graph;
use windlass::pipeline::problem::Style;
use windlass::pipeline::{
    Problems, STAGES_LIMIT, Severity, Surroundings, WithEdit, decode, examine, read, read_edited, schema,
};

use super::{assert_plain, parts, text};

pub const WORDS: &[&str] = &[
    "name: ",
    "stages:\n",
    "stages: {",
    "  build:\n",
    "needs: [build]",
    "needs: ",
    "uses: bake",
    "uses: deploy",
    "uses: checkout",
    "with:\n",
    "steps:\n",
    "- run: ",
    "environment: production",
    "env: {",
    "secrets: [",
    "retry: { attempts: ",
    "timeout: ",
    "1h30m",
    "500ms",
    "if: ",
    "${{ stages.build.outputs.x }}",
    "${{",
    "}}",
    "params:\n",
    "default: ",
    "on: push",
    "on: { schedule: { cron: \"0 4 * * *\" } }",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "? ",
    "- ",
    ": ",
    "|\n",
    ">-\n",
    "{",
    "}",
    "[",
    "]",
    "[[[[[[[[",
    "{a: {a: {a: ",
    "'",
    "\"",
    "#",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "~",
    "null",
    "yes",
    "0x1F",
    "1.10",
    "\t",
    "\r",
    "artifacts:\n",
    "paths: [",
    "reports: { junit: ",
    "queue: every",
    "source: { github: a/b }",
    "certify",
    "image: ",
    "\\u0000",
    "\u{85}",
    "\u{2028}",
];

static SCHEMA: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema::pipeline()).expect("the schema is one"));

pub fn target(data: &[u8]) {
    let text = match decode(data, "p.yaml") {
        Ok(text) => text,
        Err(problems) => return legible(&problems, text(data)),
    };
    let (pipeline, problems) = examine(text, "p.yaml", None);
    legible(&problems, text);
    assert_eq!(pipeline.is_none(), problems.has_errors());
    let (in_place, more) = examine(text, "p.yaml", Some(&Surroundings::default()));
    legible(&more, text);
    assert!(pipeline.is_some() || in_place.is_none(), "checked more closely, it is accepted");
    let Some(pipeline) = pipeline else { return };
    assert!((1..=STAGES_LIMIT).contains(&pipeline.stages.len()));
    assert!(Graph::new(&pipeline).is_acyclic());
    for stage in &pipeline.stages {
        for need in &stage.needs {
            assert!(pipeline.stage(need).is_some(), "{} needs {need}, which is not there", stage.name);
        }
    }
    let edited = read_edited(text, "p.yaml", &[]).expect("without an edit it is the same");
    assert_eq!(format!("{edited:?}"), format!("{pipeline:?}"));
    // What another reader of YAML makes a number of is none of the schema's business.
    if let Ok(value) = serde_yaml::from_str::<serde_json::Value>(text.trim_start_matches('\u{feff}')) {
        let errors: Vec<String> = SCHEMA.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "the schema refuses what was accepted: {errors:?}");
    }
}

/// A file, then an edit: stage, key and value, between NULs.
pub fn edits(data: &[u8]) {
    let [file, stage, key, value] = parts(data).map(text);
    let Ok(stage) = stage.parse() else { return };
    let edit = WithEdit { stage, key: key.to_owned(), value: value.to_owned() };
    let plain = read(file, "p.yaml");
    match read_edited(file, "p.yaml", std::slice::from_ref(&edit)) {
        Ok(edited) => {
            assert!(edited.stage(&edit.stage).is_some(), "an edit makes no stage");
            if let Ok(plain) = plain {
                assert_eq!(plain.stages.len(), edited.stages.len());
                for (before, after) in plain.stages.iter().zip(&edited.stages) {
                    let same = format!("{:?}", before.kind) == format!("{:?}", after.kind);
                    assert!(same || after.name == edit.stage, "{} was not edited", after.name);
                }
            }
        }
        Err(problems) => {
            assert!(problems.has_errors());
            assert_plain("the rendering", &problems.render(Style::Plain));
        }
    }
}

/// Every problem has a place in the text, and can be shown.
pub fn legible(problems: &Problems, text: &str) {
    for problem in problems.iter() {
        assert!(text.get(problem.span.clone()).is_some(), "{problem:?} lies in no text");
        assert!(problem.line >= 1 && problem.column >= 1);
        assert!(matches!(problem.severity, Severity::Error | Severity::Warning));
        assert!(!problem.message.is_empty());
    }
    assert_plain("the rendering", &problems.render(Style::Plain));
}
