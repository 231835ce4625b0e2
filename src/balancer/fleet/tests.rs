use super::*;

fn fleet() -> Arc<Fleet> {
    let listener = Listener {
        fleet: FleetId::new("shop".parse().unwrap(), "production".parse().unwrap()),
        port: 7432,
        health: HealthCheck {
            path: "/".to_owned(),
            interval: Duration::from_secs(3600),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 2,
        },
        drain: Duration::from_secs(10),
    };
    Fleet::new(listener, 0, Arc::new(Notify::new()), Saver::new("/nonexistent".into()))
}

fn saved(id: &str, state: State) -> SavedTarget {
    // Port 1 of loopback refuses; the checks of these tests are called by hand.
    let address = "127.0.0.1:1".parse().unwrap();
    let proven = state != State::Initial;
    SavedTarget { id: id.parse().unwrap(), address, state, role: Role::Serving, proven, reason: None }
}

fn healthy(ids: &[&str]) -> Arc<Fleet> {
    let fleet = fleet();
    fleet.restore(ids.iter().map(|id| saved(id, State::Healthy)).collect(), None);
    fleet
}

fn lease(fleet: &Arc<Fleet>) -> Lease {
    match fleet.pick(&[]) {
        Pick::Target(lease) => lease,
        Pick::Successor(_) | Pick::Nobody(_) => panic!("there are healthy targets"),
    }
}

fn state(fleet: &Fleet, id: &str) -> TargetState {
    fleet.targets().0.into_iter().find(|target| target.id.as_str() == id).unwrap().state
}

fn ids(ids: &[&str]) -> Vec<InstanceId> {
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn requests_go_in_turn_to_the_targets_with_the_fewest_open() {
    let fleet = healthy(&["a", "b", "c"]);
    let open: Vec<Lease> = (0..6).map(|_| lease(&fleet)).collect();
    let order: Vec<String> = open.iter().map(|lease| fleet.name(lease.slot)).collect();
    assert_eq!(order, ["a", "b", "c", "a", "b", "c"]);
    let mut open = open;
    drop(open.remove(1));
    assert_eq!(fleet.name(lease(&fleet).slot), "b", "it has one request less than the others");
}

#[tokio::test]
async fn a_target_drains_until_its_last_request_is_done() {
    let fleet = healthy(&["a"]);
    let (first, second) = (lease(&fleet), lease(&fleet));
    fleet.deregister(&ids(&["a"]));
    assert!(matches!(fleet.pick(&[]), Pick::Nobody(_)));
    assert!(matches!(state(&fleet, "a"), TargetState::Draining { open_requests: 2, .. }));
    drop(first);
    assert!(matches!(state(&fleet, "a"), TargetState::Draining { open_requests: 1, .. }));
    drop(second);
    assert_eq!(state(&fleet, "a"), TargetState::Drained);
}

#[tokio::test]
async fn what_another_process_has_open_counts() {
    let fleet = healthy(&["a"]);
    fleet.set_elsewhere(7, Some([("a".parse().unwrap(), 1)].into()));
    fleet.deregister(&ids(&["a"]));
    assert!(matches!(state(&fleet, "a"), TargetState::Draining { open_requests: 1, .. }));
    fleet.set_elsewhere(7, None);
    assert_eq!(state(&fleet, "a"), TargetState::Drained);
}

#[tokio::test]
async fn the_drain_time_is_the_longest_that_a_target_drains() {
    let fleet = healthy(&["a"]);
    let drain = Duration::from_millis(80);
    lock(&fleet.table).listener.drain = drain;
    let open = lease(&fleet);
    let started = std::time::Instant::now();
    fleet.deregister(&ids(&["a"]));
    let mut revisions = fleet.revisions();
    assert!(matches!(state(&fleet, "a"), TargetState::Draining { open_requests: 1, .. }));
    revisions.changed().await.unwrap();
    assert_eq!(state(&fleet, "a"), TargetState::Drained);
    assert!(started.elapsed() >= drain);
    drop(open);
}

#[tokio::test]
async fn a_target_that_was_never_healthy_is_drained_at_once() {
    let fleet = fleet();
    fleet.restore(vec![saved("a", State::Initial)], None);
    fleet.deregister(&ids(&["a"]));
    assert_eq!(state(&fleet, "a"), TargetState::Drained);
}

#[tokio::test]
async fn answers_in_a_row_decide() {
    let fleet = fleet();
    fleet.restore(vec![saved("a", State::Initial)], None);
    let sick = || Err("answered 500".to_owned());
    let expect = |outcome, counted, expected| {
        fleet.checked(1, outcome, counted);
        assert_eq!(state(&fleet, "a"), expected);
    };
    use TargetState::{Healthy, Initial, Unhealthy};
    expect(Ok(()), true, Initial);
    expect(sick(), true, Initial);
    expect(Ok(()), true, Initial);
    expect(Ok(()), true, Healthy);
    expect(sick(), true, Healthy);
    expect(sick(), true, Unhealthy);
    assert_eq!(fleet.targets().0[0].reason.as_deref(), Some("answered 500"));
    expect(Ok(()), true, Unhealthy);
    expect(Ok(()), true, Healthy);
    assert_eq!(fleet.targets().0[0].reason, None);
}

#[tokio::test]
async fn only_failures_that_count_make_a_target_unhealthy() {
    let fleet = fleet();
    fleet.restore(vec![saved("a", State::Initial)], None);
    for counted in [true, false, false, false] {
        fleet.checked(1, Err("connection refused".to_owned()), counted);
        assert_eq!(state(&fleet, "a"), TargetState::Initial);
    }
    fleet.checked(1, Err("connection refused".to_owned()), true);
    assert_eq!(state(&fleet, "a"), TargetState::Unhealthy);
}

#[tokio::test]
async fn sick_targets_get_traffic_only_when_nobody_is_healthy_and_they_once_were() {
    let fleet = fleet();
    fleet.restore(vec![saved("new", State::Initial), saved("sick", State::Unhealthy)], None);
    assert_eq!(fleet.name(lease(&fleet).slot), "sick");
    fleet.checked(1, Err("answered 500".to_owned()), true);
    fleet.checked(1, Err("answered 500".to_owned()), true);
    assert_eq!(state(&fleet, "new"), TargetState::Unhealthy);
    fleet.forget(&ids(&["sick"]));
    match fleet.pick(&[]) {
        Pick::Nobody(why) => assert!(why.contains("0 initial, 1 unhealthy"), "{why}"),
        Pick::Target(_) | Pick::Successor(_) => panic!("it was never healthy"),
    }
}

#[tokio::test]
async fn a_fleet_that_was_handed_over_chooses_no_target() {
    let fleet = healthy(&["a"]);
    let open = lease(&fleet);
    assert_eq!(fleet.relay(), [("a".parse().unwrap(), 1)].into());
    assert!(matches!(fleet.pick(&[]), Pick::Successor(address) if address.port() == 7432));
    drop(open);
    fleet.released.notified().await;
    assert!(fleet.open_requests().is_empty());
}

#[tokio::test]
async fn every_change_has_another_revision() {
    let fleet = healthy(&["a"]);
    let (_, first) = fleet.targets();
    fleet.register("b".parse().unwrap(), "127.0.0.1:1".parse().unwrap(), Role::Serving);
    let (_, second) = fleet.targets();
    assert_ne!(first, second);
    fleet.register("b".parse().unwrap(), "127.0.0.1:2".parse().unwrap(), Role::Serving);
    assert_eq!(fleet.targets().1, second, "it stays as it is");
}

#[tokio::test]
async fn a_sick_target_that_stands_by_is_no_last_resort() {
    let fleet = fleet();
    let standby = SavedTarget { role: Role::Standby, ..saved("b", State::Unhealthy) };
    fleet.restore(vec![saved("a", State::Healthy), standby], None);
    fleet.checked(1, Err("answered 503".to_owned()), true);
    fleet.checked(1, Err("answered 503".to_owned()), true);
    assert_eq!(state(&fleet, "a"), TargetState::Unhealthy);
    let open: Vec<Lease> = (0..3).map(|_| lease(&fleet)).collect();
    assert!(open.iter().all(|lease| fleet.name(lease.slot) == "a"), "it served before, the other stands by");
}

#[tokio::test]
async fn a_switch_changes_all_or_nothing_and_survives() {
    let fleet = fleet();
    let standby = |id, state| SavedTarget { role: Role::Standby, ..saved(id, state) };
    let targets =
        vec![saved("a", State::Healthy), standby("b", State::Healthy), standby("c", State::Unhealthy)];
    fleet.restore(targets, None);
    let why = fleet.switch(&ids(&["b", "c"])).unwrap_err();
    assert!(why.contains("c is not healthy"), "{why}");
    assert!(fleet.switch(&[]).is_err(), "somebody has to serve");
    assert_eq!(fleet.name(lease(&fleet).slot), "a");
    fleet.switch(&ids(&["b"])).unwrap();
    assert_eq!(fleet.name(lease(&fleet).slot), "b");
    let roles: Vec<Role> = fleet.saved().targets.iter().map(|target| target.role).collect();
    assert_eq!(roles, [Role::Standby, Role::Serving, Role::Standby]);
}
