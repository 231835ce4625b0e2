use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ending, news, screen};
use crate::run::view::RunView;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn stage(name: &str, status: &str) -> Value {
    let started = !matches!(status, "pending" | "queued" | "waiting" | "skipped");
    let ended = matches!(status, "succeeded" | "failed" | "cancelled");
    json!({
        "name": name, "uses": "script", "needs": [], "environment": null, "status": status,
        "attempt": u32::from(started), "attempts": u32::from(started), "waiting_for": null,
        "cause": (status == "failed").then_some("task"), "reason": null,
        "started_at": started.then(|| at(1)), "finished_at": ended.then(|| at(4)),
        "steps": [], "outputs": {}, "artifacts": {}, "image": null,
    })
}

fn step(name: &str, status: &str, started: i64) -> Value {
    json!({
        "name": name, "status": status, "exit_code": null, "started_at": at(started),
        "finished_at": null, "log_bytes": 0, "reason": null,
    })
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

fn view(status: &str, stages: &[Value]) -> RunView {
    let ended = matches!(status, "succeeded" | "failed" | "cancelled");
    serde_json::from_value(json!({
        "schema": 1, "run": "shop/7", "pipeline": "shop", "number": 7, "version": "7", "commit": null,
        "branch": "a\u{1b}[31mb\nc", "author": null, "message": null, "status": status,
        "actor": "octocat", "actor_verified": false, "params": {}, "waiting_for": null,
        "created_at": at(0), "finished_at": ended.then(|| at(5)), "cancelled_by": null,
        "stages": stages, "gates": [],
    }))
    .unwrap()
}

/// The news without the time of day, which depends on where the test runs.
fn said(before: Option<&RunView>, now: &RunView) -> Vec<String> {
    let lines = news::lines(before, now, at(9), "", None);
    lines.into_iter().map(|line| line[9..].to_owned()).collect()
}

fn drawn(view: &RunView) -> String {
    let lines = screen::lines(view, at(3));
    anstream::adapter::strip_str(&lines.join("\n")).to_string()
}

#[test]
fn each_change_is_said_once_in_the_order_of_time() {
    let running = with(stage("test", "running"), "steps", json!([step("Unit tests", "running", 2)]));
    let first = view("running", &[stage("lint", "succeeded"), running]);
    assert_eq!(
        said(None, &first),
        ["shop/7 begins", "test started", "test: Unit tests", "lint succeeded in 3.0 s"]
    );
    assert!(said(Some(&first), &first).is_empty());
    let failed = with(stage("test", "failed"), "reason", json!("it\nbroke"));
    let second = view("failed", &[stage("lint", "succeeded"), failed]);
    assert_eq!(said(Some(&first), &second), ["test failed after 3.0 s: it broke"]);
}

#[test]
fn a_run_begins_with_its_commit() {
    let mut view = view("running", &[]);
    view.commit = Some("9f3c2a1b00000000000000000000000000000000".parse().unwrap());
    view.message = Some("Sell \u{7}cheese\n\nAnd more.".to_owned());
    assert_eq!(said(None, &view), ["shop/7 begins with 9f3c2a1b of a[31mb c: Sell cheese"]);
}

#[test]
fn waiting_says_why_and_a_new_reason_again() {
    let waits =
        |why: &str| view("waiting", &[with(stage("production", "waiting"), "waiting_for", json!(why))]);
    let first = waits("waiting for shop/6");
    assert_eq!(said(None, &first)[1..], ["production: waiting for shop/6"]);
    assert_eq!(said(Some(&first), &waits("waiting for shop/5")), ["production: waiting for shop/5"]);
    assert!(said(Some(&first), &first).is_empty());
}

#[test]
fn a_screen_has_a_line_for_each_stage_and_no_control_characters_from_outside() {
    let steps = json!([step("Swap batch 2 of 4", "running", 2)]);
    let view = view(
        "running",
        &[
            stage("test", "succeeded"),
            with(stage("production", "running"), "steps", steps),
            with(stage("later", "waiting"), "waiting_for", json!("because\u{7} of\nthat")),
        ],
    );
    insta::assert_snapshot!(drawn(&view), @r"
    shop/7 a[31mb c  running  3.0 s
      ✓ test        succeeded      3.0 s
      ● production  running        2.0 s  ██████░░░░░░░░░░ Swap batch 2 of 4
      ‖ later       waiting               because of that
    ");
}

#[test]
fn a_large_pipeline_fits_on_a_screen() {
    let mut stages: Vec<Value> = (0..400).map(|i| stage(&format!("s{i}"), "succeeded")).collect();
    stages.extend((0..200).map(|i| stage(&format!("r{i}"), "running")));
    stages.extend((0..400).map(|i| stage(&format!("p{i}"), "pending")));
    let drawn = drawn(&view("running", &stages));
    assert_eq!(drawn.lines().count(), 32);
    assert!(drawn.ends_with("400 succeeded, 200 running, 400 pending of 1000 stages"), "{drawn}");
}

#[test]
fn names_that_only_look_like_batches_are_no_bar() {
    for name in ["Swap batch 5 of 4", "batch 0 of 0", "batch x of 3", "batch 1 of 99999999999999999999"] {
        let stage = with(stage("a", "running"), "steps", json!([step(name, "running", 1)]));
        assert!(!drawn(&view("running", &[stage])).contains('░'), "{name}");
    }
}

#[test]
fn the_last_line_names_the_command_that_tells_more() {
    let plain = |view: &RunView| anstream::adapter::strip_str(&ending(view, " --data d")).to_string();
    assert_eq!(plain(&view("succeeded", &[])), "shop/7 succeeded in 5.0 s");
    let failed = with(stage("test", "failed"), "reason", json!("“Unit” ended with exit code 1"));
    let failed = with(failed, "steps", json!([step("Unit", "failed", 1)]));
    assert_eq!(
        plain(&view("failed", &[failed])),
        "shop/7 failed after 5.0 s: test: “Unit” ended with exit code 1\n\
         what it said: windlass logs shop/7 test --data d"
    );
}

#[test]
fn who_is_asked_at_a_gate_is_told_the_command_and_the_page_where_there_is_one() {
    let mut view = view("waiting", &[]);
    let gate = json!({
        "environment": "production", "status": "waiting", "reached_at": at(1), "decided_at": null,
        "actor": null, "reason": null, "ships": crate::run::event::Shipment::default(),
    });
    view.gates = vec![serde_json::from_value(gate).unwrap()];
    let asked = |pages| {
        let lines = news::gates(None, &view, " --data d", pages);
        lines.into_iter().find(|line| line.contains("to ship it")).unwrap()
    };
    let command = "windlass promote shop/7 production --data d";
    assert_eq!(asked(None), format!("  to ship it: {command}"));
    assert_eq!(
        asked(Some("http://127.0.0.1:7430")),
        format!("  to ship it: open http://127.0.0.1:7430/runs/shop/7 and click Promote, or: {command}")
    );
}
