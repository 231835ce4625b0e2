//! Which of a pair of target groups the listeners send requests to. PURE.
//!
//! A rule that serves a fleet with standby groups forwards to both groups of a pair, one of them with
//! the weight 0 ("Listener rule action types", weighted target groups). Turning it over gives that one
//! the other's weight. Whatever else the rule does stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, TargetGroupTuple};

use super::group::{Group, Side};
use crate::cloud::Error;

/// The weight that is given where the rule has none to turn over.
const FULL: i32 = 100;

/// A rule, or what a listener does where no rule fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub place: Place,
    pub actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The ARN of a listener, whose default actions these are.
    Listener(String),
    /// The ARN of a rule.
    Rule(String),
}

impl Place {
    pub fn arn(&self) -> &str {
        match self {
            Self::Listener(arn) | Self::Rule(arn) => arn,
        }
    }
}

/// How much of the requests each side is to get.
pub type Shares = BTreeMap<Side, i32>;

fn tuples(action: &Action) -> &[TargetGroupTuple] {
    action.forward_config().map(|config| config.target_groups()).unwrap_or_default()
}

/// The target groups that an action forwards to.
fn forwards_to(action: &Action) -> Vec<&str> {
    if action.r#type() != Some(&ActionTypeEnum::Forward) {
        return Vec::new();
    }
    let weighted = tuples(action).iter().filter_map(TargetGroupTuple::target_group_arn);
    weighted.chain(action.target_group_arn()).collect()
}

fn group_of<'a>(groups: &'a [Group], tuple: &TargetGroupTuple) -> Option<&'a Group> {
    groups.iter().find(|group| Some(group.arn.as_str()) == tuple.target_group_arn())
}

/// Those of the rules that have to do with the groups.
///
/// # Errors
/// One of them forwards to one group of a pair and not to the other, or none to a pair at all.
pub fn of_pairs(rules: Vec<Rule>, groups: &[Group]) -> Result<Vec<Rule>, Error> {
    let mut ours = Vec::new();
    for rule in rules {
        let arns: BTreeSet<&str> = rule.actions.iter().flat_map(forwards_to).collect();
        let mentioned: Vec<&Group> =
            groups.iter().filter(|group| arns.contains(group.arn.as_str())).collect();
        if mentioned.is_empty() {
            continue;
        }
        for group in &mentioned {
            let paired = mentioned.iter().any(|other| other.pair == group.pair && other.side != group.side);
            let other = groups.iter().find(|other| other.pair == group.pair && other.side != group.side);
            if let (false, Some(other)) = (paired, other) {
                return Err(Error::Denied(format!(
                    "{} forwards to the target group {} and not to {}, which stands by: let it forward to \
                     both, to {} with the weight 100 and to {} with 0",
                    rule.place.arn(),
                    group.name,
                    other.name,
                    group.name,
                    other.name,
                )));
            }
        }
        ours.push(rule);
    }
    for pair in groups.iter().filter(|group| group.side == Side::First) {
        let served = |rule: &Rule| {
            rule.actions
                .iter()
                .flat_map(tuples)
                .any(|tuple| group_of(groups, tuple).is_some_and(|group| group.pair == pair.pair))
        };
        if !ours.iter().any(served) {
            let standby = groups.iter().find(|group| group.pair == pair.pair && group.side == Side::Second);
            return Err(Error::Denied(format!(
                "no listener forwards to the target groups {} and {}: let a rule forward to both, with the \
                 weights 100 and 0, so that a blue-green rollout can turn them over",
                pair.name,
                standby.map_or("its standby group", |group| &group.name),
            )));
        }
    }
    Ok(ours)
}

/// The sides that get requests from any of the rules.
pub fn live(rules: &[Rule], groups: &[Group]) -> BTreeSet<Side> {
    let tuples = rules.iter().flat_map(|rule| &rule.actions).flat_map(tuples);
    let weighted = tuples.filter(|tuple| tuple.weight().unwrap_or(1) > 0);
    weighted.filter_map(|tuple| Some(group_of(groups, tuple)?.side)).collect()
}

/// The rule with these shares for each pair; `None` where it has them already.
pub fn turned(rule: &Rule, groups: &[Group], shares: &Shares) -> Option<Rule> {
    let mut turned = rule.clone();
    for action in &mut turned.actions {
        let Some(config) = &mut action.forward_config else { continue };
        let Some(tuples) = &mut config.target_groups else { continue };
        let weights: Vec<(usize, i32)> = tuples
            .iter()
            .enumerate()
            .filter_map(|(place, tuple)| {
                let group = group_of(groups, tuple)?;
                let pair = tuples
                    .iter()
                    .filter(|other| group_of(groups, other).is_some_and(|other| other.pair == group.pair));
                // What both had is what both have: other groups of the rule keep their share.
                let all: i32 = pair.map(|tuple| tuple.weight().unwrap_or(1)).sum();
                let all = if all > 0 { all } else { FULL };
                let parts: i32 = shares.values().sum();
                let part = shares.get(&group.side).copied().unwrap_or(0);
                let weight = if part == 0 { 0 } else { (all * part / parts.max(1)).max(1) };
                Some((place, weight))
            })
            .collect();
        for (place, weight) in weights {
            if let Some(tuple) = tuples.get_mut(place) {
                tuple.weight = Some(weight);
            }
        }
    }
    (turned != *rule).then_some(turned)
}

/// The actions as they are sent: what is only told, and cannot be sent back, is left out.
pub fn sent(actions: &[Action]) -> Vec<Action> {
    let mut actions = actions.to_vec();
    for action in &mut actions {
        // Only one of the two may be given.
        if action.forward_config().is_some() {
            action.target_group_arn = None;
        }
        // The client's secret is never told.
        if let Some(oidc) = &mut action.authenticate_oidc_config {
            oidc.use_existing_client_secret = Some(true);
        }
    }
    actions
}

/// The sides that may get requests, where `serves` tells of a group whether somebody healthy is in it: one
/// whose groups are empty gets none, as long as the other has somebody.
pub fn settled(live: &BTreeSet<Side>, serves: impl Fn(Side) -> bool) -> Option<Side> {
    let (empty, full): (Vec<Side>, Vec<Side>) =
        [Side::First, Side::Second].into_iter().partition(|side| !serves(*side));
    match (empty.as_slice(), full.as_slice()) {
        ([empty], [full]) if live.contains(empty) => Some(*full),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
