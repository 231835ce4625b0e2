//! `windlass down`

use std::io::Write as _;

use super::reach::{Driver, Reach, Where, driver, reach};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::ids::{EnvironmentName, FleetId, PipelineName};

/// Take a fleet down: drain its instances, end them, and close its port
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service, which has its pipeline's name
    service: PipelineName,
    /// The environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let actor = args.who.actor()?;
    let fleet = FleetId::new(args.service, args.environment);
    if let Reach::Stored(None) = reach(&data).await? {
        return Err(Error::input(format!("there is no fleet {fleet} in {}", data.display()))
            .hint("windlass status lists the fleets")
            .hint("--data or WINDLASS_DATA names another data directory"));
    }
    match driver(&data, "windlass down", &Settings::default()).await? {
        Driver::Holder(client) => {
            for line in client.down(&fleet, &actor).await?.said {
                writeln!(anstream::stdout().lock(), "{line}")?;
            }
        }
        Driver::Us(house) => {
            // It goes on also when nobody reads about it.
            let say = |line: String| drop(writeln!(anstream::stdout().lock(), "{line}"));
            let done = house.engine.down(&fleet, actor, say).await;
            house.close().await?;
            done?;
        }
    }
    writeln!(anstream::stdout().lock(), "{fleet} is down")?;
    Ok(Exit::Good)
}
