use std::io;
use std::path::{Path, PathBuf};

use super::validate::examine;
use super::{Error, Exit, Io};
use crate::config::Settings;
use crate::ids::EnvironmentName;
use crate::pipeline::model::Pipeline;

/// Print the smallest IAM policy that works on AWS, of what the settings use
///
/// One document for each role that the settings name, and one for the credentials of the process itself.
/// With pipelines, only what these use. What Windlass makes carries its tags, and the policy lets it
/// change nothing else. Nothing is looked up. What a person has to know besides goes to the standard
/// error.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Pipeline files; without any, all that the settings allow
    #[arg(value_name = "PIPELINE")]
    pub pipelines: Vec<PathBuf>,
    /// The settings
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only the document of the role that is assumed for this environment
    #[arg(long, value_name = "NAME")]
    pub environment: Option<EnvironmentName>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &Args, io: &mut Io<'_>) -> io::Result<Exit> {
    let Some((settings, pipelines)) = read(&args.config, &args.pipelines, io)? else {
        return Ok(Exit::Invalid);
    };
    if let Some(environment) = args.environment.as_ref()
        && !settings.environments.contains_key(environment)
    {
        Error::input(format!("{} has no environment {environment}", args.config.display())).print();
        return Ok(Exit::Invalid);
    }
    print(args, &settings, &pipelines, io)
}

#[cfg(not(feature = "aws"))]
fn print(_: &Args, _: &Settings, _: &[Pipeline], _: &mut Io<'_>) -> io::Result<Exit> {
    Error::input("this program was built without AWS: cargo build --features aws builds one that has it")
        .print();
    Ok(Exit::Invalid)
}

#[cfg(feature = "aws")]
fn print(args: &Args, settings: &Settings, pipelines: &[Pipeline], io: &mut Io<'_>) -> io::Result<Exit> {
    use crate::cloud::aws::policy::{Document, documents};

    #[derive(serde::Serialize)]
    struct Report {
        documents: Vec<Document>,
    }

    let Some(uses) = uses(settings, pipelines) else {
        Error::input(format!(
            "{} names nothing on AWS, and what is local needs no policy",
            args.config.display()
        ))
        .hint("clouds: { aws: { region: eu-central-1, bucket: acme-artifacts } }")
        .print();
        return Ok(Exit::Invalid);
    };
    let mut documents = documents(&uses);
    if let Some(environment) = &args.environment {
        documents.retain(|document| document.environments.contains(environment));
        if documents.is_empty() {
            Error::input(format!("{environment} has no fleet on AWS")).print();
            return Ok(Exit::Invalid);
        }
    }
    if args.json {
        writeln!(io.out, "{}", serde_json::to_string_pretty(&Report { documents })?)?;
        return Ok(Exit::Good);
    }
    let several = documents.len() > 1;
    for document in &documents {
        let role = match &document.role {
            Some(role) => format!("the role {role}"),
            None => "the credentials of the process itself".to_owned(),
        };
        if several {
            writeln!(io.out, "# {role}")?;
        }
        writeln!(io.out, "{}", serde_json::to_string_pretty(&document.policy)?)?;
        for note in &document.notes {
            writeln!(io.err, "note: {role}: {note}")?;
        }
    }
    Ok(Exit::Good)
}

/// What the settings, or these pipelines under them, use on AWS.
#[cfg(feature = "aws")]
fn uses(settings: &Settings, pipelines: &[Pipeline]) -> Option<crate::cloud::aws::policy::Uses> {
    use crate::cloud::aws::policy::{FleetUse, Uses};
    use crate::config::Place;
    use crate::ids::FleetId;
    use crate::pipeline::model::Kind;

    let (account, builder) = settings.aws.clone()?;
    let stages = || pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let some = |wanted: fn(&Kind) -> bool| pipelines.is_empty() || stages().any(|stage| wanted(&stage.kind));
    let named = |id: &FleetId| {
        pipelines.iter().any(|pipeline| {
            let mut stages = pipeline.stages.iter();
            pipeline.name == id.service
                && stages.any(|stage| stage.environment.as_ref() == Some(&id.environment))
        })
    };
    let mut fleets = Vec::new();
    for (environment, policy) in &settings.environments {
        for (service, fleet) in &policy.fleets {
            let id = FleetId::new(service.clone(), environment.clone());
            match &fleet.place {
                Place::Aws(fleet) if pipelines.is_empty() || named(&id) => {
                    fleets.push(FleetUse { id, fleet: (**fleet).clone() });
                }
                Place::Aws(_) | Place::Local => {}
            }
        }
    }
    let named = pipelines.iter().map(|pipeline| pipeline.name.clone());
    let services: std::collections::BTreeSet<_> =
        fleets.iter().map(|used| used.id.service.clone()).chain(named).collect();
    Some(Uses {
        account,
        objects: some(|kind| matches!(kind, Kind::Upload(_))),
        builder: builder.filter(|_| some(|kind| matches!(kind, Kind::Bake(_)))),
        fleets,
        services,
    })
}

/// The settings and the pipelines; `None`: something is wrong with them, which was said.
pub(super) fn read(
    config: &Path,
    pipelines: &[PathBuf],
    io: &mut Io<'_>,
) -> io::Result<Option<(Settings, Vec<Pipeline>)>> {
    let settings = match Settings::read(config) {
        Ok(settings) => settings,
        Err(problems) => {
            write!(io.err, "{}", problems.render(io.style))?;
            return Ok(None);
        }
    };
    let surroundings = settings.surroundings();
    let mut read = Vec::new();
    for file in pipelines {
        let (pipeline, problems) = examine(file, Some(&surroundings));
        write!(io.err, "{}", problems.render(io.style))?;
        let Some(pipeline) = pipeline else { return Ok(None) };
        read.push(pipeline);
    }
    Ok(Some((settings, read)))
}
