//! What the settings say of a cloud. Values, the same whether this program was built with that cloud or
//! not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::FleetId;

/// Where a service runs, with all that a cloud has to know of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Setup {
    #[default]
    Local,
    Aws(Arc<Aws>),
}

/// AWS, as one service uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    pub account: Account,
    /// Where images are made; without it none are.
    pub builder: Option<Builder>,
    /// The fleets of the service.
    pub fleets: BTreeMap<FleetId, Fleet>,
}

/// An account in a region, and what all services there share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `eu-central-1`
    pub region: String,
    /// For artifacts, and what builders fetch and write.
    pub bucket: String,
    /// The ARN of a role that is assumed for artifacts and images; else what the usual chain of
    /// credentials finds.
    pub role: Option<String>,
    /// A state that is awaited is asked for this often at most.
    pub poll: Duration,
    /// Requests a second that all runs together send, and how many at once after a pause.
    pub rate: u32,
    /// So many certified images of a service are kept, besides those in use.
    pub keep_images: u32,
}

/// The machine that images are made on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    pub instance_type: String,
    pub subnet: String,
    pub security_groups: Vec<String>,
    /// The name of an instance profile.
    pub profile: Option<String>,
    pub spot: bool,
    /// From its launch to its verdict.
    pub timeout: Duration,
    /// Commands reach it by SSM Run Command instead of by user data.
    pub ssm: bool,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// Where its instances listen.
    pub port: u16,
    /// ARNs; a member is in service when it is so in each of them.
    pub target_groups: Vec<String>,
    /// ARNs, one for each of `target_groups`, in that order, that the load balancer gives a weight of
    /// zero to: a blue-green rollout turns the weights over.
    pub standby_target_groups: Vec<String>,
    pub instances: Instances,
    /// The ARN of a role that is assumed for what is done to the fleet.
    pub role: Option<String>,
    /// Its address for people and tests, where the load balancer's own is not meant.
    pub url: Option<String>,
}

/// Where a fleet's instances come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instances {
    /// Windlass launches them.
    Plain(LaunchSpec),
    /// The Auto Scaling group of this name does.
    Group(String),
}

/// How instances are launched; what stands first is tried first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSpec {
    pub types: Vec<String>,
    /// Members are spread over them.
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// The name of an instance profile.
    pub profile: Option<String>,
    /// The name of a key pair.
    pub key_pair: Option<String>,
}
