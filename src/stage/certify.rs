//! `certify`: the image passed what its pipeline asks. It may go where a promotion is asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::upload::failed;
use super::{Attempt, Next, Stage, Work};
use crate::cloud::Clouds;
use crate::run::event::{Failure, Outcome};

pub struct Certify {
    pub clouds: Arc<dyn Clouds>,
}

#[async_trait]
impl Stage for Certify {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let image = attempt.work.image.clone();
        let image = image.ok_or_else(|| Failure::policy("no ancestor of the stage baked an image"))?;
        if let Some(stage) = &attempt.work.outdated {
            return Err(Failure::policy(format!(
                "{stage} has passed with another image than {}, which says nothing about this one: \
                 windlass replay {} --from {stage} does it again and goes on from there",
                image.name, attempt.work.id.run
            )));
        }
        if let Next::Do(mut step) = attempt.next::<()>(&format!("Certify {}", image.name)).await? {
            let compute = attempt.work.cloud(self.clouds.as_ref())?.compute;
            let certify = async { step.heard(compute.certify_image(&image.id)).await.map_err(failed) };
            // Certified or not is one fact at the cloud, and asking again for the same is harmless.
            let certified = attempt.unless_stopped(certify).await;
            if certified.is_ok() {
                step.say(&format!("{} ({}) is certified", image.name, image.id));
            }
            attempt.finish(*step, certified).await?;
        }
        let outputs = [("image".to_owned(), image.id.to_string())].into();
        Ok(Outcome { outputs, certified: Some(image.id), ..Outcome::default() })
    }

    fn stop_bound(&self, _work: &Work) -> Duration {
        // A call is dropped where it stands.
        Duration::from_secs(10)
    }
}
