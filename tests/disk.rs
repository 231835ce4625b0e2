//! The disk at its worst: full at any write, read-only, with files that are cut off, damaged, of another
//! version, or copied. Real processes, real bytes.
//!
//! A full disk is made in two ways. A small C library that is preloaded ([`shim`]) makes writes of the server,
//! the runner and the balancer fail from the n-th on; and where the tests run as root, a small tmpfs is really
//! filled ([`small`]).

#[allow(dead_code, unused_imports, reason = "each of the programs that share it uses what it needs")]
#[path = "stories/support/mod.rs"]
mod support;

#[path = "disk/shim.rs"]
mod shim;
#[path = "disk/small.rs"]
mod small;
#[path = "disk/sound.rs"]
mod sound;

#[path = "disk/copies.rs"]
mod copies;
#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/full.rs"]
mod full;
#[path = "disk/read_only.rs"]
mod read_only;
#[path = "disk/writes.rs"]
mod writes;
