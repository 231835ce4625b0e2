//! Bytes from outside, also hostile ones: what is promised of every reader, tried on a corpus and on
//! mutations of it.
//!
//! The targets are plain functions (`targets/`), each with the promise that it holds its reader to. Here
//! they run as ordinary tests: over `corpus/TARGET/*`, then over a fixed number of mutations that are the
//! same every time. `WINDLASS_FUZZ=SECONDS` goes on for so long in each target, with a new seed that is
//! printed. What fails is kept as a file, and the message says how to repeat it. `cargo/` has the same
//! functions as targets of cargo-fuzz, which looks where the code branches (new inputs go to the first directory):
//!
//! ```sh
//! WINDLASS_FUZZ=60 cargo test --test fuzz pipeline -- --exact --nocapture
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz/cargo pipeline /tmp/pipeline tests/fuzz/corpus/pipeline
//! ```
//!
//! An input that panics fails, and so does one that takes longer than [`harness::LIMIT`] of CPU time:
//! nothing that somebody sends may keep a reader busy.

#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "../cli/here.rs"]
mod here;

mod harness;
mod large;
mod living;
mod targets;

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                let target = targets::ALL.iter().find(|target| target.name == stringify!($name));
                harness::run(target.expect("its line in `targets`"));
            }
        )*

        /// A target without a test would never run, and a directory without a target is a mistake.
        #[test]
        fn every_target_has_a_test_and_a_corpus() {
            let tested = [$(stringify!($name)),*];
            for target in targets::ALL {
                assert!(tested.contains(&target.name), "{} has no test here", target.name);
                assert!(!harness::corpus(target.name).is_empty(), "corpus/{} is empty", target.name);
                let bin = harness::directory().join("cargo/bins").join(format!("{}.rs", target.name));
                assert!(bin.is_file(), "{} is missing", bin.display());
            }
            for directory in std::fs::read_dir(harness::directory().join("corpus")).unwrap() {
                let name = directory.unwrap().file_name().into_string().unwrap();
                assert!(targets::ALL.iter().any(|target| target.name == name), "corpus/{name} is of no target");
            }
        }
    };
}

tests!(
    address,
    ansi,
    balancer_messages,
    balancer_state,
    cobertura,
    cron,
    edits,
    events,
    expression,
    fold,
    forms,
    freeze,
    headers,
    junit,
    lcov,
    names,
    outputs,
    patterns,
    pipeline,
    redactor,
    restore,
    runner_journal,
    runner_messages,
    settings,
    unpack,
    webhook,
);
