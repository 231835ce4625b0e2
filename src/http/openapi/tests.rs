use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(&DOCUMENT).unwrap()
}

#[test]
fn every_route_of_the_api_is_described() {
    // A described route enters the router by its description. One that does not would be a plain
    // `.route(` with a path of the API.
    let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http")).unwrap();
    let mut seen = 0;
    for source in sources.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some()) {
        let text = std::fs::read_to_string(&source).unwrap();
        seen += 1;
        for (at, _) in text.match_indices(".route(") {
            let path = text[at + 7..].trim_start();
            let plain = path.starts_with("\"/api/") || path.starts_with("\"/webhooks/");
            assert!(!plain, "{} has a route that is not described: {:.60}", source.display(), path);
        }
    }
    assert!(seen > 10, "{seen} sources");
}

#[test]
fn every_description_says_what_it_answers_and_how_it_fails() {
    let document = document();
    let mut ids = BTreeSet::new();
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with("/api/v1/") || path.starts_with("/webhooks/"), "{path}");
        for (method, operation) in operations.as_object().unwrap() {
            seen += 1;
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(ids.insert(id.to_owned()), "two operations are called {id}");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{id} says nothing");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{id} is never good");
            if id != "describe" {
                let error = &responses["4XX"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(error, "#/components/schemas/Problem", "{id}");
            }
        }
    }
    assert!(seen >= 11, "{seen}");
}

#[test]
fn what_is_referred_to_is_there() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} is not there");
    }
}
