use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::ForwardActionConfig;

use super::*;
use crate::cloud::aws::targets::group::TargetType;

fn group(name: &str, side: Side, pair: usize) -> Group {
    Group {
        arn: format!("arn:{name}"),
        name: name.to_owned(),
        side,
        pair,
        targets: TargetType::Instance,
        interval: Duration::from_secs(30),
        threshold: 5,
        drain: Duration::from_secs(300),
        slow_start: Duration::ZERO,
        load_balancers: Vec::new(),
    }
}

fn pair() -> Vec<Group> {
    vec![group("blue", Side::First, 0), group("green", Side::Second, 0)]
}

fn rule(name: &str, weights: &[(&str, i32)]) -> Rule {
    let tuples = weights.iter().map(|(name, weight)| {
        TargetGroupTuple::builder().target_group_arn(format!("arn:{name}")).weight(*weight).build()
    });
    let config = ForwardActionConfig::builder().set_target_groups(Some(tuples.collect())).build();
    let action = Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config).build();
    Rule { place: Place::Rule(format!("arn:rule/{name}")), actions: vec![action] }
}

fn plain(name: &str) -> Rule {
    let action =
        Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(format!("arn:{name}")).build();
    Rule { place: Place::Listener("arn:listener".to_owned()), actions: vec![action] }
}

fn weights(rule: &Rule) -> Vec<i32> {
    rule.actions.iter().flat_map(tuples).filter_map(TargetGroupTuple::weight).collect()
}

fn only(side: Side) -> Shares {
    Shares::from([(side, 1)])
}

#[test]
fn the_weights_are_turned_over_and_nothing_else() {
    let ours = rule("one", &[("blue", 100), ("green", 0), ("somebody-else", 7)]);
    let turned = turned(&ours, &pair(), &only(Side::Second)).unwrap();
    assert_eq!(weights(&turned), [0, 100, 7]);
    assert_eq!(super::turned(&turned, &pair(), &only(Side::Second)), None, "asked again it is done");
    assert_eq!(super::turned(&turned, &pair(), &only(Side::First)), Some(ours));
}

#[test]
fn a_pair_without_any_weight_gets_the_full_one() {
    let turned = turned(&rule("one", &[("blue", 0), ("green", 0)]), &pair(), &only(Side::First)).unwrap();
    assert_eq!(weights(&turned), [100, 0]);
}

#[test]
fn beside_each_other_each_side_gets_its_share() {
    let shares = Shares::from([(Side::First, 2), (Side::Second, 1)]);
    let turned = turned(&rule("one", &[("blue", 0), ("green", 99)]), &pair(), &shares).unwrap();
    assert_eq!(weights(&turned), [66, 33]);
}

#[test]
fn both_are_live_where_a_crash_came_between_two_rules() {
    let rules = [rule("one", &[("blue", 0), ("green", 1)]), rule("two", &[("blue", 1), ("green", 0)])];
    assert_eq!(live(&rules, &pair()), BTreeSet::from([Side::First, Side::Second]));
    let left: Vec<_> =
        rules.iter().filter(|rule| turned(rule, &pair(), &only(Side::Second)).is_some()).collect();
    assert_eq!(left, [&rules[1]], "only what is left is done");
}

#[test]
fn who_forwards_to_one_of_a_pair_alone_is_told_what_to_set() {
    let refused = of_pairs(vec![plain("blue")], &pair()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "denied: arn:listener forwards to the target group blue and not to green, which stands by: let it \
         forward to both, to blue with the weight 100 and to green with 0"
    );
    let refused = of_pairs(vec![plain("other")], &pair()).unwrap_err().to_string();
    assert!(refused.contains("no listener forwards to the target groups blue and green"), "{refused}");
    let good = rule("one", &[("blue", 1), ("green", 0)]);
    assert_eq!(of_pairs(vec![plain("other"), good.clone()], &pair()).unwrap(), [good]);
}

#[test]
fn an_empty_side_gets_no_requests_while_the_other_serves() {
    let both = BTreeSet::from([Side::First, Side::Second]);
    assert_eq!(settled(&both, |side| side == Side::First), Some(Side::First));
    assert_eq!(settled(&both, |_| true), None);
    assert_eq!(settled(&both, |_| false), None);
    assert_eq!(settled(&BTreeSet::from([Side::First]), |side| side == Side::First), None);
}

#[test]
fn what_cannot_be_sent_back_is_left_out() {
    let mut told = rule("one", &[("blue", 1), ("green", 0)]).actions;
    told[0].target_group_arn = Some("arn:blue".to_owned());
    assert_eq!(sent(&told)[0].target_group_arn, None);
    assert_eq!(sent(&plain("blue").actions), plain("blue").actions);
}
