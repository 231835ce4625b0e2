//! What an image is made of, and the key that is the digest of all of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::Step;
use super::super::Work;
use crate::artifact::Shelf;
use crate::cloud;
use crate::ids::{ArtifactName, Digest, ImageId};
use crate::pipeline::model::{self, Base};
use crate::run::event::{Artifact, Failure, Image};

/// What an image is made of, by the digests of its parts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recipe {
    pub parent: Option<ImageId>,
    pub base: Option<Content>,
    /// The machine image that is no image of ours.
    #[serde(default)]
    pub machine: Option<ImageId>,
    pub files: Vec<Content>,
    pub key: Digest,
    /// An image that was made by the same recipe before.
    pub found: Option<Image>,
}

/// Something of the commit, on the shelf.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Content {
    pub path: String,
    pub digest: Digest,
}

impl Recipe {
    pub fn tell(&self, step: &mut Step) {
        step.say(&match &self.parent {
            Some(parent) => format!("parent {parent}"),
            None => match &self.machine {
                Some(machine) => format!("no parent: starting from {machine}"),
                None => "no parent: starting from the base".to_owned(),
            },
        });
        step.say(&format!("image key {}", self.key));
        if let Some(found) = &self.found {
            step.say(&format!("the same image exists already: {} ({})", found.name, found.id));
        }
    }
}

/// A base that only the cloud knows.
pub fn machine_base(bake: &model::Bake) -> Option<cloud::Base> {
    match bake.base.as_ref()? {
        Base::Directory(_) => None,
        Base::Ami(id) => Some(cloud::Base::Id(id.clone())),
        Base::Newest { name, owner } => {
            Some(cloud::Base::Newest { name: name.clone(), owner: owner.clone() })
        }
    }
}

/// The artifacts that go into the image.
pub fn chosen(work: &Work, bake: &model::Bake) -> Result<Vec<Artifact>, Failure> {
    let find = |name: &ArtifactName| {
        let found = work.artifacts.iter().find(|artifact| artifact.name == *name).cloned();
        found.ok_or_else(|| Failure::policy(format!("artifact {name} was not made by the stages before")))
    };
    bake.artifacts.iter().map(find).collect()
}

/// Puts a path of the commit on the shelf; the first place that has it counts.
pub fn shelve(shelf: &Shelf, places: &[&Path], key: &str, path: String) -> Result<Content, Failure> {
    let place = places.iter().find(|place| place.join(&path).exists()).ok_or_else(|| {
        Failure::task(format!(
            "{key}: the commit has no {path:?}; is it committed, and is `checkout` an ancestor?"
        ))
    })?;
    let stored = shelf.store(place, &path).map_err(|error| match error.blames_content() {
        true => Failure::task(format!("{key}: {error}")),
        false => Failure::infrastructure(format!("{key}: {error}")),
    })?;
    Ok(Content { path, digest: stored.digest })
}

/// The digest of all that the image is made of. Each part is preceded by what it is and how long,
/// so that no two recipes read the same.
pub fn key(
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
