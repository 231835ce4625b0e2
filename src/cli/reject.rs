//! `windlass reject`

use std::io::Write as _;

use super::act::record;
use super::reach::Where;
use super::who::Who;
use super::{Error, Exit};
use crate::ids::{EnvironmentName, RunId};
use crate::run::command::Act;

/// Keep a run out of an environment that waits for a promotion
///
/// The stages that name the environment fail, and so does the run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    /// The environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    /// Why, for whoever reads the history
    #[arg(long, value_name = "TEXT")]
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
    let (run, environment) = (&args.run, &args.environment);
    let act = Act::Reject { environment: environment.clone(), reason: args.reason };
    let recorded = record(&args.place, "windlass reject", run, act, actor.clone()).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&recorded.view)?)?;
        return Ok(Exit::Good);
    }
    writeln!(out, "{run} is kept out of {environment} by {}", actor.name)?;
    if let Some(next) = recorded.next {
        writeln!(out, "nobody drives {run} at the moment; to bring it to its end: {next}")?;
    }
    Ok(Exit::Good)
}
