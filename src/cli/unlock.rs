//! `windlass unlock`

use std::io::Write as _;

use super::reach::{Driver, Where, driver};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::engine::Target;
use crate::http::Locked;

/// Let runs enter an environment or a fleet again that somebody locked
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is locked: production, production/storefront
    #[arg(value_name = "ENV[/SERVICE]")]
    target: Target,
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
    let done = match driver(&asked, "windlass unlock", &Settings::default()).await? {
        Driver::Holder(client) => client.unlock(target, &actor).await?,
        Driver::Us(house) => {
            let done = house.engine.unlock(target, &actor).await;
            house.close().await?;
            done?;
            Locked { target: target.to_string(), locked: false }
        }
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&done)?)?,
        false => writeln!(out, "{target} is open again")?,
    }
    Ok(Exit::Good)
}
