//! The local balancer, as a real process: states and draining, requests on their way, hand-over and
//! restart. Every test has a data directory and ports of its own and leaves no process.

#[path = "balancer/lifecycle.rs"]
mod lifecycle;
#[path = "balancer/proxying.rs"]
mod proxying;
#[path = "balancer/support.rs"]
mod support;
#[path = "balancer/targets.rs"]
mod targets;
