//! Fleets whose instances an Auto Scaling group launches.

use super::Aws;
use crate::cloud::{Error, Instance, Launch};
use crate::ids::{FleetId, InstanceId};

fn later<T>() -> Result<T, Error> {
    Err(Error::Failed("Auto Scaling groups are not supported yet".to_owned()))
}

pub(super) async fn room_for(_aws: &Aws, _group: &str, _launch: &Launch, _more: u32) -> Result<(), Error> {
    later()
}

pub(super) async fn begin_rollout(_aws: &Aws, _group: &str, _fleet: &FleetId) -> Result<(), Error> {
    later()
}

pub(super) async fn end_rollout(
    _aws: &Aws,
    _group: &str,
    _fleet: &FleetId,
    _last: Option<&Launch>,
) -> Result<(), Error> {
    later()
}

pub(super) async fn launch(_aws: &Aws, _group: &str, _launch: &Launch) -> Result<Instance, Error> {
    later()
}

pub(super) async fn instances(_aws: &Aws, _group: &str, _fleet: &FleetId) -> Result<Vec<Instance>, Error> {
    later()
}

pub(super) async fn terminate(
    _aws: &Aws,
    _group: &str,
    _fleet: &FleetId,
    _id: &InstanceId,
) -> Result<(), Error> {
    later()
}
