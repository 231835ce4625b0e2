//! From a delivery to the runs that it starts.
//!
//! Handling the same delivery again repeats nothing: every run has a trigger key made of the delivery
//! and the pipeline.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::catalog::{Catalog, Listed};
use super::origin;
use super::schedule::LATE;
use super::start::{Came, Start};
use crate::github::{self, Notice};
use crate::ids::{PipelineName, RunId};
use crate::store::{Delivery, DeliveryStatus, Settlement};

/// The source of deliveries that GitHub sends.
pub const GITHUB: &str = "github";
/// The source of deliveries that the clock makes.
pub const SCHEDULE: &str = "schedule";
/// Their event.
pub const DUE: &str = "due";

/// The body of a delivery that the clock made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    pub pipeline: PipelineName,
    pub due: Timestamp,
    /// Of each schedule that is due; `None` is what the source has checked out.
    pub branches: Vec<Option<String>>,
}

/// What a delivery is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Push(github::Push),
    PullRequest(github::PullRequest),
    Due(Due),
    Nothing { reason: String },
}

impl Work {
    pub fn of(delivery: &Delivery) -> Self {
        let Some(body) = &delivery.body else {
            return Self::Nothing { reason: "its body was dropped for its age".to_owned() };
        };
        if delivery.key.source == SCHEDULE {
            return match serde_json::from_slice(body) {
                Ok(due) => Self::Due(due),
                Err(error) => Self::Nothing { reason: format!("its body is not understood: {error}") },
            };
        }
        github::understand(&delivery.event, body).into()
    }

    /// Deliveries of one lane are handled in their order, those of different lanes beside each other.
    pub fn lane(&self) -> String {
        match self {
            Self::Push(push) => format!("{} {}", push.repository, push.reference),
            Self::PullRequest(request) => format!("{} refs/pull/{}/head", request.repository, request.number),
            Self::Due(due) => format!("{SCHEDULE} {}", due.pipeline),
            Self::Nothing { .. } => String::new(),
        }
    }
}

impl From<Notice> for Work {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Push(push) => Self::Push(push),
            Notice::PullRequest(request) => Self::PullRequest(request),
            Notice::Ignored { reason } => Self::Nothing { reason },
        }
    }
}

/// Starts what the delivery starts, and says what came of it. It counts from `since`, and this process has
/// been trying for so long.
pub async fn handle(
    shared: &Shared,
    delivery: &Delivery,
    work: &Work,
    since: Timestamp,
    tried: Duration,
) -> Settlement {
    let catalog = shared.catalog.borrow().clone();
    let start = |listed| Start { shared, settings: &catalog.settings, listed };
    let mut sum = Sum::default();
    match work {
        Work::Nothing { reason } => sum.reasons.push(reason.clone()),
        // It was missed, and whoever took it in was killed before that was written down. Somebody who asks
        // for it again gets it.
        Work::Due(due) if since == delivery.received_at && since.duration_since(due.due) > LATE => {
            sum.reasons.push(format!("missed: no server took it in at {}", due.due));
        }
        Work::Due(due) => match catalog.pipeline(&due.pipeline) {
            None => sum.add(None, Came::Failed(format!("there is no pipeline {} any more", due.pipeline))),
            Some(listed) => {
                for branch in &due.branches {
                    sum.add(None, start(listed).on_schedule(due, branch.as_deref()).await);
                }
            }
        },
        Work::Push(push) => {
            for listed in of(&catalog, &push.repository) {
                let name = &listed.pipeline.name;
                sum.add(Some(name), start(listed).on_push(delivery, push).await);
            }
            sum.nobody(&catalog, &push.repository);
        }
        Work::PullRequest(request) => {
            for listed in of(&catalog, &request.repository) {
                let name = &listed.pipeline.name;
                sum.add(Some(name), start(listed).on_pull_request(delivery, request).await);
            }
            sum.nobody(&catalog, &request.repository);
        }
    }
    sum.settle(SignedDuration::try_from(tried).unwrap_or(SignedDuration::MAX))
}

fn of<'a>(catalog: &'a Catalog, repository: &'a str) -> impl Iterator<Item = &'a Listed> {
    let ours = |listed: &&std::sync::Arc<Listed>| origin::is_of(listed, &catalog.settings, repository);
    catalog.pipelines().filter(ours).map(AsRef::as_ref)
}

/// What came of a delivery for all pipelines together.
#[derive(Default)]
struct Sum {
    pipelines: usize,
    runs: Vec<RunId>,
    reasons: Vec<String>,
    failed: bool,
    /// The longest that something is worth waiting for.
    later: Option<SignedDuration>,
}

impl Sum {
    fn add(&mut self, pipeline: Option<&PipelineName>, came: Came) {
        self.pipelines += 1;
        let reason = match came {
            Came::Started { run, note } => {
                if !self.runs.contains(&run) {
                    self.runs.push(run);
                }
                note
            }
            Came::Declined(why) => Some(why),
            Came::Failed(why) => {
                self.failed = true;
                Some(why)
            }
            Came::Later { why, patience } => {
                self.later = self.later.max(Some(patience));
                Some(why)
            }
        };
        self.reasons.extend(reason.map(|why| match pipeline {
            Some(name) => format!("{name}: {why}"),
            None => why,
        }));
    }

    /// Says so where no pipeline is of the repository.
    fn nobody(&mut self, catalog: &Catalog, repository: &str) {
        if self.pipelines > 0 {
            return;
        }
        let broken = match catalog.broken().count() {
            0 => "",
            _ => "; some files of the pipelines' directory have errors, which windlass status shows",
        };
        self.reasons.push(format!("no pipeline has the source {{ github: {repository} }}{broken}"));
    }

    fn settle(self, tried_for: SignedDuration) -> Settlement {
        let status = match self.later {
            Some(patience) if tried_for < patience => DeliveryStatus::Pending,
            Some(_) => DeliveryStatus::Failed,
            None if self.failed => DeliveryStatus::Failed,
            None if self.runs.is_empty() => DeliveryStatus::Ignored,
            None => DeliveryStatus::Handled,
        };
        let reason = (!self.reasons.is_empty()).then(|| self.reasons.join("; "));
        Settlement { status, reason, runs: self.runs }
    }
}
