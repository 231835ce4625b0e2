//! `windlass run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::foreground::{Foreground, Start};
use super::reach::{Place, Where};
use super::validate::read;
use super::who::Who;
use super::{Error, Exit, text};
use crate::config::Settings;
use crate::http::Submission;
use crate::ids::EnvironmentName;
use crate::pipeline::model::{Kind, Pipeline, Source};
use crate::run::event::{Commit, Origin, Promote};
use crate::source::{Address, Sources, Want};

/// Run a pipeline for one commit, and stay until it has ended
///
/// The first Ctrl-C cancels the run; a second one leaves at once, and `windlass resume` carries the run
/// on. So does it after a crash: what has succeeded is not done again, and a step that still runs is
/// not started again. Exits with 1 when the run failed or was cancelled.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  windlass run storefront.yaml
      Takes the last commit of the source that the pipeline names
  windlass run storefront.yaml --source ../storefront --commit v1.4 --param flavour=plain
      Takes another commit of another source
  windlass run storefront.yaml --config windlass.yaml --promote all
      Goes all the way, past every environment that waits for a promotion")]
pub struct Args {
    /// The pipeline file
    #[arg(value_name = "PIPELINE.yaml")]
    file: PathBuf,
    /// Where the commit comes from, instead of the pipeline's own source: a directory, or an address that
    /// git knows
    #[arg(long, value_name = "DIR")]
    source: Option<String>,
    /// The commit: a hash, a tag or a branch. Without it, what the source has checked out
    #[arg(long, value_name = "REV")]
    commit: Option<String>,
    /// Set a param of the pipeline
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// The settings with the environments, fleets and secrets
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Promote the run to this environment when it comes to its gate; `all` for every one
    #[arg(long, value_name = "ENV")]
    promote: Vec<String>,
    /// Print the run as one JSON object when it has ended; the progress goes to the standard error
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let data = args.place.data()?;
    let actor = args.who.actor()?;
    let settings = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let text = read(&args.file)?;
    let shown = args.file.display().to_string();
    let (pipeline, problems) = crate::pipeline::examine(&text, &shown, Some(&settings.surroundings()));
    let Some(pipeline) = pipeline.filter(|_| !problems.has_errors()) else {
        return Err(problems.into());
    };
    let path = std::path::absolute(&args.file)?;
    let params = params(&pipeline, &args.params)?;
    let promote = promote(&pipeline, &args.promote)?;
    let address = address(&pipeline, args.source.as_deref(), &path)?;
    let commit = match &address {
        Some(address) => Some(commit(&Sources::new(&data), address, args.commit.as_deref()).await?),
        None if args.commit.is_some() => {
            return Err(Error::input("--commit names a commit, and there is no source to take it from")
                .hint("--source DIR names the repository"));
        }
        None => None,
    };
    let origin = Origin {
        settings_path: settings.path.as_ref().map(|path| path.display().to_string()),
        source: address.map(|address| address.to_string()),
        commit,
        params,
        promote,
        ..Origin::new(text, path.display().to_string(), actor.clone())
    };
    let submission = Box::new(Submission { origin, trigger_key: Some(trigger_key()) });
    let place = args.place.suffix();
    Foreground { asked: Place::Data(data), what: "windlass run", settings, actor, json: args.json, place }
        .carry(Start::New { pipeline: pipeline.name, submission })
        .await
}

/// Different for every command, so that asking a second holder again makes no second run.
fn trigger_key() -> String {
    format!("command-line-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond())
}

/// Every param with the value it was given, or its default.
fn params(pipeline: &Pipeline, given: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut params = BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::input(format!("--param takes NAME=VALUE, not {text:?}")));
        };
        if !pipeline.params.contains_key(name) {
            return Err(unknown_param(pipeline, name));
        }
        if params.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Error::input(format!("--param {name} is given twice")));
        }
    }
    for (name, param) in &pipeline.params {
        match (&param.default, params.contains_key(name)) {
            (_, true) => {}
            (Some(default), false) => drop(params.insert(name.clone(), default.clone())),
            (None, false) => {
                let what = match param.description.as_str() {
                    "" => String::new(),
                    description => format!(" ({})", text::clean(description)),
                };
                return Err(Error::input(format!("{} asks for the param {name}{what}", pipeline.name))
                    .hint(format!("--param {name}=VALUE")));
            }
        }
    }
    Ok(params)
}

fn unknown_param(pipeline: &Pipeline, name: &str) -> Error {
    let known: Vec<&str> = pipeline.params.keys().map(String::as_str).collect();
    let error = Error::input(format!("{} has no param {name:?}", pipeline.name));
    match (super::nearest(name, known.iter().copied()), known.as_slice()) {
        (Some(near), _) => error.hint(format!("did you mean {near:?}?")),
        (None, []) => error.hint("it has no params at all"),
        (None, known) => error.hint(format!("it has {}", known.join(", "))),
    }
}

fn promote(pipeline: &Pipeline, given: &[String]) -> Result<Promote, Error> {
    if given.is_empty() {
        return Ok(Promote::Nothing);
    }
    if given.iter().any(|word| word == "all") {
        return Ok(Promote::All);
    }
    let mut known: Vec<&EnvironmentName> =
        pipeline.stages.iter().filter_map(|stage| stage.environment.as_ref()).collect();
    known.sort();
    known.dedup();
    let find = |word: &String| {
        known.iter().find(|name| name.as_str() == word).map(|name| (*name).clone()).ok_or_else(|| {
            let error = Error::input(format!("no stage of {} names an environment {word:?}", pipeline.name));
            let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            match (super::nearest(word, names.iter().copied()), names.is_empty()) {
                (Some(near), _) => error.hint(format!("did you mean {near:?}?")),
                (None, true) => error.hint("its stages name no environment at all"),
                (None, false) => error.hint(format!("they name {}; or say all", names.join(", "))),
            }
        })
    };
    Ok(Promote::Environments(given.iter().map(find).collect::<Result<_, _>>()?))
}

/// Where the commit comes from: as the command line says, else as the file says.
fn address(pipeline: &Pipeline, given: Option<&str>, file: &Path) -> Result<Option<Address>, Error> {
    let beside = file.parent().unwrap_or(Path::new("/"));
    let (text, relative_to) = match (given, &pipeline.source) {
        (Some(given), _) => (given, std::env::current_dir()?),
        (None, Some(Source::Git(own))) => (own.as_str(), beside.to_owned()),
        (None, Some(Source::GitHub(_))) => {
            return Err(Error::input("source.github is not supported yet"));
        }
        (None, None) => {
            let checkout = pipeline.stages.iter().find(|stage| matches!(stage.kind, Kind::Checkout));
            return match checkout {
                None => Ok(None),
                Some(stage) => Err(Error::input(format!(
                    "the stage {} checks a commit out, and nothing says where commits come from",
                    stage.name
                ))
                .hint("--source DIR names the repository")
                .hint(format!("or write into {}: source: {{ git: ../repository }}", file.display()))),
            };
        }
    };
    Address::parse(text, &relative_to).map(Some).map_err(Error::input)
}

async fn commit(sources: &Sources, address: &Address, wanted: Option<&str>) -> Result<Commit, Error> {
    let want = wanted.map_or(Want::Head, |revision| Want::Commit(revision.to_owned()));
    let commit = sources.resolve(address, &want).await?;
    if let (None, Some(count @ 1..)) = (wanted, sources.dirty(address).await) {
        anstream::eprintln!(
            "{style}warning{style:#}: {} in {address} {} not committed and no part of the run",
            text::count(count, "changed file"),
            if count == 1 { "is" } else { "are" },
            style = text::YELLOW,
        );
    }
    Ok(commit)
}
