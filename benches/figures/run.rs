//! `windlass run`, and what its journal says about it afterwards.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bench::{WINDLASS, wait_for};

/// A run that has ended, as `--json` shows it.
pub struct Run(Value);

impl Run {
    /// Runs the pipeline in a process of its own, also where that fails, and ends its runner.
    pub fn of(pipeline: &Path, data: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(WINDLASS);
        command
            .current_dir(data.parent().expect("a directory"))
            .arg("run")
            .arg(pipeline)
            .arg("--json")
            .arg("--data")
            .arg(data)
            .args(arguments);
        let output = command.stdin(Stdio::null()).output().expect("the program starts");
        end_runner(data);
        let said = String::from_utf8_lossy(&output.stderr);
        Self(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no run: {error}: {said}")))
    }

    fn stage(&self, name: &str) -> &Value {
        let stages = self.0["stages"].as_array().expect("stages");
        stages.iter().find(|stage| stage["name"] == name).expect("the stage")
    }

    /// The first step of a stage.
    fn step(&self, stage: &str) -> &Value {
        &self.stage(stage)["steps"][0]
    }

    /// Seconds from when the first of these stages began until the first step of the last one ended.
    pub fn seconds(&self, stages: &[&str]) -> f64 {
        let begun = stages.iter().map(|name| time(&self.stage(name)["started_at"])).min();
        let ended = stages.iter().map(|name| time(&self.step(name)["finished_at"])).max();
        let took = ended.expect("a stage").duration_since(begun.expect("a stage"));
        took.as_secs_f64()
    }

    /// The length of the log of a stage's first step.
    pub fn log_bytes(&self, stage: &str) -> u64 {
        self.step(stage)["log_bytes"].as_u64().expect("a length")
    }

    /// What a stage has handed on.
    pub fn output(&self, stage: &str, name: &str) -> &str {
        self.stage(stage)["outputs"][name].as_str().expect("an output")
    }
}

/// The runner ends by itself some time after nobody holds its directory: it is told to at once, so that none is
/// there while something else is measured.
pub fn end_runner(data: &Path) {
    let socket = data.join("runner.sock");
    let number = std::fs::read_to_string(data.join("runner.lock")).ok();
    let runner = number.and_then(|number| Pid::from_raw(number.trim().parse().ok()?));
    if let Some(runner) = runner.filter(|_| socket.exists()) {
        // Gone already where it was quicker.
        let _ = kill_process(runner, Signal::TERM);
        wait_for("the runner's end", Duration::from_secs(30), || (!socket.exists()).then_some(()));
    }
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("a time")
}
