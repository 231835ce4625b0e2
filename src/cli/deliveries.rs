//! `windlass deliveries`

use std::io::Write as _;

use clap::Subcommand;
use comfy_table::{ContentArrangement, Table};

use super::reach::{Reach, Where, reach};
use super::{Error, Exit, text};
use crate::intake::{DeliveryList, DeliveryView};
use crate::store::DeliveryFilter;

/// List what came in, newest first: webhooks, and instants of schedules
///
/// Each with what came of it: the runs that it started, or why it started none.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Subcommand)]
enum What {
    Again(Again),
}

/// Handle a delivery again
///
/// A run that it started already is answered again, and not started twice.
#[derive(Debug, clap::Args)]
struct Again {
    /// The delivery, as windlass deliveries shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Print the delivery as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    if let Some(What::Again(again)) = args.what {
        return self::again(again).await;
    }
    let place = args.place.place()?;
    let list = match reach(&place).await? {
        Reach::Holder(client) => client.deliveries(Some(args.limit)).await?,
        Reach::Stored(None) => DeliveryList { deliveries: Vec::new() },
        Reach::Stored(Some(store)) => {
            let filter = DeliveryFilter { status: None, limit: Some(args.limit) };
            DeliveryList::of(store.as_ref(), &filter).await?
        }
    };
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&list)?)?;
    } else if list.deliveries.is_empty() {
        writeln!(out, "nothing came in at {place}")?;
    } else {
        writeln!(out, "{}", table(&list))?;
    }
    Ok(Exit::Good)
}

async fn again(args: Again) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let Reach::Holder(client) = reach(&place).await? else {
        let suffix = args.place.suffix();
        return Err(Error::input(format!(
            "no server runs on {place}, and it takes one to handle a delivery"
        ))
        .hint(format!("start one: windlass serve --pipelines DIR{suffix}")));
    };
    let view = client.again(&args.id).await?;
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&view)?)?,
        false => writeln!(out, "{} {}: {}", view.id, view.status.as_str(), outcome(&view))?,
    }
    Ok(Exit::Good)
}

/// The runs, and what else is to be said.
fn outcome(view: &DeliveryView) -> String {
    let runs = view.runs.iter().map(ToString::to_string);
    runs.chain(view.reason.as_deref().map(text::clean)).collect::<Vec<_>>().join(", ")
}

fn table(list: &DeliveryList) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["DELIVERY", "EVENT", "STATUS", "RECEIVED", "RUNS, OR WHY NOT"]);
    for view in &list.deliveries {
        table.add_row([
            text::clean(&view.id),
            text::clean(&view.event),
            view.status.as_str().to_owned(),
            text::date(view.received_at),
            outcome(view),
        ]);
    }
    table
}
