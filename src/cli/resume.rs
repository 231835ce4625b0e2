//! `windlass resume`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::foreground::{Foreground, Start};
use super::reach::Where;
use super::show::look;
use super::who::Who;
use super::{Error, Exit, progress};
use crate::app;
use crate::config::Settings;
use crate::ids::RunId;
use crate::journal::load_run;
use crate::run::view::Status;

/// Go on with an interrupted run, and stay until it has ended
///
/// What has succeeded is not done again; a step that still runs is not started again. Where another
/// process drives the run already, this one only shows it. Exits with 1 when the run failed or was
/// cancelled.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
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
    let view = look(&asked, &args.run).await?;
    if view.status.is_final() {
        let mut out = anstream::stdout().lock();
        match args.json {
            true => writeln!(out, "{}", super::json(&view)?)?,
            false => {
                let ending = progress::ending(&view, &args.place.suffix());
                writeln!(out, "there is nothing to go on with: {ending}")?;
            }
        }
        return Ok(if view.status == Status::Succeeded { Exit::Good } else { Exit::Failed });
    }
    let settings = match asked.directory() {
        Some(data) => settings(data, &args.run).await?,
        None => Settings::default(),
    };
    let place = args.place.suffix();
    Foreground { asked, what: "windlass resume", settings, actor, json: args.json, place }
        .carry(Start::Known(args.run))
        .await
}

/// The settings that the run was started with, as they are now.
pub(super) async fn settings(data: &Path, run: &RunId) -> Result<Settings, Error> {
    let Some(store) = app::read_store(data).await? else { return Ok(Settings::default()) };
    let state = load_run(store.as_ref(), run).await?;
    match state.origin.settings_path.as_ref().map(PathBuf::from) {
        None => Ok(Settings::default()),
        Some(path) => Ok(Settings::read(&path)?),
    }
}
