//! 1,000 durable steps that do nothing, beside `ninja`, which records nothing durable: one stage of
//! steps, a chain of stages, a fan of stages, without a checkout.
//!
//! `cargo bench --bench steps` prints, for each shape, the wall time of both and their ratio, run by
//! run in turn. Needs ninja (Debian: ninja-build).

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const STEPS: usize = 1_000;
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
enum Shape {
    Stage,
    Chain,
    Fan,
}

impl Shape {
    fn word(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Chain => "chain",
            Self::Fan => "fan",
        }
    }

    fn pipeline(self) -> String {
        let mut text = "name: bench\nstages:\n".to_owned();
        match self {
            Self::Stage => {
                text.push_str("  all:\n    steps:\n");
                (0..STEPS).for_each(|_| text.push_str("      - { run: ':' }\n"));
            }
            Self::Chain | Self::Fan => {
                for i in 0..STEPS {
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
    fn ninja(self) -> String {
        let mut text = "rule noop\n  command = :\n".to_owned();
        for i in 0..STEPS {
            match self {
                Self::Fan => drop(writeln!(text, "build s{i}: noop")),
                Self::Stage | Self::Chain if i == 0 => drop(writeln!(text, "build s0: noop")),
                Self::Stage | Self::Chain => drop(writeln!(text, "build s{i}: noop s{}", i - 1)),
            }
        }
        let all: Vec<String> = (0..STEPS).map(|i| format!("s{i}")).collect();
        let _ = writeln!(text, "build all: phony {}\ndefault all", all.join(" "));
        text
    }
}

fn main() {
    let root = tempfile::tempdir().expect("a directory for the benchmark");
    if Command::new("ninja").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("ninja is missing; on Debian: apt-get install ninja-build");
        std::process::exit(1);
    }
    println!("{STEPS} steps, {ROUNDS} rounds in turn; seconds, and windlass / ninja");
    for shape in [Shape::Stage, Shape::Chain, Shape::Fan] {
        let directory = root.path().join(shape.word());
        std::fs::create_dir_all(&directory).expect("a directory for the shape");
        std::fs::write(directory.join("bench.yaml"), shape.pipeline()).expect("the pipeline");
        std::fs::write(directory.join("build.ninja"), shape.ninja()).expect("the build file");
        let mut rounds: Vec<(f64, f64)> =
            (0..ROUNDS).map(|_| (windlass(&directory), ninja(&directory))).collect();
        rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let ratios: Vec<f64> = rounds.iter().map(|(ours, theirs)| ours / theirs).collect();
        let (ours, theirs) = rounds[ROUNDS / 2];
        println!(
            "{:<6} windlass {ours:.2}  ninja {theirs:.2}  ratio {:.2} (from {:.2} to {:.2})",
            shape.word(),
            ratios[ROUNDS / 2],
            ratios[0],
            ratios[ROUNDS - 1]
        );
    }
}

fn windlass(directory: &Path) -> f64 {
    let data = tempfile::tempdir_in(directory).expect("a data directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.arg("run").arg(directory.join("bench.yaml")).arg("--data").arg(data.path());
    let took = time(&mut command);
    // The runner ends by itself once nobody holds the directory; the directory stays until then.
    std::thread::sleep(Duration::from_secs(3));
    took
}

fn ninja(directory: &Path) -> f64 {
    let _ = std::fs::remove_file(directory.join(".ninja_log"));
    time(Command::new("ninja").current_dir(directory))
}

fn time(command: &mut Command) -> f64 {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).status().expect("the program starts");
    assert!(status.success(), "{command:?} ended with {status}");
    start.elapsed().as_secs_f64()
}
