//! PURE. GitHub's webhooks: from the bytes of a request to what they tell, or why they start nothing.
//!
//! No input makes it panic, and nothing outside this room knows a field of GitHub's JSON. Addresses in
//! payloads are never passed on: a repository is its `owner/name`, and the settings say where it is.
//!
//! Sources: GitHub's documentation, "Validating webhook deliveries" and "Webhook events and payloads".

mod body;
mod notice;
mod payload;
mod signature;
#[cfg(test)]
mod tests;

pub use body::{BodyError, json};
pub use notice::{Change, Described, Notice, PullRequest, Push, repository_of, skips, told, understand};
pub use signature::{Unsigned, verify};

/// Most bytes of a webhook's body: GitHub sends no more than 25 MiB.
pub const BODY_LIMIT: usize = 25 * 1024 * 1024;
