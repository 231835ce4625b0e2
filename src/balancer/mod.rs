//! The local load balancer: one process for each data directory, a reverse proxy for every fleet of
//! the local cloud.
//!
//! - It is a process of its own (`windlass balancer`), started on demand by [`Client`], so that
//!   traffic flows while whoever asked for it is stopped, killed or upgraded.
//! - A target gets requests only while it is healthy; from the answer to a deregistration on it gets
//!   no new one. Choosing a target and counting the request as open are one step under one lock.
//! - A target is called drained when none of its requests is open, in any process, or when its drain
//!   time is over.
//! - A request is sent to a target a second time only when nothing of it was written, or when doing
//!   so twice is the same as once (RFC 9110, 9.2.2) and it has no body.
//! - When no target is healthy, those that were healthy before and fail their checks now get the
//!   traffic, as on ELB: an answer from a sick instance is better than none. Targets that never were
//!   healthy get none.
//! - What it knows is in `DATA/balancer.json` before a change is answered; a new process goes on from
//!   there, and healthy targets are served at once.
//! - A newer program takes the listening sockets over ([`handover`]); no connection is lost by it.
//!
//! Deliberately absent: TLS, HTTP/2, a limit on how long an answer may take. It listens on loopback
//! only; what faces the world stands in front of it.

mod admin;
mod carry;
mod client;
mod fleet;
mod handover;
mod head_timer;
pub mod headers;
mod health;
mod process;
pub mod protocol;
mod proxy;
pub mod saved;
mod upstream;
mod workers;

pub use carry::{carry_over, examine};
pub use client::{Client, FirstWord, Renewed};
pub use process::{Options, Start, run};
pub use protocol::Build;

/// The admin socket, in the data directory.
const SOCKET: &str = "balancer.sock";
/// Held by the process that serves, for as long as it does.
const LOCK: &str = "balancer.lock";
/// Held by whoever is starting a balancer process.
const START_LOCK: &str = "balancer.start.lock";
/// What the process knows.
const STATE: &str = "balancer.json";
/// What the process says.
const LOG: &str = "balancer.log";

/// Takes a lock that a panicking thread may have left: what it guards is changed in single steps.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
