//! Windlass takes a commit to production.

pub mod app;
pub mod artifact;
pub mod balancer;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod engine;
pub mod http;
pub mod ids;
pub mod ipc;
pub mod journal;
pub mod log;
pub mod pipeline;
pub mod rollout;
pub mod run;
pub mod runner;
pub mod secret;
pub mod source;
pub mod stage;
pub mod store;
pub mod wake;
