use aws_sdk_autoscaling::types::LifecycleState;

use super::*;

fn machine(state: InstanceStateName) -> Machine {
    Machine(Seen {
        id: "i-1".parse().unwrap(),
        state,
        reason: None,
        address: None,
        subnet: None,
        image: Some("ami-1".to_owned()),
        launched_at: jiff::Timestamp::UNIX_EPOCH,
        tags: BTreeMap::new(),
    })
}

fn member(lifecycle: LifecycleState) -> Member {
    Member { id: "i-1".parse().unwrap(), lifecycle, version: None }
}

#[test]
fn the_group_and_ec2_together_say_what_an_instance_is() {
    use InstanceStateName::{Pending, Running, ShuttingDown, Stopped, Terminated};
    let of = |lifecycle: LifecycleState, of: InstanceStateName| state(Some(&member(lifecycle)), &machine(of));
    assert_eq!(of(LifecycleState::InService, Running), Some(InstanceState::Running));
    assert_eq!(of(LifecycleState::InService, Pending), Some(InstanceState::Pending));
    // A hook holds it back.
    assert_eq!(of(LifecycleState::PendingWait, Running), Some(InstanceState::Pending));
    for lifecycle in
        [LifecycleState::Terminating, LifecycleState::TerminatingWait, LifecycleState::Terminated]
    {
        assert_eq!(of(lifecycle, Running), None, "it is leaving");
    }
    for over in [ShuttingDown, Terminated, Stopped] {
        // The group has it still, so it has to be ended there.
        assert!(matches!(of(LifecycleState::InService, over), Some(InstanceState::Failed { .. })));
    }
    let standby = of(LifecycleState::Standby, Running);
    assert!(matches!(&standby, Some(InstanceState::Failed { reason }) if reason.contains("standby")));
    assert_eq!(state(None, &machine(Running)), Some(InstanceState::Running), "let go, and it still runs");
    assert_eq!(state(None, &machine(Terminated)), None);
}

#[test]
fn one_that_the_group_launched_by_itself_says_so() {
    let fleet = FleetId::new("shop".parse().unwrap(), "production".parse().unwrap());
    let instance =
        machine(InstanceStateName::Running).instance("my shop/1", &fleet, 80, InstanceState::Running);
    let instance = instance.unwrap();
    assert_eq!(instance.key.as_str(), "my-shop-1.i-1");
    assert_eq!(instance.release, machine(InstanceStateName::Running).release());
    let mut ours = machine(InstanceStateName::Running);
    ours.0.tags.insert(tags::KEY.to_owned(), "k".to_owned());
    ours.0.tags.insert(tags::RELEASE.to_owned(), Digest::of(b"r").to_string());
    let instance = ours.instance("g", &fleet, 80, InstanceState::Running).unwrap();
    assert_eq!((instance.key.as_str(), instance.release), ("k", Digest::of(b"r")));
}
