//! AWS, as far as a machine without an account can tell: moto with what it leaves out, faults in front,
//! builders that really run. Each test has an AWS of its own.

#![cfg(feature = "aws")]

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "tools/mod.rs"]
mod tools;

#[allow(dead_code, reason = "it is shared, and each part uses what it needs")]
#[path = "aws/emulator.rs"]
mod emulator;

#[allow(dead_code, unused_imports, reason = "each of the programs that share it uses what it needs")]
#[path = "stories/support/mod.rs"]
mod support;

#[path = "aws/bake.rs"]
mod bake;
#[path = "aws/gc.rs"]
mod gc;
#[path = "aws/groups.rs"]
mod groups;
#[path = "aws/hostility.rs"]
mod hostility;
#[path = "aws/instances.rs"]
mod instances;
#[path = "aws/kills.rs"]
mod kills;
#[path = "aws/objects.rs"]
mod objects;
#[path = "aws/policy.rs"]
mod policy;
#[path = "aws/seeds.rs"]
mod seeds;
#[path = "aws/storms.rs"]
mod storms;
#[path = "aws/story.rs"]
mod story;
#[path = "aws/targets.rs"]
mod targets;
