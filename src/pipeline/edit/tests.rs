use super::super::model::Kind;
use super::super::problem::Severity;
use super::*;

const PIPELINE: &str = "\
name: shop
stages:
  get: { uses: checkout }
  make: { needs: get, steps: [{ run: x }], artifacts: { app: dist, web: web } }
  up: { uses: upload, needs: make, with: { artifacts: [app, web] } }
  bake: { uses: bake, needs: up, with: &with { artifacts: [app], start: ./shop } }
  twin: { uses: bake, needs: up, with: *with }
";

fn edit(stage: &str, key: &str, value: &str) -> WithEdit {
    WithEdit { stage: stage.parse().unwrap(), key: key.to_owned(), value: value.to_owned() }
}

fn bake<'a>(pipeline: &'a Pipeline, stage: &str) -> &'a crate::pipeline::model::Bake {
    match &pipeline.stage(&stage.parse().unwrap()).unwrap().kind {
        Kind::Bake(bake) => bake,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_edit_puts_another_value_in_place() {
    let edits = [
        edit("bake", "start", "exec ./shop --port \"$PORT\""),
        edit("bake", "artifacts", "[app, web]"),
        edit("bake", "base", "{ directory: base/ }"),
        edit("bake", "files", "[first]"),
        edit("bake", "files", "- deploy/\n- ops/"),
    ];
    let pipeline = read_edited(PIPELINE, "p.yaml", &edits).unwrap();
    let edited = bake(&pipeline, "bake");
    assert_eq!(edited.start, "exec ./shop --port \"$PORT\"");
    assert_eq!(edited.artifacts.len(), 2);
    assert!(edited.base.is_some());
    assert_eq!(edited.files, ["deploy", "ops"]);
    // What shares its text by an alias stays as it is.
    assert_eq!(bake(&pipeline, "twin").start, "./shop");
    assert!(read_edited(PIPELINE, "p.yaml", &[]).is_ok());
}

/// What is said of one edit.
fn said(stage: &str, key: &str, value: &str) -> String {
    let problems = read_edited(PIPELINE, "p.yaml", &[edit(stage, key, value)]).unwrap_err();
    for problem in problems.iter() {
        assert_eq!((problem.severity, problem.edit.is_some()), (Severity::Error, true), "{problems}");
    }
    problems
        .iter()
        .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.sentence()))
        .collect()
}

#[test]
fn a_bad_edit_is_named() {
    let problems = read_edited(PIPELINE, "p.yaml", &[edit("bake", "artifacts", "[app, wob]")]).unwrap_err();
    insta::assert_snapshot!(problems.to_string(), @r#"
    the edit of bake.with.artifacts: error: no stage makes the artifact "wob"; did you mean "web"?
      |
    1 | bake.with.artifacts=[app, wob]
      |                           ^^^
    "#);
    assert_eq!(serde_json::to_value(&problems).unwrap()[0]["edit"], "bake.with.artifacts");
}

#[test]
fn what_is_wrong_with_a_file_is_wrong_with_an_edit() {
    assert_eq!(said("boke", "start", "x"), "1:1 unknown stage \"boke\"; did you mean \"bake\"?");
    assert_eq!(said("bake", "strat", "x"), "1:1 unknown key \"strat\" in \"with\"; did you mean \"start\"?");
    assert_eq!(said("get", "start", "x"), "1:1 a checkout stage takes no \"with\"");
    assert_eq!(
        said("bake", "files", "[a, ../b]"),
        "1:21 \"../b\" has `..`; a path here never leaves its directory"
    );
    assert!(
        said("bake", "start", "x ${{ params.a }}").starts_with("1:19 no expression can stand in \"start\"")
    );
    assert!(
        said("bake", "start", "\"x").starts_with("1:17 this is not YAML"),
        "{}",
        said("bake", "start", "\"x")
    );
    assert_eq!(said("bake", "start", "# nothing"), "1:17 the edit has no value");
    assert_eq!(said("bake", "start", "a\0b"), "1:18 the character U+0000 has no place in a text file");
    assert_eq!(
        said("bake", "start", "!!str x"),
        "1:17 the value in line 1 has a YAML tag, and tags are not supported"
    );
    assert!(said("bake", "start", "[a]").starts_with("1:17 \"start\" is a list"));
}

#[test]
fn the_file_and_the_edits_are_told_apart() {
    let broken = PIPELINE.replace("needs: make,", "needs: moke,");
    let edits = [edit("bake", "from", "9"), edit("bake", "files", "[]")];
    let problems = read_edited(&broken, "p.yaml", &edits).unwrap_err();
    let places: Vec<_> = problems.iter().map(|problem| (problem.edit.as_deref(), problem.line)).collect();
    assert_eq!(places, [(None, 5), (Some("bake.with.from"), 1), (Some("bake.with.files"), 1)]);
}
