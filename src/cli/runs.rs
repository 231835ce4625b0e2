//! `windlass runs`

use std::io::Write as _;

use comfy_table::{ContentArrangement, Table};

use super::reach::{Reach, Where, reach};
use super::{Error, Exit, text};
use crate::http::{RunLine, RunList, interrupted};
use crate::ids::PipelineName;
use crate::run::view::Status;
use crate::store::RunFilter;

/// List runs, newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only runs of this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Only runs with this status: queued, running, waiting, cancelling, succeeded, failed, cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let status = args.status.as_deref().map(status).transpose()?;
    let pipeline = args
        .pipeline
        .as_deref()
        .map(|name| {
            name.parse::<PipelineName>().map_err(|error| Error::input(format!("--pipeline: {error}")))
        })
        .transpose()?;
    let list = match reach(&place).await? {
        Reach::Holder(client) => client.runs(pipeline, status, Some(args.limit)).await?,
        Reach::Stored(None) => RunList { runs: Vec::new() },
        Reach::Stored(Some(store)) => {
            let filter = RunFilter {
                pipeline,
                status: status.map(|status| status.as_str().to_owned()),
                limit: Some(args.limit),
                ..RunFilter::default()
            };
            // Somebody may hold the directory who does not serve it yet: then it is not for us to
            // say that nobody carries on.
            let idle = place.is_idle();
            let rows = store.runs(&filter).await?;
            let line = |row: crate::store::RunRow| RunLine {
                waiting_for: if row.ended || !idle { row.waiting_for } else { Some(interrupted(&row.run)) },
                run: row.run,
                status: row.status,
                commit: row.commit,
                created_at: row.created_at,
            };
            RunList { runs: rows.into_iter().map(line).collect() }
        }
    };
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&list)?)?;
    } else if list.runs.is_empty() {
        let such = if args.pipeline.is_some() || args.status.is_some() { "such " } else { "" };
        writeln!(out, "no {such}runs in {place}")?;
    } else {
        writeln!(out, "{}", table(&list))?;
    }
    Ok(Exit::Good)
}

fn status(word: &str) -> Result<Status, Error> {
    Status::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| {
        let words = Status::ALL.map(Status::as_str);
        let error = Error::input(format!("no run ever has the status {word:?}"));
        match super::nearest(word, words) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error,
        }
        .hint(format!("a status is one of {}", words.join(", ")))
    })
}

fn table(list: &RunList) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(["RUN", "STATUS", "COMMIT", "CREATED", "WAITING FOR"]);
    for line in &list.runs {
        table.add_row([
            line.run.to_string(),
            line.status.clone(),
            text::commit(line.commit.as_ref()).to_owned(),
            text::date(line.created_at),
            line.waiting_for.as_deref().map(text::clean).unwrap_or_default(),
        ]);
    }
    table
}
