//! [`Compute`] on AWS: each call goes to the file that knows.

use std::time::Duration;

use async_trait::async_trait;

use super::{Aws, builders, images};
use crate::cloud::{
    Base, BuildRequest, Builder, Compute, Error, ImageRecord, ImageRequest, Instance, Launch, Phase,
};
use crate::ids::{Digest, FleetId, ImageId, InstanceId, PipelineName};

fn later<T>(what: &str) -> Result<T, Error> {
    Err(Error::Failed(format!("{what} on AWS is not supported yet")))
}

#[async_trait]
impl Compute for Aws {
    async fn find_image(&self, key: &Digest) -> Result<Option<ImageRecord>, Error> {
        images::find(self, key).await
    }
    async fn image(&self, id: &ImageId) -> Result<ImageRecord, Error> {
        images::get(self, id).await
    }
    async fn certify_image(&self, id: &ImageId) -> Result<(), Error> {
        images::certify(self, id).await
    }
    async fn find_base(&self, base: &Base) -> Result<ImageId, Error> {
        images::find_base(self, base).await
    }
    async fn certified_images(&self, service: &PipelineName) -> Result<Vec<ImageRecord>, Error> {
        images::certified(self, service).await
    }
    async fn launch_builder(&self, request: &BuildRequest, image: &ImageRequest) -> Result<Builder, Error> {
        builders::launch(self, request, image).await
    }
    async fn provisioned(&self, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        builders::provisioned(self, request, image).await
    }
    async fn abandon(&self, request: &BuildRequest, image: &ImageRequest) -> Result<(), Error> {
        builders::abandon(self, request, image).await
    }
    fn phases(&self) -> &'static [Phase] {
        images::PHASES
    }
    async fn carry_out(
        &self,
        phase: Phase,
        request: &BuildRequest,
        image: &ImageRequest,
    ) -> Result<(), Error> {
        images::carry_out(self, phase, request, image).await
    }
    async fn launch(&self, _launch: &Launch) -> Result<Instance, Error> {
        later("launching")
    }
    async fn instances(&self, _fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        later("a fleet")
    }
    async fn terminate(&self, _id: &InstanceId) -> Result<(), Error> {
        later("terminating")
    }
    async fn ended(&self, _running: &[InstanceId], _patience: Duration) -> Result<(), Error> {
        later("a fleet")
    }
}
