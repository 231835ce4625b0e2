//! Stories: a fleet as it is seen, and what comes next.

use std::time::Duration;

use super::super::Rolling;
use super::*;
use jiff::SignedDuration;

fn new() -> Digest {
    Digest::of(b"new")
}

fn old() -> Digest {
    Digest::of(b"old")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
}

/// The rollout was recorded at 0; new members are named `n…` and launched at 10, old ones `o…` long
/// before.
fn member(id: &str, life: Life, traffic: Traffic) -> Member {
    let (release, launched_at) = match id.starts_with('n') {
        true => (new(), at(10)),
        false => (old(), at(-9000)),
    };
    Member { id: id.parse().unwrap(), release, life, traffic, launched_at }
}

fn healthy(id: &str) -> Member {
    member(id, Life::Running, Traffic::Healthy)
}

fn unhealthy(id: &str) -> Member {
    member(id, Life::Running, Traffic::Unhealthy("connection refused".into()))
}

fn draining(id: &str, open_requests: u64) -> Member {
    member(id, Life::Running, Traffic::Draining { open_requests })
}

/// Three members, swapped one at a time with one to spare, 30 s to become healthy.
fn swap() -> Desired {
    Desired {
        target: new(),
        source: Some(old()),
        size: 3,
        strategy: Strategy::Rolling(Rolling { batch: 1, surge: 1, floor: 3 }),
        direction: Direction::Forward,
        started_at: at(0),
        patience: Duration::from_secs(30),
        healthy_at_start: 3,
    }
}

fn back(desired: Desired) -> Desired {
    Desired { direction: Direction::Back { reason: "n1 was not healthy".into() }, ..desired }
}

fn next(members: Vec<Member>, desired: &Desired) -> String {
    next_at(15, members, desired)
}

/// The next move at `seconds`, as a line to read.
fn next_at(seconds: i64, members: Vec<Member>, desired: &Desired) -> String {
    match plan(&Observed { now: at(seconds), members }, desired) {
        Move::Act { operations, progress } => {
            let words: Vec<_> = operations
                .iter()
                .map(|operation| match operation {
                    Operation::Launch { release, count } if *release == new() => {
                        format!("launch {count} new")
                    }
                    Operation::Launch { count, .. } => format!("launch {count} old"),
                    Operation::Register { id } => format!("register {id}"),
                    Operation::Drain { id } => format!("drain {id}"),
                    Operation::Terminate { id } => format!("terminate {id}"),
                    other @ (Operation::StandBy { .. } | Operation::Switch { .. }) => format!("{other:?}"),
                })
                .collect();
            format!("{} ({}/{})", words.join(", "), progress.batch, progress.batches)
        }
        Move::Wait { reason, .. } => reason,
        Move::TurnBack { reason } => format!("back: {reason}"),
        Move::Done(end) => format!("{end:?}"),
    }
}

#[test]
fn a_swap_goes_one_by_one() {
    let swap = swap();
    let old = |ids: &[&str]| ids.iter().map(|id| healthy(id)).collect::<Vec<_>>();
    let with = |mut members: Vec<Member>, more: Member| {
        members.push(more);
        members
    };
    let three = ["o1", "o2", "o3"];
    assert_eq!(next(old(&three), &swap), "launch 1 new (1/3)");
    let pending = member("n1", Life::Pending, Traffic::Unregistered);
    assert_eq!(next(with(old(&three), pending), &swap), "waiting for 1 new instance to become healthy");
    let running = member("n1", Life::Running, Traffic::Unregistered);
    assert_eq!(next(with(old(&three), running), &swap), "register n1 (1/3)");
    assert_eq!(
        next(with(old(&three), unhealthy("n1")), &swap),
        "waiting for 1 new instance to become healthy: connection refused"
    );
    assert_eq!(next(with(old(&three), healthy("n1")), &swap), "drain o1 (1/3)");
    assert_eq!(
        next(with(old(&["o2", "o3", "n1"]), draining("o1", 3)), &swap),
        "waiting for o1 to finish 3 open requests"
    );
    let drained = member("o1", Life::Running, Traffic::Drained);
    assert_eq!(next(with(old(&["o2", "o3", "n1"]), drained), &swap), "terminate o1 (1/3)");
    assert_eq!(next(old(&["o2", "o3", "n1"]), &swap), "launch 1 new (2/3)");
    assert_eq!(next(old(&["o3", "n1", "n2", "n3"]), &swap), "drain o3 (3/3)");
    assert_eq!(next(old(&["n1", "n2", "n3"]), &swap), "Completed");
}

#[test]
fn a_batch_is_bound_by_the_surge() {
    let mut swap = swap();
    swap.size = 4;
    swap.healthy_at_start = 4;
    swap.strategy = Strategy::Rolling(Rolling { batch: 2, surge: 2, floor: 4 });
    let old = || vec![healthy("o1"), healthy("o2"), healthy("o3"), healthy("o4")];
    assert_eq!(next(old(), &swap), "launch 2 new (1/2)");
    swap.strategy = Strategy::Rolling(Rolling { batch: 2, surge: 1, floor: 4 });
    assert_eq!(next(old(), &swap), "launch 1 new (1/4)");
}

#[test]
fn the_first_rollout_comes_up_at_once_and_leaves_nothing_when_it_fails() {
    let first = Desired { source: None, healthy_at_start: 0, ..swap() };
    assert_eq!(next(vec![], &first), "launch 3 new (1/1)");
    let failed = member("n2", Life::Failed("exit code 101: no PORT.".into()), Traffic::Initial);
    let fleet = || vec![healthy("n1"), failed.clone(), member("n3", Life::Pending, Traffic::Unregistered)];
    assert_eq!(next(fleet(), &first), "back: n2 ended by itself: exit code 101: no PORT");
    assert_eq!(next(fleet(), &back(first.clone())), "terminate n2, terminate n3, drain n1 (1/1)");
    assert_eq!(next(vec![], &back(first)), r#"RolledBack { reason: "n1 was not healthy" }"#);
}

#[test]
fn patience_ends() {
    let fleet = || vec![healthy("o1"), healthy("o2"), healthy("o3"), unhealthy("n1")];
    let seen = Observed { now: at(15), members: fleet() };
    assert!(matches!(plan(&seen, &swap()), Move::Wait { until: Some(until), .. } if until == at(40)));
    assert_eq!(
        next_at(40, fleet(), &swap()),
        "back: n1 was not healthy 30 s after its launch; its last health check said: connection refused"
    );
}

#[test]
fn whoever_was_away_for_long_registers_first_and_judges_later() {
    let with =
        |traffic| vec![healthy("o1"), healthy("o2"), healthy("o3"), member("n1", Life::Running, traffic)];
    assert_eq!(next_at(5000, with(Traffic::Unregistered), &swap()), "register n1 (1/3)");
    assert_eq!(
        next_at(5001, with(Traffic::Initial), &swap()),
        "waiting for 1 new instance to become healthy"
    );
}

#[test]
fn on_the_way_back_the_old_release_is_whole_again_before_a_healthy_new_one_goes() {
    let back = back(swap());
    let fleet = |more: Vec<Member>| {
        let mut members = vec![healthy("o2"), healthy("o3"), healthy("n1")];
        members.extend(more);
        members
    };
    assert_eq!(next(fleet(vec![unhealthy("n2")]), &back), "drain n2 (2/3)");
    assert_eq!(next(fleet(vec![]), &back), "launch 1 old (3/3)");
    let coming = Member { launched_at: at(14), ..member("o4", Life::Running, Traffic::Initial) };
    assert_eq!(next(fleet(vec![coming]), &back), "waiting for 1 old instance to become healthy");
    assert_eq!(next(fleet(vec![healthy("o4")]), &back), "drain n1 (3/3)");
}

#[test]
fn where_the_old_release_does_not_come_up_either_the_healthy_ones_stay() {
    let back = back(swap());
    let died = |id: &str, second| Member {
        launched_at: at(second),
        ..member(id, Life::Failed("no database".into()), Traffic::Initial)
    };
    let mut fleet = vec![healthy("o3"), healthy("n1"), healthy("n2"), died("o4", 11), died("o5", 12)];
    assert_eq!(next(fleet.clone(), &back), "launch 1 old (2/3)");
    fleet.push(died("o6", 13));
    assert_eq!(
        next(fleet, &back),
        "Stranded { reason: \"n1 was not healthy; and on the way back only 1 of 3 instances came up: \
         o6 ended by itself: no database\" }"
    );
}

#[test]
fn an_old_member_that_dies_meanwhile_is_cleared_and_replaced_by_a_new_one() {
    let died = member("o1", Life::Failed("killed".into()), Traffic::Unhealthy("reset".into()));
    assert_eq!(next(vec![died, healthy("o2"), healthy("o3")], &swap()), "terminate o1, launch 1 new (1/3)");
    // It makes up for the one that died, so none is drained for it.
    assert_eq!(next(vec![healthy("o2"), healthy("o3"), healthy("n1")], &swap()), "launch 1 new (2/3)");
}

#[test]
fn what_an_earlier_rollout_left_behind_goes_too() {
    let leftover = |id: &str, traffic| Member {
        release: Digest::of(b"cancelled"),
        ..member(id, Life::Running, traffic)
    };
    let fleet = vec![
        healthy("o1"),
        healthy("o2"),
        leftover("o8", Traffic::Unregistered),
        leftover("o9", Traffic::Healthy),
    ];
    // It serves, so it has its turn like any other; what never served is only in the way.
    assert_eq!(next(fleet, &swap()), "terminate o8 (1/3)");
    let sick = leftover("o9", Traffic::Unhealthy("status 503".into()));
    assert_eq!(next(vec![healthy("o1"), sick], &swap()), "drain o9, launch 1 new (1/3)");
    let fleet = vec![healthy("o1"), healthy("o2"), leftover("o9", Traffic::Healthy), healthy("n1")];
    assert_eq!(next(fleet, &swap()), "drain o9 (1/3)");
}

#[test]
fn a_fleet_grows_and_shrinks_in_the_same_release() {
    let same = |size| Desired { source: Some(new()), size, ..swap() };
    let fleet = || vec![healthy("n1"), healthy("n2"), healthy("n3")];
    assert_eq!(next(fleet(), &same(5)), "launch 1 new (4/5)");
    assert_eq!(next(fleet(), &same(3)), "Completed");
    assert_eq!(next(fleet(), &same(1)), "drain n3, drain n2 (1/1)");
    // One that was dead before says nothing about the release.
    let mut dead = member("n3", Life::Failed("killed".into()), Traffic::Unhealthy("refused".into()));
    dead.launched_at = at(-500);
    assert_eq!(next(vec![healthy("n1"), healthy("n2"), dead], &same(3)), "terminate n3, launch 1 new (3/3)");
}

#[test]
fn a_launch_that_happened_twice_is_put_right() {
    let fleet =
        vec![healthy("n1"), healthy("n2"), healthy("n3"), member("n4", Life::Running, Traffic::Initial)];
    assert_eq!(next(fleet, &swap()), "drain n4 (3/3)");
}
