//! `checkout`: the run's commit is in the shared cache, and stays there for the run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::workspace::commit;
use super::{Attempt, Next, Stage, Work};
use crate::run::event::{Failure, Outcome};
use crate::source::Sources;

pub struct Checkout {
    pub sources: Arc<Sources>,
}

#[async_trait]
impl Stage for Checkout {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let (address, commit) = commit(&work)?;
        if let Next::Do(mut step) = attempt.next::<()>(&format!("Fetch {}", commit.sha.short())).await? {
            step.say(&format!("fetching {} from {address}", commit.sha));
            let fetched = async {
                let pinned = self.sources.pin(&address, &work.id.run, &commit.sha).await;
                pinned.map_err(|error| Failure::infrastructure(error.to_string()))
            };
            let fetched = attempt.unless_stopped(fetched).await;
            if fetched.is_ok() {
                let subject = commit.message.lines().next().unwrap_or_default();
                step.say(&format!("{} by {}: {subject}", commit.sha.short(), commit.author));
            }
            attempt.finish(*step, fetched).await?;
        }
        let outputs = [
            ("sha", commit.sha.to_string()),
            ("branch", commit.branch.clone()),
            ("author", commit.author.clone()),
            ("message", commit.message.clone()),
        ];
        let outputs = outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Outcome { outputs, ..Outcome::default() })
    }

    fn stop_bound(&self, _work: &Work) -> Duration {
        // A fetch is dropped where it stands; its process group goes with it.
        Duration::from_secs(10)
    }
}
