//! From a pipeline and what started it to the origin of a run.

use std::collections::BTreeMap;
use std::path::Path;

use super::catalog::Listed;
use crate::config::Settings;
use crate::github;
use crate::pipeline::model::{Kind, Pipeline, Source};
use crate::run::event::{Actor, Commit, Origin, Trigger};
use crate::source::Address;

/// Why the params that were given do not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    #[error("{pipeline} has no param {name:?}; it has {known}")]
    Unknown { pipeline: String, name: String, known: String },
    #[error("{pipeline} asks for the param {name}, which has no default{hint}")]
    Missing { pipeline: String, name: String, hint: String },
}

/// Every param with the value it was given, or its default.
pub fn params(
    pipeline: &Pipeline,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ParamsError> {
    let name = || pipeline.name.to_string();
    if let Some(unknown) = given.keys().find(|name| !pipeline.params.contains_key(*name)) {
        let known: Vec<&str> = pipeline.params.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
        return Err(ParamsError::Unknown { pipeline: name(), name: unknown.clone(), known });
    }
    let value = |(param, declared): (&String, &crate::pipeline::model::Param)| match given
        .get(param)
        .or(declared.default.as_ref())
    {
        Some(value) => Ok((param.clone(), value.clone())),
        None => {
            let hint = format!("; windlass trigger {} --param {param}=VALUE gives it", pipeline.name);
            Err(ParamsError::Missing { pipeline: name(), name: param.clone(), hint })
        }
    };
    pipeline.params.iter().map(value).collect()
}

/// Whether the pipeline ships what is in this repository of GitHub, `owner/name`.
pub fn is_of(listed: &Listed, settings: &Settings, repository: &str) -> bool {
    match &listed.pipeline.source {
        None => false,
        Some(Source::GitHub(name)) => name.eq_ignore_ascii_case(repository),
        Some(Source::Git(address)) => {
            github::repository_of(address).is_some_and(|name| name.eq_ignore_ascii_case(repository))
                || configured(settings, repository).is_some_and(|url| {
                    let named = Address::parse(url, beside(settings.path.as_deref()));
                    let own = Address::parse(address, beside(Some(&listed.path)));
                    matches!((named, own), (Ok(named), Ok(own)) if named == own)
                })
        }
    }
}

/// Where the pipeline's commits are fetched from; `None` for one that takes no commit. Never an
/// address that somebody sent.
pub fn address(listed: &Listed, settings: &Settings) -> Result<Option<Address>, String> {
    let parsed = match &listed.pipeline.source {
        Some(Source::Git(address)) => Address::parse(address, beside(Some(&listed.path))),
        Some(Source::GitHub(name)) => match configured(settings, name) {
            Some(url) => Address::parse(url, beside(settings.path.as_deref())),
            None => Address::parse(&format!("https://github.com/{name}.git"), Path::new("/")),
        },
        None => {
            let checkout = listed.pipeline.stages.iter().find(|stage| matches!(stage.kind, Kind::Checkout));
            return match checkout {
                None => Ok(None),
                Some(stage) => Err(format!(
                    "the stage {} checks a commit out, and nothing in {} says where commits come from: \
                     write source: {{ github: owner/name }}",
                    stage.name,
                    listed.path.display()
                )),
            };
        }
    };
    parsed.map(Some).map_err(|error| error.to_string())
}

fn configured<'a>(settings: &'a Settings, repository: &str) -> Option<&'a str> {
    let mut all = settings.github.repositories.iter();
    all.find(|(name, _)| name.eq_ignore_ascii_case(repository))?.1.url.as_deref()
}

fn beside(file: Option<&Path>) -> &Path {
    file.and_then(Path::parent).unwrap_or(Path::new("/"))
}

/// What a run of the pipeline starts with.
pub fn origin(
    listed: &Listed,
    settings: &Settings,
    params: BTreeMap<String, String>,
    trigger: Trigger,
    actor: Actor,
    commit: Option<(Address, Commit)>,
) -> Origin {
    let (source, commit) = commit.map(|(address, commit)| (address.to_string(), commit)).unzip();
    Origin {
        settings_path: settings.path.as_ref().map(|path| path.display().to_string()),
        source,
        commit,
        params,
        trigger,
        ..Origin::new(listed.text.clone(), listed.path.display().to_string(), actor)
    }
}
