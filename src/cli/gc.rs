//! `windlass gc`

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::reach::{Driver, Reach, Where, driver, reach};
use super::text::{BOLD, DIM, RED, YELLOW, clean};
use super::who::Who;
use super::{Error, Exit, text};
use crate::config::Settings;
use crate::engine::gc::{GcFate, GcThing, GcView, Order};
use crate::ids::PipelineName;
use crate::reap;

/// End what nobody needs any more: builders, instances, uploads and images that runs left behind
///
/// Looks through this machine, and through the AWS account of the settings. What an unfinished run works
/// with, what a fleet runs, keeps standing by or would go back to, and what no run of this data directory
/// explains stays. Of each service the newest images stay that were certified or rolled out: 5, or what
/// clouds.aws.keep_images says.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End nothing; list what would be ended, and why
    #[arg(long)]
    dry_run: bool,
    /// Only what is of this service
    #[arg(long, value_name = "SERVICE")]
    service: Option<PipelineName>,
    /// List what stays too, and why
    #[arg(long)]
    all: bool,
    /// The settings with the clouds; without it, those that runs were started with. A server has its own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object, with what stays
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
    let settings = args.config.as_deref().map(Settings::read).transpose()?;
    let order = Order { dry_run: args.dry_run, service: args.service.clone() };
    // Before the directory is taken, which would make it.
    let view = if let Reach::Stored(None) = reach(&place).await? {
        GcView { dry_run: args.dry_run, ..GcView::default() }
    } else {
        let known = settings.clone().unwrap_or_default();
        match driver(&place, "windlass gc", &known).await? {
            Driver::Holder(client) => {
                if settings.is_some() {
                    anstream::eprintln!(
                        "note: whoever holds {place} has settings already: --config is not used"
                    );
                }
                client.gc(&order, &actor).await?
            }
            Driver::Us(house) => {
                if let Some(settings) = settings {
                    house.engine.use_settings(Arc::new(settings));
                }
                let view = house.engine.gc(&order, &actor).await;
                house.close().await?;
                view?
            }
        }
    };
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&view)?)?,
        false => print(&mut out, &view, args.all, Timestamp::now())?,
    }
    drop(out);
    for problem in &view.problems {
        anstream::eprintln!("{RED}problem{RED:#} {}", text::clean_lines(problem));
    }
    let failed = view.things.iter().any(|thing| thing.error.is_some());
    match failed || !view.problems.is_empty() {
        true => Ok(Exit::World),
        false => Ok(Exit::Good),
    }
}

fn print(out: &mut impl Write, view: &GcView, all: bool, now: Timestamp) -> io::Result<()> {
    let mut shown: Vec<&GcThing> =
        view.things.iter().filter(|thing| all || thing.fate == GcFate::Ends).collect();
    shown.sort_by_key(|thing| (thing.fate != GcFate::Ends, &thing.cloud, thing.kind, thing.created_at));
    let rows: Vec<[String; 4]> = shown.iter().map(|thing| row(thing, now)).collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    for (thing, [kind, id, age, of]) in shown.iter().zip(&rows) {
        let [kinds, ids, ages, ofs] = widths;
        write!(out, "{kind:kinds$}  {BOLD}{id:ids$}{BOLD:#}  {age:>ages$}  {of:ofs$}  ")?;
        match thing.fate {
            GcFate::Ends => write!(out, "{}", clean(&thing.reason))?,
            GcFate::Stays => write!(out, "{DIM}stays: {}{DIM:#}", clean(&thing.reason))?,
            GcFate::Unknown => write!(out, "{YELLOW}stays{YELLOW:#}: {}", clean(&thing.reason))?,
        }
        match &thing.error {
            Some(error) => writeln!(out, " {RED}not ended{RED:#}: {}", clean(error))?,
            None => writeln!(out)?,
        }
    }
    let fated = |fate| view.things.iter().filter(move |thing| thing.fate == fate);
    let (ends, ended) = (fated(GcFate::Ends).count(), fated(GcFate::Ends).filter(|thing| thing.ended));
    let total = text::count(view.things.len(), "thing");
    let bytes =
        |things: &mut dyn Iterator<Item = &GcThing>| match things.filter_map(|thing| thing.bytes).sum() {
            0 => String::new(),
            bytes => format!(", {}", text::bytes(bytes)),
        };
    match view.dry_run {
        true => writeln!(out, "would end {ends} of {total}{}", bytes(&mut fated(GcFate::Ends)))?,
        false => {
            let ended: Vec<&GcThing> = ended.collect();
            writeln!(out, "ended {} of {total}{}", ended.len(), bytes(&mut ended.iter().copied()))?;
        }
    }
    let unknown = fated(GcFate::Unknown).count();
    if unknown > 0 && !all {
        let things = text::count(unknown, "thing");
        writeln!(out, "{DIM}{things} that no run here explains: windlass gc --dry-run --all{DIM:#}")?;
    }
    Ok(())
}

fn row(thing: &GcThing, now: Timestamp) -> [String; 4] {
    let of = thing.run.as_ref().map(ToString::to_string).or(thing.service.as_ref().map(ToString::to_string));
    let id = match (&thing.name, thing.id.len()) {
        // The ids of uploads are long, and say nothing.
        (Some(name), 60..) => clean(name),
        _ => clean(&thing.id),
    };
    let age = reap::words(now.duration_since(thing.created_at));
    [thing.kind.word().to_owned(), id, age, of.unwrap_or_else(|| "nobody".to_owned())]
}
