//! Whatever dies at whatever moment, nothing is lost, repeated or left running: real processes, killed at
//! random, again and again.
//!
//! ```text
//! cargo test --test chaos                                            the short version of everything
//! WINDLASS_KILLS=50 cargo test --test chaos server -- --nocapture    a story with more kills
//! WINDLASS_CHAOS=10 cargo test --test chaos long -- --nocapture      everything at once, for ten minutes
//! WINDLASS_SEED=7 …                                                  the acts of that seed again
//! ```
//!
//! Each test prints its seed. A seed decides what is done, in which order and after which pauses; what
//! the kill meets is the machine's business, so a seed that failed may have to be tried a few times.
//!
//! Steps write into a ledger outside their workspace when they begin and when they are done, and say
//! numbered lines slowly, each in two pieces. Afterwards the ledger, the logs, the documents of the
//! program, the processes of the machine and the files of the data directory have to agree.

mod checks;
mod database;
mod dice;
mod fleets;
mod ground;
mod long;
mod runner;
mod server;

#[allow(dead_code, unused_imports, reason = "each of the programs that share it uses what it needs")]
#[path = "../stories/support/mod.rs"]
mod support;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How often a story kills.
fn kills(ordinarily: u64) -> u64 {
    number("WINDLASS_KILLS").unwrap_or(ordinarily)
}
