//! AWS, as far as a machine without an account can tell: moto with what it leaves out, faults in front,
//! builders that really run. Each test has an AWS of its own.

#![cfg(feature = "aws")]

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "tools/mod.rs"]
mod tools;

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "aws/emulator.rs"]
mod emulator;

#[path = "aws/hostility.rs"]
mod hostility;

#[path = "aws/targets.rs"]
mod targets;
