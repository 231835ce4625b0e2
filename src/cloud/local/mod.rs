//! The cloud on this machine: images are directories, instances are processes, objects are files.
//!
//! ```text
//! DATA/images/IMAGE/     manifest.json, root/app/…        whole or not there, never changed
//! DATA/builders/KEY/     builder.json, image/root/app/…   an image being made
//! DATA/instances/NAME/   instance.json, root/app/… (its own copy), home/, tmp/, output.log
//! DATA/instances/.ended/ KEY.json                         what became of terminated instances
//! DATA/objects/          KEY
//! ```
//!
//! What is always true:
//!
//! - an image directory that exists is finished, was flushed, and holds what its manifest says;
//! - an instance's record is on disk before anything of it runs, and goes after nothing of it runs
//!   any more: no process without a record that explains it, also when we are killed anywhere;
//! - one key has one process, however often and by however many it is launched;
//! - a service runs on a copy: what it does to its files reaches no image and no other instance.
//!
//! An instance gets a free port from 26000 to 31999 that no fleet of the data directory listens on.
//!
//! Instances are host processes of this user, in a process group of their own. They outlive whoever
//! launched them; nothing here watches them: whoever wants to know looks, or asks to be woken. What a service writes to its
//! standard output is appended to `output.log` and goes with the instance; nothing limits it, as the
//! service itself holds the file: one that talks much keeps a log of its own.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::{BuildRequest, Builder, Compute, Error, ImageRecord, ImageRequest, Instance, Launch, Phase};
use crate::ids::{Digest, FleetId, ImageId, InstanceId};

mod builders;
mod disk;
mod examine;
mod images;
mod instances;
mod inventory;
mod objects;
mod ports;
mod process;
#[cfg(test)]
mod tests;
mod tree;

pub use objects::LocalObjects;
pub(in crate::cloud) use ports::free as free_port;
pub use process::GRACE;

/// Images and instances below a data directory.
#[derive(Debug, Clone)]
pub struct Local {
    /// Absolute, as services are told paths below it.
    data: PathBuf,
}

impl Local {
    /// The cloud in the directory `data`; what it needs there is made when it is needed.
    pub fn new(data: PathBuf) -> Self {
        Self { data: std::path::absolute(&data).unwrap_or(data) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || act(&this)).await;
        done.map_err(|error| Error::Ambiguous(format!("the local cloud stopped working: {error}")))?
    }
}

#[async_trait]
impl Compute for Local {
    async fn find_image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        let key = key.clone();
        self.blocking(move |local| local.find_image_now(&key)).await
    }

    async fn image(&self, id: &ImageId) -> Result<ImageRecord, Error> {
        let id = id.clone();
        self.blocking(move |local| Ok(local.image_now(&id)?.record)).await
    }

    async fn certify_image(&self, id: &ImageId) -> Result<(), Error> {
        let id = id.clone();
        self.blocking(move |local| local.certify_image_now(&id)).await
    }

    async fn launch_builder(&self, request: &BuildRequest, _image: &ImageRequest) -> Result<Builder, Error> {
        let request = request.clone();
        self.blocking(move |local| local.launch_builder_now(&request)).await
    }

    async fn carry_out(
        &self,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Error> {
        debug_assert_eq!(phase, Phase::Create, "the only one of this cloud");
        let (request, image) = (request.clone(), image.clone());
        self.blocking(move |local| local.create_image_now(&request, &image).map(drop)).await
    }

    async fn launch(&self, launch: &Launch) -> Result<Instance, Error> {
        let launch = launch.clone();
        self.blocking(move |local| local.launch_now(&launch)).await
    }

    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        let fleet = fleet.clone();
        self.blocking(move |local| local.instances_now(&fleet)).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<(), Error> {
        let id = id.clone();
        self.blocking(move |local| local.terminate_now(&id)).await
    }

    async fn ended(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
        self.await_end(running, patience).await
    }
}
