//! `checkout`: the run's commit is in the shared cache, and stays there for the run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::workspace::commit;
use super::{Attempt, Stage, Work};
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
        let stop = attempt.stop_signal();
        attempt
            .step(&format!("Fetch {}", commit.sha.short()), async |step| {
                step.say(&format!("fetching {} from {address}", commit.sha));
                let fetched = async {
                    self.sources
                        .pin(&address, &work.id.run, &commit.sha)
                        .await
                        .map_err(|error| Failure::infrastructure(error.to_string()))
                };
                super::attempt::unless_stopped(stop, fetched).await?;
                let subject = commit.message.lines().next().unwrap_or_default();
                step.say(&format!("{} by {}: {subject}", commit.sha.short(), commit.author));
                Ok(())
            })
            .await?;
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
