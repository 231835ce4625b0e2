//! A small shop over HTTP.

pub mod cart;
pub mod health;
pub mod http;
pub mod shop;

/// The version of this commit, from the file `VERSION`.
pub fn version() -> &'static str {
    include_str!("../VERSION").trim()
}
