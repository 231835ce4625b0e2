//! `windlass status`

use std::io::{self, Write};

use super::reach::{Reach, Where, reach};
use super::text::{BOLD, DIM, GREEN, RED, YELLOW, clean};
use super::{Error, Exit, text};
use crate::app;
use crate::engine::fleets::{self, FleetView, Waiting};
use crate::engine::known::Known;
use crate::http::FleetList;
use crate::ids::RunId;
use crate::space;

/// Longest reason that an instance is shown with, in characters; `show` and `logs` have all of it.
const REASON: usize = 160;

/// Longest trouble that a fleet is shown with.
const TROUBLE: usize = 600;

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
    let mut broken = Vec::new();
    let list = match reach(&place).await? {
        Reach::Holder(client) => {
            broken = client.pipelines().await.map(|list| list.problems()).unwrap_or_default();
            client.fleets().await?
        }
        Reach::Stored(store) => match store.zip(place.directory()) {
            None => FleetList { fleets: Vec::new() },
            Some((store, data)) => {
                let (clouds, _) = app::clouds(data)?;
                let reach = fleets::Reach {
                    store: store.as_ref(),
                    clouds: clouds.as_ref(),
                    settings: None,
                    undriven: None,
                };
                let (rows, now) = (store.fleets().await?, jiff::Timestamp::now());
                let nobody = |_: &RunId| false;
                let known = Known::default();
                FleetList {
                    fleets: fleets::list(reach, rows, &known, now, nobody, Waiting::default()).await?,
                }
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
    drop(out);
    // Not about fleets, but who looks here wants to know.
    let disk = place.directory().and_then(|data| space::of(data).ok()).filter(space::Space::is_short);
    if let Some(disk) = disk {
        let word = if disk.is_full() { "full" } else { "nearly full" };
        anstream::eprintln!("{YELLOW}disk{YELLOW:#} {word}: {disk} at {place}; free some: runs wait for it");
    }
    for problem in broken {
        anstream::eprintln!("{YELLOW}pipelines{YELLOW:#} {problem}");
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
    if let Some(standby) = &fleet.standby {
        writeln!(out, "  {} stands by until {}", standby.name, text::date(standby.until))?;
    }
    if let Some(trouble) = &fleet.trouble {
        writeln!(out, "  {RED}{}{RED:#}", text::short(&clean(trouble), TROUBLE))?;
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
    let locks = [
        (&fleet.lock, format!("{}/{}", fleet.environment, fleet.service)),
        (&fleet.environment_lock, fleet.environment.to_string()),
    ];
    for (lock, target) in locks {
        let Some(lock) = lock else { continue };
        writeln!(
            out,
            "  {YELLOW}locked{YELLOW:#} by {} since {} ({}): windlass unlock {target}{place}",
            clean(&lock.actor),
            text::date(lock.at),
            clean(&lock.reason)
        )?;
    }
    if let Some(frozen) = &fleet.frozen {
        let reason = clean(&frozen.reason);
        writeln!(out, "  {YELLOW}frozen{YELLOW:#} until {} ({reason})", text::date(frozen.until))?;
    }
    if let Some(previous) = &fleet.previous {
        let (service, environment) = (&fleet.service, &fleet.environment);
        writeln!(
            out,
            "  {DIM}before it {previous}: windlass rollback {service} {environment}{place}{DIM:#}"
        )?;
    }
    for image in &fleet.quarantined {
        writeln!(
            out,
            "  {RED}quarantined{RED:#} {} by {} ({}): windlass lift {} {} --reason …{place}",
            image.name,
            clean(&image.actor),
            clean(&image.reason),
            fleet.service,
            image.name
        )?;
    }
    for wait in &fleet.waiting {
        writeln!(out, "  {}", clean(wait))?;
    }
    Ok(())
}
