//! README and CONTRIBUTING are true: their commands, files, keys, words and rooms are those of the
//! program. What can be asked of the real binary is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use windlass::run::event::Cause;
use windlass::run::view::{StageStatus, Status, StepStatus};

const DOCUMENTS: [&str; 4] =
    ["README.md", "CONTRIBUTING.md", "examples/storefront/README.md", "examples/ansible/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn windlass<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_windlass")).args(arguments).env_remove("WINDLASS_DATA").output().unwrap()
}

/// All that a command said, when it ended well.
fn said(output: Output) -> Result<String, String> {
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// The fenced blocks of a document whose fence names `language`.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside: Option<(bool, String)> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut inside) {
            (Some(fence), None) => inside = Some((fence.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                blocks.extend(inside.take().filter(|(wanted, _)| *wanted).map(|(_, text)| text));
            }
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "a block of code has no end");
    blocks
}

/// A part of a document: from its heading to the next one of the same level.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let level = heading.split(' ').next().unwrap();
    let start = document.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let body = &document[start + heading.len() + 2..];
    body.find(&format!("\n{level} ")).map_or(body, |end| &body[..end])
}

/// What a document shows as code: the lines of its blocks, and the spans in its text.
fn code(document: &str) -> Vec<&str> {
    let mut inside = false;
    let mut code = Vec::new();
    for line in document.lines() {
        match line.starts_with("```") {
            true => inside = !inside,
            false if inside => code.push(line),
            false => code.extend(line.split('`').skip(1).step_by(2)),
        }
    }
    code
}

/// Every command that a document names: its first word, and its long options.
fn commands(document: &str) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    for line in code(document) {
        for start in ["windlass ", "cargo run --release -- "] {
            for (at, _) in line.match_indices(start) {
                let rest = &line[at + start.len()..];
                let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                let options = rest.split_ascii_whitespace().filter(|word| word.starts_with("--"));
                if word.starts_with(|c: char| c.is_ascii_lowercase()) {
                    commands.push((word, options.map(ToOwned::to_owned).collect()));
                }
            }
        }
    }
    commands
}

#[test]
fn every_command_that_is_named_exists_with_its_options() {
    let mut seen = BTreeSet::new();
    for document in DOCUMENTS {
        for (command, options) in commands(&read(document)) {
            let help = said(windlass(["help", &command]))
                .unwrap_or_else(|error| panic!("{document}: windlass {command}: {error}"));
            for option in options {
                assert!(
                    help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                    "{document}: windlass {command} has no {option}"
                );
            }
            seen.insert(command);
        }
    }
    // And the other way round: README leaves out no command.
    let help = said(windlass(["help"])).unwrap();
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let listed = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed: Vec<&str> = listed.filter_map(|line| line.split_ascii_whitespace().next()).collect();
    assert!(listed.len() > 10, "{listed:?}");
    for command in listed {
        assert!(seen.contains(command), "no document names windlass {command}");
    }
}

#[test]
fn a_command_that_is_not_there_is_found() {
    assert!(said(windlass(["help", "no-such-command"])).is_err());
    let found = commands(
        "A windlass is no\n`windlass logs RUN --follow`:\n```\n$ windlass runs\n```\n`windlass.yaml`",
    );
    let expected = [("logs".to_owned(), vec!["--follow".to_owned()]), ("runs".to_owned(), Vec::new())];
    assert_eq!(found, expected);
}

#[test]
fn every_yaml_block_of_the_readme_is_a_whole_file_that_validates() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let any = write("any.yaml", "name: any\nstages: { say: { steps: [{ run: echo }] } }\n");
    let all = blocks(&read("README.md"), "yaml");
    let (settings, pipelines): (Vec<_>, Vec<_>) =
        all.iter().partition(|text| text.contains("environments:\n"));
    assert!(settings.len() >= 2 && pipelines.len() >= 2, "{} and {}", settings.len(), pipelines.len());
    for text in &settings {
        let file = write("windlass.yaml", text);
        said(windlass([Path::new("validate"), &any, Path::new("--config"), &file]))
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    }
    let mut with_settings = 0;
    for text in &pipelines {
        let file = write("pipeline.yaml", text);
        let name = text.lines().find_map(|line| line.strip_prefix("name: ")).unwrap();
        let mut arguments = vec![PathBuf::from("validate"), file];
        if let Some(settings) = settings.iter().find(|settings| settings.contains(&format!("      {name}:")))
        {
            arguments.extend([PathBuf::from("--config"), write("windlass.yaml", settings)]);
            with_settings += 1;
        }
        said(windlass(arguments)).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    }
    assert!(with_settings > 0, "no pipeline of README was checked with settings");
}

/// The keys of every table in a JSON Schema.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn the_reference_names_every_key_of_a_pipeline() {
    let schema: Value = serde_json::from_str(&said(windlass(["schema"])).unwrap()).unwrap();
    let mut found = BTreeSet::new();
    keys(&schema, &mut found);
    assert!(found.contains("stages") && found.contains("provision") && found.len() > 20, "{found:?}");
    let readme = read("README.md");
    let reference = section(&readme, "## The pipeline file");
    let missing: Vec<_> = found.iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "README's reference does not name {missing:?}");
}

#[test]
fn the_reference_names_every_key_of_the_settings() {
    // A key that nobody knows in every table, and the messages name those that there are.
    let directory = tempfile::tempdir().unwrap();
    let (pipeline, settings) = (directory.path().join("any.yaml"), directory.path().join("windlass.yaml"));
    std::fs::write(&pipeline, "name: any\nstages: { say: { steps: [{ run: echo }] } }\n").unwrap();
    let health = "health: { path: /, unknown: 1 }, strategy: { unknown: 1, rolling: { unknown: 1 }, blue_green: { unknown: 1 } }";
    let fleet = format!("{{ cloud: local, size: 1, port: 7000, {health}, unknown: 1 }}");
    let far = "{ cloud: aws, size: 1, port: 7000, launch: { types: x, subnets: x, unknown: 1 } }";
    let text = format!(
        "unknown: 1\nenvironments: {{ qa: {{ group: qa, unknown: 1, approvals: {{ count: 1, unknown: 1 }}, \
         freeze: {{ unknown: 1 }}, \
         fleets: {{ any: {fleet}, far: {far} }} }} }}\nclouds: {{ unknown: 1, aws: {{ region: x, bucket: x, \
         unknown: 1, builder: {{ type: x, subnet: x, unknown: 1 }} }} }}\npeople: {{ x: {{ unknown: 1 }} }}\n\
         github: {{ unknown: 1, repositories: {{ a/b: {{ unknown: 1 }} }} }}\n\
         secrets: {{ A: {{ env: A, unknown: 1 }} }}\nrunner: {{ unknown: 1 }}\nserver: {{ unknown: 1 }}\n"
    );
    std::fs::write(&settings, text).unwrap();
    let problems =
        said(windlass([Path::new("validate"), &pipeline, Path::new("--config"), &settings])).unwrap_err();
    let tables: Vec<&str> =
        problems.lines().filter_map(|line| Some(line.split_once(" has the keys ")?.1)).collect();
    assert_eq!(tables.len(), 19, "{problems}");
    let readme = read("README.md");
    let reference = blocks(section(&readme, "## The settings file"), "yaml").concat();
    for key in tables.iter().flat_map(|keys| keys.split(", ")) {
        let there = reference
            .match_indices(&format!("{key}:"))
            .any(|(at, _)| reference[..at].chars().next_back().is_none_or(|before| before.is_whitespace()));
        assert!(there, "README's settings do not show {key}");
    }
}

#[test]
fn links_lead_to_files_that_are_there() {
    let mut links = 0;
    for document in DOCUMENTS {
        let text = read(document);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap();
            if target.starts_with("https://") {
                continue;
            }
            links += 1;
            let path = root().join(document).parent().unwrap().join(target);
            assert!(path.exists(), "{document} links to {target}, which is not there");
        }
    }
    assert!(links >= 8, "{links} links");
}

/// The rooms of the house: what stands in `src` beside `main.rs` and `lib.rs`.
fn rooms() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("src")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.map(|name| name.trim_end_matches(".rs").to_owned());
    names.filter(|name| name != "main" && name != "lib").collect()
}

#[test]
fn the_maps_list_exactly_the_rooms() {
    let contributing = read("CONTRIBUTING.md");
    let rows = section(&contributing, "## The map").lines();
    let listed: Vec<String> =
        rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), rooms(), "CONTRIBUTING's map");

    let library = read("src/lib.rs");
    let map = library.split("//! # ").find(|part| part.starts_with("The map\n")).unwrap();
    let map: String = map.lines().filter(|line| line.starts_with("//! - ")).collect();
    let named = map.split("[`").skip(1).filter_map(|rest| Some(rest.split_once("`]")?.0.to_owned()));
    assert_eq!(named.collect::<Vec<_>>(), listed, "lib.rs and CONTRIBUTING have one reading order");
}

/// Every word for a state. The `match`es make sure that a new one is added here.
fn states() -> [Vec<&'static str>; 4] {
    use StageStatus as Stage;
    use StepStatus as Step;
    let stages = [
        Stage::Pending,
        Stage::Queued,
        Stage::Running,
        Stage::Retrying,
        Stage::Waiting,
        Stage::Succeeded,
        Stage::Failed,
        Stage::Skipped,
        Stage::Cancelled,
    ];
    let steps = [Step::Pending, Step::Running, Step::Succeeded, Step::Failed, Step::Cancelled, Step::Skipped];
    let causes = [Cause::Task, Cause::Infrastructure, Cause::Timeout, Cause::Cancelled, Cause::Policy];
    let stage = |stage: Stage| match stage {
        Stage::Pending | Stage::Queued | Stage::Running | Stage::Retrying | Stage::Waiting => stage.as_str(),
        Stage::Succeeded | Stage::Failed | Stage::Skipped | Stage::Cancelled => stage.as_str(),
    };
    let step = |step: Step| match step {
        Step::Pending | Step::Running | Step::Succeeded => step.as_str(),
        Step::Failed | Step::Cancelled | Step::Skipped => step.as_str(),
    };
    let cause = |cause: Cause| match cause {
        Cause::Task | Cause::Infrastructure | Cause::Timeout | Cause::Cancelled | Cause::Policy => {
            cause.as_str()
        }
    };
    [
        Status::ALL.map(Status::as_str).to_vec(),
        stages.map(stage).to_vec(),
        steps.map(step).to_vec(),
        causes.map(cause).to_vec(),
    ]
}

#[test]
fn every_state_and_cause_is_explained() {
    let (readme, contributing) = (read("README.md"), read("CONTRIBUTING.md"));
    let glossary = section(&contributing, "## Words");
    let diagrams = section(&contributing, "## States");
    let kinds = ["status of a run", "status of a stage", "status of a step", "cause"];
    for (kind, words) in kinds.iter().zip(states()) {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {kind} |"))).unwrap();
        let listed: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, words, "README's row {kind:?}");
        for word in words {
            assert!(glossary.contains(word), "the glossary has no {word}");
            assert!(*kind == "cause" || diagrams.contains(word), "no diagram has {word}");
        }
    }
}

#[test]
fn no_document_names_a_place_of_somebodys_machine() {
    let mut files: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root().join(name)).collect();
    files.extend(std::fs::read_dir(root().join("pipelines")).unwrap().map(|entry| entry.unwrap().path()));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for place in ["/work/", "/root", "/home/", "/Users/", "/tmp/", "/mnt/"] {
            assert!(!text.contains(place), "{} names {place}", file.display());
        }
    }
}

#[test]
fn every_file_in_pipelines_validates_and_plans_with_the_settings_beside_it() {
    let mut pipelines = 0;
    let files = std::fs::read_dir(root().join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.chain([root().join("examples/ansible/pipeline.yaml")]) {
        let name = file.file_stem().unwrap().to_str().unwrap();
        if name.ends_with("settings") {
            continue;
        }
        // It has settings of its own, or those that go with all.
        let own = match file.parent().unwrap().ends_with("ansible") {
            true => root().join("pipelines/aws-settings.yaml"),
            false => file.with_file_name(format!("{name}-settings.yaml")),
        };
        let settings = if own.exists() { own } else { root().join("pipelines/settings.yaml") };
        for command in ["validate", "plan"] {
            let said = said(windlass([Path::new(command), &file, Path::new("--config"), &settings]))
                .unwrap_or_else(|problems| panic!("{problems}"));
            assert!(!said.contains("warning"), "{}: {said}", file.display());
        }
        pipelines += 1;
    }
    assert!(pipelines >= 4, "{pipelines} pipelines");
}

/// Whether `document` has everything that `example` shows, by name.
fn missing(example: &Value, document: &Value, path: &str, found: &mut Vec<String>) {
    match (example, document) {
        (Value::Object(example), Value::Object(document)) => {
            for (key, value) in example {
                let path = format!("{path}.{key}");
                match document.get(key) {
                    Some(there) => missing(value, there, &path, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(example), Value::Array(document)) => match (example.first(), document.first()) {
            (Some(example), Some(document)) => missing(example, document, path, found),
            (Some(_), None) => found.push(format!("{path}[0]")),
            (None, _) => {}
        },
        _ => {}
    }
}

#[tokio::test]
async fn the_run_that_the_readme_shows_has_the_shape_of_a_real_one() {
    let directory = tempfile::tempdir().unwrap();
    let (pipeline, data) = (directory.path().join("slow.yaml"), directory.path().join("data"));
    let text = "name: slow\nstages: { work: { steps: [{ name: Count, run: 'echo 1; exit 3' }] } }\n";
    std::fs::write(&pipeline, text).unwrap();
    let output = windlass([Path::new("run"), &pipeline, Path::new("--json"), Path::new("--data"), &data]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let real: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown: Value = serde_json::from_str(&blocks(&read("README.md"), "json").concat()).unwrap();
    let mut absent = Vec::new();
    missing(&shown, &real, "", &mut absent);
    assert!(absent.is_empty(), "a run has no {absent:?}: {real:#}");
    // It works in the directory that is about to be removed.
    assert!(windlass::runner::left(&data, std::time::Duration::from_secs(60)).await);
}
