//! What was stored once is read for ever.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// Events of format 1 as they lie on disks, one a line: of each kind, and with each word that can stand in
/// one. Lines are added and never changed.
const STORED: &str = include_str!("../../../tests/data/events-1.jsonl");

fn stored() -> impl Iterator<Item = (String, Value)> {
    STORED.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        (line["of"].as_str().unwrap().to_owned(), line["event"].take())
    })
}

/// Whether everything that `stored` says, `read` says too. It may say more: fields with defaults.
fn says_all(read: &Value, stored: &Value) -> bool {
    match (read, stored) {
        (Value::Object(read), Value::Object(stored)) => {
            stored.iter().all(|(key, stored)| says_all(read.get(key).unwrap_or(&Value::Null), stored))
        }
        (Value::Array(read), Value::Array(stored)) => {
            read.len() == stored.len() && read.iter().zip(stored).all(|(read, stored)| says_all(read, stored))
        }
        (read, stored) => read == stored,
    }
}

fn again<T: DeserializeOwned + Serialize>(stored: &Value) -> Value {
    let read: T = serde_json::from_value(stored.clone()).unwrap_or_else(|error| panic!("{error}: {stored}"));
    serde_json::to_value(&read).unwrap()
}

#[test]
fn every_stored_event_is_read_with_everything_that_it_says() {
    for (of, stored) in stored() {
        let read = match of.as_str() {
            "run" => again::<RunEvent>(&stored),
            "fleet" => again::<FleetEvent>(&stored),
            "environment" => again::<EnvironmentEvent>(&stored),
            other => panic!("nothing is called {other}"),
        };
        assert!(says_all(&read, &stored), "{stored}\nwas read as\n{read}");
    }
}

/// The words that the type takes, by what it says of one that it does not.
fn words<T: DeserializeOwned>(wrong: Value) -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(wrong) else { panic!("it takes any word") };
    let words: BTreeSet<String> =
        error.to_string().split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(words.len() > 1, "{error}");
    words
}

/// What stands in the samples at the place that `at` says: words, or what has one as its only key.
fn sampled(of: &str, at: &str) -> BTreeSet<String> {
    let events = stored().filter(|(kind, _)| kind == of);
    let found = events.filter_map(|(_, event)| {
        let found = event.pointer(at)?;
        found.as_str().or_else(|| found.as_object()?.keys().next().map(String::as_str)).map(str::to_owned)
    });
    found.collect()
}

#[test]
fn there_is_a_stored_event_of_every_kind_and_with_every_word() {
    let kind = || json!({ "type": "?" });
    assert_eq!(sampled("run", "/type"), words::<RunEvent>(kind()));
    assert_eq!(sampled("fleet", "/type"), words::<FleetEvent>(kind()));
    assert_eq!(sampled("environment", "/type"), words::<EnvironmentEvent>(kind()));
    assert_eq!(sampled("run", "/origin/trigger/kind"), words::<Trigger>(json!({ "kind": "?" })));
    assert_eq!(sampled("run", "/origin/promote"), words::<Promote>(json!("?")));
    assert_eq!(sampled("run", "/ending"), words::<Ending>(json!("?")));
    assert_eq!(sampled("run", "/failure/cause"), words::<Cause>(json!("?")));
    assert_eq!(sampled("fleet", "/end/kind"), words::<RolloutEnd>(json!({ "kind": "?" })));
    let edits: BTreeSet<String> = (0..3).flat_map(|n| sampled("run", &format!("/edits/{n}/of"))).collect();
    assert_eq!(edits, words::<Edit>(json!({ "of": "?" })));
}
