use std::time::Duration;

use super::expression::Context;
use super::model::{
    Base, CoverageFormat, Kind, Pipeline, PullRequest, Push, Queue, RetryOn, Shell, Source, Triggers,
};
use super::*;

fn good(text: &str) -> Pipeline {
    read(text, "p.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// `line:column message` of every problem.
fn problems(text: &str) -> Vec<String> {
    let (_, problems) = examine(text, "p.yaml", None);
    problems
        .iter()
        .map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.sentence()))
        .collect()
}

#[test]
fn the_reference_is_read_as_it_says() {
    let pipeline = good(REFERENCE);
    assert_eq!(pipeline.name.as_str(), "storefront");
    assert_eq!(pipeline.source, Some(Source::Git("../storefront".into())));
    let kinds: Vec<&str> = pipeline.stages.iter().map(|stage| stage.kind.word()).collect();
    assert_eq!(
        kinds.join(" "),
        "checkout script script upload bake deploy script certify deploy script script upload"
    );
    let Kind::Bake(bake) = &pipeline.stages[4].kind else { panic!("no bake") };
    assert_eq!(bake.from.as_ref().map(|from| from.as_str()), Some("production"));
    assert_eq!(bake.base, Some(Base::Directory("base".into())));
    assert_eq!(bake.files, ["deploy"]);
    assert_eq!(bake.provision[0].name, "Configure");
    assert_eq!(bake.start, "./storefront");
    let until = |request: &PullRequest| request.until.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        pipeline.on.pull_request.as_ref().map(until),
        Some(vec!["test".to_owned(), "build".to_owned()])
    );
    assert_eq!(pipeline.on.push.as_ref().map(|push| push.branches.0.len()), Some(2));
    assert_eq!(pipeline.on.schedules[0].timezone, "Europe/Berlin");
    assert_eq!(pipeline.queue, Queue::Newest);
    let test = pipeline.stage(&"test".parse().unwrap()).unwrap();
    assert_eq!((test.retry.attempts, test.retry.on.as_slice()), (2, &[RetryOn::Infrastructure][..]));
    assert_eq!(test.timeout, Duration::from_secs(900));
    let Kind::Script(script) = &test.kind else { panic!("no script") };
    let steps: Vec<_> = script.steps.iter().map(|step| (step.name.as_str(), step.shell)).collect();
    assert_eq!(steps, [("Unit tests", Shell::Sh), ("./lint.sh --strict", Shell::Bash)]);
    let coverage = script.reports.coverage.as_ref().unwrap();
    assert_eq!((coverage.format, coverage.at_least), (CoverageFormat::Lcov, Some(8_500)));
    assert_eq!(script.reports.junit.0, ["reports/*.xml"]);
}

#[test]
fn what_starts_a_run_may_be_written_short() {
    let on =
        |text: &str| good(&format!("name: p\non: {text}\nstages: {{ a: {{ steps: [{{ run: x }}] }} }}\n")).on;
    let both = Triggers {
        push: Some(Push::default()),
        pull_request: Some(PullRequest::default()),
        schedules: Vec::new(),
    };
    assert_eq!(on("[push, pull_request]"), both);
    assert_eq!(on("{ push: , pull_request: {} }"), both);
    assert_eq!(on("push"), Triggers { push: Some(Push::default()), ..Triggers::default() });
    let one = on("{ schedule: { cron: 0 4 * * * } }");
    assert_eq!((one.schedules[0].cron.as_str(), one.schedules[0].timezone.as_str()), ("0 4 * * *", "UTC"));
    assert_eq!(on("{ push: { branches: main } }").push.unwrap().branches.0, ["main"]);
}

#[test]
fn a_pipeline_says_how_its_runs_queue_and_where_its_commits_are() {
    let pipeline = good(
        "name: p\nqueue: every\nsource: { github: acme/shop }\nstages: { a: { steps: [{ run: x }], reports: { coverage: { cobertura: [a.xml, b.xml], at_least: 85.5 } } } }\n",
    );
    assert_eq!((pipeline.queue, pipeline.source), (Queue::Every, Some(Source::GitHub("acme/shop".into()))));
    let Kind::Script(script) = &pipeline.stages[0].kind else { panic!("no script") };
    let coverage = script.reports.coverage.as_ref().unwrap();
    assert_eq!((coverage.format, coverage.at_least), (CoverageFormat::Cobertura, Some(8_550)));
    assert_eq!(coverage.files.0.len(), 2);
}

#[test]
fn every_key_stands_in_the_reference() {
    fn keys_of(shape: &shape::Shape, found: &mut Vec<&'static str>) {
        let table = |table: &shape::Table, found: &mut Vec<&'static str>| {
            for key in table.keys.iter().filter(|key| key.need != shape::Need::Later) {
                if !found.contains(&key.name) {
                    found.push(key.name);
                }
                keys_of(&key.shape, found);
            }
        };
        match shape {
            shape::Shape::List(inner) | shape::Shape::OneOrList(inner) | shape::Shape::Map(_, inner) => {
                keys_of(inner, found);
            }
            shape::Shape::Maybe(inner) => keys_of(inner, found),
            shape::Shape::Table(one) | shape::Shape::Switches(one) => table(one, found),
            shape::Shape::Kinds(kinds) => {
                found.push(kinds.key);
                table(kinds.default, found);
                kinds.kinds.iter().for_each(|(_, kind)| table(kind, found));
            }
            _ => {}
        }
    }
    fn written(node: &yaml::Node, found: &mut Vec<String>) {
        node.items().iter().for_each(|item| written(item, found));
        for entry in node.entries() {
            found.push(entry.key.clone());
            written(&entry.value, found);
        }
    }
    let mut known = Vec::new();
    keys_of(&keys::FILE, &mut known);
    let mut found = Vec::new();
    written(&yaml::read(REFERENCE, &mut Problems::new("r", REFERENCE)).unwrap(), &mut found);
    // A source has one of two keys, and a base on AWS others: those stand in comments.
    for (comment, key) in
        [("#   source: { github: ", "github"), ("{ ami: ami-0abc }", "ami"), (", owner: ", "owner")]
    {
        assert!(REFERENCE.contains(comment), "{key}");
        found.push(key.into());
    }
    let missing: Vec<_> = known.iter().filter(|key| !found.iter().any(|found| found == *key)).collect();
    assert!(known.len() > 25 && missing.is_empty(), "{missing:?} of {known:?}");
}

#[test]
fn values_stay_as_they_are_written() {
    let pipeline = good(
        "name: yes\nparams: { a: { default: 1.10 }, b: { default: yes }, c: { default: 0x1F }, d: { default: \"\" }, e: {} }\n\
         stages:\n  s:\n    env: { N: 007, T: true, F: 1e3, Q: 'it''s' }\n    steps: [{ run: true }]\n",
    );
    assert_eq!(pipeline.name.as_str(), "yes");
    let defaults: Vec<_> = pipeline.params.values().map(|param| param.default.as_deref()).collect();
    assert_eq!(defaults, [Some("1.10"), Some("yes"), Some("0x1F"), Some(""), None]);
    let env: Vec<_> =
        pipeline.stages[0].env.values().map(|value| value.evaluate(&Context::default()).unwrap()).collect();
    assert_eq!(env, ["1e3", "007", "it's", "true"]);
    let Kind::Script(script) = &pipeline.stages[0].kind else { panic!("no script") };
    assert_eq!(script.steps[0].run, "true");
    assert_eq!(pipeline.stages[0].timeout, Duration::from_secs(3600));
    assert_eq!(pipeline.stages[0].retry.attempts, 1);
}

#[test]
fn a_bake_takes_what_its_ancestors_uploaded() {
    let pipeline = good(
        "name: p\nstages:\n  m: { steps: [{ run: x }], artifacts: { a: a, b: b, c: c } }\n\
         \x20 u1: { uses: upload, needs: m, with: { artifacts: [b, a] } }\n\
         \x20 u2: { uses: upload, needs: m, with: { artifact: a } }\n\
         \x20 u3: { uses: upload, needs: m, with: { artifact: c } }\n\
         \x20 k: { uses: bake, needs: [u1, u2], with: { start: x } }\n",
    );
    let Kind::Bake(bake) = &pipeline.stages[4].kind else { panic!("no bake") };
    let artifacts: Vec<_> = bake.artifacts.iter().map(|name| name.as_str()).collect();
    assert_eq!(artifacts, ["b", "a"]);
}

#[test]
fn aliases_give_whole_values() {
    let pipeline = good(
        "name: p\nstages:\n  a: { steps: &steps [{ run: x }], env: &env { A: b } }\n  b: { needs: a, steps: *steps, env: *env }\n",
    );
    assert_eq!(pipeline.stages[1].env.len(), 1);
    let Kind::Script(script) = &pipeline.stages[1].kind else { panic!("no script") };
    assert_eq!(script.steps[0].run, "x");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let problem = |bytes: &[u8]| decode(bytes, "p.yaml").unwrap_err().to_string();
    assert!(problem(b"name: a\nb: \xff").starts_with("p.yaml:2:4: error: the file is not UTF-8"));
    assert!(problem(b"\xff\xfen\0a\0").starts_with("p.yaml:1:1: error: the file is not UTF-8"));
    assert_eq!(problems("name: a\0b"), ["1:8 the character U+0000 has no place in a text file"]);
    assert_eq!(problems("name: \x1b[31m"), ["1:7 the character U+001B has no place in a text file"]);
}

#[test]
fn odd_files_are_refused_with_their_place() {
    for empty in ["", " \n", "---\n", "~", "\u{feff}", "# x\n...\n"] {
        assert_eq!(problems(empty), ["1:1 the file is empty"], "{empty:?}");
    }
    assert_eq!(
        problems("name: a\nstages:\n\ta: x\n"),
        ["3:1 a tab in the indentation; YAML is indented with spaces"]
    );
    let large = format!("name: a # {}", "x".repeat(yaml::SIZE_LIMIT));
    assert_eq!(
        problems(&large),
        [format!("1:1 the file has {} bytes; at most 1048576 are read", large.len())]
    );
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_harmless() {
    let text = "\u{feff}name: a\r\nstages:\r\n  b:\r\n    steps:\r\n      - run: |\r\n          x\r\n          y\r\n    needs: z\r\n";
    assert_eq!(problems(text), ["8:12 unknown stage \"z\" in needs"]);
    let pipeline = good(&text.replace("    needs: z\r\n", ""));
    let Kind::Script(script) = &pipeline.stages[0].kind else { panic!("no script") };
    assert_eq!((script.steps[0].name.as_str(), script.steps[0].run.as_str()), ("x", "x\ny\n"));
    assert_eq!(
        problems("\u{feff}nmae: a").last().unwrap(),
        "1:2 unknown key \"nmae\" in the pipeline; did you mean \"name\"?"
    );
}

#[test]
fn places_inside_of_values_are_found() {
    let at = |value: &str| {
        let text = format!("name: a\nstages:\n  b:\n    env:\n      X: {value}\n    steps: [{{ run: x }}]\n");
        problems(&text).remove(0)
    };
    assert!(at("'ü''s ${{ nope.x }}'").starts_with("5:20 unknown context"));
    assert!(at("\"\\u00fc\\t\\x41 ${{ nope.x }}\"").starts_with("5:28 unknown context"));
    assert!(at("|\n        one\n          two ${{ nope.x }}").starts_with("7:19 unknown context"));
    assert!(at("|-\n\n        ü ${{ nope.x }}").starts_with("7:15 unknown context"));
    assert!(at(">\n        one\n        two ${{ nope.x }}").starts_with("7:17 unknown context"));
    assert!(at("one\n        two ${{ nope.x }}").starts_with("6:17 unknown context"));
    assert!(at("\"one\n        two ${{ nope.x }}\"").starts_with("6:17 unknown context"));
}

#[test]
fn problems_are_drawn_with_their_line() {
    let (_, problems) = examine(
        "name: p\nstages:\n  build: { steps: [{ run: x }] }\n  b: { needs: biuld, steps: [{ run: x }] }\n",
        "p.yaml",
        None,
    );
    insta::assert_snapshot!(problems.to_string(), @r#"
    p.yaml:4:15: error: unknown stage "biuld" in needs; did you mean "build"?
      |
    4 |   b: { needs: biuld, steps: [{ run: x }] }
      |               ^^^^^
    "#);
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[0]["suggestion"], "build");
    assert_eq!((&json[0]["line"], &json[0]["column"]), (&4.into(), &15.into()));
    assert_eq!(json[0]["span"], serde_json::json!({ "start": 63, "end": 68 }));
}

#[test]
fn what_a_file_says_cannot_move_the_cursor() {
    let (_, problems) =
        examine("name: \"a\\e[2J\\u202e\"\nstages: { b: { steps: [{ run: x }] } }", "p.yaml", None);
    let shown = problems.render(problem::Style::Plain);
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
}

#[test]
fn noise_is_counted_rather_than_kept() {
    let noise: String = (0..60_000).map(|n| format!("k{n}: {n}\n")).collect();
    let (pipeline, problems) = examine(&noise, "p.yaml", None);
    assert!(pipeline.is_none());
    assert_eq!(problems.len(), 60_002);
    assert!(problems.iter().count() <= 1_000);
    assert!(problems.to_string().ends_with("p.yaml: and 59002 more problems\n"));
}

#[test]
fn a_warning_alone_does_not_refuse_a_file() {
    let mut surroundings = Surroundings { settings: "w.yaml".into(), ..Surroundings::default() };
    let place = Place { services: ["p".parse().unwrap()].into(), certified_only: true };
    surroundings.environments.insert("production".parse().unwrap(), place);
    let text = "name: p\nstages:\n  m: { steps: [{ run: x }], artifacts: { a: a } }\n  u: { uses: upload, needs: m, with: { artifact: a } }\n  k: { uses: bake, needs: u, with: { start: x } }\n  d: { uses: deploy, needs: k, environment: production }\n";
    let (pipeline, problems) = examine(text, "p.yaml", Some(&surroundings));
    assert!(pipeline.is_some());
    assert_eq!(problems.iter().map(|problem| problem.severity).collect::<Vec<_>>(), [Severity::Warning]);
    assert!(read_in(text, "p.yaml", &surroundings).is_ok());
    assert!(
        read_in(text, "p.yaml", &Surroundings::default())
            .unwrap_err()
            .to_string()
            .contains("name the file with `--config`")
    );
}

#[test]
fn a_pipeline_has_at_most_so_many_stages() {
    let stages: String = (0..=STAGES_LIMIT).map(|n| format!("  s{n}: {{ uses: checkout }}\n")).collect();
    assert_eq!(
        problems(&format!("name: p\nstages:\n{stages}")),
        [format!("{}:3 a pipeline has at most 5000 stages, this one 5001", STAGES_LIMIT + 3)]
    );
}
