//! `windlass replay`

use super::foreground::{Foreground, Repeat, Start};
use super::reach::Where;
use super::resume::settings;
use super::show::look;
use super::who::Who;
use super::{Error, Exit};
use crate::config::Settings;
use crate::ids::{RunId, StageName};
use crate::run::command::Act;
use crate::run::event::Edit;
use crate::run::replay::Selection;

/// Do stages of a run again, in the same run, and stay until it has ended
///
/// What has succeeded and is not asked for is not done again. Commit, artifacts and images are the
/// recorded ones. Every attempt stays in the run's history, and so does who changed what: `windlass show
/// RUN` has both. Where another process holds the data directory, that one drives the run, and this one
/// shows it. Exits with 1 when the run failed or was cancelled.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  windlass replay storefront/42
      Every stage that failed, and then what was skipped because of it
  windlass replay storefront/42 --failed --set params.flavour=plain
      The same, with another param
  windlass replay storefront/42 --stage e2e
      That stage, and then only what has not succeeded
  windlass replay storefront/42 --from bake --set bake.env.DEBUG=1
      That stage and all that comes after it")]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    #[command(flatten)]
    which: Which,
    /// Change an input: params.NAME=VALUE, STAGE.with.KEY=VALUE or STAGE.env.NAME=VALUE
    #[arg(long = "set", value_name = "KEY=VALUE")]
    edits: Vec<String>,
    /// Print the run as one JSON object when it has ended; the progress goes to the standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct Which {
    /// Every stage that failed or was cancelled, and what was skipped because of it. This is what
    /// happens when nothing else is asked for
    #[arg(long)]
    failed: bool,
    /// This stage, and then only what has not succeeded
    #[arg(long, value_name = "STAGE")]
    stage: Option<StageName>,
    /// This stage and all that comes after it
    #[arg(long, value_name = "STAGE")]
    from: Option<StageName>,
}

impl Which {
    fn selection(self) -> Selection {
        match (self.stage, self.from) {
            (Some(stage), _) => Selection::Stage(stage),
            (None, Some(stage)) => Selection::From(stage),
            (None, None) => Selection::Failed,
        }
    }
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let edit = |text: &String| text.parse::<Edit>().map_err(|error| Error::input(format!("--set: {error}")));
    let edits = args.edits.iter().map(edit).collect::<Result<Vec<_>, _>>()?;
    let asked = args.place.place()?;
    let actor = args.who.actor_at(&args.place)?;
    let known = look(&asked, &args.run).await?.replays.len();
    let settings = match asked.directory() {
        Some(data) => settings(data, &args.run).await?,
        None => Settings::default(),
    };
    let place = args.place.suffix();
    let act = Act::Replay { selection: args.which.selection(), edits };
    Foreground { asked, what: "windlass replay", settings, actor, json: args.json, place }
        .carry(Start::Repeat(Box::new(Repeat { run: args.run, act, known })))
        .await
}
