//! What is fuzzed, and what is promised of it.
//!
//! Each file has `target`, which takes any bytes and panics where a promise is broken, and the words that
//! mutations may use. Shared by the tests and by the targets of cargo-fuzz.

// Each binary of cargo-fuzz uses one of them.
#![allow(dead_code)]

pub mod address;
pub mod ansi;
pub mod balancer;
pub mod cron;
pub mod events;
pub mod expression;
pub mod fold;
pub mod forms;
pub mod freeze;
pub mod headers;
pub mod names;
pub mod outputs;
pub mod patterns;
pub mod pipeline;
pub mod redactor;
pub mod reports;
pub mod runner;
pub mod settings;
pub mod shelf;
pub mod webhook;

/// A reader of bytes, and what is promised of it.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// What mutations put in.
    pub words: &'static [&'static str],
    /// How many of them a short run makes: about a second of a development build.
    pub mutations: u64,
}

const fn target(
    name: &'static str,
    run: fn(&[u8]),
    words: &'static [&'static str],
    mutations: u64,
) -> Target {
    Target { name, run, words, mutations }
}

pub const ALL: &[Target] = &[
    target("address", address::target, address::WORDS, 10_000),
    target("ansi", ansi::target, ansi::WORDS, 3_000),
    target("balancer_messages", balancer::messages, balancer::WORDS, 3_000),
    target("balancer_state", balancer::state, balancer::WORDS, 6_000),
    target("cobertura", reports::cobertura, reports::WORDS, 3_000),
    target("cron", cron::target, cron::WORDS, 300),
    target("edits", pipeline::edits, pipeline::WORDS, 200),
    target("events", events::target, events::WORDS, 4_000),
    target("expression", expression::target, expression::WORDS, 1_500),
    target("fold", fold::target, fold::WORDS, 60),
    target("forms", forms::target, forms::WORDS, 2_000),
    target("freeze", freeze::target, freeze::WORDS, 3_000),
    target("headers", headers::target, headers::WORDS, 5_000),
    target("junit", reports::junit, reports::WORDS, 3_000),
    target("lcov", reports::lcov, reports::WORDS, 4_000),
    target("names", names::target, names::WORDS, 10_000),
    target("outputs", outputs::target, outputs::WORDS, 10_000),
    target("patterns", patterns::target, patterns::WORDS, 200),
    target("pipeline", pipeline::target, pipeline::WORDS, 300),
    target("redactor", redactor::target, redactor::WORDS, 400),
    target("restore", shelf::restore, shelf::WORDS, 600),
    target("runner_journal", runner::journal, runner::WORDS, 1_500),
    target("runner_messages", runner::messages, runner::WORDS, 3_000),
    target("settings", settings::target, settings::WORDS, 300),
    target("unpack", shelf::unpack, shelf::WORDS, 400),
    target("webhook", webhook::target, webhook::WORDS, 3_000),
];

/// The text that the bytes are, as far as they are one.
pub fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// The parts between NULs, of which there are at least so many.
pub fn parts<const N: usize>(bytes: &[u8]) -> [&[u8]; N] {
    let mut all = bytes.splitn(N, |byte| *byte == 0);
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// Whether nothing in a text for people moves a cursor.
pub fn assert_plain(what: &str, text: &str) {
    let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None, "{what} has a control character: {text:?}");
}
