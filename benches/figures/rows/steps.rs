//! Durable steps that do nothing, beside `ninja`, which records nothing durable: one stage of steps, a
//! chain of stages, a fan of stages, without a checkout.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::Row;
use crate::bench::{Bench, WINDLASS};
use crate::measure::{Summary, Unit, in_turns};
use crate::peers::buildbot;
use crate::report::{Bound, Case};
use crate::run::end_runner;

pub const ROW: Row = Row { name: "steps", what: "durable steps that do nothing", measure };

/// The last is the most that a stage has here, or a pipeline may have.
fn sizes(shape: Shape) -> [usize; 4] {
    let most = if matches!(shape, Shape::Stage) { 10_000 } else { 5_000 };
    [10, 100, JUDGED, most]
}

/// That which the goals are about. What is larger is there for the growth: once, and nobody beside it.
const JUDGED: usize = 1_000;

#[derive(Clone, Copy)]
enum Shape {
    Stage,
    Chain,
    Fan,
}

impl Shape {
    fn word(self) -> &'static str {
        match self {
            Self::Stage => "one stage",
            Self::Chain => "a chain of stages",
            Self::Fan => "a fan of stages",
        }
    }

    fn pipeline(self, steps: usize) -> String {
        let mut text = "name: bench\nstages:\n".to_owned();
        match self {
            Self::Stage => {
                text.push_str("  all:\n    steps:\n");
                (0..steps).for_each(|_| text.push_str("      - { run: ':' }\n"));
            }
            Self::Chain | Self::Fan => {
                for i in 0..steps {
                    let _ = writeln!(text, "  s{i}:");
                    if i > 0 && matches!(self, Self::Chain) {
                        let _ = writeln!(text, "    needs: s{}", i - 1);
                    }
                    text.push_str("    steps: [{ run: ':' }]\n");
                }
            }
        }
        text
    }

    /// The same for ninja: a stage of steps is a chain there, too.
    fn ninja(self, steps: usize) -> String {
        let mut text = "rule noop\n  command = :\n".to_owned();
        for i in 0..steps {
            match self {
                Self::Fan => drop(writeln!(text, "build s{i}: noop")),
                Self::Stage | Self::Chain if i == 0 => drop(writeln!(text, "build s0: noop")),
                Self::Stage | Self::Chain => drop(writeln!(text, "build s{i}: noop s{}", i - 1)),
            }
        }
        let all: Vec<String> = (0..steps).map(|i| format!("s{i}")).collect();
        let _ = writeln!(text, "build all: phony {}\ndefault all", all.join(" "));
        text
    }
}

fn measure(bench: &Bench) -> Vec<Case> {
    let ninja_is_here = bench.peer("ninja").is_some();
    let mut cases = Vec::new();
    for shape in [Shape::Stage, Shape::Chain, Shape::Fan] {
        for size in sizes(shape) {
            let directory = bench.directory();
            let at = directory.path();
            std::fs::write(at.join("bench.yaml"), shape.pipeline(size)).expect("the pipeline");
            std::fs::write(at.join("build.ninja"), shape.ninja(size)).expect("the build file");
            let rounds = if size > JUDGED { 1 } else { bench.rounds };
            let what = format!("{}, {size} steps", shape.word());
            let case = if ninja_is_here && size <= JUDGED {
                let [ours, theirs] = in_turns(rounds, [&mut || windlass(at), &mut || ninja(at)]);
                Case::new(ROW.name, what, Unit::Seconds, &ours).beside("ninja", &ours, &theirs)
            } else {
                let [ours] = in_turns(rounds, [&mut || windlass(at)]);
                Case::new(ROW.name, what, Unit::Seconds, &ours)
            };
            let case = case.growing(shape.word(), "steps", size as u64);
            cases.push(if size == JUDGED { case.goal_beside("ninja", Bound::AtMost(1.5)) } else { case });
        }
    }
    cases.extend(beside_buildbot(bench));
    cases
}

/// A step of a hundred in a row, with its share of all that a run costs besides.
fn beside_buildbot(bench: &Bench) -> Option<Case> {
    const STEPS: usize = 100;
    let theirs = [bench.buildbot()?.step];
    let directory = bench.directory();
    std::fs::write(directory.path().join("bench.yaml"), Shape::Stage.pipeline(STEPS)).expect("the pipeline");
    let [ours] = in_turns(bench.rounds, [&mut || windlass(directory.path()) / STEPS as f64]);
    let ours = [Summary::of(&ours).median];
    Some(
        Case::new(ROW.name, format!("a step of {STEPS}, one stage"), Unit::Seconds, &ours)
            .beside(buildbot::NAME, &ours, &theirs)
            .goal_beside(buildbot::NAME, Bound::AtMost(0.01)),
    )
}

/// Seconds from the command to its end.
fn windlass(directory: &Path) -> f64 {
    let data = tempfile::tempdir_in(directory).expect("a data directory");
    let mut command = Command::new(WINDLASS);
    command.arg("run").arg(directory.join("bench.yaml")).arg("--data").arg(data.path());
    let took = time(&mut command);
    end_runner(data.path());
    took
}

fn ninja(directory: &Path) -> f64 {
    let _ = std::fs::remove_file(directory.join(".ninja_log"));
    time(Command::new("ninja").current_dir(directory))
}

fn time(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "{command:?} ended with {status}");
    start.elapsed().as_secs_f64()
}
