//! Target groups: which instances of a fleet take traffic, and their health.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::Aws;
use crate::cloud::{Balancer, Error, Listener, Target};
use crate::ids::{FleetId, InstanceId};

fn later<T>() -> Result<T, Error> {
    Err(Error::Failed("target groups are not supported yet".to_owned()))
}

#[async_trait]
impl Balancer for Aws {
    async fn put_listener(&self, _listener: &Listener) -> Result<(), Error> {
        later()
    }
    async fn remove_listener(&self, _fleet: &FleetId) -> Result<(), Error> {
        later()
    }
    async fn register(&self, _fleet: &FleetId, _targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        later()
    }
    async fn stand_by(&self, _fleet: &FleetId, _targets: &[(InstanceId, SocketAddr)]) -> Result<(), Error> {
        later()
    }
    async fn switch(&self, _fleet: &FleetId, _to: &[InstanceId]) -> Result<(), Error> {
        later()
    }
    async fn deregister(&self, _fleet: &FleetId, _targets: &[InstanceId]) -> Result<(), Error> {
        later()
    }
    async fn forget(&self, _fleet: &FleetId, _targets: &[InstanceId]) -> Result<(), Error> {
        later()
    }
    async fn targets(&self, _fleet: &FleetId) -> Result<Vec<Target>, Error> {
        later()
    }
    async fn changed(&self, _fleet: &FleetId, _patience: Duration) -> Result<(), Error> {
        later()
    }
    async fn url(&self, _listener: &Listener) -> Result<String, Error> {
        later()
    }
}
