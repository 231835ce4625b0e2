//! PURE. What happened, and what is next.
pub mod admission;
pub mod approval;
pub mod command;
pub mod decide;
pub mod environment;
pub mod event;
pub mod extent;
pub mod fleet;
pub mod fold;
mod gate;
pub mod lanes;
pub mod outline;
pub mod replay;
pub mod report;
pub mod ships;
pub mod state;
pub mod view;
