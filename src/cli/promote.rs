//! `windlass promote`

use std::io::Write as _;

use super::act::record;
use super::reach::Where;
use super::who::Who;
use super::{Error, Exit, shipment};
use crate::ids::{EnvironmentName, RunId};
use crate::run::command::Act;

/// Let a run go on into an environment that waits for a promotion
///
/// Says what that ships. `windlass show RUN` says it beforehand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    /// The environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
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
    let act = Act::Promote { environment: environment.clone() };
    let recorded = record(&args.place, "windlass promote", run, act, actor.clone()).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&recorded.view)?)?;
        return Ok(Exit::Good);
    }
    writeln!(out, "{run} is promoted to {environment} by {}", actor.name)?;
    let gate = recorded.view.gates.iter().find(|gate| gate.environment == *environment);
    for line in gate.map(|gate| shipment::lines(&gate.ships, environment)).unwrap_or_default() {
        writeln!(out, "  {line}")?;
    }
    if let Some(next) = recorded.next {
        writeln!(out, "nobody drives {run} at the moment; to carry it on: {next}")?;
    }
    Ok(Exit::Good)
}
