//! Stories over the real program: real repositories, processes and sockets, from a commit to
//! production, and what happens when something goes wrong on the way.
//!
//! Each story has a directory, ports and processes of its own, and sees to it at its end that nothing
//! of them is left. None of them waits for a time to pass: each waits for something to be seen, up to
//! a deadline.

mod alive;
mod backup;
mod company;
mod crashes;
mod delivery;
mod documents;
mod faults;
mod gates;
mod queue;
mod replays;
mod reports;
mod rollouts;
mod server;
mod support;
mod swaps;
mod versions;
mod webhooks;
