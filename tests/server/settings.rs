//! Settings that change, break and go away while it serves.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::asking::{ready, serve};
use crate::here::Here;

const GATED: &str = "name: gated\nstages: { go: { environment: production, steps: [{ run: echo went }] } }\n";

/// Looks at the run until it is as it should be.
fn until(here: &Here, run: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let said = here.windlass(&["show", run, "--json"]);
        // Whoever was asked to create the run may not have done so yet.
        let view = if said.code == 0 { serde_json::from_str(&said.out).unwrap() } else { Value::Null };
        if !view.is_null() && is(&view) {
            return view;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{run} never {what}: {said:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn settings(promotion: &str) -> String {
    let fleet = "{ cloud: local, size: 1, port: 7999, health: { path: / } }";
    format!(
        "environments: {{ production: {{ group: production, promotion: {promotion}, \
         fleets: {{ gated: {fleet} }} }} }}\n"
    )
}

#[test]
fn settings_that_are_read_again_hold_for_runs_that_wait() {
    let here = Here::new();
    here.write("gated.yaml", GATED).write("windlass.yaml", &settings("manual"));
    here.write("other.yaml", &settings("automatic"));
    let (mut server, url) = serve(&here, &["--config", "windlass.yaml"]);
    ready(&url);
    // The server's policy holds, and nobody brings another one.
    let other = here.windlass(&["run", "gated.yaml", "--config", "other.yaml"]);
    assert!(other.code == 2 && other.err.contains("drives every run by"), "{other:?}");
    let following = here.start(&["run", "gated.yaml", "--config", "windlass.yaml"]);
    until(&here, "gated/1", "waits", |run| run["status"] == "waiting");
    // A broken edit changes nothing, and the server stays.
    here.write("windlass.yaml", "environments: [");
    server.signal(Signal::HUP);
    server.wait_for_log("the settings stay as they were");
    assert_eq!(here.json(&["show", "gated/1", "--json"])["status"], "waiting");
    here.write("windlass.yaml", &settings("automatic"));
    server.signal(Signal::HUP);
    server.wait_for_log("settings read again");
    until(&here, "gated/1", "goes on", |run| run["status"] == "succeeded");
    assert_eq!(following.end().code, 0);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}

#[test]
fn a_run_whose_settings_are_gone_says_so_and_is_tried_again() {
    let here = Here::new();
    here.write("gated.yaml", GATED).write("windlass.yaml", &settings("manual"));
    let foreground = here.start(&["run", "gated.yaml", "--config", "windlass.yaml"]);
    until(&here, "gated/1", "waits", |run| run["status"] == "waiting");
    foreground.crash();
    std::fs::remove_file(here.path("windlass.yaml")).unwrap();
    let (server, url) = serve(&here, &[]);
    ready(&url);
    let view = until(&here, "gated/1", "is stuck", |run| {
        run["waiting_for"].as_str().is_some_and(|why| why.contains("cannot be driven"))
    });
    assert!(view["waiting_for"].as_str().unwrap().contains("settings cannot be read"), "{view:#}");
    here.write("windlass.yaml", &settings("automatic"));
    until(&here, "gated/1", "goes on", |run| run["status"] == "succeeded");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code, 0);
}
