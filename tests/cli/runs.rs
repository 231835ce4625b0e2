//! Runs that go well, runs that fail, and how one reads about them.

use serde_json::{Value, json};

use crate::here::Here;

const GREETING: &str = "\
name: hello
params: { who: { default: world } }
stages:
  greet:
    env: { WHO: \"${{ params.who }}\" }
    steps:
      - { name: Say it, run: 'echo \"hello $WHO\"; echo \"answer=42\" >> \"$WINDLASS_OUTPUT\"' }
      - run: echo bye
  after: { needs: greet, steps: [{ run: 'true' }] }
";

const BROKEN: &str = "\
name: broken
stages:
  test: { steps: [{ name: Unit tests, run: 'echo it does not add up; exit 3' }, { run: echo never }] }
  ship: { needs: test, steps: [{ run: echo never }] }
";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_run_that_goes_well() {
    let here = Here::new();
    here.write("hello.yaml", GREETING);
    let out = here.good(&["run", "hello.yaml", "--param", "who=you"]);
    assert!(out.lines().last().unwrap().starts_with("hello/1 succeeded in "), "{out}");
    assert!(!out.contains('\x1b') && out.contains("greet succeeded in "), "{out}");
    assert_eq!(here.good(&["logs", "hello/1", "greet", "--step", "Say it"]), "hello you\n");
    assert_eq!(here.good(&["logs", "hello/1", "greet", "--step", "2"]), "bye\n");
    assert_eq!(
        here.good(&["logs", "hello/1"]),
        "== greet / Say it (attempt 1)\nhello you\n== greet / echo bye (attempt 1)\nbye\n== after / true (attempt 1)\n"
    );
}

#[test]
fn the_documents_have_the_shapes_that_programs_rely_on() {
    let here = Here::new();
    here.write("hello.yaml", GREETING);
    let ended = here.json(&["run", "hello.yaml", "--json", "--as", "octo cat"]);
    let show = here.json(&["show", "hello/1", "--json"]);
    assert_eq!(ended, show);
    for (field, expected) in [
        ("schema", json!(1)),
        ("run", json!("hello/1")),
        ("pipeline", json!("hello")),
        ("number", json!(1)),
        ("commit", Value::Null),
        ("status", json!("succeeded")),
        ("actor", json!("octo cat")),
        ("waiting_for", Value::Null),
    ] {
        assert_eq!(show[field], expected, "{field}");
    }
    let stage = &show["stages"][0];
    assert_eq!(
        (&stage["name"], &stage["uses"], &stage["status"]),
        (&json!("greet"), &json!("script"), &json!("succeeded"))
    );
    assert_eq!(
        (&stage["attempt"], &stage["attempts"], &stage["cause"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    assert_eq!(stage["outputs"], json!({ "answer": "42" }));
    let step = &stage["steps"][0];
    assert_eq!(
        (&step["name"], &step["status"], &step["exit_code"]),
        (&json!("Say it"), &json!("succeeded"), &json!(0))
    );
    assert_eq!(step["log_bytes"], json!(12));
    assert!(step["started_at"].is_string() && step["finished_at"].is_string());
    let runs = here.json(&["runs", "--json"]);
    assert_eq!(keys(&runs), ["runs"]);
    let mut fields = keys(&runs["runs"][0]);
    fields.sort();
    assert_eq!(fields, ["commit", "created_at", "run", "status", "waiting_for"]);
    assert_eq!(
        (&runs["runs"][0]["run"], &runs["runs"][0]["status"]),
        (&json!("hello/1"), &json!("succeeded"))
    );
}

#[test]
fn a_run_that_fails_says_why_and_where_to_read_on() {
    let here = Here::new();
    here.write("broken.yaml", BROKEN);
    let said = here.windlass(&["run", "broken.yaml"]);
    assert_eq!(said.code, 1, "{said:?}");
    let mut last = said.out.lines().rev();
    assert_eq!(last.next(), Some("what it said: windlass logs broken/1 test"));
    let why = last.next().unwrap();
    assert!(
        why.starts_with("broken/1 failed after ")
            && why.contains("test: “Unit tests” ended with exit code 3"),
        "{why}"
    );
    assert_eq!(here.good(&["logs", "broken/1", "test"]), "it does not add up\n");
    let show = here.json(&["show", "broken/1", "--json"]);
    let (test, ship) = (&show["stages"][0], &show["stages"][1]);
    assert_eq!((&test["status"], &test["cause"]), (&json!("failed"), &json!("task")));
    assert_eq!((&test["steps"][0]["exit_code"], &test["steps"][1]["status"]), (&json!(3), &json!("skipped")));
    assert_eq!((&ship["status"], &ship["reason"]), (&json!("skipped"), &json!("test failed")));
    let people = here.good(&["show", "broken/1"]);
    assert!(people.contains("✗ test  failed in ") && people.contains("exit code 3"), "{people}");
    let again = here.windlass(&["resume", "broken/1"]);
    assert_eq!(again.code, 1);
    assert!(again.out.starts_with("there is nothing to go on with: broken/1 failed"), "{again:?}");
}

#[test]
fn runs_are_listed_newest_first_and_by_what_one_looks_for() {
    let here = Here::new();
    here.write("hello.yaml", GREETING).write("broken.yaml", BROKEN);
    here.good(&["run", "hello.yaml"]);
    here.windlass(&["run", "broken.yaml"]);
    here.good(&["run", "hello.yaml"]);
    let listed = |arguments: &[&str]| {
        let list = here.json(&[&["runs", "--json"], arguments].concat());
        list["runs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|run| run["run"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(&[]), ["hello/2", "broken/1", "hello/1"]);
    assert_eq!(listed(&["--pipeline", "hello"]), ["hello/2", "hello/1"]);
    assert_eq!(listed(&["--status", "failed"]), ["broken/1"]);
    assert_eq!(listed(&["--limit", "1"]), ["hello/2"]);
    assert_eq!(here.good(&["runs"]).lines().count(), 4);
}

#[test]
fn a_directory_without_runs_stays_as_it_is() {
    let here = Here::new();
    assert_eq!(here.json(&["runs", "--json"]), json!({ "runs": [] }));
    assert_eq!(here.json(&["status", "--json"]), json!({ "fleets": [] }));
    for arguments in
        [&["show", "hello/1"][..], &["logs", "hello/1"], &["cancel", "hello/1"], &["resume", "hello/1"]]
    {
        let said = here.windlass(arguments);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.starts_with("error: there is no run hello/1 in "), "{said:?}");
    }
    assert!(!here.path("data").exists());
}

#[test]
fn output_is_followed_from_another_terminal_across_steps() {
    let here = Here::new();
    let (held, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages:\n  one: {{ steps: [{held}, {{ run: echo second }}] }}\n  two: {{ needs: one, steps: [{{ run: echo third }}] }}\n"));
    let run = here.start(&["run", "slow.yaml"]);
    gate.begun();
    let mut logs = here.start(&["logs", "slow/1", "--follow"]);
    logs.wait_for("begun");
    let so_far = here.json(&["show", "slow/1", "--json"]);
    assert_eq!(so_far["stages"][0]["steps"][0]["status"], json!("running"));
    assert_eq!(so_far["stages"][0]["steps"][0]["log_bytes"], json!(6));
    gate.go();
    let said = logs.end();
    assert_eq!(
        said.out,
        "== one / Held (attempt 1)\nbegun\ndone\n== one / echo second (attempt 1)\nsecond\n== two / echo third (attempt 1)\nthird"
    );
    assert_eq!((said.code, run.end().code), (0, 0));
}

#[test]
fn a_retried_stage_keeps_the_output_of_its_attempts() {
    let here = Here::new();
    let flag = here.path("flag");
    here.write(
        "flaky.yaml",
        &format!(
            "name: flaky\nstages:\n  one:\n    retry: {{ attempts: 2, on: [task] }}\n    steps: [{{ run: 'test -e {0} && echo good && exit 0; touch {0}; echo bad; exit 1' }}]\n",
            flag.display()
        ),
    );
    let out = here.good(&["run", "flaky.yaml"]);
    assert!(out.contains("one is to be tried again"), "{out}");
    assert_eq!(here.good(&["logs", "flaky/1", "one"]), "good\n");
    assert_eq!(here.good(&["logs", "flaky/1", "one", "--attempt", "1"]), "bad\n");
    let beyond = here.windlass(&["logs", "flaky/1", "one", "--attempt", "3"]);
    assert_eq!((beyond.code, beyond.err.as_str()), (2, "error: one has had 2 attempts, not 3\n"));
}

#[test]
fn the_data_directory_is_its_owners_alone_and_not_used_without_its_journal() {
    use std::os::unix::fs::PermissionsExt as _;
    let here = Here::new();
    here.write("greet.yaml", "name: greet\nstages: { hello: { steps: [{ run: echo hello }] } }\n");
    let made = here.shell(
        "git init -q source && git -C source -c user.name=o -c user.email=o@localhost commit -q --allow-empty -m one",
    );
    assert_eq!(made.code, 0, "{made:?}");
    here.good(&["run", "greet.yaml", "--source", "source"]);
    let mode = std::fs::metadata(here.path("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{mode:o}");

    for name in ["windlass.db", "windlass.db-wal", "windlass.db-shm"] {
        let _ = std::fs::remove_file(here.path("data").join(name));
    }
    for empty in [false, true] {
        if empty {
            here.write("data/windlass.db", "");
        }
        let said = here.windlass(&["run", "greet.yaml"]);
        assert!(said.code == 3 && said.err.contains("restore it from a backup"), "{said:?}");
    }
    std::fs::rename(here.path("data/logs"), here.path("logs")).unwrap();
    here.good(&["run", "greet.yaml"]);
}
