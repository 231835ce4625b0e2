//! Stories over `windlass serve`: who may ask, how it ends, what it says, what it does when things change
//! under it.

#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "cli/here.rs"]
mod here;

#[path = "server/asking.rs"]
mod asking;
#[path = "server/endings.rs"]
mod endings;
#[path = "server/settings.rs"]
mod settings;
