//! cli

pub mod balancer;
pub mod runner;
