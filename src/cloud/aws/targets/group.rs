//! What a target group is set to. Nothing of it is ever changed here.

use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{TargetGroup, TargetTypeEnum};

use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations::{DESCRIBE_TARGET_GROUP_ATTRIBUTES, DESCRIBE_TARGET_GROUPS};
use crate::cloud::{Error, setup};

/// Which of the two target groups of a pair. A fleet without standby groups has only the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Of `target_groups`.
    First,
    /// Of `standby_target_groups`.
    Second,
}

/// What its targets are named by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetType {
    Instance,
    Ip,
}

/// A target group as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub arn: String,
    pub name: String,
    pub side: Side,
    /// Its place among those of its side: pairs have the same.
    pub pair: usize,
    pub targets: TargetType,
    pub interval: Duration,
    pub threshold: u32,
    /// A target that was deregistered is `draining` for so long; 0 to 3600 s, 300 unless set.
    pub drain: Duration,
    /// A target that becomes healthy gets its full share of requests after so long; 0, or 30 to 900 s.
    pub slow_start: Duration,
    pub load_balancers: Vec<String>,
}

impl Group {
    /// From being registered to being healthy, at the latest where nothing is wrong: the checks, and
    /// one interval before the first of them.
    pub fn in_service(&self) -> Duration {
        self.interval * self.threshold + self.interval
    }
}

/// All target groups of a fleet.
///
/// # Errors
/// One of them does not exist, or instances cannot be targets of it.
pub async fn describe(client: &Client, fleet: &setup::Fleet) -> Result<Vec<Group>, Error> {
    let mut groups = Vec::new();
    for (side, arns) in [(Side::First, &fleet.target_groups), (Side::Second, &fleet.standby_target_groups)] {
        for (pair, arn) in arns.iter().enumerate() {
            groups.push((side, pair, arn.clone()));
        }
    }
    let arns: Vec<String> = groups.iter().map(|(_, _, arn)| arn.clone()).collect();
    let described = match described(client, &arns).await {
        // It says that one is missing, and not which.
        Err(Error::NotFound(_)) => one_by_one(client, &arns).await?,
        other => other?,
    };
    let mut all = Vec::new();
    for (side, pair, arn) in groups {
        let found = described.iter().find(|group| group.target_group_arn() == Some(arn.as_str()));
        let found = found.ok_or_else(|| missing(client, &arn))?;
        let (drain, slow_start) = attributes(client, &arn).await?;
        all.push(read(found, arn, side, pair, drain, slow_start)?);
    }
    Ok(all)
}

async fn described(client: &Client, arns: &[String]) -> Result<Vec<TargetGroup>, Error> {
    let send = |services: &crate::cloud::aws::client::Services| {
        services.elb.describe_target_groups().set_target_group_arns(Some(arns.to_vec())).send()
    };
    Ok(client.call(DESCRIBE_TARGET_GROUPS, send).await?.target_groups.unwrap_or_default())
}

async fn one_by_one(client: &Client, arns: &[String]) -> Result<Vec<TargetGroup>, Error> {
    let mut all = Vec::new();
    for arn in arns {
        match described(client, std::slice::from_ref(arn)).await {
            Err(Error::NotFound(_)) => return Err(missing(client, arn)),
            other => all.extend(other?),
        }
    }
    Ok(all)
}

fn missing(client: &Client, arn: &str) -> Error {
    Error::NotFound(format!(
        "the target group {arn} (in {}): make it, or mend target_groups in the settings; \
         windlass doctor tells what is there",
        client.region()
    ))
}

async fn attributes(client: &Client, arn: &str) -> Result<(Duration, Duration), Error> {
    let send = |services: &crate::cloud::aws::client::Services| {
        services.elb.describe_target_group_attributes().target_group_arn(arn).send()
    };
    let answer = client.call(DESCRIBE_TARGET_GROUP_ATTRIBUTES, send).await?;
    let seconds = |key: &str, otherwise: u64| {
        let value = answer.attributes().iter().find(|attribute| attribute.key() == Some(key));
        let value = value.and_then(|attribute| attribute.value()?.parse().ok());
        Duration::from_secs(value.unwrap_or(otherwise))
    };
    // What is not told is as "Target group attributes" says it is unless set.
    Ok((seconds("deregistration_delay.timeout_seconds", 300), seconds("slow_start.duration_seconds", 0)))
}

fn read(
    group: &TargetGroup,
    arn: String,
    side: Side,
    pair: usize,
    drain: Duration,
    slow_start: Duration,
) -> Result<Group, Error> {
    let name = group.target_group_name().unwrap_or(&arn).to_owned();
    let targets = match group.target_type() {
        None | Some(TargetTypeEnum::Instance) => TargetType::Instance,
        Some(TargetTypeEnum::Ip) => TargetType::Ip,
        Some(other) => {
            return Err(Error::Denied(format!(
                "the target group {name} takes targets of type {other}, and a fleet is of instances: it \
                 has to be made with the target type instance or ip"
            )));
        }
    };
    let seconds = |value: Option<i32>, otherwise: u64| {
        Duration::from_secs(value.and_then(|value| value.try_into().ok()).unwrap_or(otherwise))
    };
    Ok(Group {
        name,
        arn,
        side,
        pair,
        targets,
        interval: seconds(group.health_check_interval_seconds(), 30),
        threshold: group.healthy_threshold_count().and_then(|count| count.try_into().ok()).unwrap_or(5),
        drain,
        slow_start,
        load_balancers: group.load_balancer_arns().to_vec(),
    })
}
