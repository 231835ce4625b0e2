//! Cancel always wins: over steps that do not want to end, over a runner that was stopped, and where
//! nobody drives the run.

use std::fs;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::here::Here;

/// What a cancelled step may take at most: its grace and two seconds.
const BOUND: Duration = Duration::from_secs(12);

/// Traps every signal that can be trapped, and has children that do the same, one of them far away.
const DEAF: &str = "trap '' TERM INT HUP QUIT USR1 USR2 ALRM\n\
    (while :; do sleep 1; done) &\n\
    (env -i setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' \"$PWD\" &)\n\
    echo up > \"$UP\"; while :; do sleep 1; done";

/// A pipeline `slow` of one step, which says in the file `up` that it runs.
fn slow(here: &Here, run: &str, more: &str) {
    let up = here.path("up");
    let env = json!({ "UP": up });
    let step = json!({ "name": "Slow", "run": run });
    here.write(
        "slow.yaml",
        &format!("name: slow\nstages: {{ one: {{ env: {env}, steps: [{step}] {more} }} }}\n"),
    );
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the step of `slow` runs.
fn is_up(here: &Here) {
    until("the step runs", || here.path("up").exists());
}

/// Waits until the run has ended, and answers how it looks then.
fn ended(here: &Here) -> Value {
    let mut view = Value::Null;
    until("the run ends", || {
        view = here.json(&["show", "slow/1", "--json"]);
        view["finished_at"].is_string()
    });
    view
}

/// Command lines of processes that work in the directory, or carry its name: nothing of a step may.
fn steps(here: &Here) -> Vec<String> {
    let work = here.path("data/workspaces").display().to_string();
    let shown = |pid: &str, what: &str| {
        let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| {
            let at = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            at.starts_with(&work)
                || shown(pid, "cmdline").contains(&work)
                || shown(pid, "environ").contains(&work)
        })
        .map(|pid| shown(&pid, "cmdline"))
        .filter(|line| !line.is_empty())
        .collect()
}

fn runner(here: &Here) -> Pid {
    let number = fs::read_to_string(here.path("data/runner.lock")).unwrap();
    Pid::from_raw(number.trim().parse().unwrap()).unwrap()
}

/// The stage came to its end in time. As it is recorded: on a busy machine commands take their own time.
fn in_bound(view: &Value, recorded: Timestamp) {
    let finished: Timestamp = view["stages"][0]["finished_at"].as_str().unwrap().parse().unwrap();
    let took = finished.duration_since(recorded);
    assert!(took.as_secs_f64() < BOUND.as_secs_f64(), "{took:?}");
}

fn is_cancelled(view: &Value) {
    let stage = &view["stages"][0];
    assert_eq!(
        (&view["status"], &stage["status"], &stage["cause"], &stage["steps"][0]["status"]),
        (&json!("cancelled"), &json!("cancelled"), &json!("cancelled"), &json!("cancelled")),
        "{view:#}"
    );
}

#[test]
fn a_step_that_wants_no_end_is_cancelled_in_its_bound_and_nothing_of_it_lives() {
    let here = Here::new();
    slow(&here, DEAF, "");
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    assert!(steps(&here).len() >= 3, "{:?}", steps(&here));
    here.good(&["cancel", "slow/1"]);
    let recorded = Timestamp::now();
    let view = ended(&here);
    in_bound(&view, recorded);
    assert_eq!(steps(&here), [""; 0]);
    is_cancelled(&view);
    assert_eq!(run.end().code, 1);
}

#[test]
fn a_step_that_succeeds_when_it_is_told_to_end_is_cancelled_all_the_same() {
    let here = Here::new();
    slow(&here, "trap 'exit 0' TERM; echo up > $UP; while :; do sleep 0.05; done", "");
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    here.good(&["cancel", "slow/1"]);
    is_cancelled(&ended(&here));
    assert_eq!(run.end().code, 1);
}

#[test]
fn a_stopped_runner_holds_up_neither_a_cancel_nor_the_next_run() {
    let here = Here::new();
    slow(&here, DEAF, "");
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    kill_process(runner(&here), Signal::STOP).unwrap();
    here.good(&["cancel", "slow/1"]);
    let recorded = Timestamp::now();
    let view = ended(&here);
    in_bound(&view, recorded);
    assert_eq!(steps(&here), [""; 0]);
    is_cancelled(&view);
    // It may be leaving; one that has left need not be stopped.
    let _ = kill_process(runner(&here), Signal::STOP);
    here.write("hello.yaml", "name: hello\nstages: { one: { steps: [{ run: echo hello }] } }\n");
    here.good(&["run", "hello.yaml"]);
    assert_eq!(run.end().code, 1);
}

#[test]
fn a_run_that_nobody_drives_is_brought_to_its_end_by_the_cancel() {
    let here = Here::new();
    slow(&here, DEAF, "");
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    run.crash();
    // Whoever cancels it dies as well, as soon as that is recorded.
    let first = here.start(&["cancel", "slow/1"]);
    until("the cancel is recorded", || here.json(&["show", "slow/1", "--json"])["status"] == "cancelling");
    first.crash();
    let began = Instant::now();
    let said = here.windlass(&["cancel", "slow/1"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("slow/1 was cancelled by octocat"), "{said:?}");
    // It has to take the directory first, and to let it go.
    assert!(began.elapsed() < BOUND + Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(steps(&here), [""; 0]);
    is_cancelled(&ended(&here));
}

#[test]
fn a_cancel_outlives_the_server_that_took_it() {
    let here = Here::new();
    slow(&here, "echo up > $UP; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done", "");
    let serve = || {
        let mut server = here.start(&["serve", "--listen", "127.0.0.1:0"]);
        server.wait_for("windlass serves");
        server
    };
    let server = serve();
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    kill_process(runner(&here), Signal::STOP).unwrap();
    here.good(&["cancel", "slow/1"]);
    run.crash();
    server.crash();
    let server = serve();
    is_cancelled(&ended(&here));
    assert_eq!(steps(&here), [""; 0]);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_timeout_passes_also_while_nobody_drives_and_is_retried_where_that_is_asked() {
    let here = Here::new();
    let run = "echo up > $UP; echo attempt >> $UP.s; while :; do sleep 0.05; done";
    slow(&here, run, ", timeout: 3s, retry: { attempts: 2, on: [timeout] }");
    let run = here.start(&["run", "slow.yaml"]);
    is_up(&here);
    let began = Instant::now();
    run.crash();
    let said = here.windlass(&["resume", "slow/1"]);
    assert_eq!(said.code, 1, "{said:?}");
    // Two attempts of three seconds, counted from where they began, and the pause between them.
    let took = began.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(25)).contains(&took), "{took:?}");
    let view = ended(&here);
    let stage = &view["stages"][0];
    assert_eq!((&stage["status"], &stage["cause"]), (&json!("failed"), &json!("timeout")), "{view:#}");
    assert_eq!(stage["attempts"], 2, "{view:#}");
    assert_eq!(fs::read_to_string(here.path("up.s")).unwrap(), "attempt\nattempt\n");
    assert_eq!(steps(&here), [""; 0]);
}
