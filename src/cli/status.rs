//! `windlass status`

use std::io::{self, Write};

use super::reach::{Reach, Where, reach};
use super::text::{BOLD, DIM, GREEN, RED, YELLOW, clean};
use super::{Error, Exit, text};
use crate::app;
use crate::engine::fleets::{self, FleetView};
use crate::http::FleetList;

/// Longest reason that an instance is shown with, in characters; `show` and `logs` have all of it.
const REASON: usize = 160;

/// Show every fleet: its image, version, commit and health, and what waits for it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let list = match reach(&place).await? {
        Reach::Holder(client) => client.fleets().await?,
        Reach::Stored(store) => match store.zip(place.directory()) {
            None => FleetList { fleets: Vec::new() },
            Some((store, data)) => {
                let (cloud, _) = app::cloud(data)?;
                FleetList { fleets: fleets::list(store.as_ref(), &cloud, |_| false).await? }
            }
        },
    };
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&list)?)?;
    } else if list.fleets.is_empty() {
        writeln!(out, "no fleets in {place}")?;
    } else {
        for fleet in &list.fleets {
            print(&mut out, fleet, &args.place.suffix())?;
        }
    }
    Ok(Exit::Good)
}

fn print(out: &mut impl Write, fleet: &FleetView, place: &str) -> io::Result<()> {
    let style = match fleet.healthy {
        healthy if healthy >= fleet.size.max(1) => GREEN,
        0 => RED,
        _ => YELLOW,
    };
    writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {style}{} of {} healthy{style:#}",
        fleet.fleet, fleet.healthy, fleet.size
    )?;
    match (&fleet.image, &fleet.version) {
        (Some(image), Some(version)) => {
            let since = fleet.since.map(|since| format!(", since {}", text::date(since)));
            writeln!(
                out,
                "  {version} of {}, image {image}{}",
                text::commit(fleet.commit.as_ref()),
                since.unwrap_or_default()
            )?;
        }
        _ => writeln!(out, "  nothing was rolled out to it yet")?,
    }
    if let Some(rollout) = &fleet.rollout {
        writeln!(out, "  {} is rolling {} out", rollout.run, rollout.to)?;
    } else if let Some(run) = &fleet.held_by {
        writeln!(out, "  held by {run}")?;
    }
    if let (true, Some(run)) = (fleet.interrupted, &fleet.held_by) {
        writeln!(
            out,
            "  {YELLOW}{run} was interrupted{YELLOW:#}: windlass resume {run}{place} carries it on"
        )?;
    }
    for instance in &fleet.instances {
        let reason =
            instance.reason.as_deref().map(|reason| format!(": {}", text::short(&clean(reason), REASON)));
        writeln!(
            out,
            "  {} {DIM}{}{DIM:#} {}{}",
            instance.id,
            instance.address,
            instance.health,
            reason.unwrap_or_default()
        )?;
    }
    for wait in &fleet.waiting {
        writeln!(out, "  {}", clean(wait))?;
    }
    Ok(())
}
