//! `windlass cancel`

use std::io::Write as _;

use super::act::record;
use super::reach::Where;
use super::who::Who;
use super::{Error, Exit};
use crate::ids::RunId;
use crate::run::command::Act;

/// Cancel a run
///
/// Returns when that is recorded. What runs is told to stop, gets a grace, and is then ended; a rollout
/// ends in a safe state of its fleet. `windlass show RUN` says how far it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    /// Why, for whoever reads the history
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// Print the run as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let actor = args.who.actor_at(&args.place)?;
    let run = &args.run;
    let act = Act::Cancel { reason: args.reason.trim().to_owned() };
    let recorded = record(&args.place, "windlass cancel", run, act, actor.clone()).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&recorded.view)?)?;
        return Ok(Exit::Good);
    }
    match (recorded.view.status.is_final(), recorded.next) {
        (true, _) => writeln!(out, "{run} is cancelled")?,
        (false, None) => writeln!(out, "{run} is being cancelled: what runs is told to stop")?,
        (false, Some(next)) => writeln!(
            out,
            "{run} is to be cancelled, and nobody drives it at the moment; to bring it to its end: {next}"
        )?,
    }
    Ok(Exit::Good)
}
