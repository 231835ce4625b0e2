//! The command line: one file for each command. A doc comment is the command's help.
//!
//! Always true: exit code 0 is good, 1 says that the run failed or was cancelled, 2 that the input or
//! the pipeline is wrong, 3 that the world failed. What a program reads goes to the standard output,
//! what only people read about errors to the standard error.

use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::pipeline::problem::Style;

pub mod balancer;
pub mod runner;

mod act;
mod backup;
mod cancel;
mod check_data;
mod deliveries;
mod demo;
mod diagnostics;
mod doctor;
mod down;
mod error;
mod follow;
mod foreground;
mod gc;
mod guard;
mod lift;
mod lock;
pub mod logs;
mod plan;
mod policy;
mod progress;
mod promote;
mod reach;
mod reference;
mod reject;
mod replay;
mod resume;
mod rollback;
mod run;
mod runs;
mod schema;
mod serve;
mod server;
mod shipment;
mod show;
mod status;
mod text;
mod trigger;
mod unlock;
mod upgrade;
mod validate;
mod who;

pub use error::Error;

/// Takes a commit to production: durable, resumable pipelines with rolling swaps behind a load balancer
#[derive(Debug, Parser)]
#[command(name = "windlass", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 good, 1 the run failed or was cancelled, 2 wrong input, 3 the world failed"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Run(run::Args),
    Resume(resume::Args),
    Runs(runs::Args),
    Show(show::Args),
    Trigger(trigger::Args),
    Deliveries(deliveries::Args),
    Logs(logs::Args),
    Promote(promote::Args),
    Reject(reject::Args),
    Cancel(cancel::Args),
    Replay(replay::Args),
    Rollback(rollback::Args),
    Lock(lock::Args),
    Unlock(unlock::Args),
    Lift(lift::Args),
    Status(status::Args),
    Down(down::Args),
    Gc(gc::Args),
    Backup(backup::Args),
    CheckData(check_data::Args),
    Upgrade(upgrade::Args),
    Validate(validate::Args),
    Plan(plan::Args),
    Policy(policy::Args),
    Doctor(doctor::Args),
    Schema(schema::Args),
    Reference(reference::Args),
    #[command(hide = true)]
    Guard(guard::Args),
    #[command(hide = true)]
    Runner(runner::Args),
    #[command(hide = true)]
    Balancer(balancer::Args),
}

/// How a command ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Good = 0,
    /// The run failed or was cancelled.
    Failed = 1,
    /// Wrong input, or an invalid pipeline.
    Invalid = 2,
    /// The world failed.
    World = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Where a command writes: its answer to `out`, what is said beside it to `err`.
pub struct Io<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Whether `out` takes colours.
    pub style: Style,
}

/// Said where pipelines were checked without settings.
pub(crate) const NOT_CHECKED: &str =
    "note: environments, fleets and secrets were not checked; name the settings with --config";

/// Commands say what they do themselves; `WINDLASS_LOG=debug` shows more.
const QUIET: &str = "warn";

/// The program: parses the command line, does what it says, and answers the exit code.
pub fn main() -> ExitCode {
    // Clap says what is wrong with the command line itself, and exits with 2.
    let exit = match CommandLine::parse().command {
        // Sends traffic besides, as much as it can.
        Command::Demo(args) => {
            diagnostics::start(diagnostics::Form::Text, QUIET);
            on(tokio::runtime::Builder::new_multi_thread(), demo::run(args))
        }
        // Chooses its own log. One thread is as fast and takes 1 MB less; with several, what blocks one of
        // them for a moment keeps nobody else waiting.
        Command::Serve(args) => on(tokio::runtime::Builder::new_multi_thread(), serve::run(args)),
        Command::Run(args) => on_runtime(run::run(args)),
        Command::Resume(args) => on_runtime(resume::run(args)),
        Command::Runs(args) => on_runtime(runs::run(args)),
        Command::Show(args) => on_runtime(show::run(args)),
        Command::Trigger(args) => on_runtime(trigger::run(args)),
        Command::Deliveries(args) => on_runtime(deliveries::run(args)),
        Command::Logs(args) => on_runtime(logs::run(args)),
        Command::Promote(args) => on_runtime(promote::run(args)),
        Command::Reject(args) => on_runtime(reject::run(args)),
        Command::Cancel(args) => on_runtime(cancel::run(args)),
        Command::Replay(args) => on_runtime(replay::run(args)),
        Command::Rollback(args) => on_runtime(rollback::run(args)),
        Command::Lock(args) => on_runtime(lock::run(args)),
        Command::Unlock(args) => on_runtime(unlock::run(args)),
        Command::Lift(args) => on_runtime(lift::run(args)),
        Command::Status(args) => on_runtime(status::run(args)),
        Command::Down(args) => on_runtime(down::run(args)),
        Command::Gc(args) => on_runtime(gc::run(args)),
        Command::Backup(args) => on_runtime(backup::run(args)),
        Command::CheckData(args) => on_runtime(check_data::run(args)),
        Command::Upgrade(args) => on_runtime(upgrade::run(args)),
        Command::Validate(args) => with_io(|io| validate::run(&args, io)),
        Command::Plan(args) => with_io(|io| plan::run(&args, io)),
        Command::Doctor(args) => on_runtime(doctor::run(args)),
        Command::Policy(args) => with_io(|io| policy::run(&args, io)),
        Command::Schema(args) => with_io(|io| schema::run(&args, io)),
        Command::Reference(args) => with_io(|io| reference::run(&args, io)),
        // Processes of their own, which choose their own runtime and their own log.
        Command::Guard(args) => guard::run(&args),
        Command::Runner(args) => runner::run(&args).map(|()| Exit::Good).map_err(Error::from),
        Command::Balancer(args) => balancer::run(args).map(|()| Exit::Good).map_err(Error::from),
    };
    exit.unwrap_or_else(|error| {
        error.print();
        error.exit()
    })
    .into()
}

/// Runs a command on one thread: what it does is wait, for the runner, the store and the cloud, and
/// handing over between threads would cost more than the work itself. What computes or blocks goes to
/// the runtime's blocking threads.
fn on_runtime(command: impl Future<Output = Result<Exit, Error>>) -> Result<Exit, Error> {
    diagnostics::start(diagnostics::Form::Text, QUIET);
    on(tokio::runtime::Builder::new_current_thread(), command)
}

fn on(
    mut runtime: tokio::runtime::Builder,
    command: impl Future<Output = Result<Exit, Error>>,
) -> Result<Exit, Error> {
    let runtime = runtime.enable_all().build()?;
    // In a box, as the compiler makes the code of what `block_on` is given three times over.
    let command: Pin<Box<dyn Future<Output = _>>> = Box::pin(command);
    let exit = runtime.block_on(command);
    // What still runs is recorded, and goes on where it was when somebody resumes it.
    runtime.shutdown_background();
    exit
}

fn with_io(command: impl FnOnce(&mut Io<'_>) -> std::io::Result<Exit>) -> Result<Exit, Error> {
    let (out, err) = (std::io::stdout(), std::io::stderr());
    let style = match anstream::AutoStream::choice(&out) {
        anstream::ColorChoice::Never => Style::Plain,
        _ => Style::Colour,
    };
    Ok(command(&mut Io { out: &mut out.lock(), err: &mut err.lock(), style })?)
}

/// A document for programs.
fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(Error::world)
}

/// The word of `known` that somebody probably meant.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = 1 + word.chars().count() / 4;
    known
        .into_iter()
        .map(|known| {
            (strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &known.to_ascii_lowercase()), known)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
