//! `windlass lift`

use std::io::Write as _;

use super::reach::{Driver, Where, driver};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::http::Lifted;
use crate::ids::PipelineName;

/// Allow an image again that is in quarantine
///
/// A rollback puts the image that it goes back from in quarantine: it is neither deployed nor built
/// upon until somebody lifts that. `windlass status` shows the images.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service, which has its pipeline's name
    service: PipelineName,
    /// The image: its id, or its name such as storefront-42-9f3c2a1b
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Why it is safe again, for the history
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
    let (actor, image) = (args.who.actor_at(&args.place)?, &args.image);
    let done = match driver(&asked, "windlass lift", &Settings::default()).await? {
        Driver::Holder(client) => client.lift(&args.service, image, &actor, &args.reason).await?,
        Driver::Us(house) => {
            let fleets = house.engine.lift(&args.service, image, &actor, &args.reason).await;
            house.close().await?;
            Lifted { image: image.clone(), fleets: fleets?.iter().map(ToString::to_string).collect() }
        }
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&done)?)?,
        false => writeln!(out, "{image} may be deployed and built upon again")?,
    }
    Ok(Exit::Good)
}
