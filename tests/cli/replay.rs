//! Stages that are done again, with and without somebody who holds the directory.

use serde_json::json;

use crate::here::Here;

/// Fails until its param is good.
const MOODY: &str = "\
name: moody
params: { mood: { default: bad } }
stages:
  first: { steps: [{ run: echo first }] }
  build:
    env: { MOOD: '${{ params.mood }}', LEVEL: low }
    steps: [{ name: Look, run: 'echo mood $MOOD level $LEVEL; test $MOOD = good' }]
  after: { needs: [first, build], steps: [{ run: echo after }] }
";

fn failed(here: &Here) {
    here.write("moody.yaml", MOODY);
    let said = here.windlass(&["run", "moody.yaml"]);
    assert_eq!(said.code, 1, "{said:?}");
}

#[test]
fn a_failed_run_goes_on_with_another_param() {
    let here = Here::new();
    failed(&here);
    // The run carries its text.
    std::fs::remove_file(here.path("moody.yaml")).unwrap();
    let set = ["--set", "params.mood=good", "--set", "build.env.LEVEL=high"];
    let out = here.good(&[&["replay", "moody/1", "--failed", "--as", "hubot"][..], &set].concat());
    assert!(
        out.contains("replayed by hubot: --failed, with params.mood=good, build.env.LEVEL=high"),
        "{out}"
    );
    assert!(out.contains("build started again, attempt 2"), "{out}");
    assert!(out.lines().last().unwrap().starts_with("moody/1 succeeded in "), "{out}");

    let show = here.json(&["show", "moody/1", "--json"]);
    let attempts: Vec<_> =
        show["stages"].as_array().unwrap().iter().map(|stage| &stage["attempts"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(2), &json!(1)]);
    assert_eq!((&show["status"], &show["params"]["mood"]), (&json!("succeeded"), &json!("good")));
    let replay = &show["replays"][0];
    assert_eq!((&replay["actor"], &replay["request"]), (&json!("hubot"), &json!("--failed")));
    assert_eq!(replay["stages"], json!(["build", "after"]));
    assert_eq!(replay["edits"], json!(["params.mood=good", "build.env.LEVEL=high"]));
    let history = &show["stages"][1]["history"];
    assert_eq!((&history[0]["status"], &history[0]["cause"]), (&json!("failed"), &json!("task")));
    assert_eq!(
        (&history[0]["steps"][0]["exit_code"], &history[1]["status"]),
        (&json!(1), &json!("succeeded"))
    );

    let text = here.good(&["show", "moody/1"]);
    for wanted in [
        "replayed by",
        "hubot: --failed, with params.mood=good",
        "param        mood=good",
        "attempt 1 failed",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(here.good(&["logs", "moody/1", "build"]), "mood good level high\n");
    assert_eq!(here.good(&["logs", "moody/1", "build", "--attempt", "1"]), "mood bad level low\n");
}

#[test]
fn a_replay_that_cannot_be_done_says_what_can() {
    let here = Here::new();
    failed(&here);
    let cases = [
        (&["--stage", "biuld"][..], "moody/1 has no stage biuld; did you mean build?"),
        (&["--from", "after"], "windlass replay moody/1 --stage build"),
        (&["--set", "params.moood=x"], "did you mean mood?"),
        (&["--set", "build.env.MODE=x"], "did you mean MOOD?"),
        (&["--set", "first.env.A=x"], "first of moody/1 has no \"A\" in its env"),
        (&["--set", "build.with.a=x"], "with these edits the pipeline of moody/1 is not valid"),
        (&["--set", "mood=x"], "an edit is params.NAME=VALUE"),
        (&["--stage", "build", "--from", "build"], "cannot be used with"),
    ];
    for (words, wanted) in cases {
        let said = here.windlass(&[&["replay", "moody/1"][..], words].concat());
        assert_eq!(said.code, 2, "{words:?}: {said:?}");
        assert!(said.err.contains(wanted), "{words:?}: {said:?}");
    }
    let unknown = here.windlass(&["replay", "moody/9"]);
    assert!(unknown.code == 2 && unknown.err.contains("there is no run moody/9"), "{unknown:?}");
    let show = here.json(&["show", "moody/1", "--json"]);
    assert_eq!((&show["status"], &show["replays"]), (&json!("failed"), &json!([])));
    here.good(&["replay", "moody/1", "--set", "params.mood=good"]);
    let said = here.windlass(&["replay", "moody/1", "--failed"]);
    assert!(said.code == 2 && said.err.contains("nothing of moody/1 has failed"), "{said:?}");
}

#[test]
fn whoever_holds_the_directory_drives_the_replay() {
    let here = Here::new();
    failed(&here);
    let (held, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ one: {{ steps: [{held}] }} }}\n"));
    let holder = here.start(&["run", "slow.yaml"]);
    gate.begun();
    let still = here.windlass(&["replay", "moody/1", "--json"]);
    assert_eq!(still.code, 1, "its param is as bad as before: {still:?}");
    let view: serde_json::Value = serde_json::from_str(&still.out).unwrap();
    assert_eq!((&view["status"], &view["stages"][1]["attempt"]), (&json!("failed"), &json!(2)));
    let beside = here.windlass(&["replay", "moody/1", "--set", "params.mood=good"]);
    assert_eq!(beside.code, 0, "{beside:?}");
    assert!(beside.out.starts_with("moody/1 is driven by process "), "{beside:?}");
    assert!(beside.out.lines().last().unwrap().starts_with("moody/1 succeeded in "), "{beside:?}");
    let early = here.windlass(&["replay", "slow/1", "--stage", "one"]);
    assert!(early.code == 2 && early.err.contains("one of slow/1 has not ended yet"), "{early:?}");
    gate.go();
    assert_eq!(holder.end().code, 0);
}

#[test]
fn a_replayed_run_is_unfinished_until_somebody_carries_it_on() {
    let here = Here::new();
    let (held, gate) = here.held_step("held");
    here.write("slow.yaml", &format!("name: slow\nstages: {{ one: {{ steps: [{held}] }} }}\n"));
    let run = here.start(&["run", "slow.yaml"]);
    gate.begun();
    gate.go();
    assert_eq!(run.end().code, 0);
    let replay = here.start(&["replay", "slow/1", "--stage", "one"]);
    gate.begun();
    replay.crash();
    let interrupted = json!("interrupted: windlass resume slow/1 carries it on");
    assert_eq!(here.json(&["runs", "--json"])["runs"][0]["waiting_for"], interrupted);
    gate.go();
    here.good(&["resume", "slow/1"]);
    let show = here.json(&["show", "slow/1", "--json"]);
    assert_eq!((&show["status"], &show["stages"][0]["attempts"]), (&json!("succeeded"), &json!(2)));
    assert_eq!((here.starts("held"), show["replays"].as_array().unwrap().len()), (2, 1));
}
