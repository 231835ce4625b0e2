//! What stages do: one file for each kind, and the contract they share.
//!
//! A stage works in steps. The intent of each step is in the journal before its effect; what a step
//! found out is recorded with its success. When the engine comes back after a crash it calls
//! [`Stage::run`] for the same attempt again: steps that succeeded answer from the journal, and the
//! step that was under way is done again, which its author has made harmless by asking the outside
//! with the step's key.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::cloud::{Cloud, Clouds};
use crate::config::Settings;
use crate::ids::{AttemptId, StageName};
use crate::pipeline::model::{self, Pipeline};
use crate::run::event::{Artifact, Failure, Image, Inputs, Origin, Outcome};
use crate::run::state::StepState;

mod attempt;
pub mod bake;
pub mod certify;
pub mod checkout;
pub mod deploy;
pub mod fleet;
pub mod outputs;
mod reports;
pub mod script;
mod shell;
mod shortage;
mod tally;
pub mod upload;
mod version;
mod workspace;

pub use attempt::{Attempt, Entry, Journal, Next, Step};
pub use workspace::Workspaces;

/// One kind of stage. See the module for what it may rely on and has to keep.
#[async_trait]
pub trait Stage: Send + Sync {
    /// Carries out the attempt, or what is left of it.
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure>;

    /// The attempt is being recorded, and is run once it is: makes ready meanwhile what nobody sees and what
    /// nobody misses if it is not.
    fn foreseen(&self, _work: &Work) {}

    /// The attempt's success is in the journal: it is not run again, and what was kept for that may go.
    /// What is left where the process ends before this was called is swept up later.
    fn recorded(&self, _attempt: &AttemptId) {}

    /// How long an attempt may take to come to an end after it was told to stop. Then it is ended
    /// by force.
    fn stop_bound(&self, work: &Work) -> Duration;
}

/// Who sees to fleets between rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Whoever drives this keeps them alive.
    Kept,
    Nobody,
}

/// All that an attempt works with: recorded, and the same after a crash.
#[derive(Debug, Clone)]
pub struct Work {
    pub id: AttemptId,
    /// When the run was.
    pub created_at: Timestamp,
    pub pipeline: Arc<Pipeline>,
    /// Of the stage in the pipeline.
    pub index: usize,
    pub origin: Arc<Origin>,
    pub settings: Arc<Settings>,
    /// Of the run: `42-9f3c2a1b`.
    pub version: String,
    pub inputs: Inputs,
    /// Produced by the stage's ancestors.
    pub artifacts: Vec<Artifact>,
    /// The one image among the stage's ancestors.
    pub image: Option<Image>,
    /// The image that the stage made in an earlier attempt, unless a replay has edited where it starts
    /// from.
    pub baked: Option<Image>,
    /// The ancestor that deployed to the stage's environment.
    pub deployed: Option<StageName>,
    /// An ancestor that last succeeded with another image.
    pub outdated: Option<StageName>,
    /// Whether an ancestor certified that image.
    pub certified: bool,
    /// Whether an ancestor is a checkout.
    pub checked_out: bool,
    /// Who sees to the fleet when the rollout is over.
    pub afterwards: Afterwards,
    /// The steps of this attempt that the journal knows.
    pub recorded: Vec<StepState>,
}

impl Work {
    pub fn stage(&self) -> &model::Stage {
        &self.pipeline.stages[self.index]
    }

    /// The cloud that the service is in.
    pub fn cloud(&self, clouds: &dyn Clouds) -> Result<Cloud, Failure> {
        clouds.open(&self.settings.cloud_of(&self.id.run.pipeline)).map_err(upload::failed)
    }
}
