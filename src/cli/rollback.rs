//! `windlass rollback`

use super::foreground::{Foreground, Start};
use super::reach::{Reach, Where, reach};
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::ids::{EnvironmentName, FleetId, PipelineName};

/// Take a fleet back to the image it ran before, and stay until it is there
///
/// A run of its own, with one deploy. The image that the fleet goes back from is in quarantine from then
/// on: nothing deploys it or builds upon it until `windlass lift` allows it again. A rollback goes before
/// the runs that wait, and through a freeze, but not through a lock.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service, which has its pipeline's name
    service: PipelineName,
    /// The environment
    #[arg(value_name = "ENV")]
    environment: EnvironmentName,
    /// Why, for the history
    #[arg(long, default_value = "")]
    reason: String,
    /// Print the run as one JSON object when it has ended; the progress goes to the standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let asked = args.place.place()?;
    let actor = args.who.actor_at(&args.place)?;
    let fleet = FleetId::new(args.service, args.environment);
    if let Reach::Stored(None) = reach(&asked).await? {
        return Err(Error::input(format!("there is no fleet {fleet} in {asked}"))
            .hint("windlass status lists the fleets")
            .hint("--data or WINDLASS_DATA names another data directory"));
    }
    let place = args.place.suffix();
    let settings = Settings::default();
    Foreground { asked, what: "windlass rollback", settings, actor, json: args.json, place }
        .carry(Start::Rollback { fleet, reason: args.reason })
        .await
}
