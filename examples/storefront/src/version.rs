//! What this version calls itself. A new version of the shop starts with a change here.

pub const VERSION: &str = "1";
pub const GREETING: &str = "Welcome to the storefront, version 1";
