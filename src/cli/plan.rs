use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::validate::examine;
use super::{Exit, Io, NOT_CHECKED};
use crate::config::{Promotion, Settings};
use crate::ids::StageName;
use crate::pipeline::graph::Graph;
use crate::pipeline::model::{Base, Kind, Pipeline, Stage};
use crate::pipeline::text::show_duration;

mod print;

/// Show what a pipeline would do, in which order, and what each environment would ask
///
/// Nothing is run and nothing is looked up. Stages of one level need nothing of each other and run at
/// the same time.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The pipeline file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The settings that the pipeline will run with
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The plan, as `--json` prints it. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Plan {
    pipeline: String,
    environments_checked: bool,
    params: Vec<PlannedParam>,
    stages: Vec<PlannedStage>,
    environments: Vec<PlannedEnvironment>,
    artifacts: Vec<PlannedArtifact>,
    images: Vec<PlannedImage>,
}

#[derive(Debug, Serialize)]
struct PlannedParam {
    name: String,
    default: Option<String>,
}

#[derive(Debug, Serialize)]
struct PlannedStage {
    /// From 1; what is in one level runs at the same time.
    level: usize,
    name: String,
    uses: &'static str,
    needs: Vec<String>,
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    timeout_seconds: f64,
    attempts: u32,
    /// What it does, for people.
    does: String,
}

#[derive(Debug, Serialize)]
struct PlannedEnvironment {
    name: String,
    /// The first stage that names it: the run stands there until it may go on.
    first_stage: String,
    stages: Vec<String>,
    /// Nothing where the settings were not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
}

#[derive(Debug, Serialize)]
struct Policy {
    group: String,
    promotion: &'static str,
    certified_image: bool,
    size: Option<u32>,
    port: Option<u16>,
}

#[derive(Debug, Serialize)]
struct PlannedArtifact {
    name: String,
    path: String,
    made_by: String,
    uploaded_by: Vec<String>,
    baked_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PlannedImage {
    baked_by: String,
    artifacts: Vec<String>,
    from: Option<String>,
    base: Option<String>,
    certified_by: Vec<String>,
    deployed_by: Vec<String>,
}

pub fn run(args: &Args, io: &mut Io<'_>) -> io::Result<Exit> {
    let settings = match args.config.as_deref().map(Settings::read) {
        None => None,
        Some(Ok(settings)) => Some(settings),
        Some(Err(problems)) => {
            write!(io.err, "{}", problems.render(io.style))?;
            return Ok(Exit::Invalid);
        }
    };
    let surroundings = settings.as_ref().map(Settings::surroundings);
    let (pipeline, problems) = examine(&args.file, surroundings.as_ref());
    write!(io.err, "{}", problems.render(io.style))?;
    let Some(pipeline) = pipeline else { return Ok(Exit::Invalid) };
    let plan = plan(&pipeline, settings.as_ref());
    match args.json {
        true => writeln!(io.out, "{}", serde_json::to_string_pretty(&plan)?)?,
        false => print::plan(&plan, io.out)?,
    }
    if settings.is_none() {
        writeln!(io.err, "{NOT_CHECKED}")?;
    }
    Ok(Exit::Good)
}

fn plan(pipeline: &Pipeline, settings: Option<&Settings>) -> Plan {
    let graph = Graph::new(pipeline);
    let stages = graph.levels().into_iter().enumerate().flat_map(|(level, stages)| {
        stages.into_iter().filter_map(move |place| Some((level, pipeline.stages.get(place)?)))
    });
    Plan {
        pipeline: pipeline.name.to_string(),
        environments_checked: settings.is_some(),
        params: (pipeline.params.iter())
            .map(|(name, param)| PlannedParam { name: name.clone(), default: param.default.clone() })
            .collect(),
        stages: stages.map(|(level, stage)| planned(level, stage)).collect(),
        environments: environments(pipeline, settings, &graph),
        artifacts: artifacts(pipeline),
        images: images(pipeline, &graph),
    }
}

fn planned(level: usize, stage: &Stage) -> PlannedStage {
    PlannedStage {
        level: level + 1,
        name: stage.name.to_string(),
        uses: stage.kind.word(),
        needs: stage.needs.iter().map(StageName::to_string).collect(),
        condition: stage.condition.as_ref().map(ToString::to_string),
        environment: stage.environment.as_ref().map(ToString::to_string),
        timeout_seconds: stage.timeout.as_secs_f64(),
        attempts: stage.retry.attempts,
        does: does(stage),
    }
}

fn does(stage: &Stage) -> String {
    let timeout = show_duration(stage.timeout);
    let mut does = match &stage.kind {
        Kind::Checkout => "clones the commit".to_owned(),
        Kind::Script(script) => {
            let steps = match script.steps.len() {
                1 => "1 step".to_owned(),
                count => format!("{count} steps"),
            };
            let made: Vec<&str> = script.artifacts.keys().map(|name| name.as_str()).collect();
            match made.is_empty() {
                true => steps,
                false => format!("{steps}, makes {}", made.join(", ")),
            }
        }
        Kind::Upload(upload) => format!("uploads {}", list(&upload.artifacts)),
        Kind::Bake(bake) => {
            let base = bake.base.as_ref().map(|base| match base {
                Base::Directory(directory) => format!("{directory}/"),
                machine => shown_base(machine),
            });
            let parent = match (&bake.from, base) {
                (Some(from), Some(base)) => format!("the image in {from}, or {base} the first time"),
                (Some(from), None) => format!("the image in {from}, or an empty tree the first time"),
                (None, Some(base)) => base,
                (None, None) => "an empty tree".to_owned(),
            };
            format!("bakes {} upon {parent}", list(&bake.artifacts))
        }
        Kind::Deploy => "moves the fleet to the image".to_owned(),
        Kind::Certify => "certifies the image".to_owned(),
    };
    if let Some(environment) = &stage.environment {
        does.push_str(&format!(", in {environment}"));
    }
    if stage.retry.attempts > 1 {
        does.push_str(&format!(", up to {} attempts", stage.retry.attempts));
    }
    format!("{does}, at most {timeout}")
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn environments(pipeline: &Pipeline, settings: Option<&Settings>, graph: &Graph) -> Vec<PlannedEnvironment> {
    let mut found: Vec<PlannedEnvironment> = Vec::new();
    let mut places = BTreeMap::new();
    let ordered = graph.order().iter().filter_map(|place| pipeline.stages.get(*place));
    for stage in ordered {
        let Some(environment) = &stage.environment else { continue };
        let place = *places.entry(environment.clone()).or_insert_with(|| {
            let policy = settings.and_then(|settings| settings.environments.get(environment)).map(|policy| {
                let fleet = policy.fleets.get(&pipeline.name);
                Policy {
                    group: policy.group.word().to_owned(),
                    promotion: match policy.promotion {
                        Promotion::Automatic => "automatic",
                        Promotion::Manual => "manual",
                    },
                    certified_image: policy.certified_only(),
                    size: fleet.map(|fleet| fleet.size),
                    port: fleet.map(|fleet| fleet.port),
                }
            });
            found.push(PlannedEnvironment {
                name: environment.to_string(),
                first_stage: stage.name.to_string(),
                stages: Vec::new(),
                policy,
            });
            found.len() - 1
        });
        if let Some(environment) = found.get_mut(place) {
            environment.stages.push(stage.name.to_string());
        }
    }
    found
}

fn artifacts(pipeline: &Pipeline) -> Vec<PlannedArtifact> {
    let mut found = Vec::new();
    for stage in &pipeline.stages {
        let Kind::Script(script) = &stage.kind else { continue };
        for (name, path) in &script.artifacts {
            let users = |takes: &dyn Fn(&Kind) -> bool| {
                let stages = pipeline.stages.iter().filter(|stage| takes(&stage.kind));
                stages.map(|stage| stage.name.to_string()).collect()
            };
            found.push(PlannedArtifact {
                name: name.to_string(),
                path: path.clone(),
                made_by: stage.name.to_string(),
                uploaded_by: users(
                    &|kind| matches!(kind, Kind::Upload(upload) if upload.artifacts.contains(name)),
                ),
                baked_by: users(&|kind| matches!(kind, Kind::Bake(bake) if bake.artifacts.contains(name))),
            });
        }
    }
    found
}

fn images(pipeline: &Pipeline, graph: &Graph) -> Vec<PlannedImage> {
    let mut found = Vec::new();
    for (place, stage) in pipeline.stages.iter().enumerate() {
        let Kind::Bake(bake) = &stage.kind else { continue };
        let after = |word: &str| {
            let stages = graph
                .descendants(place)
                .iter()
                .filter_map(|place| pipeline.stages.get(place))
                .collect::<Vec<_>>();
            let of_kind = stages.into_iter().filter(|stage| stage.kind.word() == word);
            of_kind.map(|stage| stage.name.to_string()).collect()
        };
        found.push(PlannedImage {
            baked_by: stage.name.to_string(),
            artifacts: bake.artifacts.iter().map(ToString::to_string).collect(),
            from: bake.from.as_ref().map(ToString::to_string),
            base: bake.base.as_ref().map(shown_base),
            certified_by: after("certify"),
            deployed_by: after("deploy"),
        });
    }
    found
}

fn shown_base(base: &Base) -> String {
    match base {
        Base::Directory(directory) => directory.clone(),
        Base::Ami(id) => id.clone(),
        Base::Newest { name, owner } => format!("the newest {name} of {owner}"),
    }
}
