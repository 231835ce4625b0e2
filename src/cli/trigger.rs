//! `windlass trigger`

use std::collections::BTreeMap;
use std::io::Write as _;

use super::reach::{Reach, Where, reach};
use super::who::Who;
use super::{Error, Exit, text};
use crate::ids::PipelineName;

/// Start a run of a pipeline that the server knows, and leave
///
/// The server reads its pipelines from the directory of its --pipelines. `windlass run FILE` runs a file
/// without one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline's name
    #[arg(value_name = "PIPELINE")]
    pipeline: PipelineName,
    /// A branch, a tag or a commit. Without it, what the source has checked out
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// Set a param of the pipeline
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Print the run as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let place = args.place.place()?;
    let actor = args.who.actor()?;
    let mut params = BTreeMap::new();
    for given in &args.params {
        let (name, value) = given
            .split_once('=')
            .ok_or_else(|| Error::input(format!("--param takes NAME=VALUE, not {given:?}")))?;
        if params.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Error::input(format!("--param {name} is given twice")));
        }
    }
    let Reach::Holder(client) = reach(&place).await? else {
        let suffix = args.place.suffix();
        return Err(Error::input(format!(
            "no server runs on {place}, and it takes one to know what {} is",
            args.pipeline
        ))
        .hint(format!("start one: windlass serve --pipelines DIR{suffix}"))
        .hint(format!("or run the file itself: windlass run {}.yaml{suffix}", args.pipeline)));
    };
    let view = client.trigger(&args.pipeline, args.reference.as_deref(), params, &actor).await?;
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", super::json(&view)?)?;
        return Ok(Exit::Good);
    }
    let (run, suffix) = (&view.run, args.place.suffix());
    match &view.commit {
        Some(commit) => writeln!(out, "{run} is started for {}", text::commit(Some(commit)))?,
        None => writeln!(out, "{run} is started")?,
    }
    writeln!(out, "  windlass show {run}{suffix}")?;
    writeln!(out, "  windlass logs {run} --follow{suffix}")?;
    Ok(Exit::Good)
}
