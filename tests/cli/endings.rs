//! How a foreground run is left, and how it is taken up again.

use rustix::process::Signal;
use serde_json::json;

use crate::here::{Gate, Here, Running};

/// A run whose first step has succeeded and whose second is under way.
fn under_way(here: &Here) -> (Running, Gate) {
    let (held, gate) = here.held_step("held");
    let first = here.path("first");
    here.write(
        "slow.yaml",
        &format!(
            "name: slow\nstages:\n  before: {{ steps: [{{ run: 'echo x >> {}' }}] }}\n  one: {{ needs: before, steps: [{held}] }}\n  after: {{ needs: one, steps: [{{ run: echo after }}] }}\n",
            first.display()
        ),
    );
    let mut run = here.start(&["run", "slow.yaml"]);
    run.wait_for("one: Held");
    gate.begun();
    (run, gate)
}

/// Carries the run on to its end, and sees that nothing was done twice.
fn carry_on(here: &Here, gate: &Gate) {
    let mut resumed = here.start(&["resume", "slow/1"]);
    resumed.wait_for("one: Held");
    gate.go();
    let said = resumed.end();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(here.starts("held"), 1);
    assert_eq!(std::fs::read_to_string(here.path("first")).unwrap(), "x\n");
    let show = here.json(&["show", "slow/1", "--json"]);
    assert_eq!((&show["status"], &show["stages"][1]["attempts"]), (&json!("succeeded"), &json!(1)));
    assert_eq!(here.good(&["logs", "slow/1", "one"]), "begun\ndone\n");
    let done = here.windlass(&["resume", "slow/1"]);
    assert_eq!(done.code, 0);
    assert!(done.out.starts_with("there is nothing to go on with: slow/1 succeeded"), "{done:?}");
}

#[test]
fn a_killed_run_is_resumed_and_its_running_step_not_started_again() {
    let here = Here::new();
    let (run, gate) = under_way(&here);
    run.crash();
    assert!(here.path("data/windlass.sock").exists(), "what a holder leaves that was killed");
    let follow = here.windlass(&["logs", "slow/1", "one", "--follow"]);
    assert_eq!((follow.code, follow.out.as_str()), (3, "begun\n"));
    assert!(follow.err.contains("windlass resume slow/1 carries it on"), "{follow:?}");
    carry_on(&here, &gate);
}

#[test]
fn ctrl_c_cancels() {
    let here = Here::new();
    let (mut run, _gate) = under_way(&here);
    run.signal(Signal::INT);
    run.wait_for("cancelling slow/1: what runs is told to stop; Ctrl-C again leaves at once");
    let said = run.end();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.lines().last().unwrap().starts_with("slow/1 was cancelled by octocat after "),
        "{said:?}"
    );
    let show = here.json(&["show", "slow/1", "--json"]);
    assert_eq!((&show["status"], &show["stages"][2]["status"]), (&json!("cancelled"), &json!("skipped")));
}

#[test]
fn a_second_ctrl_c_leaves_at_once() {
    let here = Here::new();
    let (held, gate) = here.held_step("deaf");
    // It hears no signal, so that cancelling it takes its whole grace.
    let deaf = held.replace("echo begun;", "trap '' TERM INT; echo begun;");
    here.write("deaf.yaml", &format!("name: deaf\nstages: {{ one: {{ steps: [{deaf}] }} }}\n"));
    let mut run = here.start(&["run", "deaf.yaml"]);
    run.wait_for("one: Held");
    gate.begun();
    run.signal(Signal::INT);
    run.wait_for("cancelling deaf/1");
    run.signal(Signal::INT);
    let said = run.end();
    assert_eq!(said.code, 3, "{said:?}");
    assert!(
        said.err.contains("left deaf/1 before its end") && said.err.contains("windlass resume deaf/1"),
        "{said:?}"
    );
    assert_eq!(here.json(&["show", "deaf/1", "--json"])["status"], json!("cancelling"));
    let resumed = here.windlass(&["resume", "deaf/1"]);
    assert_eq!(resumed.code, 1, "{resumed:?}");
    assert_eq!(here.starts("deaf"), 1);
}

#[test]
fn a_terminated_run_is_paused() {
    let here = Here::new();
    let (run, gate) = under_way(&here);
    run.signal(Signal::TERM);
    let said = run.end();
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("to carry it on: windlass resume slow/1"), "{said:?}");
    carry_on(&here, &gate);
}

#[test]
fn whoever_stops_reading_is_no_error() {
    let here = Here::new();
    here.write("long.yaml", "name: long\nstages: { one: { steps: [{ run: seq 100000 }] } }\n");
    here.good(&["run", "long.yaml"]);
    let script =
        format!("{} logs long/1 | head -n 1; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_windlass"));
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .env("WINDLASS_DATA", here.path("data"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "== one / seq 100000 (attempt 1)\n0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
