//! Stories in which the clock on the wall jumps while the real program runs: hours, weeks and years, forward
//! and back, as somebody sets it, a network corrects it, or a laptop wakes up. Nothing fires twice, and
//! nothing waits for ever.
//!
//! The machine's own clock is never touched: [`shim`] is a library that is loaded before the program and says
//! what it cannot do. It reads how to bend the registers of a trapped system call, which it does for x86-64
//! only.
#![cfg(target_arch = "x86_64")]

mod schedules;
mod shim;
#[allow(dead_code, unused_imports, reason = "the stories have more use for it")]
#[path = "../stories/support/mod.rs"]
mod support;
mod waits;
mod weeks;
