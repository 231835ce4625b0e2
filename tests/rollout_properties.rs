//! `rollout::plan` against a simulated fleet with faults. What it promises is checked at every act
//! and at every moment, not only at the end.

mod rollout_fleet;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use windlass::ids::InstanceId;
use windlass::rollout::{
    Check, Desired, Direction, End, Life, Member, Move, Observed, Operation, Rolling, Strategy as How,
    Traffic, plan,
};

use rollout_fleet::{
    CHECKS, DRAIN, Fault, PATIENCE, Quality, START, Scene, Which, World, active, at, healthy, secs,
};

/// What holds of every move, whatever was observed.
fn check_move(observed: &Observed, desired: &Desired, rolling: &Rolling, operations: &[Operation]) {
    let member = |id: &InstanceId| observed.members.iter().find(|member| member.id == *id);
    let ours = match desired.direction {
        Direction::Forward => Some(&desired.target),
        Direction::Back { .. } => desired.source.as_ref(),
    };
    let mut named = BTreeSet::new();
    let mut drained_serving = 0;
    for operation in operations {
        match operation {
            Operation::Launch { release, count } => {
                assert!(*count > 0);
                assert_eq!(Some(release), ours, "only the release that the fleet moves to is launched");
                let present = observed.members.iter().filter(|m| !matches!(m.life, Life::Failed(_))).count();
                let most = desired.size.max(desired.healthy_at_start) + rolling.surge;
                assert!(present + *count as usize <= most as usize, "more than {most} members");
                let coming = observed.members.iter().filter(|m| {
                    Some(&m.release) == ours
                        && active(m)
                        && !healthy(m)
                        && m.launched_at >= desired.started_at
                        && at_most(m, observed.now)
                });
                if desired.source.is_some() {
                    let flying = coming.count() + *count as usize;
                    assert!(flying <= rolling.batch as usize, "{flying} at a time");
                }
            }
            Operation::Register { id } | Operation::Terminate { id } => {
                assert!(member(id).is_some() && named.insert(id.clone()), "{operation:?}");
            }
            Operation::StandBy { .. } | Operation::Switch { .. } => {
                panic!("nobody stands by in a rollout by batches: {operation:?}")
            }
            Operation::Drain { id } => {
                assert!(named.insert(id.clone()));
                let member = member(id).unwrap();
                assert!(active(member) && member.traffic != Traffic::Unregistered, "{member:?}");
                if healthy(member) && Some(&member.release) != ours {
                    drained_serving += 1;
                }
            }
        }
    }
    // As many are drained as came up: until the release is complete, what is healthy of it and what
    // is left of the others together are as many as there were.
    if drained_serving > 0 {
        let size = if ours.is_some() { desired.size as usize } else { 0 };
        let ready = observed.members.iter().filter(|m| Some(&m.release) == ours && healthy(m)).count();
        let left = observed.members.iter().filter(|m| Some(&m.release) != ours && healthy(m)).count()
            - drained_serving;
        let level = size.max(desired.healthy_at_start as usize);
        assert!(ready >= size || ready + left >= level, "{ready} came up, {left} are left of {level}");
    }
}

fn at_most(member: &Member, now: Timestamp) -> bool {
    now < member.launched_at + secs(PATIENCE)
}

fn desired(scene: &Scene) -> Desired {
    Desired {
        target: Which::Target.release(),
        source: (!scene.first).then(|| Which::Source.release()),
        size: scene.size,
        strategy: How::Rolling(scene.rolling.clone()),
        direction: Direction::Forward,
        started_at: at(START),
        patience: Duration::from_secs(PATIENCE.into()),
        healthy_at_start: scene.before.iter().filter(|(_, healthy)| *healthy).count() as u32,
    }
}

/// Plays a scene to its end; answers the end and the fleet that is left.
fn play(scene: &Scene) -> (End, Vec<Member>) {
    let mut world = World::new(scene.clone());
    let mut desired = desired(scene);
    let floor = scene.rolling.floor.min(desired.size).min(desired.healthy_at_start) as usize;
    world.record();

    // Each member is swapped in at most a patience and a drain, there and back, besides what faults
    // cost. Twice that is the bound.
    let members = scene.size + scene.before.len() as u32 + 4;
    let each = PATIENCE + DRAIN + CHECKS + 4;
    let away: u32 = scene.faults.iter().map(|(_, f)| if let Fault::Away(n) = f { *n } else { 0 }).sum();
    let last_fault = scene.faults.iter().map(|(tick, _)| *tick).max().unwrap_or(0);
    let bound = 2 * (2 * members * each + scene.faults.len() as u32 * each + away + last_fault);

    let (mut lost, mut cut, mut repeated, mut stale, mut away) = (false, None, false, 0, 0);
    for tick in 0..bound {
        for (_, fault) in scene.faults.iter().filter(|(when, _)| *when == tick) {
            let count = world.machines.len().max(1);
            match *fault {
                Fault::Crash(index) => {
                    if let Some(machine) = world.machines.get_mut(index % count) {
                        machine.member.life = Life::Failed("killed".into());
                    }
                }
                Fault::Flap(index, ticks) => {
                    let until = world.tick + ticks;
                    if let Some(machine) = world.machines.get_mut(index % count) {
                        machine.sick_until = until;
                    }
                }
                Fault::Lost => lost = true,
                Fault::Cut(after) => cut = Some(after),
                Fault::Repeated => repeated = true,
                Fault::Stale(age) => stale = age,
                Fault::Away(ticks) => away = ticks,
                Fault::Cancel => {
                    world.seen.clear();
                    world.record();
                    desired.direction = Direction::Back { reason: "cancelled".into() };
                }
            }
        }
        if away > 0 {
            away -= 1;
            world.step();
            continue;
        }
        let age = std::mem::take(&mut stale).min(world.seen.len() - 1);
        let observed = world.seen[world.seen.len() - 1 - age].clone();
        let answer = plan(&observed, &desired);
        assert_eq!(answer, plan(&observed, &desired), "the same observation, the same move");
        match answer {
            Move::TurnBack { reason } => {
                assert_eq!(desired.direction, Direction::Forward);
                assert!(reason.len() > 10, "{reason}");
                desired.direction = Direction::Back { reason };
                // An observation may be old, but not older than the turn back.
                world.seen.clear();
            }
            Move::Done(end) => {
                // An old observation may have been complete before something was lost; the fleet
                // of that observation is what the end speaks of.
                return (end, observed.members);
            }
            Move::Wait { reason, until, progress } => {
                assert!(reason.starts_with("waiting for "), "{reason}");
                assert!(until.is_none_or(|until| until > observed.now));
                assert!((1..=progress.batches).contains(&progress.batch));
            }
            Move::Act { operations, progress } => {
                assert!(!operations.is_empty());
                assert!((1..=progress.batches).contains(&progress.batch));
                check_move(&observed, &desired, &scene.rolling, &operations);
                let mut operations = operations;
                if std::mem::take(&mut lost) {
                    operations.clear();
                }
                if let Some(after) = cut.take() {
                    operations.truncate(after);
                }
                // A failed first rollout is to end with no instances.
                let emptying = scene.first && desired.direction != Direction::Forward;
                let floor = if emptying { 0 } else { floor };
                for operation in &operations {
                    world.carry_out(operation, floor, &observed);
                    let Operation::Launch { count, .. } = operation else { continue };
                    // Asked for again because the observation was old, a launch carries the keys of
                    // the first and happens once. Here it happens again, which is worse.
                    let again = std::mem::take(&mut repeated);
                    world.repeated += *count as usize * (usize::from(again) + usize::from(age > 0));
                    if again {
                        world.carry_out(operation, floor, &observed);
                    }
                }
            }
        }
        let alive = world.machines.iter().filter(|m| !matches!(m.member.life, Life::Failed(_))).count();
        let most = scene.size.max(desired.healthy_at_start) + scene.rolling.surge;
        let most = (most as usize).max(scene.before.len()) + world.repeated;
        assert!(alive <= most, "{alive} members, at most {most}");
        world.step();
    }
    panic!("not at an end after {bound} ticks: {:#?}", world.seen.last());
}

fn only(which: Which, size: u32, members: &[Member]) {
    assert_eq!(members.len(), size as usize, "{members:#?}");
    assert!(members.iter().all(|m| m.release == which.release() && healthy(m)), "{members:#?}");
}

fn check_end(scene: &Scene) {
    let (end, members) = play(scene);
    let disturbed = |f: &(u32, Fault)| matches!(f.1, Fault::Crash(_) | Fault::Flap(..));
    let cancelled = scene.faults.iter().any(|f| f.1 == Fault::Cancel);
    let calm = !scene.faults.iter().any(disturbed);
    let good = |quality| matches!(quality, Quality::Good { .. });
    match &end {
        End::Completed => only(Which::Target, scene.size, &members),
        End::RolledBack { reason } => {
            assert!(!reason.is_empty());
            match scene.first {
                true => assert!(members.is_empty(), "{members:#?}"),
                false => {
                    let present: Vec<_> =
                        members.into_iter().filter(|m| !matches!(m.life, Life::Failed(_))).collect();
                    only(Which::Source, scene.size, &present)
                }
            }
        }
        End::Stranded { reason } => {
            assert!(reason.contains("on the way back"), "{reason}");
            assert!(!scene.first, "an empty fleet can always be reached");
            let source = Which::Source.release();
            assert!(members.iter().all(|m| m.release == source || healthy(m)), "{members:#?}");
            assert!(!good(scene.source) || !calm, "the source would have come up: {reason}");
        }
    }
    if calm && !cancelled && good(scene.target) {
        assert_eq!(end, End::Completed);
    }
    // One that is going to fail anyway: the release is never called good.
    if scene.size > 0 && scene.target == Quality::NeverHealthy {
        let there = scene.before.iter().filter(|(which, _)| *which == Which::Target).count();
        assert!(end != End::Completed || there >= scene.size as usize, "{end:?}");
    }
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        5 => (0..4u32, 0..5u32).prop_map(|(boot, start)| Quality::Good { boot, start }),
        1 => Just(Quality::NeverHealthy),
        1 => (0..20u32).prop_map(Quality::CrashesAfter),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => any::<usize>().prop_map(Fault::Crash),
        3 => (any::<usize>(), 1..8u32).prop_map(|(index, ticks)| Fault::Flap(index, ticks)),
        2 => Just(Fault::Lost),
        2 => (0..4usize).prop_map(Fault::Cut),
        2 => Just(Fault::Repeated),
        2 => (1..5usize).prop_map(Fault::Stale),
        2 => (1..60u32).prop_map(Fault::Away),
        1 => Just(Fault::Cancel),
    ]
}

fn scene() -> impl Strategy<Value = Scene> {
    let which = prop_oneof![
        6 => Just(Which::Source), 1 => Just(Which::Leftover), 1 => Just(Which::Target)
    ];
    let rolling =
        (1..4u32, 1..4u32, 0..7u32).prop_map(|(batch, surge, floor)| Rolling { batch, surge, floor });
    let before = proptest::collection::vec((which, proptest::bool::weighted(0.8)), 0..7);
    let faults = proptest::collection::vec((0..80u32, fault()), 0..6);
    (0..6u32, rolling, before, any::<bool>(), quality(), quality(), faults).prop_map(
        |(size, rolling, before, first, target, source, faults)| {
            // A fleet that has a source is not rolled out for the first time.
            let first = first && before.iter().all(|(which, _)| *which != Which::Source);
            Scene { size, rolling, before, first, target, source, faults }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rollout_keeps_its_promises_and_ends(scene in scene()) {
        check_end(&scene);
    }

    /// The case that matters most, by itself: a whole, healthy fleet and a release of any quality.
    /// Whatever breaks of the new release, all who were healthy at the start stay served.
    #[test]
    fn a_healthy_fleet_stays_whole(
        size in 1..6u32,
        batch in 1..4u32,
        surge in 1..4u32,
        target in quality(),
        cancel in proptest::option::of(0..60u32),
    ) {
        let scene = Scene {
            size,
            rolling: Rolling { batch, surge, floor: size },
            before: vec![(Which::Source, true); size as usize],
            first: false,
            target,
            source: Quality::Good { boot: 1, start: 1 },
            faults: cancel.map(|tick| (tick, Fault::Cancel)).into_iter().collect(),
        };
        check_end(&scene);
    }
    /// All at once: a whole fleet, a release of any quality, and whoever carries the plan out is cut
    /// short, repeated, away, or looks at what is old.
    #[test]
    fn a_switch_keeps_its_promises_and_ends(
        size in 1..5u32,
        hold in prop_oneof![Just(0u64), Just(600)],
        standby in 0..5u32,
        target in quality(),
        faults in proptest::collection::vec((0..40u32, carrier_fault()), 0..6),
    ) {
        let mut before = vec![(Which::Source, true); size as usize];
        before.extend(vec![(Which::Target, true); standby.min(size) as usize]);
        let scene = Scene {
            size,
            rolling: Rolling { batch: size, surge: size, floor: size },
            before,
            first: false,
            target,
            source: Quality::Good { boot: 1, start: 1 },
            faults,
        };
        check_switch(&scene, hold, standby.min(size));
    }
}

fn carrier_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::Lost),
        3 => (0..3usize).prop_map(Fault::Cut),
        2 => Just(Fault::Repeated),
        2 => (1..5usize).prop_map(Fault::Stale),
        2 => (1..40u32).prop_map(Fault::Away),
        1 => Just(Fault::Cancel),
    ]
}

fn stands_by(member: &Member) -> bool {
    matches!(member.traffic, Traffic::Standby(_))
}

/// What holds of every move of a switch.
fn check_switch_move(observed: &Observed, desired: &Desired, operations: &[Operation]) {
    let forward = desired.direction == Direction::Forward;
    let member = |id: &InstanceId| observed.members.iter().find(|member| member.id == *id).unwrap();
    let switched =
        !observed.members.iter().any(|m| Some(&m.release) == desired.source.as_ref() && healthy(m));
    for operation in operations {
        match operation {
            Operation::Switch { to } => {
                let well = |id: &InstanceId| {
                    healthy(member(id)) || member(id).traffic == Traffic::Standby(Check::Healthy)
                };
                assert!(!to.is_empty() && to.iter().all(well), "only to those who are healthy: {to:?}");
                let is_new = |id: &&InstanceId| member(id).release == desired.target;
                if forward {
                    assert_eq!(to.iter().filter(is_new).count(), desired.size as usize, "all, and no others");
                }
            }
            Operation::Register { .. } => assert!(!forward, "what is new stands by"),
            Operation::Launch { release, count } => {
                assert!(*count > 0 && *count <= desired.size);
                assert_eq!(
                    Some(release),
                    if forward { Some(&desired.target) } else { desired.source.as_ref() }
                );
            }
            Operation::Drain { id } if forward => {
                assert!(!healthy(member(id)), "who serves is switched away from, not drained");
                let old = Some(&member(id).release) == desired.source.as_ref();
                assert!(switched || !old, "the old ones stay until the switch");
            }
            Operation::StandBy { .. } | Operation::Drain { .. } | Operation::Terminate { .. } => {}
        }
    }
}

fn check_switch(scene: &Scene, hold: u64, standby: u32) {
    let mut world = World::new(scene.clone());
    for machine in world.machines.iter_mut().filter(|m| m.member.release == Which::Target.release()) {
        machine.member.traffic = Traffic::Standby(Check::Healthy);
        // It is there, and was well: only what is launched now turns out as the release does.
        (machine.quality, machine.crashes_at) = (Quality::Good { boot: 0, start: 0 }, None);
    }
    world.record();
    let mut desired = Desired {
        strategy: How::BlueGreen { hold: Duration::from_secs(hold) },
        healthy_at_start: scene.size,
        ..desired(scene)
    };
    let crashes = matches!(scene.target, Quality::CrashesAfter(_));
    let (mut lost, mut cut, mut repeated, mut stale, mut away, mut turned) =
        (false, None, false, 0, 0, false);
    for tick in 0..600 {
        for (_, fault) in scene.faults.iter().filter(|(when, _)| *when == tick) {
            match *fault {
                Fault::Lost => lost = true,
                Fault::Cut(after) => cut = Some(after),
                Fault::Repeated => repeated = true,
                Fault::Stale(age) => stale = age,
                Fault::Away(ticks) => away = ticks,
                Fault::Cancel => {
                    world.seen.clear();
                    world.record();
                    turned = true;
                    desired.direction = Direction::Back { reason: "cancelled".into() };
                }
                Fault::Crash(_) | Fault::Flap(..) => {}
            }
        }
        let serving = world.machines.iter().filter(|machine| healthy(&machine.member)).count();
        assert!(crashes || serving >= scene.size as usize, "only {serving} serve: {:#?}", world.seen.last());
        if away > 0 {
            away -= 1;
            world.step();
            continue;
        }
        let age = std::mem::take(&mut stale).min(world.seen.len() - 1);
        let observed = world.seen[world.seen.len() - 1 - age].clone();
        match plan(&observed, &desired) {
            Move::TurnBack { reason } => {
                assert!(desired.direction == Direction::Forward && reason.len() > 10, "{reason}");
                turned = true;
                desired.direction = Direction::Back { reason };
                world.seen.clear();
            }
            Move::Wait { until, .. } => assert!(until.is_none_or(|until| until > observed.now)),
            Move::Act { operations, .. } => {
                assert!(!operations.is_empty());
                check_switch_move(&observed, &desired, &operations);
                let mut operations = operations;
                if std::mem::take(&mut lost) {
                    operations.clear();
                }
                if let Some(after) = cut.take() {
                    operations.truncate(after);
                }
                for operation in &operations {
                    world.carry_out(operation, 0, &observed);
                    if matches!(operation, Operation::Launch { .. }) && std::mem::take(&mut repeated) {
                        world.carry_out(operation, 0, &observed);
                    }
                }
            }
            Move::Done(end) => {
                let (held, rest): (Vec<_>, Vec<_>) = observed.members.into_iter().partition(stands_by);
                let alive = |m: &Member| !matches!(m.life, Life::Failed(_));
                let rest: Vec<_> = rest.into_iter().filter(alive).collect();
                match end {
                    End::Completed => {
                        assert!(!turned);
                        only(Which::Target, scene.size, &rest);
                        let all = held.iter().all(|member| member.release == Which::Source.release());
                        assert!(all && (hold > 0 || held.is_empty()), "{held:#?}");
                    }
                    End::RolledBack { .. } => {
                        assert!(turned && held.is_empty(), "{held:#?}");
                        only(Which::Source, scene.size, &rest);
                    }
                    End::Stranded { reason } => panic!("the old release is good: {reason}"),
                }
                if !turned && standby == scene.size && scene.faults.is_empty() {
                    assert!(tick <= 2 * DRAIN + 4, "who stands by is switched to at once: {tick}");
                }
                return;
            }
        }
        world.step();
    }
    panic!("not at an end: {:#?}", world.seen.last());
}
