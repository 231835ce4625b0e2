//! A stage of shell steps, one after the other in one workspace.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::OFlags;

use super::shell::{STOP_BOUND, Shell, end_left_over, environment, secrets};
use super::workspace::{Workspace, Workspaces, blocking};
use super::{Attempt, Stage, Work, outputs, reports};
use crate::cloud::Clouds;
use crate::ids::{AttemptId, FleetId};
use crate::journal::load_fleet;
use crate::log::Redactor;
use crate::pipeline::model::{Kind, ShellStep};
use crate::run::event::{Artifact, Failure, Outcome};
use crate::runner::Runner;
use crate::secret::Secret;
use crate::store::Store;

/// Largest file of outputs, in bytes.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

pub struct Script {
    pub workspaces: Workspaces,
    pub runner: Arc<dyn Runner>,
    pub store: Arc<dyn Store>,
    pub clouds: Arc<dyn Clouds>,
}

#[async_trait]
impl Stage for Script {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let done = self.carry_out(attempt).await;
        if done.is_err() {
            end_left_over(self.runner.as_ref(), attempt).await;
        }
        done
    }

    fn foreseen(&self, work: &Work) {
        self.workspaces.lay_out(work);
    }

    fn recorded(&self, attempt: &AttemptId) {
        self.workspaces.remove(attempt);
    }

    fn stop_bound(&self, _work: &Work) -> Duration {
        STOP_BOUND
    }
}

impl Script {
    async fn carry_out(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let Kind::Script(script) = &work.stage().kind else {
            return Err(Failure::infrastructure("a script stage without a script; this is a defect"));
        };
        let url = attempt.unless_stopped(self.environment_url(&work)).await?;
        let workspace = attempt.unless_stopped(self.workspaces.prepare(&work)).await?;
        let secrets = secrets(&work)?;
        let mut env = environment(&work, &workspace.home(), &workspace.tmp(), &secrets);
        env.insert("WINDLASS_OUTPUT".to_owned(), workspace.output().display().to_string());
        env.extend(url.map(|url| ("WINDLASS_URL".to_owned(), url)));
        let mask: Vec<Secret> = secrets.into_iter().map(|(_, secret)| secret).collect();
        let shell = Shell { runner: self.runner.clone(), directory: workspace.work(), env, mask };
        let ran = run_steps(attempt, &shell, &script.steps).await;
        reports::read(attempt, &script.reports, &workspace, &shell.mask, ran).await?;
        let outputs = self.outputs(&workspace, &shell.mask)?;
        let artifacts = self.artifacts(&work, &workspace).await?;
        Ok(Outcome { outputs, artifacts, ..Outcome::default() })
    }

    /// The address of the fleet that the stage's environment names. Where an ancestor deployed to it,
    /// what runs there has to be this run's image: a test of something else says nothing.
    async fn environment_url(&self, work: &Work) -> Result<Option<String>, Failure> {
        let Some(environment) = &work.stage().environment else { return Ok(None) };
        let id = FleetId::new(work.id.run.pipeline.clone(), environment.clone());
        let Some((listener, _)) = super::deploy::fleet_settings(&work.settings, &id) else { return Ok(None) };
        if let (Some(image), Some(deploy)) = (&work.image, &work.deployed) {
            let fleet = load_fleet(self.store.as_ref(), &id)
                .await
                .map_err(|error| Failure::infrastructure(error.to_string()))?;
            let running = fleet.current.as_ref().map(|current| &current.image.id);
            if running != Some(&image.id) {
                let runs = fleet.current.as_ref().map_or("nothing".to_owned(), |current| {
                    format!("{} ({})", current.image.name, current.image.id)
                });
                return Err(Failure::policy(format!(
                    "{id} runs {runs}, not this run's image {} ({}): \
                     windlass replay {} --from {deploy} deploys it there again and goes on from there",
                    image.name, image.id, work.id.run
                )));
            }
        }
        let balancer = work.cloud(self.clouds.as_ref())?.balancer;
        Ok(Some(balancer.url(&listener).await.map_err(super::upload::failed)?))
    }

    /// Reads what the steps wrote to `WINDLASS_OUTPUT`.
    fn outputs(&self, workspace: &Workspace, mask: &[Secret]) -> Result<BTreeMap<String, String>, Failure> {
        let path = workspace.output();
        let unreadable =
            |error: std::io::Error| Failure::task(format!("WINDLASS_OUTPUT cannot be read: {error}"));
        // A step may have put anything there: a link is not followed, a pipe not waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = std::fs::OpenOptions::new();
        let mut file = match options.read(true).custom_flags(flags.bits().cast_signed()).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(Failure::task(
                "WINDLASS_OUTPUT is not a file any more: write lines of key=value to it",
            ));
        }
        let length = meta.len();
        if length == 0 {
            return Ok(BTreeMap::new());
        }
        if length > OUTPUT_LIMIT {
            return Err(Failure::task(format!(
                "WINDLASS_OUTPUT has {length} bytes, at most {OUTPUT_LIMIT} are taken; hand on files as artifacts"
            )));
        }
        let mut text = String::new();
        file.by_ref().take(OUTPUT_LIMIT).read_to_string(&mut text).map_err(unreadable)?;
        let written = outputs::read(&text).map_err(|wrong| Failure::task(wrong.to_string()))?;
        let mut redact = redaction(mask);
        Ok(written.into_iter().map(|(name, value)| (name, redact(value))).collect())
    }

    async fn artifacts(&self, work: &Work, workspace: &Workspace) -> Result<Vec<Artifact>, Failure> {
        let Kind::Script(script) = &work.stage().kind else { return Ok(Vec::new()) };
        if script.artifacts.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = script.artifacts.clone();
        let (shelf, from) = (self.workspaces.shelf.clone(), workspace.work());
        blocking(move || {
            let mut artifacts = Vec::new();
            for (name, path) in wanted {
                let stored = shelf.store(&from, &path).map_err(|error| failed_to_store(&name, &error))?;
                artifacts.push(Artifact { name, path, digest: stored.digest, bytes: stored.bytes });
            }
            Ok(artifacts)
        })
        .await
    }
}

async fn run_steps(attempt: &mut Attempt, shell: &Shell, steps: &[ShellStep]) -> Result<(), Failure> {
    for step in steps {
        attempt.check_stop()?;
        shell.run(attempt, step).await?;
    }
    Ok(())
}

fn failed_to_store(name: &crate::ids::ArtifactName, error: &crate::artifact::Error) -> Failure {
    let message = format!("artifact {name} cannot be stored: {error}");
    match error.blames_content() {
        true => Failure::task(message),
        false => Failure::infrastructure(message),
    }
}

/// Secrets never reach the journal, through an output as little as any other way. One for many texts: making
/// ready to look for the secrets takes longer than looking.
pub fn redaction(mask: &[Secret]) -> impl FnMut(&str) -> String {
    let mut redactor = Redactor::new(mask.iter().map(Secret::expose));
    move |text: &str| {
        let mut out = Vec::with_capacity(text.len());
        redactor.push(text.as_bytes(), &mut out);
        redactor.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}
