//! `windlass cancel`

use std::io::Write as _;

use super::act::record;
use super::foreground::{Foreground, Start};
use super::reach::{Place, Where};
use super::resume::settings;
use super::show::look;
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::ids::RunId;
use crate::run::command::Act;
use crate::run::event::Actor;
use crate::run::view::Status;

/// What others read about who holds the directory.
const WHAT: &str = "windlass cancel";

/// Cancel a run
///
/// Returns when that is recorded, where somebody drives the run; else brings it to its end here. What
/// runs is told to stop, gets a grace, and is then ended; a rollout ends in a safe state of its fleet.
/// `windlass show RUN` says how far it is.
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
    let asked = args.place.place()?;
    let run = &args.run;
    let before = look(&asked, run).await?;
    // It was cancelled before, and whoever was to carry that out is gone.
    if before.status == Status::Cancelling && before.waiting_for.is_some() {
        return carry_out(args, asked, actor).await;
    }
    let act = Act::Cancel { reason: args.reason.trim().to_owned() };
    let recorded = record(&args.place, WHAT, run, act, actor.clone()).await?;
    if recorded.next.is_some() {
        return carry_out(args, asked, actor).await;
    }
    let mut out = anstream::stdout().lock();
    match (args.json, recorded.view.status.is_final()) {
        (true, _) => writeln!(out, "{}", super::json(&recorded.view)?)?,
        (false, true) => writeln!(out, "{run} is cancelled")?,
        (false, false) => writeln!(out, "{run} is being cancelled: what runs is told to stop")?,
    }
    Ok(Exit::Good)
}

/// Nobody drives the run, and steps of it may run all the same.
async fn carry_out(args: Args, asked: Place, actor: Actor) -> Result<Exit, Error> {
    let Args { run, json, place, .. } = args;
    let settings = match asked.directory() {
        Some(data) => settings(data, &run).await?,
        None => Settings::default(),
    };
    let place = place.suffix();
    Foreground { asked, what: WHAT, settings, actor, json, place }.carry(Start::Known(run)).await?;
    Ok(Exit::Good)
}
