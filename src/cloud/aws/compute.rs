//! [`Compute`] on AWS: each call goes to the file that knows.

use std::time::Duration;

use async_trait::async_trait;

use super::Aws;
use crate::cloud::{
    BuildRequest, Builder, Compute, Error, ImageRecord, ImageRequest, Instance, Launch, Phase,
};
use crate::ids::{Digest, FleetId, ImageId, InstanceId};

fn later<T>(what: &str) -> Result<T, Error> {
    Err(Error::Failed(format!("{what} on AWS is not supported yet")))
}

#[async_trait]
impl Compute for Aws {
    async fn find_image(&self, _key: &Digest) -> Result<Option<ImageRecord>, Error> {
        later("finding images")
    }
    async fn image(&self, _id: &ImageId) -> Result<ImageRecord, Error> {
        later("finding images")
    }
    async fn certify_image(&self, _id: &ImageId) -> Result<(), Error> {
        later("certifying images")
    }
    async fn launch_builder(&self, _request: &BuildRequest, _image: &ImageRequest) -> Result<Builder, Error> {
        later("baking")
    }
    async fn carry_out(
        &self,
        _phase: Phase,
        _request: &BuildRequest,
        _image: &ImageRequest,
    ) -> Result<(), Error> {
        later("baking")
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
