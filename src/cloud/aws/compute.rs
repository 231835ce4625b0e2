//! [`Compute`] on AWS: each call goes to the file that knows. A fleet's instances are
//! [`Instances::Plain`], in [`super::instances`], or a group's, in [`super::groups`].

use std::time::Duration;

use async_trait::async_trait;

use super::{Aws, builders, groups, images, instances};
use crate::cloud::setup::Instances;
use crate::cloud::{
    Base, BuildRequest, Builder, Compute, Error, ImageRecord, ImageRequest, Instance, Launch, Phase,
};
use crate::ids::{Digest, FleetId, ImageId, InstanceId, PipelineName};

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
    async fn room_for(&self, launch: &Launch, more: u32) -> Result<(), Error> {
        let (fleet, client) = self.fleet(&launch.fleet)?;
        match &fleet.instances {
            Instances::Plain(spec) => instances::room_for(self, &client, spec, more).await,
            Instances::Group(name) => groups::room_for(self, name, launch, more).await,
        }
    }
    async fn begin_rollout(&self, fleet: &FleetId) -> Result<(), Error> {
        match &self.fleet(fleet)?.0.instances {
            Instances::Plain(_) => Ok(()),
            Instances::Group(name) => groups::begin_rollout(self, name, fleet).await,
        }
    }
    async fn end_rollout(&self, fleet: &FleetId, last: Option<&Launch>) -> Result<(), Error> {
        match &self.fleet(fleet)?.0.instances {
            Instances::Plain(_) => Ok(()),
            Instances::Group(name) => groups::end_rollout(self, name, fleet, last).await,
        }
    }
    fn keeps(&self, fleet: &FleetId) -> bool {
        self.fleet(fleet).is_ok_and(|(fleet, _)| matches!(fleet.instances, Instances::Group(_)))
    }
    async fn launch(&self, launch: &Launch) -> Result<Instance, Error> {
        match &self.fleet(&launch.fleet)?.0.instances {
            Instances::Plain(spec) => instances::launch(self, spec, launch).await,
            Instances::Group(name) => groups::launch(self, name, launch).await,
        }
    }
    async fn instances(&self, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
        match &self.fleet(fleet)?.0.instances {
            Instances::Plain(_) => instances::instances(self, fleet).await,
            Instances::Group(name) => groups::instances(self, name, fleet).await,
        }
    }
    async fn terminate(&self, id: &InstanceId) -> Result<(), Error> {
        let Some(fleet) = instances::fleet_of(self, id).await? else { return Ok(()) };
        match &self.fleet(&fleet)?.0.instances {
            Instances::Plain(_) => instances::terminate(self, &fleet, id).await,
            Instances::Group(name) => groups::terminate(self, name, &fleet, id).await,
        }
    }
    async fn ended(&self, running: &[InstanceId], patience: Duration) -> Result<(), Error> {
        instances::ended(self, running, patience).await
    }
}
