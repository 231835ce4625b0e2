//! The listeners and rules that send a fleet its requests: found, and turned over.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{Listener, ProtocolEnum};

use super::group::Group;
use super::weights::{self, Place, Rule, Shares};
use crate::cloud::aws::client::{Client, Services};
use crate::cloud::aws::operations::{DESCRIBE_LISTENERS, DESCRIBE_RULES, MODIFY_LISTENER, MODIFY_RULE};
use crate::cloud::{Error, hearing};

/// The listeners of a load balancer.
pub async fn listeners(client: &Client, load_balancer: &str) -> Result<Vec<Listener>, Error> {
    let (mut all, mut marker) = (Vec::new(), None);
    loop {
        let send = |services: &Services| {
            let request = services.elb.describe_listeners().load_balancer_arn(load_balancer);
            request.set_marker(marker.clone()).send()
        };
        let answer = client.call(DESCRIBE_LISTENERS, send).await?;
        all.extend(answer.listeners.unwrap_or_default());
        marker = answer.next_marker;
        if marker.is_none() {
            return Ok(all);
        }
    }
}

/// What a listener does: by default, and by its rules.
async fn rules_of(client: &Client, listener: Listener) -> Result<Vec<Rule>, Error> {
    let Some(arn) = listener.listener_arn else { return Ok(Vec::new()) };
    let mut all = vec![Rule {
        place: Place::Listener(arn.clone()),
        actions: listener.default_actions.unwrap_or_default(),
    }];
    // Only application load balancers' have rules.
    if !matches!(listener.protocol, Some(ProtocolEnum::Http | ProtocolEnum::Https)) {
        return Ok(all);
    }
    let mut marker = None;
    loop {
        let send = |services: &Services| {
            services.elb.describe_rules().listener_arn(&arn).set_marker(marker.clone()).send()
        };
        let answer = client.call(DESCRIBE_RULES, send).await?;
        let rules = answer.rules.unwrap_or_default().into_iter();
        let rules = rules.filter(|rule| rule.is_default() != Some(true));
        all.extend(rules.filter_map(|rule| {
            Some(Rule { place: Place::Rule(rule.rule_arn?), actions: rule.actions.unwrap_or_default() })
        }));
        marker = answer.next_marker;
        if marker.is_none() {
            return Ok(all);
        }
    }
}

/// The rules that have to do with pairs of target groups, as they are now.
///
/// # Errors
/// They are not such that a switch could turn them over; it says what to set.
pub async fn of_pairs(client: &Client, groups: &[Group]) -> Result<Vec<Rule>, Error> {
    let balancers: BTreeSet<&String> = groups.iter().flat_map(|group| &group.load_balancers).collect();
    let mut rules = Vec::new();
    for balancer in balancers {
        for listener in listeners(client, balancer).await? {
            rules.extend(rules_of(client, listener).await?);
        }
    }
    weights::of_pairs(rules, groups)
}

/// Gives the sides these shares in all of the rules. Asked again after a crash it does what is left.
pub async fn turn(client: &Client, rules: &[Rule], groups: &[Group], shares: &Shares) -> Result<(), Error> {
    let turned: BTreeMap<&Place, Rule> =
        rules.iter().filter_map(|rule| Some((&rule.place, weights::turned(rule, groups, shares)?))).collect();
    for (place, rule) in turned {
        hearing::say(&format!("turning over the weights of {}", place.arn()));
        let actions = weights::sent(&rule.actions);
        match place {
            Place::Listener(arn) => {
                let send = |services: &Services| {
                    let request = services.elb.modify_listener().listener_arn(arn);
                    request.set_default_actions(Some(actions.clone())).send()
                };
                client.call(MODIFY_LISTENER, send).await?;
            }
            Place::Rule(arn) => {
                let send = |services: &Services| {
                    let request = services.elb.modify_rule().rule_arn(arn);
                    request.set_actions(Some(actions.clone())).send()
                };
                client.call(MODIFY_RULE, send).await?;
            }
        }
    }
    Ok(())
}
