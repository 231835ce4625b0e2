//! `bake`: from the parent's tree, the artifacts and the provision commands to an image.
//!
//! The parent is resolved once, in the first step, and recorded with the image's key: the digest of
//! parent, artifacts, files, provision and start. An image with that key is not baked twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::deploy::allowed;
use super::shell::{STOP_BOUND, Shell, end_left_over, environment, ours, secrets};
use super::upload::failed;
use super::workspace::{Workspaces, blocking, make};
use super::{Attempt, Next, Stage, Work};
use crate::cloud::{
    self, BuildRequest, Clouds, Compute, ImageRecord, ImageRequest, Parent, Phase, Provision, Provisioning,
    Tags,
};
use crate::ids::{AttemptId, Digest, FleetId, ImageId};
use crate::journal::{load_fleet, quarantine};
use crate::pipeline::model::{self, Base, Kind, Shell as Interpreter};
use crate::run::event::{Artifact, Failure, Image, Outcome};
use crate::run::state::StepPhase;
use crate::runner::Runner;
use crate::store::Store;

mod recipe;

use recipe::{Recipe, chosen, key, machine_base, shelve};

/// How long ending a builder somewhere else may take.
const GIVE_UP: Duration = Duration::from_secs(60);

pub struct Bake {
    pub workspaces: Workspaces,
    pub runner: Arc<dyn Runner>,
    pub store: Arc<dyn Store>,
    pub clouds: Arc<dyn Clouds>,
}

#[async_trait]
impl Stage for Bake {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let mut begun = None;
        let done = match self.failed_before(attempt)? {
            Some((failure, before)) => {
                begun = before;
                Err(failure)
            }
            None => self.carry_out(attempt, &mut begun).await,
        };
        if let Err(failure) = &done {
            end_left_over(self.runner.as_ref(), attempt).await;
            if let Some((request, image)) = begun {
                self.give_up(attempt, failure, &request, &image).await?;
            }
        }
        done
    }

    fn recorded(&self, attempt: &AttemptId) {
        self.workspaces.remove(attempt);
    }

    fn stop_bound(&self, work: &Work) -> Duration {
        match work.settings.cloud_of(&work.id.run.pipeline) {
            cloud::Setup::Local => STOP_BOUND,
            cloud::Setup::Aws(_) => STOP_BOUND + GIVE_UP,
        }
    }
}

/// What is being made, and of what.
type Making = (BuildRequest, ImageRequest);

impl Bake {
    /// How the attempt failed already, where an earlier process was ended before all of that was written:
    /// nothing is begun again then. And what it was making.
    fn failed_before(&self, attempt: &Attempt) -> Result<Option<(Failure, Option<Making>)>, Failure> {
        let work = &attempt.work;
        let failed = work.recorded.iter().find_map(|step| match &step.phase {
            StepPhase::Failed(failure) => Some(failure.clone()),
            _ => None,
        });
        let Some(failure) = failed else { return Ok(None) };
        let recipe = work.recorded.first().and_then(|step| match &step.phase {
            StepPhase::Succeeded { result } => serde_json::from_value::<Recipe>(result.clone()).ok(),
            _ => None,
        });
        let Some(recipe) = recipe else { return Ok(Some((failure, None))) };
        let bake = of(work)?;
        let artifacts = chosen(work, bake)?;
        let request = self.request(work, bake, &recipe, &artifacts)?;
        Ok(Some((failure, Some((request, image_request(work, bake, &recipe))))))
    }

    /// Ends a builder that came to nothing, where that is a machine of its own.
    async fn give_up(
        &self,
        attempt: &mut Attempt,
        failure: &Failure,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Failure> {
        let work = attempt.work.clone();
        let compute = work.cloud(self.clouds.as_ref())?.compute;
        if !compute.phases().contains(&Phase::End) {
            return Ok(());
        }
        // A step that was under way and that nobody came to any more.
        if let Some(name) = attempt.pass_over_ended()
            && name != Phase::End.title()
        {
            let step = attempt.begin(&name).await?;
            let _: Result<(), Failure> = attempt.finish(step, Err(failure.clone())).await;
        }
        if let Next::Do(step) = attempt.next::<()>(Phase::End.title()).await? {
            let ended = step.heard(compute.abandon(request, image)).await.map_err(failed);
            // What counts is why the attempt failed, not this; the step says it.
            let _: Result<(), Failure> = attempt.finish(*step, ended).await;
        }
        Ok(())
    }

    async fn carry_out(&self, attempt: &mut Attempt, begun: &mut Option<Making>) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let bake = of(&work)?;
        let compute = work.cloud(self.clouds.as_ref())?.compute;
        let artifacts = chosen(&work, bake)?;
        let recipe: Recipe = match attempt.next("Resolve parent").await? {
            Next::Done(recipe) => recipe,
            Next::Do(mut step) => {
                let resolved = self.resolve(compute.as_ref(), &work, bake, &artifacts);
                let recipe = attempt.unless_stopped(step.heard(resolved)).await;
                if let Ok(recipe) = &recipe {
                    recipe.tell(&mut step);
                }
                attempt.finish(*step, recipe).await?
            }
        };
        if let Some(image) = recipe.found.clone() {
            return Ok(outcome(image));
        }
        attempt.check_stop()?;
        let request = self.request(&work, bake, &recipe, &artifacts)?;
        let image = image_request(&work, bake, &recipe);
        *begun = Some((request.clone(), image.clone()));
        // Where provisioning happens: here in this directory, or on the builder.
        let place: Option<PathBuf> = match attempt.next("Launch builder").await? {
            Next::Done(place) => place,
            Next::Do(mut step) => {
                let launched = self.launch(compute.as_ref(), &work, &recipe, &artifacts, &request, &image);
                let place = attempt.unless_stopped(step.heard(launched)).await;
                if let Ok(Some(directory)) = &place {
                    step.say(&format!("provisioning in {}", directory.display()));
                }
                attempt.finish(*step, place).await?
            }
        };
        match place {
            Some(directory) => self.provision(attempt, &work, bake, directory).await?,
            None => {
                if let Next::Do(step) = attempt.next::<()>("Provision").await? {
                    let provisioned = step.heard(compute.provisioned(&request, &image));
                    let provisioned =
                        attempt.unless_stopped(async { provisioned.await.map_err(failed) }).await;
                    attempt.finish(*step, provisioned).await?;
                }
            }
        }
        let mut made: Option<Image> = None;
        for phase in compute.phases() {
            attempt.check_stop()?;
            made = self.finish(attempt, compute.as_ref(), *phase, &request, &image).await?.or(made);
        }
        let image = made.ok_or_else(|| Failure::infrastructure("no image came of the build"))?;
        Ok(outcome(image))
    }

    /// One of the phases. The image, once it can be found.
    async fn finish(
        &self,
        attempt: &mut Attempt,
        compute: &dyn Compute,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<Option<Image>, Failure> {
        match attempt.next(phase.title()).await? {
            Next::Done(image) => Ok(image),
            Next::Do(mut step) => {
                let done = async {
                    compute.carry_out(phase, request, image).await?;
                    compute.find_image(&image.key).await
                };
                let done = async { step.heard(done).await.map_err(failed) };
                let made = match phase {
                    // The longest of them, and there is nothing to lose.
                    Phase::Stop | Phase::Await => attempt.unless_stopped(done).await,
                    Phase::Create | Phase::Describe | Phase::End => done.await,
                };
                let made = made.map(|made| made.map(as_recorded));
                if let Ok(Some(image)) = &made {
                    step.say(&format!("{} is {}", image.name, image.id));
                }
                attempt.finish(*step, made).await
            }
        }
    }

    async fn provision(
        &self,
        attempt: &mut Attempt,
        work: &Work,
        bake: &model::Bake,
        directory: PathBuf,
    ) -> Result<(), Failure> {
        let workspace = self.workspaces.at(&work.id);
        make(&workspace.home())?;
        make(&workspace.tmp())?;
        let secrets = secrets(work)?;
        let env = environment(work, &workspace.home(), &workspace.tmp(), &secrets);
        let mask = secrets.into_iter().map(|(_, secret)| secret).collect();
        let shell = Shell { runner: self.runner.clone(), directory, env, mask };
        for command in &bake.provision {
            attempt.check_stop()?;
            shell.run(attempt, command).await?;
        }
        Ok(())
    }

    /// Chooses the parent and puts what the commit adds on the shelf.
    async fn resolve(
        &self,
        compute: &dyn Compute,
        work: &Work,
        bake: &model::Bake,
        artifacts: &[Artifact],
    ) -> Result<Recipe, Failure> {
        let parent = self.parent(compute, work, bake).await?;
        let base = match (&parent, &bake.base) {
            (None, Some(Base::Directory(path))) => Some(path.clone()),
            _ => None,
        };
        let machine = match (&parent, machine_base(bake)) {
            (None, Some(base)) => Some(compute.find_base(&base).await.map_err(failed)?),
            _ => None,
        };
        if let Some(machine) = &machine {
            allowed(self.store.as_ref(), &work.id.run.pipeline, machine).await?;
        }
        let scratch = self.workspaces.at(&work.id).tmp();
        make(&scratch)?;
        let source = scratch.join("source");
        if work.checked_out && (base.is_some() || !bake.files.is_empty()) && !source.exists() {
            self.workspaces.clone_commit(work, &source).await?;
        }
        let beside = Path::new(&work.origin.pipeline_path).parent().unwrap_or(Path::new("/")).to_owned();
        let (shelf, files) = (self.workspaces.shelf.clone(), bake.files.clone());
        let (base, files) = blocking(move || {
            let base =
                base.map(|path| shelve(&shelf, &[&source, &beside], "base.directory", path)).transpose()?;
            let files = files.into_iter().map(|path| shelve(&shelf, &[&source], "files", path));
            Ok((base, files.collect::<Result<Vec<_>, _>>()?))
        })
        .await?;
        let key = key(bake, parent.as_ref().or(machine.as_ref()), base.as_ref(), artifacts, &files);
        let found = compute.find_image(&key).await.map_err(failed)?.map(as_recorded);
        if let Some(found) = &found {
            allowed(self.store.as_ref(), &work.id.run.pipeline, &found.id).await?;
        }
        Ok(Recipe { parent, base, machine, files, key, found })
    }

    /// The image that the service's fleet there last completed a rollout to; where the journal does not
    /// know of any, the newest that the cloud knows as certified. A replay builds upon what the stage
    /// built upon before, so that the same image comes of the same inputs.
    async fn parent(
        &self,
        compute: &dyn Compute,
        work: &Work,
        bake: &model::Bake,
    ) -> Result<Option<ImageId>, Failure> {
        let Some(environment) = &bake.from else { return Ok(None) };
        let (store, service) = (self.store.as_ref(), &work.id.run.pipeline);
        if let Some(before) = &work.baked {
            if let Some(parent) = &before.parent {
                allowed(store, service, parent).await?;
            }
            return Ok(before.parent.clone());
        }
        let lost = |error: crate::store::Error| Failure::infrastructure(error.to_string());
        let fleet = FleetId::new(service.clone(), environment.clone());
        let fleet = load_fleet(store, &fleet).await.map_err(lost)?;
        // Nothing is built upon an image in quarantine: then what comes next is as good a beginning as
        // it was the first time.
        if let Some(image) = fleet.current.map(|current| current.image.id) {
            let quarantined = quarantine(store, service, &image).await.map_err(lost)?;
            return Ok(Some(image).filter(|_| quarantined.is_none()));
        }
        for image in compute.certified_images(service).await.map_err(failed)? {
            if quarantine(store, service, &image.id).await.map_err(lost)?.is_none() {
                return Ok(Some(image.id));
            }
        }
        Ok(None)
    }

    /// Launches the builder, and answers where the provision commands run.
    async fn launch(
        &self,
        compute: &dyn Compute,
        work: &Work,
        recipe: &Recipe,
        artifacts: &[Artifact],
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<Option<PathBuf>, Failure> {
        self.lay_out(work, recipe, artifacts).await?;
        let builder = compute.launch_builder(request, image).await.map_err(failed)?;
        Ok(match builder.provisioning {
            Provisioning::Here { directory } => Some(directory),
            Provisioning::There => None,
        })
    }

    /// Lays out what goes into the builder, from the shelf.
    async fn lay_out(&self, work: &Work, recipe: &Recipe, artifacts: &[Artifact]) -> Result<(), Failure> {
        let root = self.workspaces.at(&work.id).work();
        let (shelf, recipe, artifacts) = (self.workspaces.shelf.clone(), recipe.clone(), artifacts.to_vec());
        blocking(move || {
            if root.exists() {
                std::fs::remove_dir_all(&root).map_err(|error| {
                    Failure::infrastructure(format!("{} cannot be cleared: {error}", root.display()))
                })?;
            }
            let restore = |digest: &Digest, into: PathBuf, path: &str| {
                make(&into)?;
                shelf.restore(digest, &into, path).map_err(|error| Failure::infrastructure(error.to_string()))
            };
            if let Some(base) = &recipe.base {
                restore(&base.digest, root.join("base"), &base.path)?;
            }
            for file in &recipe.files {
                restore(&file.digest, root.join("files"), &file.path)?;
            }
            for artifact in &artifacts {
                restore(
                    &artifact.digest,
                    root.join("contents").join(artifact.name.as_str()),
                    &artifact.path,
                )?;
            }
            Ok(())
        })
        .await
    }

    fn request(
        &self,
        work: &Work,
        bake: &model::Bake,
        recipe: &Recipe,
        artifacts: &[Artifact],
    ) -> Result<BuildRequest, Failure> {
        let root = self.workspaces.at(&work.id).work();
        let parent = match (&recipe.parent, &recipe.machine, &recipe.base) {
            (Some(image), _, _) => Parent::Image(image.clone()),
            (None, Some(machine), _) => Parent::Machine(machine.clone()),
            (None, None, Some(base)) => Parent::Directory(root.join("base").join(&base.path)),
            (None, None, None) => Parent::Empty,
        };
        let contents = artifacts
            .iter()
            .map(|artifact| root.join("contents").join(artifact.name.as_str()).join(&artifact.path));
        let files = recipe.files.iter().map(|file| (file.path.clone(), root.join("files").join(&file.path)));
        let provision = bake.provision.iter().map(|step| Provision {
            name: step.name.clone(),
            run: step.run.clone(),
            bash: step.shell == Interpreter::Bash,
        });
        Ok(BuildRequest {
            key: work.id.key(),
            parent,
            contents: contents.collect(),
            files: files.collect(),
            provision: provision.collect(),
            env: builder_environment(work),
            tags: Tags {
                service: work.id.run.pipeline.clone(),
                run: work.id.run.clone(),
                stage: work.id.stage.to_string(),
                key: work.id.key(),
            },
        })
    }
}

/// What a builder that is another machine tells its commands.
fn builder_environment(work: &Work) -> std::collections::BTreeMap<String, String> {
    let mut env = work.inputs.env.clone();
    env.extend(ours(work));
    env
}

fn of(work: &Work) -> Result<&model::Bake, Failure> {
    match &work.stage().kind {
        Kind::Bake(bake) => Ok(bake),
        _ => Err(Failure::infrastructure("a bake stage without a bake; this is a defect")),
    }
}

fn image_request(work: &Work, bake: &model::Bake, recipe: &Recipe) -> ImageRequest {
    ImageRequest {
        name: format!("{}-{}", work.id.run.pipeline, work.version),
        key: recipe.key.clone(),
        parent: recipe.parent.clone(),
        commit: work.origin.commit.as_ref().map(|commit| commit.sha.clone()),
        start: bake.start.clone(),
    }
}

/// An image as a run records it.
fn as_recorded(record: ImageRecord) -> Image {
    let ImageRecord { id, name, key, parent, commit, run, .. } = record;
    Image { id, name, key, parent, commit, run }
}

fn outcome(image: Image) -> Outcome {
    let outputs =
        [("image".to_owned(), image.id.to_string()), ("name".to_owned(), image.name.clone())].into();
    Outcome { outputs, image: Some(image), ..Outcome::default() }
}
