//! cli
pub mod runner;
