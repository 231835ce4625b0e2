use jiff::SignedDuration;

use super::*;
use crate::ids::Digest;
use crate::rollout::{Strategy, plan};

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
}

/// New members are named `n…` and launched at 10, after the rollout was recorded at 0; old ones `o…`,
/// and leftovers `l…`, long before.
fn member(id: &str, life: Life, traffic: Traffic) -> Member {
    let (release, launched_at) = match id.chars().next() {
        Some('n') => ("new", at(10)),
        Some('o') => ("old", at(-9000)),
        _ => ("left", at(-9000)),
    };
    Member { id: id.parse().unwrap(), release: Digest::of(release.as_bytes()), life, traffic, launched_at }
}

/// `n1 w`: n1 waits; see the letters below.
fn fleet(text: &str) -> Vec<Member> {
    text.split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(|text| {
            let (id, letter) = text.split_once(' ').unwrap();
            let sick = || "answered 503".to_owned();
            let (life, traffic) = match letter {
                "pending" => (Life::Pending, Traffic::Unregistered),
                "runs" => (Life::Running, Traffic::Unregistered),
                "coming" => (Life::Running, Traffic::Standby(Check::Initial)),
                "waits" => (Life::Running, Traffic::Standby(Check::Healthy)),
                "sick" => (Life::Running, Traffic::Standby(Check::Unhealthy(sick()))),
                "serves" => (Life::Running, Traffic::Healthy),
                "ails" => (Life::Running, Traffic::Unhealthy(sick())),
                "drains" => (Life::Running, Traffic::Draining { open_requests: 2 }),
                "drained" => (Life::Running, Traffic::Drained),
                "ended" => (Life::Failed("exit code 1".to_owned()), Traffic::Unregistered),
                other => panic!("{other}"),
            };
            member(id, life, traffic)
        })
        .collect()
}

fn swap(hold: u64) -> Desired {
    Desired {
        target: Digest::of(b"new"),
        source: Some(Digest::of(b"old")),
        size: 2,
        strategy: Strategy::BlueGreen { hold: Duration::from_secs(hold) },
        direction: Direction::Forward,
        started_at: at(0),
        patience: Duration::from_secs(30),
        healthy_at_start: 2,
    }
}

fn back(desired: Desired) -> Desired {
    Desired { direction: Direction::Back { reason: "it is bad".to_owned() }, ..desired }
}

/// The next move, in short.
fn next(seconds: i64, members: &str, desired: &Desired) -> String {
    let observed = Observed { now: at(seconds), members: fleet(members) };
    let ids = |ids: &[crate::ids::InstanceId]| {
        ids.iter().map(crate::ids::InstanceId::as_str).collect::<Vec<_>>().join("+")
    };
    match plan(&observed, desired) {
        Move::Act { operations, .. } => operations
            .iter()
            .map(|operation| match operation {
                Operation::Launch { count, release } if *release == desired.target => {
                    format!("launch {count}")
                }
                Operation::Launch { count, .. } => format!("launch {count} old"),
                Operation::Register { id } => format!("register {id}"),
                Operation::StandBy { id } => format!("stand by {id}"),
                Operation::Switch { to } => format!("switch {}", ids(to)),
                Operation::Drain { id } => format!("drain {id}"),
                Operation::Terminate { id } => format!("terminate {id}"),
            })
            .collect::<Vec<_>>()
            .join(", "),
        Move::Wait { reason, .. } => reason,
        Move::TurnBack { reason } => format!("turn back: {reason}"),
        Move::Done(end) => format!("{end:?}"),
    }
}

#[test]
fn all_come_up_beside_the_old_ones_and_one_switch_turns_the_traffic_over() {
    let swap = swap(600);
    assert_eq!(next(10, "o1 serves, o2 serves", &swap), "launch 2");
    assert_eq!(next(11, "o1 serves, o2 serves, n1 runs, n2 pending", &swap), "stand by n1");
    assert_eq!(
        next(12, "o1 serves, o2 serves, n1 waits, n2 coming", &swap),
        "waiting for 1 new instance to become healthy"
    );
    assert_eq!(next(13, "o1 serves, o2 serves, n1 waits, n2 waits", &swap), "switch n1+n2");
    assert_eq!(next(14, "o1 waits, o2 waits, n1 serves, n2 serves", &swap), "Completed");
}

#[test]
fn the_old_ones_are_ended_by_the_rollout_where_nobody_holds_them() {
    let swap = swap(0);
    assert_eq!(next(14, "o1 waits, o2 sick, n1 serves, n2 serves", &swap), "drain o1, drain o2");
    assert_eq!(next(15, "o1 drains, o2 drained, n1 serves, n2 serves", &swap), "terminate o2",);
    assert_eq!(
        next(16, "o1 drains, n1 serves, n2 serves", &swap),
        "waiting for o1 to finish 2 open requests"
    );
    assert_eq!(next(17, "n1 serves, n2 serves", &swap), "Completed");
}

#[test]
fn what_stands_by_already_is_switched_to_at_once() {
    let mut swap = swap(600);
    swap.target = Digest::of(b"left");
    assert_eq!(next(1, "o1 serves, o2 serves, l1 waits, l2 waits", &swap), "switch l1+l2");
    // One of them has ended meanwhile: it is no failure of this rollout.
    assert_eq!(next(1, "o1 serves, o2 serves, l1 waits, l2 ended", &swap), "terminate l2, launch 1");
    assert_eq!(next(1, "o1 serves, o2 serves, l1 waits, l2 sick", &swap), "drain l2, launch 1");
}

#[test]
fn what_neither_release_needs_goes_first_if_it_serves_nobody() {
    let fleet = "o1 serves, o2 serves, l1 waits, l2 serves, l3 runs";
    assert_eq!(next(1, fleet, &swap(600)), "launch 2, drain l1, terminate l3");
    let fleet = "o1 waits, o2 waits, l2 waits, n1 serves, n2 serves";
    assert_eq!(next(20, fleet, &swap(600)), "drain l2");
}

#[test]
fn a_failure_before_the_switch_ends_the_new_ones_and_the_old_ones_go_on() {
    let fleet = "o1 serves, o2 serves, n1 waits, n2 ended";
    assert!(next(12, fleet, &swap(600)).starts_with("turn back: n2 ended by itself: exit code 1"));
    let late = "o1 serves, o2 serves, n1 waits, n2 sick";
    assert_eq!(
        next(40, late, &swap(600)),
        "turn back: n2 was not healthy 30 s after its launch; its last health check said: answered 503"
    );
    let back = back(swap(600));
    assert_eq!(next(40, late, &back), "drain n1, drain n2");
    assert_eq!(next(41, "o1 serves, o2 serves, n1 drained, n2 drained", &back), "terminate n1, terminate n2");
    assert!(next(42, "o1 serves, o2 serves", &back).starts_with("RolledBack"));
}

#[test]
fn a_failure_after_the_switch_switches_back_where_the_old_ones_are_still_there() {
    let fleet = "o1 waits, o2 waits, n1 serves, n2 ended";
    assert!(next(15, fleet, &swap(600)).starts_with("turn back: n2 ended"));
    let back = back(swap(600));
    assert_eq!(next(15, fleet, &back), "switch o1+o2");
    assert_eq!(next(16, "o1 serves, o2 serves, n1 waits, n2 ended", &back), "terminate n2, drain n1");
    assert!(next(17, "o1 serves, o2 serves", &back).starts_with("RolledBack"));
}

#[test]
fn on_the_way_back_those_who_serve_go_on_until_as_many_old_ones_do() {
    let back = back(swap(600));
    assert_eq!(next(15, "o1 waits, n1 serves, n2 serves", &back), "switch o1+n1+n2");
    assert_eq!(next(16, "o1 serves, n1 serves, n2 serves", &back), "drain n1, launch 1 old");
    // Nothing of the old release is left: it is launched anew.
    assert_eq!(next(16, "n1 serves, n2 serves", &back), "launch 2 old");
}

#[test]
fn a_first_rollout_and_the_release_that_is_there_have_nothing_to_switch() {
    let first = Desired { source: None, healthy_at_start: 0, ..swap(600) };
    assert_eq!(next(10, "", &first), "launch 2");
    assert_eq!(next(11, "n1 runs, n2 runs", &first), "register n1, register n2");
    let again = Desired { target: Digest::of(b"old"), ..swap(600) };
    assert_eq!(next(1, "o1 serves, o2 serves", &again), "Completed");
    assert_eq!(next(1, "o1 serves, o2 ended", &again), "terminate o2, launch 1");
}
