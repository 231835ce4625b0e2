//! What people would use instead, set up as its own manual says, all of it on loopback.

pub mod bare;
pub mod buildbot;
pub mod haproxy;
