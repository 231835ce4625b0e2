//! What people do to runs from another terminal, with and without somebody who holds the directory.

use serde_json::json;

use crate::here::{Here, Running};

const GATED: &str = "\
name: gated
stages:
  build: { steps: [{ run: echo built }] }
  ship: { needs: build, environment: production, steps: [{ run: echo shipped }] }
";

/// A run that waits at the gate of production.
fn at_the_gate(here: &Here) -> Running {
    here.with_gate("gated").write("gated.yaml", GATED);
    let mut run = here.start(&["run", "gated.yaml", "--config", "windlass.yaml"]);
    run.wait_for("to ship it: windlass promote gated/1 production");
    run
}

#[test]
fn a_run_waits_for_a_promotion_and_goes_on() {
    let here = Here::new();
    let run = at_the_gate(&here);
    let waits = here.json(&["show", "gated/1", "--json"]);
    assert_eq!((&waits["status"], &waits["gates"][0]["status"]), (&json!("waiting"), &json!("waiting")));
    assert!(waits["waiting_for"].as_str().unwrap().contains("windlass promote gated/1 production"));
    let listed = here.json(&["runs", "--status", "waiting", "--json"]);
    assert_eq!(listed["runs"][0]["waiting_for"], waits["waiting_for"]);
    let out = here.good(&["promote", "gated/1", "production", "--as", "hubot"]);
    assert!(
        out.starts_with("gated/1 is promoted to production by hubot\n  nothing runs in production yet\n"),
        "{out}"
    );
    let said = run.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("production promoted by hubot"), "{said:?}");
    let gate = &here.json(&["show", "gated/1", "--json"])["gates"][0];
    assert_eq!((&gate["status"], &gate["actor"]), (&json!("promoted"), &json!("hubot")));
    let again = here.windlass(&["promote", "gated/1", "production"]);
    assert_eq!(again.code, 2);
    assert!(again.err.contains("has ended already"), "{again:?}");
}

#[test]
fn a_rejected_run_fails_with_the_reason() {
    let here = Here::new();
    let run = at_the_gate(&here);
    let unknown = here.windlass(&["reject", "gated/1", "staging", "--reason", "no"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.err.contains("it has production"), "{unknown:?}");
    here.good(&["reject", "gated/1", "production", "--reason", "not today"]);
    let said = run.end();
    assert_eq!(said.code, 1);
    assert!(said.out.contains("octocat rejected production: not today"), "{said:?}");
    assert_eq!(here.json(&["show", "gated/1", "--json"])["stages"][1]["cause"], json!("policy"));
}

#[test]
fn the_command_line_promotes_beforehand() {
    let here = Here::new();
    here.with_gate("gated").write("gated.yaml", GATED);
    here.good(&["run", "gated.yaml", "--config", "windlass.yaml", "--promote", "production"]);
    let gate = &here.json(&["show", "gated/1", "--json"])["gates"][0];
    assert_eq!(gate["actor"], json!("policy:command-line"));
}

#[test]
fn a_run_is_cancelled_from_another_terminal() {
    let here = Here::new();
    let (held, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ one: {{ steps: [{held}] }} }}\n"));
    let run = here.start(&["run", "slow.yaml"]);
    gate.begun();
    let out = here.good(&["cancel", "slow/1", "--reason", "wrong branch"]);
    assert!(out.starts_with("slow/1 is "), "{out}");
    let said = run.end();
    assert_eq!(said.code, 1);
    assert!(
        said.out.lines().last().unwrap().starts_with("slow/1 was cancelled by octocat: wrong branch after "),
        "{said:?}"
    );
    assert_eq!(here.json(&["show", "slow/1", "--json"])["stages"][0]["status"], json!("cancelled"));
}

#[test]
fn acts_are_recorded_when_nobody_is_there_and_carried_out_later() {
    let here = Here::new();
    at_the_gate(&here).crash();
    let idle = here.json(&["show", "gated/1", "--json"]);
    let interrupted = json!("interrupted: windlass resume gated/1 carries it on");
    assert_eq!(idle["waiting_for"], interrupted);
    assert_eq!(here.json(&["runs", "--json"])["runs"][0]["waiting_for"], interrupted);
    let out = here.good(&["promote", "gated/1", "production"]);
    assert!(
        out.ends_with("nobody drives gated/1 at the moment; to carry it on: windlass resume gated/1\n"),
        "{out}"
    );
    let out = here.good(&["resume", "gated/1"]);
    assert!(out.lines().last().unwrap().starts_with("gated/1 succeeded in "), "{out}");
    let show = here.json(&["show", "gated/1", "--json"]);
    assert_eq!((&show["gates"][0]["actor"], &show["stages"][0]["attempts"]), (&json!("octocat"), &json!(1)));
}

#[test]
fn a_second_run_is_driven_by_whoever_holds_the_directory() {
    let here = Here::new();
    let run = at_the_gate(&here);
    here.write("hello.yaml", "name: hello\nstages: { one: { steps: [{ run: echo hello }] } }\n");
    let beside = here.windlass(&["run", "hello.yaml"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert!(beside.out.starts_with("hello/1 is driven by process "), "{beside:?}");
    assert!(beside.out.contains("(windlass run), which holds "), "{beside:?}");
    assert!(beside.out.lines().last().unwrap().starts_with("hello/1 succeeded in "), "{beside:?}");
    here.good(&["cancel", "gated/1"]);
    assert_eq!(run.end().code, 1);
}

#[test]
fn a_run_goes_on_in_its_own_terminal_when_the_holder_dies() {
    let here = Here::new();
    let holder = at_the_gate(&here);
    let (held, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ one: {{ steps: [{held}] }} }}\n"));
    let mut beside = here.start(&["run", "slow.yaml"]);
    beside.wait_for("slow/1 is driven by process ");
    gate.begun();
    holder.crash();
    beside.wait_for("whoever drove slow/1 went away");
    gate.go();
    let said = beside.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(here.starts("held"), 1);
}
