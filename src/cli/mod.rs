//! cli

pub mod balancer;
