//! The pipeline language from outside: every file of `tests/data/broken` gives exactly the problems
//! that its last lines say, `#! LINE:COLUMN part of the message`, and no input makes reading fail in
//! any other way.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use windlass::config::Settings;
use windlass::pipeline::{self, Problems, REFERENCE};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = (std::fs::read_dir(data(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// What a file says about its own problems.
fn expected(text: &str) -> Vec<(usize, usize, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#! "));
    lines
        .filter(|line| *line != "with settings")
        .map(|line| {
            let (place, message) = line.split_once(' ').unwrap();
            let (line, column) = place.split_once(':').unwrap();
            (line.parse().unwrap(), column.parse().unwrap(), message.to_owned())
        })
        .collect()
}

fn differences(file: &Path, text: &str, problems: &Problems) -> Option<String> {
    let expected = expected(text);
    let same = problems.len() == expected.len()
        && problems.iter().zip(&expected).all(|(problem, (line, column, message))| {
            (problem.line, problem.column) == (*line, *column)
                && problem.sentence().contains(message.as_str())
        });
    let wanted: String =
        expected.iter().map(|(line, column, message)| format!("  {line}:{column} {message}\n")).collect();
    (!same).then(|| format!("{}\nexpected\n{wanted}got\n{problems}", file.display()))
}

#[test]
fn broken_pipelines_give_exactly_their_problems() {
    let settings = Settings::read(&data("windlass.yaml")).unwrap().surroundings();
    let files = files("broken");
    assert!(files.len() >= 60, "{} files", files.len());
    let wrong: Vec<String> = (files.iter())
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            assert!(!expected(&text).is_empty(), "{} expects nothing", file.display());
            let surroundings = text.contains("#! with settings\n").then_some(&settings);
            let (pipeline, problems) = pipeline::examine(&text, &file.display().to_string(), surroundings);
            assert_eq!(pipeline.is_none(), problems.has_errors());
            differences(file, &text, &problems)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn broken_settings_give_exactly_their_problems() {
    let wrong: Vec<String> = (files("broken/settings").iter())
        .filter_map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            match Settings::read(file) {
                Ok(_) => Some(format!("{} was accepted", file.display())),
                Err(problems) => differences(file, &text, &problems),
            }
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_schema_accepts_what_reading_accepts() {
    let schema = jsonschema::validator_for(&pipeline::schema::pipeline()).unwrap();
    let json = |text: &str| serde_yaml::from_str::<serde_json::Value>(text).unwrap();
    let errors: Vec<String> = schema.iter_errors(&json(REFERENCE)).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for good in [
        "name: p\nstages: { a: { steps: [{ run: true }] } }",
        "name: p\nparams: { a: { default: 1.10 }, b: {} }\nstages: { a: { if: false, env: { A: 1 }, steps: [{ run: x }] } }",
        "name: p\non: push\nstages: { a: { steps: [{ run: x }] } }",
        "name: p\nqueue: every\non: { push: , schedule: { cron: 0 4 * * * } }\nsource: { github: a/b.c }\nstages: { a: { steps: [{ run: x }], reports: { junit: [a, b] } } }",
        "name: p\non: [push, pull_request]\nstages: { a: { steps: [{ run: x }] } }",
        "name: p\nstages: { a: { uses: checkout }, b: { needs: [a], secrets: T, retry: { attempts: 2, on: task }, steps: [{ run: x }] } }",
    ] {
        assert!(pipeline::read(good, "p").is_ok(), "{good}");
        assert!(schema.is_valid(&json(good)), "{good}");
    }
}

/// What the schema can see, it refuses as reading does. Meaning, as cycles, it cannot see.
#[test]
fn the_schema_refuses_broken_shapes() {
    let schema = jsonschema::validator_for(&pipeline::schema::pipeline()).unwrap();
    let broken = [
        "top-is-a-list",
        "no-name",
        "no-stages",
        "empty-stages",
        "unknown-top",
        "name-underscore",
        "name-digit",
        "name-too-long",
        "source-unknown",
        "source-empty",
        "params-bad",
        "not-yet",
        "source-github",
        "source-both",
        "on",
        "on-words",
        "on-nothing",
        "on-schedule",
        "reports",
        "not-yet-bake",
        "uses-unknown",
        "uses-script",
        "uses-and-steps",
        "neither-uses-nor-steps",
        "stage-is-text",
        "stage-name",
        "unknown-key",
        "key-of-another-kind",
        "no-steps",
        "shell-unknown",
        "needs-empty",
        "durations",
        "retry",
        "env-names",
        "environment-misplaced",
        "upload-with",
        "bake-with",
    ];
    for name in broken {
        let text = std::fs::read_to_string(data("broken").join(format!("{name}.yaml"))).unwrap();
        let json: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        assert!(!schema.is_valid(&json), "{name}");
    }
}

fn within(limit: Duration, what: &str, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    assert!(start.elapsed() < limit, "{what} took {:?}", start.elapsed());
}

/// In debug builds on a busy machine; a release build needs a tenth of it.
const QUICK: Duration = Duration::from_secs(10);

#[test]
fn large_pipelines_are_read_quickly() {
    let chain: String = (0..5_000)
        .map(|n| match n {
            0 => "  s0: { steps: [{ run: x }] }\n".to_owned(),
            n => format!("  s{n}: {{ needs: s{}, env: {{ A: \"${{{{ stages.s0.outputs.x }}}}\" }}, steps: [{{ run: x }}] }}\n", n - 1),
        })
        .collect();
    within(QUICK, "a chain", || {
        let pipeline = pipeline::read(&format!("name: p\nstages:\n{chain}"), "p").unwrap();
        assert_eq!(pipeline.stages.len(), 5_000);
    });
    let ring = format!("name: p\nstages:\n{chain}").replacen("s0: {", "s0: { needs: s4999,", 1);
    within(QUICK, "a ring", || {
        let problems = pipeline::read(&ring, "p").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems.to_string().contains("s0 → s4999 → s4998"));
    });
    let unknown: String =
        (0..5_000).map(|n| format!("  stage-{n}: {{ needs: stoge-{n}, steps: [{{ run: x }}] }}\n")).collect();
    within(QUICK, "unknown stages", || {
        assert_eq!(pipeline::read(&format!("name: p\nstages:\n{unknown}"), "p").unwrap_err().len(), 5_000);
    });
}

/// Texts that make careless readers of YAML slow or deep.
#[test]
fn hostile_files_are_refused_quickly() {
    let most = 1_000_000;
    let hostile = [
        ("lists in lists", "[".repeat(most)),
        ("maps in maps", "{a: ".repeat(most / 4)),
        ("blocks in blocks", (0..1_400).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("entries in entries", "- ".repeat(most / 2)),
        ("keys", "? ".repeat(most / 2)),
        ("one long line", format!("name: {}", "x".repeat(most))),
        ("one long key", format!("{}: x", "x".repeat(most))),
        ("one long quoted text", format!("name: \"{}", "\\n".repeat(most / 2))),
        ("one long list", format!("stages: [{}]", "a, ".repeat(most / 3))),
        ("one long flow", format!("{{{}}}", "a,".repeat(most / 2))),
        ("same keys", "a: b\n".repeat(most / 5)),
        ("anchors", (0..most / 14).map(|n| format!("- &a{n} x\n")).collect()),
        ("aliases", format!("- &a x\n{}", "- *a\n".repeat(most / 5))),
        (
            "aliases of aliases",
            (0..40)
                .map(|n| {
                    format!(
                        "a{n}: &a{n} [{}]\n",
                        if n == 0 { "x".into() } else { vec![format!("*a{}", n - 1); 9].join(", ") }
                    )
                })
                .collect(),
        ),
        ("documents", "---\n".repeat(most / 4)),
        ("crons", format!("on: {{ schedule: [{}] }}", "{ cron: 0 0 30 2 * }, ".repeat(most / 25))),
        ("time zones", format!("on: {{ schedule: [{}] }}", "{ timezone: x }, ".repeat(most / 20))),
        ("patterns", format!("on: {{ push: {{ paths: [{}] }} }}", "\"**a**\", ".repeat(most / 12))),
        ("comments", "#\n".repeat(most / 2)),
        ("colons", ":".repeat(most)),
        ("quotes", "'".repeat(most)),
        ("percent", "%".repeat(most)),
        ("bangs", "!".repeat(most)),
        ("ampersands", "&".repeat(most)),
        ("bars", "|\n".repeat(most / 2)),
        ("blank", " ".repeat(most)),
        ("lines", "\n".repeat(most)),
        ("tabs", "\t".repeat(most)),
        ("accents", "é: ü\n".repeat(most / 8)),
        (
            "expressions",
            format!(
                "name: p\nstages: {{ a: {{ env: {{ X: \"{}\" }}, steps: [{{ run: x }}] }} }}",
                "${{ a.b }}".repeat(most / 11)
            ),
        ),
        (
            "expressions in shell",
            format!(
                "name: p\nstages: {{ a: {{ steps: [{{ run: \"{}\" }}] }} }}",
                "${{ a.b }}".repeat(most / 11)
            ),
        ),
        (
            "open expressions",
            format!(
                "name: p\nstages: {{ a: {{ env: {{ X: \"{}\" }}, steps: [{{ run: x }}] }} }}",
                "${{".repeat(most / 4)
            ),
        ),
    ];
    for (name, text) in hostile {
        within(QUICK, name, || {
            let problems = pipeline::read(&text, "p").unwrap_err();
            assert!(problems.has_errors(), "{name}");
            assert!(problems.to_string().len() < 2_000_000, "{name}");
        });
    }
}

/// Every problem can be drawn, and stands where its span says.
fn sound(text: &str) {
    let (pipeline, problems) = pipeline::examine(text, "p.yaml", None);
    assert_eq!(pipeline.is_none(), problems.has_errors());
    assert!(problems.is_empty() || !problems.to_string().is_empty());
    for problem in problems.iter() {
        assert!(text.get(problem.span.clone()).is_some(), "{:?} of {text:?}", problem.span);
        let line = text[..problem.span.start].matches('\n').count() + 1;
        assert_eq!(line, problem.line, "{text:?}");
    }
    if let Some(pipeline) = pipeline {
        let graph = pipeline::graph::Graph::new(&pipeline);
        assert!(graph.is_acyclic());
    }
}

/// A piece of a pipeline, or of YAML, that is put somewhere in a good file.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,8}",
        "[\\[\\]{}:,&*!|>'\"%@`#?\\- \t\n]{1,6}",
        proptest::sample::select(vec![
            "${{",
            "}}",
            "${{ params.x }}",
            "needs: ",
            "uses: deploy",
            "&a ",
            "*a",
            "!!map ",
            "<<: ",
            "\n---\n",
            "\r\n",
            "\u{feff}",
            "null",
            "~",
            "[]",
            "{}",
            "\n  ",
            "steps: []",
            "if: ",
            "é",
            "\u{2028}",
            "\u{0}",
            "? ",
            "|\n",
            ">-\n",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        match pipeline::decode(&bytes, "p.yaml") {
            Ok(text) => sound(text),
            Err(problems) => prop_assert!(problems.to_string().contains("not UTF-8")),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(pieces in proptest::collection::vec(piece(), 0..40)) {
        sound(&pieces.concat());
    }

    /// A good file with a few places cut out, doubled, swapped or written over.
    #[test]
    fn a_spoiled_pipeline_is_read_or_refused(
        spoils in proptest::collection::vec((any::<proptest::sample::Index>(), 0..60usize, piece()), 1..5),
    ) {
        let mut text: Vec<char> = REFERENCE.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, cut, put) in spoils {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        sound(&text.into_iter().collect::<String>());
    }
}
