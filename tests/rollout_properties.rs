//! `rollout::plan` against a simulated fleet with faults. What it promises is checked at every act
//! and at every moment, not only at the end.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use windlass::ids::{Digest, InstanceId};
use windlass::rollout::{
    Desired, Direction, End, Life, Member, Move, Observed, Operation, Rolling, Traffic, plan,
};

/// In ticks of one second, as everything here.
const PATIENCE: u32 = 12;
const DRAIN: u32 = 4;
/// Good answers before a target is healthy, bad ones before it is unhealthy.
const CHECKS: u32 = 2;

/// How instances of a release turn out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quality {
    /// Running after some ticks, healthy some ticks later, within the patience.
    Good {
        boot: u32,
        start: u32,
    },
    NeverHealthy,
    CrashesAfter(u32),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The member ends by itself.
    Crash(usize),
    /// The member fails its checks for so many ticks.
    Flap(usize, u32),
    /// The next operations are not carried out.
    Lost,
    /// Only the first so many of the next operations are: whoever carried them out was killed.
    Cut(usize),
    /// The next launch is carried out twice.
    Repeated,
    /// The next observation is so many ticks old.
    Stale(usize),
    /// Whoever plans is away for so many ticks.
    Away(u32),
    Cancel,
}

#[derive(Debug, Clone)]
struct Scene {
    size: u32,
    rolling: Rolling,
    /// What is there at the start: release, and whether it is healthy.
    before: Vec<(Which, bool)>,
    first: bool,
    target: Quality,
    /// How relaunched members of the source turn out.
    source: Quality,
    /// By the tick at which they strike.
    faults: Vec<(u32, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Which {
    Target,
    Source,
    Leftover,
}

impl Which {
    fn release(self) -> Digest {
        Digest::of(format!("{self:?}").as_bytes())
    }
}

#[derive(Debug, Clone)]
struct Machine {
    member: Member,
    quality: Quality,
    /// It takes no traffic before this tick.
    serves_from: u32,
    crashes_at: Option<u32>,
    sick_until: u32,
    /// Consecutive answers that differ from what the balancer says.
    streak: u32,
    drained_at: u32,
}

struct World {
    tick: u32,
    machines: Vec<Machine>,
    launched: u32,
    scene: Scene,
    /// One for each tick.
    seen: Vec<Observed>,
    repeated: usize,
}

fn at(tick: u32) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + i64::from(tick))
}

/// Members that were there at the start were launched long before it.
const LONG_AGO: u32 = 0;
const START: u32 = 10_000;

impl World {
    fn new(scene: Scene) -> Self {
        let mut world = Self { tick: START, machines: vec![], launched: 0, scene, seen: vec![], repeated: 0 };
        for (which, healthy) in world.scene.before.clone() {
            world.launch(&which.release());
            let machine = world.machines.last_mut().unwrap();
            machine.member.launched_at = at(LONG_AGO);
            machine.member.life = Life::Running;
            machine.serves_from = START;
            machine.crashes_at = None;
            machine.quality =
                if healthy { Quality::Good { boot: 0, start: 0 } } else { Quality::NeverHealthy };
            machine.member.traffic =
                if healthy { Traffic::Healthy } else { Traffic::Unhealthy("status 503".into()) };
        }
        world
    }

    fn launch(&mut self, release: &Digest) {
        self.launched += 1;
        let quality = match *release == Which::Target.release() {
            true => self.scene.target,
            false => self.scene.source,
        };
        let (boot, start) = match quality {
            Quality::Good { boot, start } => (boot, start),
            _ => (1, 1),
        };
        let crashes_at = match quality {
            Quality::CrashesAfter(ticks) => Some(self.tick + 1 + ticks),
            _ => None,
        };
        self.machines.push(Machine {
            member: Member {
                id: format!("m-{}", self.launched).parse().unwrap(),
                release: release.clone(),
                life: Life::Pending,
                traffic: Traffic::Unregistered,
                launched_at: at(self.tick),
            },
            quality,
            serves_from: self.tick + boot + start,
            crashes_at,
            sick_until: 0,
            streak: 0,
            drained_at: 0,
        });
    }

    fn machine(&mut self, id: &InstanceId) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|machine| machine.member.id == *id)
    }

    /// Time passes: machines boot and crash, the balancer checks.
    fn step(&mut self) {
        self.tick += 1;
        let tick = self.tick;
        for machine in &mut self.machines {
            let boot = match machine.quality {
                Quality::Good { boot, .. } => boot,
                _ => 1,
            };
            if machine.member.life == Life::Pending && at(tick) >= machine.member.launched_at + secs(boot) {
                machine.member.life = Life::Running;
            }
            if machine.crashes_at == Some(tick) {
                machine.member.life = Life::Failed("exit code 1".into());
            }
            let answers = machine.member.life == Life::Running
                && machine.quality != Quality::NeverHealthy
                && tick >= machine.serves_from
                && tick >= machine.sick_until;
            let differs = match &machine.member.traffic {
                Traffic::Initial => true,
                Traffic::Healthy => !answers,
                Traffic::Unhealthy(_) => answers,
                _ => false,
            };
            machine.streak = if differs { machine.streak + 1 } else { 0 };
            if machine.streak >= CHECKS {
                machine.streak = 0;
                machine.member.traffic =
                    if answers { Traffic::Healthy } else { Traffic::Unhealthy("connection refused".into()) };
            }
            if let Traffic::Draining { open_requests } = &mut machine.member.traffic {
                *open_requests = u64::from(machine.drained_at.saturating_sub(tick));
                if tick >= machine.drained_at {
                    machine.member.traffic = Traffic::Drained;
                }
            }
        }
        self.record();
    }

    fn record(&mut self) {
        let members = self.machines.iter().map(|machine| machine.member.clone()).collect();
        self.seen.push(Observed { now: at(self.tick), members });
    }

    /// How many take traffic, in the eyes of whoever planned: its own acts since the observation
    /// count, what else happened meanwhile it could not know.
    fn capacity(&self, observed: &Observed) -> usize {
        let serves = |now: &Member| {
            let seen = observed.members.iter().find(|seen| seen.id == now.id).unwrap_or(now);
            !matches!(now.traffic, Traffic::Draining { .. } | Traffic::Drained) && healthy(seen)
        };
        self.machines.iter().filter(|machine| serves(&machine.member)).count()
    }

    fn carry_out(&mut self, operation: &Operation, floor: usize, observed: &Observed) {
        match operation {
            Operation::Launch { release, count } => {
                for _ in 0..*count {
                    self.launch(release);
                }
            }
            Operation::Register { id } => {
                if let Some(machine) = self.machine(id)
                    && machine.member.traffic == Traffic::Unregistered
                {
                    machine.member.traffic = Traffic::Initial;
                }
            }
            Operation::Drain { id } => {
                let before = self.capacity(observed);
                let tick = self.tick;
                if let Some(machine) = self.machine(id)
                    && !matches!(machine.member.traffic, Traffic::Draining { .. } | Traffic::Drained)
                {
                    let open = u64::from(DRAIN);
                    machine.member.traffic = Traffic::Draining { open_requests: open };
                    machine.drained_at = tick + DRAIN;
                }
                let after = self.capacity(observed);
                assert!(
                    after == before || after >= floor,
                    "draining {id} took the healthy capacity from {before} to {after}, below {floor}"
                );
            }
            Operation::Terminate { id } => {
                if let Some(machine) = self.machine(id) {
                    let member = &machine.member;
                    assert!(
                        matches!(member.life, Life::Failed(_))
                            || matches!(member.traffic, Traffic::Drained | Traffic::Unregistered),
                        "{id} was terminated while it was {:?}",
                        member.traffic
                    );
                }
                self.machines.retain(|machine| machine.member.id != *id);
            }
        }
    }
}

fn secs(ticks: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(ticks))
}

fn healthy(member: &Member) -> bool {
    member.traffic == Traffic::Healthy && !matches!(member.life, Life::Failed(_))
}

fn active(member: &Member) -> bool {
    !matches!(member.life, Life::Failed(_))
        && !matches!(member.traffic, Traffic::Draining { .. } | Traffic::Drained)
}

/// What holds of every move, whatever was observed.
fn check_move(observed: &Observed, desired: &Desired, operations: &[Operation]) {
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
                let most = desired.size.max(desired.healthy_at_start) + desired.strategy.surge;
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
                    assert!(flying <= desired.strategy.batch as usize, "{flying} at a time");
                }
            }
            Operation::Register { id } | Operation::Terminate { id } => {
                assert!(member(id).is_some() && named.insert(id.clone()), "{operation:?}");
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
        strategy: scene.rolling.clone(),
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
    let floor = desired.strategy.floor.min(desired.size).min(desired.healthy_at_start) as usize;
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
                check_move(&observed, &desired, &operations);
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
}
