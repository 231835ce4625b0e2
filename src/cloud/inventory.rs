//! What there is of ours in a cloud, whoever made it and whether anybody still needs it: for whoever
//! cleans up.
//!
//! - Nothing is listed that does not carry our mark: its tags, its name, its place.
//! - What a mark does not say is `None`; nobody guesses.
//! - Ending is for good. Killed in the middle of it, ending it again, or ending what is listed then,
//!   does the rest.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::ids::{Digest, FleetId, ImageId, Key, PipelineName, RunId, StageName};

/// What a thing is. In the order in which things are ended: an instance goes before what it runs, an
/// image before its snapshots.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Where an image is being made.
    Builder,
    Instance,
    /// An upload in parts that was begun and not completed.
    Upload,
    /// What a builder fetches and writes, in the object store.
    Scratch,
    Image,
    /// What an image is stored in, where the cloud lists that apart.
    Snapshot,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Instance => "instance",
            Self::Upload => "upload",
            Self::Scratch => "scratch",
            Self::Image => "image",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Something of ours, as it was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub kind: Kind,
    /// In the words of the cloud: no other thing of this kind there has it.
    pub id: String,
    /// What people know it by.
    pub name: Option<String>,
    pub service: Option<PipelineName>,
    /// The run that asked for it.
    pub run: Option<RunId>,
    pub stage: Option<StageName>,
    /// The intent that asked for it.
    pub key: Option<Key>,
    /// Of instances.
    pub fleet: Option<FleetId>,
    /// Of instances: what they run.
    pub release: Option<Digest>,
    /// Of instances: what they were launched from.
    pub image: Option<ImageId>,
    /// Of builders, their scratch, images and snapshots: the digest of what the image is made of.
    pub image_key: Option<Digest>,
    /// Of images.
    pub certified: bool,
    /// Of images: what they were built upon.
    pub parent: Option<ImageId>,
    /// Of images: the ids of the snapshots that go with them.
    pub parts: Vec<String>,
    /// What else in the cloud looks after it, and would make another one in its place.
    pub keeper: Option<String>,
    pub created_at: Timestamp,
    /// How much is stored, where that is known.
    pub bytes: Option<u64>,
}

impl Thing {
    /// A thing of which nothing else is known.
    pub fn new(kind: Kind, id: impl Into<String>, created_at: Timestamp) -> Self {
        Self {
            kind,
            id: id.into(),
            name: None,
            service: None,
            run: None,
            stage: None,
            key: None,
            fleet: None,
            release: None,
            image: None,
            image_key: None,
            certified: false,
            parent: None,
            parts: Vec::new(),
            keeper: None,
            created_at,
            bytes: None,
        }
    }

    /// Takes over what the key of an attempt says, `storefront-42.bake.1`; what follows is fine.
    pub fn of_attempt(mut self, key: &str) -> Self {
        let mut parts = key.split('.');
        let run = parts.next().and_then(|run| run.rsplit_once('-'));
        if let Some(run) = run.and_then(|(pipeline, number)| format!("{pipeline}/{number}").parse().ok()) {
            self.run = Some(run);
            self.service = self.run.as_ref().map(|run: &RunId| run.pipeline.clone());
            self.stage = parts.next().and_then(|stage| stage.parse().ok());
            self.key = key.parse().ok();
        }
        self
    }
}

/// What there is, and its end.
#[async_trait]
pub trait Inventory: Send + Sync {
    /// Everything that carries our mark, of whatever service, run and data directory. What has ended is
    /// not in it. All of it, or an error: what uses a thing may be in the part that is missing.
    async fn things(&self) -> Result<Vec<Thing>, Error>;

    /// Ends a thing for good, with its parts. One that is gone already is fine.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not what was observed any more: then nothing was done.
    async fn end(&self, thing: &Thing) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_an_attempt_tells_run_and_stage() {
        let thing = |key| Thing::new(Kind::Builder, "b", Timestamp::UNIX_EPOCH).of_attempt(key);
        let told = thing("my-shop-42.bake-it.3");
        assert_eq!(told.run, Some("my-shop/42".parse().unwrap()));
        assert_eq!(told.service, Some("my-shop".parse().unwrap()));
        assert_eq!(told.stage, Some("bake-it".parse().unwrap()));
        assert_eq!(told.key, Some("my-shop-42.bake-it.3".parse().unwrap()));
        for strange in ["", "shop", "shop-x.bake.1", ".bake.1", "shop-0.bake.1"] {
            assert_eq!(thing(strange).run, None, "{strange}");
        }
    }
}
