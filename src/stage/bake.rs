//! `bake`: from the parent's tree, the artifacts and the provision commands to an image.
//!
//! The parent is resolved once, in the first step, and recorded with the image's key: the digest of
//! parent, artifacts, files, provision and start. An image with that key is not baked twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::deploy::allowed;
use super::shell::{STOP_BOUND, Shell, end_left_over, environment, secrets};
use super::upload::failed;
use super::workspace::{Workspaces, blocking, make};
use super::{Attempt, Next, Stage, Step, Work};
use crate::artifact::Shelf;
use crate::cloud::{BuildRequest, Compute, ImageRecord, ImageRequest, Parent, Provisioning, Tags};
use crate::ids::{ArtifactName, Digest, FleetId, ImageId};
use crate::journal::{load_fleet, quarantine};
use crate::pipeline::model::{self, Base, Kind};
use crate::run::event::{Artifact, Failure, Image, Outcome};
use crate::runner;
use crate::store::Store;

pub struct Bake {
    pub workspaces: Workspaces,
    pub runner: runner::Client,
    pub store: Arc<dyn Store>,
    pub compute: Arc<dyn Compute>,
}

/// What an image is made of, by the digests of its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Recipe {
    parent: Option<ImageId>,
    base: Option<Content>,
    files: Vec<Content>,
    key: Digest,
    /// An image that was made by the same recipe before.
    found: Option<Image>,
}

/// Something of the commit, on the shelf.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Content {
    path: String,
    digest: Digest,
}

impl Recipe {
    fn tell(&self, step: &mut Step) {
        step.say(&match &self.parent {
            Some(parent) => format!("parent {parent}"),
            None => "no parent: starting from the base".to_owned(),
        });
        step.say(&format!("image key {}", self.key));
        if let Some(found) = &self.found {
            step.say(&format!("the same image exists already: {} ({})", found.name, found.id));
        }
    }
}

#[async_trait]
impl Stage for Bake {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let done = self.carry_out(attempt).await;
        if done.is_err() {
            end_left_over(&self.runner, attempt).await;
        }
        done
    }

    fn stop_bound(&self, _work: &Work) -> Duration {
        STOP_BOUND
    }
}

impl Bake {
    async fn carry_out(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let Kind::Bake(bake) = &work.stage().kind else {
            return Err(Failure::infrastructure("a bake stage without a bake; this is a defect"));
        };
        let artifacts = chosen(&work, bake)?;
        let recipe: Recipe = match attempt.next("Resolve parent").await? {
            Next::Done(recipe) => recipe,
            Next::Do(mut step) => {
                let recipe = attempt.unless_stopped(self.resolve(&work, bake, &artifacts)).await;
                if let Ok(recipe) = &recipe {
                    recipe.tell(&mut step);
                }
                attempt.finish(*step, recipe).await?
            }
        };
        if let Some(image) = recipe.found.clone() {
            self.workspaces.remove(&work.id);
            return Ok(outcome(image));
        }
        attempt.check_stop()?;
        let request = self.request(&work, &recipe, &artifacts);
        let directory: PathBuf = match attempt.next("Launch builder").await? {
            Next::Done(directory) => directory,
            Next::Do(mut step) => {
                let builder = self.launch(&work, &recipe, &artifacts, &request).await;
                if let Ok(directory) = &builder {
                    step.say(&format!("provisioning in {}", directory.display()));
                }
                attempt.finish(*step, builder).await?
            }
        };
        self.provision(attempt, &work, bake, directory).await?;
        attempt.check_stop()?;
        let image = ImageRequest {
            name: format!("{}-{}", work.id.run.pipeline, work.version),
            key: recipe.key.clone(),
            parent: recipe.parent.clone(),
            commit: work.origin.commit.as_ref().map(|commit| commit.sha.clone()),
            start: bake.start.clone(),
        };
        let image: Image = match attempt.next("Create image").await? {
            Next::Done(image) => image,
            Next::Do(mut step) => {
                let created = self.compute.create_image(&request, &image).await;
                let created = created.map(as_recorded).map_err(failed);
                if let Ok(image) = &created {
                    step.say(&format!("{} is {}", image.name, image.id));
                }
                attempt.finish(*step, created).await?
            }
        };
        self.workspaces.remove(&work.id);
        Ok(outcome(image))
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
        work: &Work,
        bake: &model::Bake,
        artifacts: &[Artifact],
    ) -> Result<Recipe, Failure> {
        let parent = self.parent(work, bake).await?;
        let base = match (&parent, &bake.base) {
            (None, Some(Base::Directory(path))) => Some(path.clone()),
            _ => None,
        };
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
        let key = key(bake, parent.as_ref(), base.as_ref(), artifacts, &files);
        let found = self.compute.find_image(&key).await.map_err(failed)?.map(as_recorded);
        if let Some(found) = &found {
            allowed(self.store.as_ref(), &work.id.run.pipeline, &found.id).await?;
        }
        Ok(Recipe { parent, base, files, key, found })
    }

    /// The image that the service's fleet there last completed a rollout to. A replay builds upon what
    /// the stage built upon before, so that the same image comes of the same inputs.
    async fn parent(&self, work: &Work, bake: &model::Bake) -> Result<Option<ImageId>, Failure> {
        let Some(environment) = &bake.from else { return Ok(None) };
        if let Some(before) = &work.baked {
            if let Some(parent) = &before.parent {
                allowed(self.store.as_ref(), &work.id.run.pipeline, parent).await?;
            }
            return Ok(before.parent.clone());
        }
        let fleet = FleetId::new(work.id.run.pipeline.clone(), environment.clone());
        let fleet = load_fleet(self.store.as_ref(), &fleet)
            .await
            .map_err(|error| Failure::infrastructure(error.to_string()))?;
        let Some(image) = fleet.current.map(|current| current.image.id) else { return Ok(None) };
        // Nothing is built upon it: then the base is as good a beginning as it was the first time.
        let quarantined = quarantine(self.store.as_ref(), &work.id.run.pipeline, &image)
            .await
            .map_err(|error| Failure::infrastructure(error.to_string()))?;
        Ok(Some(image).filter(|_| quarantined.is_none()))
    }

    /// Launches the builder, and answers where the provision commands run.
    async fn launch(
        &self,
        work: &Work,
        recipe: &Recipe,
        artifacts: &[Artifact],
        request: &BuildRequest,
    ) -> Result<PathBuf, Failure> {
        self.lay_out(work, recipe, artifacts).await?;
        let builder = self.compute.launch_builder(request).await.map_err(failed)?;
        let Provisioning::Here { directory } = builder.provisioning;
        Ok(directory)
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

    fn request(&self, work: &Work, recipe: &Recipe, artifacts: &[Artifact]) -> BuildRequest {
        let root = self.workspaces.at(&work.id).work();
        let parent = match (&recipe.parent, &recipe.base) {
            (Some(image), _) => Parent::Image(image.clone()),
            (None, Some(base)) => Parent::Directory(root.join("base").join(&base.path)),
            (None, None) => Parent::Empty,
        };
        let contents = artifacts
            .iter()
            .map(|artifact| root.join("contents").join(artifact.name.as_str()).join(&artifact.path));
        let files = recipe.files.iter().map(|file| (file.path.clone(), root.join("files").join(&file.path)));
        BuildRequest {
            key: work.id.key(),
            parent,
            contents: contents.collect(),
            files: files.collect(),
            tags: Tags {
                service: work.id.run.pipeline.clone(),
                run: work.id.run.clone(),
                stage: work.id.stage.to_string(),
                key: work.id.key(),
            },
        }
    }
}

/// The artifacts that go into the image.
fn chosen(work: &Work, bake: &model::Bake) -> Result<Vec<Artifact>, Failure> {
    let find = |name: &ArtifactName| {
        let found = work.artifacts.iter().find(|artifact| artifact.name == *name).cloned();
        found.ok_or_else(|| Failure::policy(format!("artifact {name} was not made by the stages before")))
    };
    bake.artifacts.iter().map(find).collect()
}

/// Puts a path of the commit on the shelf; the first place that has it counts.
fn shelve(shelf: &Shelf, places: &[&Path], key: &str, path: String) -> Result<Content, Failure> {
    let place = places.iter().find(|place| place.join(&path).exists()).ok_or_else(|| {
        Failure::task(format!(
            "{key}: the commit has no {path:?}; is it committed, and is `checkout` an ancestor?"
        ))
    })?;
    let stored = shelf.store(place, &path).map_err(|error| Failure::task(format!("{key}: {error}")))?;
    Ok(Content { path, digest: stored.digest })
}

/// The digest of all that the image is made of. Each part is preceded by what it is and how long,
/// so that no two recipes read the same.
fn key(
    bake: &model::Bake,
    parent: Option<&ImageId>,
    base: Option<&Content>,
    artifacts: &[Artifact],
    files: &[Content],
) -> Digest {
    let mut text = String::from("windlass-image-1\n");
    let mut add = |what: &str, value: &str| text.push_str(&format!("{what} {}\n{value}\n", value.len()));
    if let Some(parent) = parent {
        add("parent", parent.as_str());
    }
    if let Some(base) = base {
        add("base", base.digest.as_str());
    }
    for artifact in artifacts {
        add("artifact", artifact.digest.as_str());
        add("path", &artifact.path);
    }
    for file in files {
        add("file", &file.path);
        add("content", file.digest.as_str());
    }
    for command in &bake.provision {
        add("provision", &command.run);
        add("shell", &format!("{:?}", command.shell));
    }
    add("start", &bake.start);
    Digest::of(text.as_bytes())
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
