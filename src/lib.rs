//! Windlass takes a commit to production.
//!
//! A run is a journal of events; its state is a fold over them; [`run::decide`] says what is next. The
//! loop worth knowing by heart:
//!
//! > load the events and fold them → ask `decide` → append the intents, at the sequence expected → only
//! > then act → each outcome comes back as an event through the same append.
//!
//! Starting, continuing and resuming are this one path; there is no recovery code.
//!
//! # The map
//!
//! In reading order. Dependencies point down only: a room imports rooms above it, and
//! `tests/architecture.rs` holds the table.
//!
//! The words:
//! - [`ids`] - the names of things, each a type that always follows the convention
//! - [`clock`], [`secret`] - time as a value; values that cannot be printed
//! - [`ipc`], [`wake`] - JSON lines over unix sockets; what the kernel wakes us for
//! - [`directory`] - directories for this user only
//! - [`space`] - how much room is left on a disk
//! - [`backup`] - copies of data directories
//!
//! The pure core, values to values:
//! - [`pipeline`] - what the author wrote, from text to a model that is always legal
//! - [`run`] - what happened and what is next
//! - [`rollout`] - from the fleet observed to the next move
//!
//! The contracts, and what carries them out:
//! - [`artifact`] - content-addressed files
//! - [`cloud`] - where services run: compute, balancer, objects
//! - [`reap`] - which things of ours in a cloud nobody needs any more
//! - [`config`] - the settings file
//! - [`store`], [`journal`] - where events are kept, and how they are read
//! - [`check`] - whether what a data directory holds is sound
//! - [`log`] - step output, redacted, written, followed
//! - [`report`] - what test reports say, from their bytes
//! - [`source`] - git
//! - [`github`] - its webhooks, from bytes to what they tell
//!
//! The processes that outlive a command:
//! - [`balancer`] - the local load balancer
//! - [`runner`] - runs shell steps
//!
//! What acts:
//! - [`stage`] - one file for each kind of stage
//! - [`engine`] - the loop
//! - [`intake`] - how runs start by themselves: the inbox, pipelines by name, schedules
//! - [`http`] - the API of whoever holds a data directory, and its client
//! - [`app`] - wiring; the only room that names concrete adapters
//! - [`cli`] - one file for each command
//!
//! # What is always true
//!
//! 1. `pipeline`, `run`, `rollout` name no tokio, no database, no clock, no network, no tracing.
//! 2. State changes only by `apply(event)`; an illegal event is an error value, not a panic.
//! 3. No effect before its recorded intent. Each intent carries a key that goes to the outside as
//!    idempotency token and tag.
//! 4. Append is conditional on the expected sequence: losing the race is `Conflict`, which also fences a
//!    second engine.
//! 5. Logs and journals are append-only. Retry, replay and cancel are new events.
//! 6. Nothing outside an adapter of `cloud` knows that adapter's types.
//! 7. Every output byte of a step passes the redactor before it is stored or streamed.
//! 8. What wakes the loop only says "look sooner"; while work is unfinished a slow tick alone would get
//!    there.

pub mod app;
pub mod artifact;
pub mod backup;
pub mod balancer;
pub mod check;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod directory;
pub mod engine;
pub mod github;
pub mod http;
pub mod ids;
pub mod intake;
pub mod ipc;
pub mod journal;
pub mod log;
pub mod pipeline;
pub mod reap;
pub mod report;
pub mod rollout;
pub mod run;
pub mod runner;
pub mod secret;
pub mod source;
pub mod space;
pub mod stage;
pub mod store;
pub mod wake;
