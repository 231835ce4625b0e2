//! `windlass lock`

use std::io::Write as _;

use super::reach::{Driver, Where, driver};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::engine::Target;
use crate::http::Locked;

/// Let no run enter an environment, or one fleet of it, until somebody unlocks it
///
/// A run that is inside already goes on. Locking it again says another reason; what somebody else
/// locked, only unlocking opens.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  windlass lock production --reason \"the database moves\"
  windlass lock production/storefront --reason \"watching the error rate\"")]
pub struct Args {
    /// The environment, or one fleet of it: production, production/storefront
    #[arg(value_name = "ENV[/SERVICE]")]
    target: Target,
    /// Why, for everybody who waits
    #[arg(long)]
    reason: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let asked = args.place.place()?;
    let (actor, target) = (args.who.actor_at(&args.place)?, &args.target);
    let done = match driver(&asked, "windlass lock", &Settings::default()).await? {
        Driver::Holder(client) => client.lock(target, &actor, &args.reason).await?,
        Driver::Us(house) => {
            let done = house.engine.lock(target, &actor, &args.reason).await;
            house.close().await?;
            done?;
            Locked { target: target.to_string(), locked: true }
        }
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&done)?)?,
        false => writeln!(
            out,
            "{target} is locked by {}; to open it again: windlass unlock {target}{}",
            actor.name,
            args.place.suffix()
        )?,
    }
    Ok(Exit::Good)
}
