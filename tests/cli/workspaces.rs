//! A workspace is there as long as an attempt needs it, and an attempt without one says so.

use std::fs;

use crate::here::Here;

#[test]
fn an_attempt_whose_workspace_is_gone_fails_with_its_cause_and_does_not_go_on_in_an_empty_one() {
    let here = Here::new();
    let (step, gate) = here.held_step("held");
    let text = format!(
        "name: two\nstages:\n  a:\n    steps: [{{ run: echo precious > made }}, {step}, {{ run: 'test -e made || touch {}' }}]\n",
        here.path("went-on").display()
    );
    here.write("two.yaml", &text);
    let run = here.start(&["run", "two.yaml"]);
    gate.begun();
    run.crash();
    fs::remove_dir_all(here.path("data/workspaces")).unwrap();
    gate.go();
    let said = here.windlass(&["resume", "two/1"]);
    assert_eq!(said.code, 1, "{said:?}");
    let stage = &here.json(&["show", "two/1", "--json"])["stages"][0];
    assert_eq!(stage["cause"], "infrastructure", "{stage:#}");
    assert!(
        stage["reason"].as_str().unwrap().contains("is gone, and with it what the attempt's steps made"),
        "{stage:#}"
    );
    assert!(!here.path("went-on").exists(), "the third step ran without what the first had made");
    assert_eq!(here.starts("held"), 1);
}
