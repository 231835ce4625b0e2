//! PURE. What happened, and what is next.
pub mod event;
