//! The README's first command in a fresh clone with nothing built, up to the end of the demo. The crates
//! are on the disk already: what a network takes says nothing about Windlass.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Row;
use crate::bench::Bench;
use crate::measure::Unit;
use crate::report::{Bound, Case};

pub const ROW: Row = Row { name: "build", what: "the README's first command, cold", measure };

fn measure(bench: &Bench) -> Vec<Case> {
    let directory = bench.directory();
    let clone = directory.path().join("clone");
    let cloned = Command::new("git")
        .args(["clone", "--quiet", env!("CARGO_MANIFEST_DIR")])
        .arg(&clone)
        .status()
        .is_ok_and(|status| status.success());
    if !cloned {
        eprintln!("without the cold build: {} is no git repository", env!("CARGO_MANIFEST_DIR"));
        return Vec::new();
    }
    let begun = Instant::now();
    run(&clone, &["run", "--quiet", "--no-default-features", "--", "demo", "--auto"]);
    let cold = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    run(&clone, &["run", "--quiet", "--no-default-features", "--", "demo", "--auto"]);
    let warm = begun.elapsed().as_secs_f64();
    vec![
        Case::new(ROW.name, "cold, up to the demo's end", Unit::Seconds, &[cold]).goal(Bound::AtMost(480.0)),
        Case::new(ROW.name, "of that the demo, once it is built", Unit::Seconds, &[warm]),
    ]
}

fn run(clone: &Path, arguments: &[&str]) {
    let status = Command::new("cargo")
        .args(arguments)
        .current_dir(clone)
        .env("CARGO_TARGET_DIR", clone.join("target"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
}
