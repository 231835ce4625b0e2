use super::*;
use crate::cloud::aws::targets::group::TargetType;
use crate::ids::{Digest, FleetId};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn id(n: u32) -> InstanceId {
    format!("i-{n}").parse().unwrap()
}

fn instance(n: u32) -> Instance {
    Instance {
        id: id(n),
        name: format!("shop-production-1-{n}"),
        fleet: FleetId::new("shop".parse().unwrap(), "production".parse().unwrap()),
        image: "ami-1".parse().unwrap(),
        release: Digest::of(b"one"),
        key: format!("key.{n}").parse().unwrap(),
        state: InstanceState::Running,
        address: ([10, 0, 0, n as u8], 8080).into(),
        launched_at: at(0),
    }
}

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

fn one() -> Book {
    Book::new(vec![group("web", Side::First, 0)])
}

fn two() -> Book {
    Book::new(vec![group("web", Side::First, 0), group("api", Side::First, 1)])
}

/// What ELB shows of a group.
fn shows(states: &[(u32, Check)]) -> BTreeMap<InstanceId, Seen> {
    states.iter().map(|(n, check)| (id(*n), Seen { check: *check, reason: None })).collect()
}

fn states(book: &Book, instances: &[Instance], now: i64) -> Vec<(TargetState, Role)> {
    book.targets(instances, at(now)).into_iter().map(|target| (target.state, target.role)).collect()
}

const SERVING: Role = Role::Serving;

#[test]
fn what_we_did_is_known_before_it_is_seen() {
    let (mut book, all) = (one(), [instance(1)]);
    book.looked(vec![shows(&[])], &all, at(1));
    assert_eq!(states(&book, &all, 1), []);
    book.registered(&[0], &[id(1)], at(2));
    assert_eq!(states(&book, &all, 2), [(TargetState::Initial, SERVING)]);
    // It takes a moment until ELB shows it; it is not "not there" meanwhile.
    book.looked(vec![shows(&[])], &all, at(3));
    assert_eq!(states(&book, &all, 3), [(TargetState::Initial, SERVING)]);
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(150));
    assert_eq!(states(&book, &all, 150), [(TargetState::Healthy, SERVING)]);
    assert_eq!(book.learned.get(Wait::Health), Some(Duration::from_secs(148)));
    book.deregistered(&[id(1)], true, at(200));
    let draining = [(TargetState::Draining { open_requests: 0, since: at(200) }, SERVING)];
    assert_eq!(states(&book, &all, 200), draining);
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(201));
    assert_eq!(states(&book, &all, 201), draining);
    book.looked(vec![shows(&[(1, Check::Draining)])], &all, at(260));
    assert_eq!(states(&book, &all, 260), draining);
    book.looked(vec![shows(&[])], &all, at(500));
    assert_eq!(states(&book, &all, 500), [(TargetState::Drained, SERVING)]);
    book.looked(vec![shows(&[])], &all, at(900));
    assert_eq!(states(&book, &all, 900), [(TargetState::Drained, SERVING)], "until it is forgotten");
    book.forgotten(&[id(1)]);
    assert_eq!(states(&book, &all, 901), []);
}

#[test]
fn after_a_restart_what_drains_drains_and_what_is_absent_is_not_listed() {
    let (mut book, all) = (one(), [instance(1), instance(2)]);
    book.looked(vec![shows(&[(1, Check::Draining)])], &all, at(10));
    assert_eq!(
        states(&book, &all, 10),
        [(TargetState::Draining { open_requests: 0, since: at(10) }, SERVING)]
    );
    book.looked(vec![shows(&[])], &all, at(60));
    assert_eq!(states(&book, &all, 60), [(TargetState::Drained, SERVING)]);
}

#[test]
fn the_worst_group_counts_and_one_that_misses_it_is_mended() {
    let (mut book, all) = (two(), [instance(1)]);
    book.looked(vec![shows(&[(1, Check::Healthy)]), shows(&[(1, Check::Unhealthy)])], &all, at(1));
    assert_eq!(states(&book, &all, 1), [(TargetState::Unhealthy, SERVING)]);
    book.looked(vec![shows(&[(1, Check::Healthy)]), shows(&[])], &all, at(100));
    let told = book.targets(&all, at(100)).remove(0);
    assert_eq!(told.state, TargetState::Initial, "it serves in one: it is never told to be absent");
    assert_eq!(told.reason.as_deref(), Some("in api: it is not registered yet"));
    assert_eq!(book.mends(at(100)), [Mend::Register { group: 1, id: id(1) }]);
    book.looked(vec![shows(&[(1, Check::Draining)]), shows(&[(1, Check::Healthy)])], &all, at(200));
    assert!(matches!(states(&book, &all, 200)[0].0, TargetState::Draining { .. }));
    assert_eq!(book.mends(at(200)), []);
    book.looked(vec![shows(&[]), shows(&[(1, Check::Healthy)])], &all, at(260));
    assert!(matches!(states(&book, &all, 260)[0].0, TargetState::Draining { .. }));
    assert_eq!(book.mends(at(260)), [Mend::Deregister { group: 1, id: id(1) }]);
}

#[test]
fn one_that_is_registered_again_while_it_drains_starts_anew() {
    let (mut book, all) = (one(), [instance(1)]);
    book.looked(vec![shows(&[(1, Check::Draining)])], &all, at(1));
    book.registered(&[0], &[id(1)], at(2));
    assert_eq!(states(&book, &all, 2), [(TargetState::Initial, SERVING)]);
    book.looked(vec![shows(&[(1, Check::Draining)])], &all, at(3));
    assert_eq!(states(&book, &all, 3), [(TargetState::Initial, SERVING)]);
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(60));
    assert_eq!(states(&book, &all, 60), [(TargetState::Healthy, SERVING)]);
}

#[test]
fn a_slow_start_is_waited_for_and_said() {
    let slow = Group { slow_start: Duration::from_secs(30), ..group("web", Side::First, 0) };
    let (mut book, all) = (Book::new(vec![slow]), [instance(1)]);
    book.looked(vec![shows(&[])], &all, at(100));
    book.registered(&[0], &[id(1)], at(100));
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(110));
    let told = book.targets(&all, at(120)).remove(0);
    assert_eq!(told.state, TargetState::Initial);
    assert_eq!(told.reason.as_deref(), Some("warming up, 20 s left of its slow start"));
    assert_eq!(book.warm_next(&all, at(120)), Some(at(140)));
    assert_eq!(book.awaited(&all, at(120)), []);
    assert_eq!(states(&book, &all, 140), [(TargetState::Healthy, SERVING)]);
    // An old one, seen by a process that has just begun, was warm long ago.
    let slow = Group { slow_start: Duration::from_secs(30), ..group("web", Side::First, 0) };
    let mut book = Book::new(vec![slow]);
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(10_000));
    assert_eq!(states(&book, &all, 10_000), [(TargetState::Healthy, SERVING)]);
}

#[test]
fn who_is_tagged_stands_by_once_drained_and_not_when_it_leaves_for_good() {
    let (mut book, all) = (one(), [instance(1)]);
    book.looked(vec![shows(&[(1, Check::Healthy)])], &all, at(1));
    assert!(!book.misses_tags(&all));
    book.stands_by(&id(1));
    book.deregistered(&[id(1)], false, at(2));
    assert!(matches!(states(&book, &all, 2)[0].0, TargetState::Draining { .. }));
    book.looked(vec![shows(&[])], &all, at(302));
    assert_eq!(states(&book, &all, 302), [(TargetState::Healthy, Role::Standby)]);
    book.deregistered(&[id(1)], true, at(400));
    assert_eq!(states(&book, &all, 400), [(TargetState::Drained, SERVING)]);
}

#[test]
fn after_a_restart_the_tags_are_asked_for_before_anybody_is_called_absent_or_leaving() {
    let (mut book, all) = (one(), [instance(1)]);
    book.looked(vec![shows(&[(1, Check::Draining)])], &all, at(1));
    assert!(book.misses_tags(&all));
    book.stands_by(&id(1));
    book.tags_read = true;
    assert!(!book.misses_tags(&all));
    assert!(matches!(states(&book, &all, 1)[0].0, TargetState::Draining { .. }));
    book.looked(vec![shows(&[])], &all, at(300));
    assert_eq!(states(&book, &all, 300), [(TargetState::Healthy, Role::Standby)]);
}

#[test]
fn the_side_that_gets_no_requests_stands_by() {
    let (mut book, all) = (
        Book::new(vec![group("a", Side::First, 0), group("b", Side::Second, 0)]),
        [instance(1), instance(2)],
    );
    book.looked(vec![shows(&[(1, Check::Healthy)]), shows(&[(2, Check::Initial)])], &all, at(1));
    assert_eq!(
        states(&book, &all, 1),
        [(TargetState::Healthy, SERVING), (TargetState::Initial, Role::Standby)]
    );
    assert_eq!(book.mends(at(100)), [], "in one of a pair it is where it belongs");
    book.live = BTreeSet::from([Side::Second]);
    assert_eq!(states(&book, &all, 1)[0].1, Role::Standby);
}

#[test]
fn what_is_awaited_has_its_time() {
    let (mut book, all) = (one(), [instance(1), instance(2), instance(3)]);
    book.looked(vec![shows(&[(2, Check::Healthy), (3, Check::Unhealthy)])], &all, at(10));
    book.registered(&[0], &[id(1)], at(20));
    book.deregistered(&[id(2)], true, at(30));
    let waits: Vec<_> = book.awaited(&all, at(40));
    let health = Awaited { wait: Wait::Health, since: at(20), expected: Some(Duration::from_secs(180)) };
    let drain = Awaited { wait: Wait::Drain, since: at(30), expected: Some(Duration::from_secs(301)) };
    let recovery = Awaited { wait: Wait::Recovery, since: at(10), expected: None };
    assert_eq!(waits, [health, drain, recovery]);
}
