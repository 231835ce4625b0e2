//! The simulation: the real engine with the real stages, on a store, a runner, a cloud and a clock that
//! are made up from one number, the seed. Whatever can go wrong does: answers are lost, late or twice,
//! processes die at any effect, two of them drive the same journals, people change their minds. Hours
//! pass in milliseconds, and what is promised is looked at all along.
//!
//! A seed that breaks a promise is printed with the command that shows all that happened:
//! `WINDLASS_SEED=17 cargo test --test simulation one_seed -- --nocapture`. More seeds:
//! `WINDLASS_SEEDS=100000 cargo test --test simulation seeds`.
//!
//! What it does not have: the real adapters (SQLite, processes, AWS), and time that passes while
//! nothing waits.

mod clock;
mod cloud;
mod contract;
mod draft;
mod ledger;
mod people;
mod process;
mod random;
mod runner;
mod seeds;
mod stages;
mod store;
mod verdict;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use draft::{Scenario, Weather};
use seeds::{Report, simulate};
use world::Wanted;

/// So many seeds are tried where nobody asks for more.
const SEEDS: u64 = 100;
/// Where they begin.
const FIRST: u64 = 1;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What to say of a seed that broke a promise.
fn told(report: &Report, test: &str) -> String {
    format!(
        "seed {}:\n  {}\nto see all of it: WINDLASS_SEED={} cargo test --no-default-features --test simulation {test} -- --nocapture",
        report.seed,
        report.broken.join("\n  "),
        report.seed
    )
}

/// What is promised holds for many seeds. `WINDLASS_SEEDS` says for how many, `WINDLASS_FIRST` from which on.
#[test]
fn seeds_keep_every_promise() {
    let (count, first) = (asked("WINDLASS_SEEDS").unwrap_or(SEEDS), asked("WINDLASS_FIRST").unwrap_or(FIRST));
    let (next, begun) = (AtomicU64::new(first), Instant::now());
    let (processes, simulated, happenings) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let most = asked("WINDLASS_FAILURES").unwrap_or(1) as usize;
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count || failed.lock().unwrap().len() >= most {
                        return;
                    }
                    let report = simulate(seed, Weather::Any, Wanted::default());
                    processes.fetch_add(u64::from(report.processes), Ordering::SeqCst);
                    simulated.fetch_add(report.simulated.as_secs(), Ordering::SeqCst);
                    happenings.fetch_add(report.happenings, Ordering::SeqCst);
                    if !report.broken.is_empty() {
                        failed.lock().unwrap().push(told(&report, "one_seed"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let done = next.into_inner().min(first + count) - first;
    println!(
        "simulation: {done} seeds in {:.1} s: {} processes, {} hours, {} things happened",
        begun.elapsed().as_secs_f64(),
        processes.into_inner(),
        simulated.into_inner() / 3600,
        happenings.into_inner()
    );
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// One seed with all that happened: the one that `WINDLASS_SEED` names.
#[test]
fn one_seed() {
    let seed = asked("WINDLASS_SEED").unwrap_or(FIRST);
    let report = simulate(seed, Weather::Any, Wanted { traced: true, dies_at: None });
    if asked("WINDLASS_SEED").is_some() {
        let scenario = Scenario::of(seed, Weather::Any);
        println!(
            "{}\n{scenario:#?}",
            scenario.pipelines.iter().map(|(_, text)| text.as_str()).collect::<String>()
        );
        println!("{}", scenario.settings);
        report.trace.iter().for_each(|line| println!("{line}"));
        println!("{:?} in {:?}, {:#?}", report.simulated, report.took, report.ends);
    }
    assert!(report.broken.is_empty(), "{}", told(&report, "one_seed"));
}

/// The same seed is the same story, to the last word.
#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in (FIRST..FIRST + 8).chain(asked("WINDLASS_SEED")) {
        let wanted = Wanted { traced: true, dies_at: None };
        let (mut one, mut two) = (simulate(seed, Weather::Any, wanted), simulate(seed, Weather::Any, wanted));
        // In the same millisecond, things that have nothing to do with each other may change places.
        one.trace.sort();
        two.trace.sort();
        let differs = one.trace.iter().zip(&two.trace).position(|(one, two)| one != two);
        if let Some(at) = differs {
            let from = at.saturating_sub(5);
            panic!(
                "seed {seed} differs after {at} lines:\n{}\n--- and\n{}",
                one.trace[from..=at].join("\n"),
                two.trace[from..=at].join("\n")
            );
        }
        assert_eq!(one.trace.len(), two.trace.len(), "seed {seed} goes on longer");
    }
}

/// So many moments of a seed are tried where nobody asks for all of them.
const MOMENTS: u64 = 40;

/// A process that dies at any moment, before an effect or before it hears of it, and is started again,
/// comes to the same end as one that never died. `WINDLASS_PREFIXES` says for how many seeds every
/// moment is tried.
#[test]
fn every_prefix_comes_to_the_same_end() {
    let (all, first) = (asked("WINDLASS_PREFIXES"), asked("WINDLASS_FIRST").unwrap_or(FIRST));
    let (begun, mut deaths) = (Instant::now(), 0);
    let count = all.unwrap_or(2);
    for seed in first..first + count {
        let whole = simulate(seed, Weather::Fair, Wanted::default());
        assert!(whole.broken.is_empty(), "{}", told(&whole, "every_prefix"));
        let step = if all.is_some() { 1 } else { whole.moments.div_ceil(MOMENTS).max(1) };
        for dies_at in (1..=whole.moments).step_by(step as usize) {
            deaths += 1;
            let cut = simulate(seed, Weather::Fair, Wanted { traced: false, dies_at: Some(dies_at) });
            if cut.ends != whole.ends || !cut.broken.is_empty() {
                let traced = simulate(seed, Weather::Fair, Wanted { traced: true, dies_at: Some(dies_at) });
                panic!(
                    "{}\n{}\nkilled at moment {dies_at} of seed {seed}: {:#?}\nand not killed: {:#?}",
                    traced.trace.join("\n"),
                    cut.broken.join("\n"),
                    cut.ends,
                    whole.ends
                );
            }
        }
    }
    println!(
        "simulation: {count} seeds killed at {deaths} moments in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}
