//! `upload`: artifacts go to the object store, with a manifest that says what they are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::workspace::{Workspaces, blocking};
use super::{Attempt, Next, Stage, Work};
use crate::cloud::{self, Clouds, Objects};
use crate::ids::{AttemptId, Digest};
use crate::pipeline::model::Kind;
use crate::run::event::{Artifact, Cause, Failure, Outcome};

/// The version of the manifest's format.
const SCHEMA: u32 = 1;

pub struct Upload {
    pub workspaces: Workspaces,
    pub clouds: Arc<dyn Clouds>,
}

/// What was uploaded for one version.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    schema: u32,
    name: String,
    run: String,
    version: &'a str,
    commit: Option<String>,
    artifacts: Vec<Object>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Object {
    name: String,
    /// Where it came from in the workspace.
    path: String,
    /// Of its content, whatever it is packed in.
    digest: Digest,
    object: String,
    /// Of the object as it is stored.
    object_digest: Digest,
    bytes: u64,
}

#[async_trait]
impl Stage for Upload {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let Kind::Upload(upload) = &work.stage().kind else {
            return Err(Failure::infrastructure("an upload stage without an upload; this is a defect"));
        };
        let prefix = format!("{0}/{0}-{1}", work.id.run.pipeline, work.version);
        let objects = work.cloud(self.clouds.as_ref())?.objects;
        let mut uploaded = Vec::new();
        for name in &upload.artifacts {
            let artifact = work.artifacts.iter().find(|artifact| artifact.name == *name);
            let artifact = artifact.ok_or_else(|| {
                Failure::policy(format!(
                    "artifact {name} was not made: the stage that makes it did not succeed"
                ))
            })?;
            let key = format!("{prefix}/{name}.tar");
            attempt.check_stop()?;
            let object = match attempt.next(&format!("Upload {name}")).await? {
                Next::Done(object) => object,
                Next::Do(mut step) => {
                    step.say(&format!("{} bytes, {}", artifact.bytes, artifact.digest));
                    step.say(&format!("goes to {}", objects.location(&key)));
                    let sending = step.heard(self.send(objects.as_ref(), &work, artifact, &key));
                    let object = attempt.unless_stopped(sending).await;
                    attempt.finish(*step, object).await?
                }
            };
            uploaded.push(object);
        }
        let manifest = Manifest {
            schema: SCHEMA,
            name: format!("{}-{}", work.id.run.pipeline, work.version),
            run: work.id.run.to_string(),
            version: &work.version,
            commit: work.origin.commit.as_ref().map(|commit| commit.sha.to_string()),
            artifacts: uploaded,
        };
        let key = format!("{prefix}/manifest.json");
        if let Next::Do(mut step) = attempt.next::<()>("Write manifest").await? {
            step.say(&format!("goes to {}", objects.location(&key)));
            let writing = step.heard(self.write_manifest(objects.as_ref(), &work, &manifest, &key));
            let written = attempt.unless_stopped(writing).await;
            attempt.finish(*step, written).await?;
        }
        let outputs = [("manifest".to_owned(), objects.location(&key))].into();
        Ok(Outcome { outputs, uploaded: upload.artifacts.clone(), ..Outcome::default() })
    }

    fn recorded(&self, attempt: &AttemptId) {
        self.workspaces.remove(attempt);
    }

    fn stop_bound(&self, _work: &Work) -> Duration {
        // Stops at once. An object is there whole or not at all, and what was sent of a large one is
        // gone on with when the stage is done again.
        Duration::from_secs(60)
    }
}

impl Upload {
    async fn send(
        &self,
        objects: &dyn Objects,
        work: &Work,
        artifact: &Artifact,
        key: &str,
    ) -> Result<Object, Failure> {
        let file = self.scratch(work, &format!("{}.tar", artifact.name))?;
        let (shelf, digest, to) = (self.workspaces.shelf.clone(), artifact.digest.clone(), file.clone());
        let object_digest = blocking(move || {
            shelf.pack(&digest, &to).map_err(|error| Failure::infrastructure(error.to_string()))?;
            cloud::objects::digest_of(&to).map_err(unwritable)
        })
        .await?;
        objects.put(key, &file, &object_digest).await.map_err(failed)?;
        Ok(Object {
            name: artifact.name.to_string(),
            path: artifact.path.clone(),
            digest: artifact.digest.clone(),
            object: key.to_owned(),
            object_digest,
            bytes: artifact.bytes,
        })
    }

    async fn write_manifest(
        &self,
        objects: &dyn Objects,
        work: &Work,
        manifest: &Manifest<'_>,
        key: &str,
    ) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|error| Failure::infrastructure(format!("the manifest cannot be written: {error}")))?;
        let file = self.scratch(work, "manifest.json")?;
        std::fs::write(&file, &text).map_err(unwritable)?;
        objects.put(key, &file, &Digest::of(&text)).await.map_err(failed)
    }

    fn scratch(&self, work: &Work, name: &str) -> Result<std::path::PathBuf, Failure> {
        let directory = self.workspaces.at(&work.id).tmp();
        super::workspace::make(&directory)?;
        Ok(directory.join(name))
    }
}

fn unwritable(error: std::io::Error) -> Failure {
    Failure::infrastructure(format!("a file of the upload cannot be written or read: {error}"))
}

/// What an error of the cloud is as a stage's failure.
pub fn failed(error: cloud::Error) -> Failure {
    let cause = match error {
        cloud::Error::Denied(_) => Cause::Policy,
        cloud::Error::Provision { .. } => Cause::Task,
        cloud::Error::TooLate(_) => Cause::Timeout,
        _ => Cause::Infrastructure,
    };
    Failure::new(cause, error.to_string())
}
