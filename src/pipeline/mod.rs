//! PURE. What the author wrote.

pub mod expression;
pub mod model;
