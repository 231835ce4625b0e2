//! Stories over the real program: what people type, what they see, and what stays behind.

#[allow(dead_code, reason = "each of the programs that share it uses what it needs")]
#[path = "cli/here.rs"]
mod here;

#[path = "cli/acts.rs"]
mod acts;
#[path = "cli/cancels.rs"]
mod cancels;
#[path = "cli/endings.rs"]
mod endings;
#[path = "cli/gc.rs"]
mod gc;
#[path = "cli/input.rs"]
mod input;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/runs.rs"]
mod runs;
