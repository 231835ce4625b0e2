//! What programs read: the shapes of `show --json` and `runs --json`, which never lose a field.

use serde_json::{Value, json};

use crate::support::{World, edit, is, stage};

/// What a field may hold.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Text,
    Number,
    Flag,
    Time,
    List,
    Map,
    /// Nothing.
    Null,
}

use Holds::{Flag, List, Map, Null, Number, Text, Time};

const RUN: &[(&str, &[Holds])] = &[
    ("schema", &[Number]),
    ("run", &[Text]),
    ("pipeline", &[Text]),
    ("number", &[Number]),
    ("version", &[Text]),
    ("commit", &[Text, Null]),
    ("branch", &[Text, Null]),
    ("author", &[Text, Null]),
    ("message", &[Text, Null]),
    ("status", &[Text]),
    ("actor", &[Text]),
    ("actor_verified", &[Flag]),
    ("params", &[Map]),
    ("waiting_for", &[Text, Null]),
    ("created_at", &[Time]),
    ("finished_at", &[Time, Null]),
    ("cancelled_by", &[Text, Null]),
    ("stages", &[List]),
    ("gates", &[List]),
];

const STAGE: &[(&str, &[Holds])] = &[
    ("name", &[Text]),
    ("uses", &[Text]),
    ("needs", &[List]),
    ("environment", &[Text, Null]),
    ("status", &[Text]),
    ("attempt", &[Number]),
    ("attempts", &[Number]),
    ("waiting_for", &[Text, Null]),
    ("cause", &[Text, Null]),
    ("reason", &[Text, Null]),
    ("started_at", &[Time, Null]),
    ("finished_at", &[Time, Null]),
    ("steps", &[List]),
    ("outputs", &[Map]),
    ("artifacts", &[Map]),
    ("image", &[Map, Null]),
];

const STEP: &[(&str, &[Holds])] = &[
    ("name", &[Text]),
    ("status", &[Text]),
    ("exit_code", &[Number, Null]),
    ("started_at", &[Time, Null]),
    ("finished_at", &[Time, Null]),
    ("log_bytes", &[Number]),
    ("reason", &[Text, Null]),
];

const LINE: &[(&str, &[Holds])] = &[
    ("run", &[Text]),
    ("status", &[Text]),
    ("commit", &[Text, Null]),
    ("waiting_for", &[Text, Null]),
    ("created_at", &[Time]),
];

const RUN_STATUS: &[&str] =
    &["queued", "running", "waiting", "cancelling", "succeeded", "failed", "cancelled", "superseded"];
const STAGE_STATUS: &[&str] =
    &["pending", "queued", "running", "retrying", "waiting", "succeeded", "failed", "skipped", "cancelled"];
const STEP_STATUS: &[&str] = &["pending", "running", "succeeded", "failed", "cancelled", "skipped"];
const CAUSE: &[&str] = &["task", "infrastructure", "timeout", "cancelled", "policy"];

fn fits(value: &Value, holds: Holds) -> bool {
    match (value, holds) {
        (Value::Null, Null) | (Value::Bool(_), Flag) | (Value::Array(_), List) | (Value::Object(_), Map) => {
            true
        }
        (Value::String(text), Time) => text.parse::<jiff::Timestamp>().is_ok(),
        (Value::String(text), Text) => !text.is_empty(),
        (Value::Number(number), Number) => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

/// Every documented field is there and holds what it should.
#[track_caller]
fn has_shape(value: &Value, shape: &[(&str, &[Holds])]) {
    for (name, holds) in shape {
        let field = value.get(name).unwrap_or_else(|| panic!("no field {name}: {value:#}"));
        assert!(holds.iter().any(|holds| fits(field, *holds)), "{name} is {field}: {value:#}");
    }
}

#[track_caller]
fn is_one_of(value: &Value, words: &[&str]) {
    assert!(value.as_str().is_some_and(|word| words.contains(&word)), "{value} is none of {words:?}");
}

#[track_caller]
fn is_a_run(view: &Value) {
    has_shape(view, RUN);
    assert_eq!(view["schema"], 1);
    assert_eq!(view["run"], format!("{}/{}", view["pipeline"].as_str().unwrap(), view["number"]));
    is_one_of(&view["status"], RUN_STATUS);
    let final_status = ["succeeded", "failed", "cancelled"].contains(&view["status"].as_str().unwrap());
    assert_eq!(view["finished_at"].is_null(), !final_status);
    for stage in view["stages"].as_array().unwrap() {
        has_shape(stage, STAGE);
        is_one_of(&stage["status"], STAGE_STATUS);
        if !stage["cause"].is_null() {
            is_one_of(&stage["cause"], CAUSE);
        }
        assert!(
            stage["status"] != "failed" || !stage["cause"].is_null() && !stage["reason"].is_null(),
            "{stage:#}"
        );
        for step in stage["steps"].as_array().unwrap() {
            has_shape(step, STEP);
            is_one_of(&step["status"], STEP_STATUS);
        }
    }
}

#[test]
fn a_run_has_its_shape_from_its_beginning_to_its_end() {
    let world = World::new();
    world.hold("test");
    world.hold("e2e");
    let run = world.run(&["--as", "octocat"]);
    is_a_run(&world.until("shop/1", "it is tested", |run| is(run, "test", "running")));
    world.release("test");
    let view = world.until("shop/1", "it is tested in staging", |run| is(run, "e2e", "running"));
    is_a_run(&view);
    assert_eq!((&view["actor"], &view["actor_verified"]), (&"octocat".into(), &false.into()));
    assert_eq!(stage(&view, "production")["status"], "pending");
    world.release("e2e");
    let view = world.until("shop/1", "it waits", |run| run["status"] == "waiting");
    is_a_run(&view);
    // The same document from the store when nobody holds the directory.
    run.kill();
    let stored = world.show("shop/1");
    is_a_run(&stored);
    let sorts = |view: &Value| stage(view, "build")["artifacts"].clone();
    assert_eq!(sorts(&stored), sorts(&view));
    world.windlass(&["promote", "shop/1", "production"]).with(0);
    let ended = world.start(&["resume", "shop/1", "--json"]).ended().with(0).json();
    is_a_run(&ended);
    assert_eq!(ended, world.show("shop/1"));

    let uses: Vec<&Value> = ended["stages"].as_array().unwrap().iter().map(|stage| &stage["uses"]).collect();
    let kinds = ["checkout", "script", "script", "upload", "bake", "deploy", "script", "deploy", "certify"];
    let mut wanted: Vec<Value> = kinds.iter().map(|kind| json!(kind)).collect();
    wanted.swap(7, 8);
    assert_eq!(uses, wanted.iter().collect::<Vec<_>>());
    let tests = &stage(&ended, "test")["steps"][0];
    assert_eq!((&tests["name"], &tests["exit_code"]), (&"Unit tests".into(), &0.into()));
    assert!(tests["log_bytes"].as_u64().unwrap() > 0);
    world.end();
}

#[test]
fn a_failed_run_says_what_failed_and_what_was_left_out() {
    let world = World::new();
    edit(&world.pipeline, "run: ./step test ./test.sh", "run: echo 'two of three are wrong'; exit 4");
    let view = world.run(&["--json"]).ended().with(1).json();
    is_a_run(&view);
    let test = stage(&view, "test");
    assert_eq!((&test["status"], &test["cause"]), (&"failed".into(), &"task".into()));
    assert!(test["reason"].as_str().unwrap().contains("exit code 4: two of three are wrong"), "{test:#}");
    assert_eq!(test["steps"][0]["exit_code"], 4);
    assert_eq!(stage(&view, "upload")["status"], "skipped");
    assert_eq!(stage(&view, "build")["status"], "succeeded");
    let logs = world.windlass(&["logs", "shop/1", "test"]).with(0);
    assert_eq!(logs.out, "two of three are wrong\n");
    world.end();
}

#[test]
fn runs_are_listed_newest_first() {
    let world = World::new();
    assert_eq!(world.windlass(&["runs", "--json"]).with(0).json(), json!({ "runs": [] }));
    world.ship();
    let driver = world.run(&[]);
    world.until("shop/2", "it waits", |run| run["status"] == "waiting");
    driver.kill();
    let runs = world.runs();
    runs.iter().for_each(|line| has_shape(line, LINE));
    let names: Vec<&Value> = runs.iter().map(|line| &line["run"]).collect();
    assert_eq!(names, ["shop/2", "shop/1"]);
    assert_eq!((&runs[0]["status"], &runs[1]["status"]), (&"waiting".into(), &"succeeded".into()));
    assert!(runs[1]["waiting_for"].is_null());
    let waiting = world.windlass(&["runs", "--status", "waiting", "--json"]).with(0).json();
    assert_eq!(waiting["runs"].as_array().unwrap().len(), 1);
    world.windlass(&["cancel", "shop/2"]).with(0);
    world.resume("shop/2").ended().with(1);
    world.end();
}
