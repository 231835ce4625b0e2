//! PURE. What happened, and what is next.
pub mod command;
pub mod decide;
pub mod environment;
pub mod event;
pub mod fleet;
pub mod fold;
pub mod replay;
pub mod report;
pub mod state;
pub mod view;
