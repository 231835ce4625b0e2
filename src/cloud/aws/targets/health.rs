//! What ELB says of a target in one group, in our words. PURE.
//!
//! The states are those of "TargetHealth" in the API reference, and of "Health checks for Application
//! Load Balancer target groups" and the same for Network Load Balancers.

use aws_sdk_elasticloadbalancingv2::types::{
    TargetHealth, TargetHealthReasonEnum as Reason, TargetHealthStateEnum as State,
};

/// How a target stands in one group. The worse of two is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Healthy,
    /// Not checked often enough yet.
    Initial,
    Unhealthy,
    Draining,
}

/// What was seen of a target in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub check: Check,
    /// For people; `None` where it is healthy.
    pub reason: Option<String>,
}

impl Seen {
    pub fn new(check: Check, reason: &str) -> Self {
        Self { check, reason: Some(reason.to_owned()) }
    }
}

/// What is said; `None`: it is not registered. `before` is what was seen the last time.
pub fn read(health: &TargetHealth, before: Option<&Seen>) -> Option<Seen> {
    let check = match (health.state()?, health.reason()) {
        (State::Healthy, _) => return Some(Seen { check: Check::Healthy, reason: None }),
        // Nobody checks it: it gets requests.
        (State::Unavailable, Some(Reason::HealthCheckDisabled)) => {
            return Some(Seen { check: Check::Healthy, reason: None });
        }
        // ELB itself does not know: that tells nothing about the target.
        (State::Unavailable, _) | (State::Unhealthy, Some(Reason::InternalError)) => match before {
            Some(before) => return Some(before.clone()),
            None => Check::Initial,
        },
        (State::Initial, _) => Check::Initial,
        (State::Draining, _) => Check::Draining,
        (State::Unused, Some(Reason::NotRegistered)) => return None,
        // Of what is not used none gets better by itself: not in use by a load balancer, or not in a
        // zone of its; stopped; an address that cannot be one. The last are Network Load Balancers',
        // which close the connections of one that is unhealthy.
        (State::Unused | State::Unhealthy | State::UnhealthyDraining, _) => Check::Unhealthy,
        // A state that came up later.
        _ => Check::Initial,
    };
    Some(Seen { check, reason: Some(words(health)) })
}

/// The state's reason, its code first: it is what people search for.
fn words(health: &TargetHealth) -> String {
    let state = health.state().map_or("unknown", State::as_str);
    let code = health.reason().map_or(state, Reason::as_str);
    match health.description() {
        Some(description) if !description.is_empty() => {
            format!("{code}: {}{}", description.trim_end_matches('.'), advice(health))
        }
        _ => format!("{code}{}", advice(health)),
    }
}

fn advice(health: &TargetHealth) -> &'static str {
    match health.reason() {
        Some(Reason::NotInUse) => {
            " (a listener has to forward to the target group, and the load balancer needs the \
             availability zone of the instance's subnet)"
        }
        Some(Reason::Timeout) => " (do the instance's security groups let the load balancer in at its port?)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(state: State, reason: Option<Reason>) -> TargetHealth {
        TargetHealth::builder().state(state).set_reason(reason).description("Said so.").build()
    }

    fn check(state: State, reason: Option<Reason>) -> Option<Check> {
        read(&health(state, reason), None).map(|seen| seen.check)
    }

    #[test]
    fn every_state_means_something() {
        for (state, reason, meant) in [
            (State::Initial, Some(Reason::RegistrationInProgress), Some(Check::Initial)),
            (State::Initial, Some(Reason::InitialHealthChecking), Some(Check::Initial)),
            (State::Healthy, None, Some(Check::Healthy)),
            (State::Unhealthy, Some(Reason::ResponseCodeMismatch), Some(Check::Unhealthy)),
            (State::UnhealthyDraining, None, Some(Check::Unhealthy)),
            (State::Unused, Some(Reason::NotRegistered), None),
            (State::Unused, Some(Reason::NotInUse), Some(Check::Unhealthy)),
            (State::Unused, Some(Reason::InvalidState), Some(Check::Unhealthy)),
            (State::Unused, Some(Reason::IpUnusable), Some(Check::Unhealthy)),
            (State::Draining, Some(Reason::DeregistrationInProgress), Some(Check::Draining)),
            (State::Unavailable, Some(Reason::HealthCheckDisabled), Some(Check::Healthy)),
            (State::Unavailable, Some(Reason::InternalError), Some(Check::Initial)),
        ] {
            assert_eq!(check(state.clone(), reason.clone()), meant, "{state} {reason:?}");
        }
    }

    #[test]
    fn what_elb_does_not_know_is_as_it_was() {
        let before = Seen { check: Check::Healthy, reason: None };
        let unknown = health(State::Unavailable, Some(Reason::InternalError));
        assert_eq!(read(&unknown, Some(&before)), Some(before));
    }

    #[test]
    fn the_reason_is_the_code_and_what_was_said() {
        let seen = read(&health(State::Unhealthy, Some(Reason::ResponseCodeMismatch)), None).unwrap();
        assert_eq!(seen.reason.unwrap(), "Target.ResponseCodeMismatch: Said so");
    }
}
