//! `windlass down`

use std::io::Write as _;

use super::reach::{Driver, Reach, Where, driver, reach};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::http::FleetDown;
use crate::ids::{EnvironmentName, FleetId, PipelineName};

/// Take a fleet down: drain its instances, end them, and close its port
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service, which has its pipeline's name
    service: PipelineName,
    /// The environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let actor = args.who.actor_at(&args.place)?;
    let fleet = FleetId::new(args.service, args.environment);
    if let Reach::Stored(None) = reach(&place).await? {
        return Err(Error::input(format!("there is no fleet {fleet} in {place}"))
            .hint("windlass status lists the fleets")
            .hint("--data or WINDLASS_DATA names another data directory"));
    }
    // It goes on also when nobody reads about it.
    let say = |line: &str| {
        if !args.json {
            let _ = writeln!(anstream::stdout().lock(), "{line}");
        }
    };
    let done = match driver(&place, "windlass down", &Settings::default()).await? {
        Driver::Holder(client) => {
            let done = client.down(&fleet, &actor).await?;
            done.said.iter().for_each(|line| say(line));
            done
        }
        Driver::Us(house) => {
            let mut said = Vec::new();
            let down = house.engine.down(&fleet, actor, |line| {
                say(&line);
                said.push(line);
            });
            let down = down.await;
            house.close().await?;
            down?;
            FleetDown { said }
        }
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&done)?)?,
        false => writeln!(out, "{fleet} is down")?,
    }
    Ok(Exit::Good)
}
