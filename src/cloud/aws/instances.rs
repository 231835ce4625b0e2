//! Instances that Windlass launches itself.

use std::sync::Arc;
use std::time::Duration;

use super::Aws;
use super::client::Client;
use crate::cloud::setup::LaunchSpec;
use crate::cloud::{Error, Instance, Launch};
use crate::ids::{FleetId, InstanceId};

fn later<T>() -> Result<T, Error> {
    Err(Error::Failed("fleets on AWS are not supported yet".to_owned()))
}

pub(super) async fn room_for(
    _aws: &Aws,
    _client: &Arc<Client>,
    _spec: &LaunchSpec,
    _more: u32,
) -> Result<(), Error> {
    later()
}

pub(super) async fn launch(_aws: &Aws, _spec: &LaunchSpec, _launch: &Launch) -> Result<Instance, Error> {
    later()
}

pub(super) async fn instances(_aws: &Aws, _fleet: &FleetId) -> Result<Vec<Instance>, Error> {
    later()
}

/// The fleet that an instance belongs to; `None` where there is no such instance.
pub(super) async fn fleet_of(_aws: &Aws, _id: &InstanceId) -> Result<Option<FleetId>, Error> {
    later()
}

pub(super) async fn terminate(_aws: &Aws, _fleet: &FleetId, _id: &InstanceId) -> Result<(), Error> {
    later()
}

pub(super) async fn ended(_aws: &Aws, _running: &[InstanceId], _patience: Duration) -> Result<(), Error> {
    later()
}
