//! Fleets whose instances an Auto Scaling group launches, from versions of its launch template.
//!
//! A rollout turns them over like any other. What it takes:
//!
//! - Before anything is changed, what has to be restored is written on the group itself ([`note`]); then
//!   the processes that would interfere are suspended. The end restores it and removes the note last.
//!   Cut short anywhere, the same again comes to the same end.
//! - Between those two the group's desired capacity is the number of its members: each launch raises it
//!   by one, each end lowers it by one, and the minimum is 0. So it replaces nothing by itself.
//! - The group names the number of a version that is pinned to an image ([`template`]), never
//!   `$Latest`: what it launches afterwards, by itself, is what was deployed last, with its environment
//!   and tags.
//! - Instances that were there before Windlass become the fleet's; they run a release that nobody knows
//!   how to launch.
//!
//! Lifecycle hooks are the group's business: an instance that one holds back is pending, and one that
//! it holds at its end counts as gone. What a group does without a process that could be suspended
//! (the end of a spot instance, a longest lifetime) goes on; what it launches then is of the pinned
//! version. A warm pool, weights, and overrides with images of their own are refused, and so are
//! launch configurations and standby target groups.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::Aws;
use crate::cloud::setup::LaunchSpec;
use crate::cloud::{Error, Instance, Launch};
use crate::ids::{FleetId, InstanceId, Key};

mod activity;
mod end;
mod group;
mod launch;
mod members;
mod note;
mod rollout;
mod template;

pub(super) use end::terminate;
pub(super) use launch::launch;
pub(super) use rollout::{begin as begin_rollout, end as end_rollout};

use group::Group;

/// What this process remembers of groups, each by its name. One at a time changes a group's size.
#[derive(Default)]
pub(crate) struct Groups(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Memory>>>>);

/// What is remembered of a group: for fewer questions, and where what was just written is not shown yet.
#[derive(Debug, Default)]
struct Memory {
    pinned: Option<template::Pinned>,
    /// Whom an instance was given to.
    claimed: BTreeMap<InstanceId, Key>,
}

impl Memory {
    fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Groups {
    fn of(&self, group: &str) -> Arc<tokio::sync::Mutex<Memory>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(group.to_owned()).or_default().clone()
    }
}

pub(super) async fn instances(aws: &Aws, name: &str, fleet: &FleetId) -> Result<Vec<Instance>, Error> {
    let (settings, client) = aws.fleet(fleet)?;
    let group = Group::look(&client, name).await?;
    let machines = members::machines(&client, &group, fleet).await?;
    let listed = machines.values().filter_map(|machine| {
        let state = members::state(group.member(machine.id()), machine)?;
        Some(machine.instance(name, fleet, settings.port, state))
    });
    listed.collect()
}

/// As for plain instances, of the types and in the subnets that the group has.
pub(super) async fn room_for(aws: &Aws, name: &str, launch: &Launch, more: u32) -> Result<(), Error> {
    let (_, client) = aws.fleet(&launch.fleet)?;
    let group = Group::look(&client, name).await?;
    let spec = LaunchSpec {
        types: template::types(&client, &group).await?,
        subnets: group.subnets(),
        security_groups: Vec::new(),
        profile: None,
        key_pair: None,
    };
    // A group of whatever fits says no types.
    match spec.types.is_empty() || spec.subnets.is_empty() {
        true => Ok(()),
        false => super::instances::room_for(aws, &client, &spec, more).await,
    }
}
