//! A person starts a run of a pipeline by its name.

use std::collections::BTreeMap;

use super::Intake;
use super::origin::{self, ParamsError};
use crate::engine;
use crate::ids::{PipelineName, RunId};
use crate::run::event::{Actor, Commit, Origin, Trigger};
use crate::source::{self, Address, Want};

/// What somebody asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub pipeline: PipelineName,
    /// A branch, a tag or a commit; `None` for what the source has checked out.
    pub reference: Option<String>,
    pub params: BTreeMap<String, String>,
    pub actor: Actor,
    /// The same key never starts a second run, so asking again is safe.
    pub key: Option<String>,
}

/// Why no run was started.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    #[error("there is no pipeline {pipeline}; {known}")]
    NoPipeline { pipeline: PipelineName, known: String },
    #[error(transparent)]
    Params(#[from] ParamsError),
    #[error("{0} takes no commit: it has no source, so leave --ref out")]
    NoSource(PipelineName),
    #[error("{0}")]
    Address(String),
    /// The source has no such commit, or is none.
    #[error("{0}")]
    NotThere(source::Error),
    /// The source could not be asked.
    #[error("{0}")]
    Unreachable(source::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
}

impl From<source::Error> for TriggerError {
    fn from(error: source::Error) -> Self {
        use source::Error;
        match error {
            Error::Git { .. } | Error::NoGit(_) | Error::Disk { .. } => Self::Unreachable(error),
            _ => Self::NotThere(error),
        }
    }
}

impl Intake {
    /// Starts a run, and drives it.
    pub async fn trigger(&self, ask: Ask) -> Result<RunId, TriggerError> {
        let catalog = self.catalog();
        let listed = catalog.pipeline(&ask.pipeline).ok_or_else(|| {
            let known: Vec<&str> = catalog.pipelines().map(|listed| listed.pipeline.name.as_str()).collect();
            let known = match known.is_empty() {
                true => "the server has none: it reads those in the directory of its --pipelines".to_owned(),
                false => format!("there are {}", known.join(", ")),
            };
            TriggerError::NoPipeline { pipeline: ask.pipeline.clone(), known }
        })?;
        let params = origin::params(&listed.pipeline, &ask.params)?;
        let address = origin::address(listed, &catalog.settings).map_err(TriggerError::Address)?;
        let (commit, reference) = match (address, &ask.reference) {
            (None, None) => (None, None),
            (None, Some(_)) => return Err(TriggerError::NoSource(ask.pipeline)),
            (Some(address), wanted) => {
                let (commit, reference) = self.find(&address, wanted.as_deref()).await?;
                (Some((address, commit)), reference)
            }
        };
        let origin = origin::origin(listed, &catalog.settings, params, Trigger::Manual, ask.actor, commit);
        let origin = Origin { reference, ..origin };
        let engine = &self.0.shared.engine;
        let key = ask.key.map(|key| format!("trigger:{key}"));
        let run = engine.create(ask.pipeline, origin, key).await?;
        engine.drive(&run).await?;
        Ok(run)
    }

    /// The commit, and the whole ref that it was found by.
    async fn find(
        &self,
        address: &Address,
        wanted: Option<&str>,
    ) -> Result<(Commit, Option<String>), source::Error> {
        let sources = &self.0.shared.sources;
        let of_branch =
            |commit: &Commit| (!commit.branch.is_empty()).then(|| format!("refs/heads/{}", commit.branch));
        let Some(wanted) = wanted else {
            let commit = sources.resolve(address, &Want::Head).await?;
            let reference = of_branch(&commit);
            return Ok((commit, reference));
        };
        match sources.resolve(address, &Want::Branch(wanted.to_owned())).await {
            Ok(commit) => {
                let reference = of_branch(&commit);
                Ok((commit, reference))
            }
            Err(source::Error::UnknownRevision { .. }) => {
                let commit = sources.resolve(address, &Want::Commit(wanted.to_owned())).await?;
                let tag = wanted.starts_with("refs/tags/").then(|| wanted.to_owned());
                Ok((commit, tag))
            }
            Err(error) => Err(error),
        }
    }
}
