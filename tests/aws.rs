//! AWS, as far as a machine without an account can tell: moto with what it leaves out, faults in front,
//! builders that really run. Each test has an AWS of its own.

#![cfg(feature = "aws")]

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "tools/mod.rs"]
mod tools;

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "aws/emulator.rs"]
mod emulator;

#[path = "aws/gc.rs"]
mod gc;
#[path = "aws/bake.rs"]
mod bake;

#[path = "aws/hostility.rs"]
mod hostility;

#[path = "aws/objects.rs"]
mod objects;

#[path = "aws/groups.rs"]
mod groups;
#[path = "aws/policy.rs"]
mod policy;
#[path = "aws/instances.rs"]
mod instances;
#[path = "aws/targets.rs"]
mod targets;
