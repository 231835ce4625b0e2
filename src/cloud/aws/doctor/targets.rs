//! Target groups: they exist, take instances, and a listener leads to them.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{Action, TargetGroup, TargetTypeEnum};

use super::{Demand, Doctor};
use crate::cloud::aws::client::Client;
use crate::cloud::aws::operations::{DESCRIBE_LISTENERS, DESCRIBE_RULES, DESCRIBE_TARGET_GROUPS};
use crate::cloud::setup::Fleet;
use crate::cloud::{Balancer, Error};
use crate::ids::FleetId;

impl Doctor<'_> {
    pub(super) async fn targets(
        &mut self,
        client: &Client,
        id: &FleetId,
        fleet: &Fleet,
        demand: Demand,
        vpc: Option<&str>,
    ) {
        let mut balancers = BTreeSet::new();
        let mut whole = true;
        for arn in fleet.target_groups.iter().chain(&fleet.standby_target_groups) {
            let about = format!("{id}: target group {}", name(arn));
            match described(client, arn).await {
                Ok(Some(group)) => {
                    balancers.extend(group.load_balancer_arns().iter().cloned());
                    whole &= self.target_group(&about, &group, vpc);
                }
                Ok(None) | Err(Error::NotFound(_)) => {
                    let says = format!("there is none with that ARN in {}", client.region());
                    self.findings.missing(about, says, "make it, or mend target_groups in the settings");
                    whole = false;
                }
                Err(error) => {
                    self.findings.failed(about, &error, "windlass policy prints what has to be allowed");
                    whole = false;
                }
            }
        }
        if !whole {
            return;
        }
        if !fleet.standby_target_groups.is_empty() {
            self.weighted(client, id, fleet, &balancers).await;
        }
        let about = format!("{id}: expected time");
        match self.aws.timing(id).await {
            Ok(Some(timing)) => {
                let (up, down) = (timing.in_service.as_secs(), timing.drain.as_secs());
                let batches = demand.size.div_ceil(demand.batch.max(1));
                let whole = Duration::from_secs((up + down) * u64::from(batches)).as_secs();
                let says = format!(
                    "{up} s until a new instance takes its traffic, {down} s until an old one has drained: \
                     {} of {} each, about {whole} s in all, and what booting takes",
                    batches, demand.batch
                );
                self.findings.ok(about, says);
            }
            Ok(None) => {}
            Err(error) => {
                self.findings.failed(about, &error, "windlass policy prints what has to be allowed")
            }
        }
    }

    /// Whether nothing is wrong with it.
    fn target_group(&mut self, about: &str, group: &TargetGroup, vpc: Option<&str>) -> bool {
        let before = self.findings.0.len();
        if let Some(other) = group.target_type().filter(|kind| !takes_instances(kind)) {
            let says =
                format!("its targets are of type {}, and instances cannot be targets of it", other.as_str());
            self.findings.missing(about, says, "make one with --target-type instance");
        }
        if let (Some(own), Some(vpc)) = (group.vpc_id(), vpc)
            && own != vpc
        {
            let says = format!("it is in {own}, and the fleet's subnets are in {vpc}");
            self.findings.missing(about, says, "name subnets of the same VPC, or another target group");
        }
        if group.load_balancer_arns().is_empty() {
            let says = "no listener of a load balancer leads to it, so nothing would reach the fleet";
            self.findings.missing(
                about,
                says,
                "forward a listener or a rule to it: aws elbv2 create-listener",
            );
        }
        if group.health_check_enabled() == Some(false) {
            let says = "its health checks are off, so that nobody knows whether an instance is well";
            self.findings.missing(about, says, "aws elbv2 modify-target-group --health-check-enabled");
        }
        let sound = self.findings.0.len() == before;
        if sound {
            let protocol = group.protocol().map_or("?", |protocol| protocol.as_str());
            let says = format!(
                "{protocol} to port {}, checked at {} every {} s, healthy after {}, unhealthy after {}",
                group.port().unwrap_or_default(),
                group.health_check_path().unwrap_or("the port"),
                group.health_check_interval_seconds().unwrap_or_default(),
                group.healthy_threshold_count().unwrap_or_default(),
                group.unhealthy_threshold_count().unwrap_or_default(),
            );
            self.findings.ok(about, says);
        }
        sound
    }

    /// Whether a listener or rule gives weights to both of each pair.
    async fn weighted(&mut self, client: &Client, id: &FleetId, fleet: &Fleet, balancers: &BTreeSet<String>) {
        let about = format!("{id}: standby target groups");
        let actions = match actions(client, balancers).await {
            Ok(actions) => actions,
            Err(error) => {
                let next = "windlass policy prints what has to be allowed";
                return self.findings.failed(about, &error, next);
            }
        };
        for (first, second) in fleet.target_groups.iter().zip(&fleet.standby_target_groups) {
            if actions.iter().any(|action| forwards(action, [first, second])) {
                let says =
                    format!("{} and {} share a listener or rule by weights", name(first), name(second));
                self.findings.ok(&about, says);
            } else {
                let says =
                    format!("no listener or rule forwards to both {} and {}", name(first), name(second));
                let next = "forward it to both, with weights of 1 and 0: aws elbv2 modify-listener";
                self.findings.missing(&about, says, next);
            }
        }
    }
}

async fn described(client: &Client, arn: &str) -> Result<Option<TargetGroup>, Error> {
    let answer = client
        .call(DESCRIBE_TARGET_GROUPS, |services| {
            services.elb.describe_target_groups().target_group_arns(arn).send()
        })
        .await?;
    Ok(answer.target_groups.unwrap_or_default().pop())
}

/// What the listeners of these load balancers do, and their rules.
async fn actions(client: &Client, balancers: &BTreeSet<String>) -> Result<Vec<Action>, Error> {
    let mut all = Vec::new();
    for balancer in balancers {
        let listeners = client
            .call(DESCRIBE_LISTENERS, |services| {
                services.elb.describe_listeners().load_balancer_arn(balancer).send()
            })
            .await?;
        for listener in listeners.listeners.unwrap_or_default() {
            all.extend(listener.default_actions().iter().cloned());
            let Some(arn) = listener.listener_arn() else { continue };
            let rules = client
                .call(DESCRIBE_RULES, |services| services.elb.describe_rules().listener_arn(arn).send())
                .await?;
            all.extend(rules.rules().iter().flat_map(|rule| rule.actions().iter().cloned()));
        }
    }
    Ok(all)
}

/// Whether the action leads to both of them.
fn forwards(action: &Action, pair: [&String; 2]) -> bool {
    let groups = action.forward_config().map(|forward| forward.target_groups()).unwrap_or_default();
    let to: BTreeSet<&str> = groups.iter().filter_map(|group| group.target_group_arn()).collect();
    pair.iter().all(|arn| to.contains(arn.as_str()))
}

fn takes_instances(kind: &TargetTypeEnum) -> bool {
    matches!(kind, TargetTypeEnum::Instance | TargetTypeEnum::Ip)
}

/// `storefront` of `arn:…:targetgroup/storefront/73e2d6bc24d8a067`.
fn name(arn: &str) -> &str {
    arn.rsplit('/').nth(1).unwrap_or(arn)
}
