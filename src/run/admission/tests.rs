use super::*;
use crate::ids::{CommitSha, Digest, ImageId};
use crate::run::event::{Actor, Commit, Image, Origin, Release, RunEvent, Trigger};
use crate::run::lanes::{Stand, Standing};

const NOW: &str = "2026-11-20T18:00:00Z";

fn run(number: u64) -> RunId {
    RunId::new("shop".parse().unwrap(), number)
}

fn staging() -> EnvironmentName {
    "staging".parse().unwrap()
}

fn image(number: u64) -> Image {
    Image {
        id: format!("image-{number}").parse().unwrap(),
        name: format!("shop-{number}"),
        key: Digest::of(b"key"),
        parent: None,
        commit: Some(sha(number)),
        run: run(number),
    }
}

fn sha(number: u64) -> CommitSha {
    format!("{number:040}").parse().unwrap()
}

/// Run `number` of main, right before staging.
fn before_staging(number: u64, queue: &str, trigger: Trigger) -> RunState {
    let text = format!(
        "name: shop\nqueue: {queue}\nstages: {{ try: {{ environment: staging, steps: [{{ run: x }}] }} }}"
    );
    let commit = Commit {
        sha: sha(number),
        branch: "main".to_owned(),
        author: "Ada <ada@example.com>".to_owned(),
        message: String::new(),
    };
    let origin = Origin {
        reference: Some("refs/heads/main".to_owned()),
        commit: Some(commit),
        trigger,
        ..Origin::new(text, "/shop.yaml", Actor::unverified("octocat"))
    };
    let created = RunEvent::Created { run: run(number), origin: Box::new(origin) };
    RunState::begin(NOW.parse().unwrap(), &created).unwrap()
}

fn rollback_from(number: u64) -> Trigger {
    let from: ImageId = format!("image-{number}").parse().unwrap();
    Trigger::Rollback { environment: staging(), from }
}

/// A fleet that runs what run `number` brought.
fn fleet(number: u64) -> FleetState {
    let image = image(number);
    let release = Release { image: image.id.clone(), env: Default::default() };
    let current = Deployed {
        release,
        size: 1,
        since: NOW.parse().unwrap(),
        run: image.run.clone(),
        reference: Some("refs/heads/main".to_owned()),
        image,
    };
    FleetState { current: Some(current), ..FleetState::default() }
}

fn lock() -> Option<Lock> {
    let actor = Actor::unverified("ada");
    Some(Lock { actor, reason: "moving".to_owned(), at: NOW.parse().unwrap() })
}

/// What is known in most of these tests: an empty fleet, and nobody else.
struct World {
    state: RunState,
    fleet: FleetState,
    around: EnvironmentState,
    frozen: Option<Frozen>,
    lanes: Lanes,
    shipment: Option<Shipment>,
}

impl World {
    fn new(queue: &str, trigger: Trigger) -> Self {
        Self {
            state: before_staging(5, queue, trigger),
            fleet: FleetState::default(),
            around: EnvironmentState::default(),
            frozen: None,
            lanes: Lanes::default(),
            shipment: None,
        }
    }

    fn stands(&mut self, number: u64, rollback: bool, stand: Stand) {
        let reference = (!rollback).then(|| "refs/heads/main".to_owned());
        let places = [(staging(), stand)].into();
        self.lanes.publish(number, Standing { reference, rollback, places, ..Standing::default() });
    }

    fn freeze(&mut self) {
        let until = "2026-11-23T06:00:00Z".parse().unwrap();
        self.frozen = Some(Frozen { until, said: "Monday".to_owned(), reason: "weekend".to_owned() });
    }

    fn verdict(&self) -> Verdict {
        admit(&Facts {
            state: &self.state,
            environment: &staging(),
            asks: Asks::Nothing,
            fleet: Some(&self.fleet),
            around: &self.around,
            frozen: self.frozen.as_ref(),
            lanes: &self.lanes,
            shipment: self.shipment.as_ref(),
            quarantine: None,
        })
    }

    fn waits(&self) -> String {
        match self.verdict() {
            Verdict::Wait { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn whoever_is_alone_enters() {
    assert_eq!(World::new("every", Trigger::Manual).verdict(), Verdict::Enter);
    assert_eq!(World::new("newest", Trigger::Manual).verdict(), Verdict::Enter);
}

#[test]
fn in_order_means_behind_whoever_may_still_come_by_itself() {
    for (stand, waits) in [
        (Stand::Coming, true),
        (Stand::Queued, true),
        (Stand::Wants, true),
        (Stand::Away, false),
        (Stand::AtGate, false),
        (Stand::Left, false),
    ] {
        let mut world = World::new("every", Trigger::Manual);
        world.stands(4, false, stand);
        world.stands(6, false, Stand::Coming);
        assert_eq!(world.verdict() != Verdict::Enter, waits, "{stand:?}");
        if waits {
            assert_eq!(world.waits(), "waiting for shop/4, which is ahead of it for staging");
        }
    }
}

#[test]
fn a_lock_holds_everybody_and_a_freeze_everybody_but_rollbacks() {
    for (trigger, frozen) in [(Trigger::Manual, true), (rollback_from(4), false)] {
        let mut world = World::new("newest", trigger);
        if !frozen {
            world.fleet = fleet(4);
        }
        world.freeze();
        match world.verdict() {
            Verdict::Wait { reason, until, .. } if frozen => {
                assert_eq!(reason, "staging is frozen until Monday (weekend)");
                assert_eq!(until, Some("2026-11-23T06:00:00Z".parse().unwrap()));
            }
            verdict => assert!(!frozen && verdict == Verdict::Enter, "{verdict:?}"),
        }
        world.fleet.lock = lock();
        let fleet = "waiting for shop-staging: locked by ada at 2026-11-20T18:00:00Z (moving); windlass unlock staging/shop";
        assert_eq!(world.waits(), fleet);
        world.around.lock = lock();
        let all =
            "waiting for staging: locked by ada at 2026-11-20T18:00:00Z (moving); windlass unlock staging";
        assert_eq!(world.waits(), all);
    }
}

#[test]
fn a_rollback_goes_first_and_only_from_what_somebody_saw() {
    let mut world = World::new("newest", Trigger::Manual);
    world.stands(9, true, Stand::Wants);
    assert_eq!(world.waits(), "waiting for shop-staging: the rollback shop/9 goes first");
    let mut world = World::new("newest", rollback_from(4));
    world.stands(3, false, Stand::Wants);
    world.fleet = fleet(4);
    assert_eq!(world.verdict(), Verdict::Enter);
    world.fleet = fleet(3);
    assert!(
        matches!(world.verdict(), Verdict::Refuse(failure) if failure.message.contains("runs shop-3 by now"))
    );
}

#[test]
fn nothing_older_goes_in_by_itself() {
    // Newer, from the same ref: it took the run's place.
    let mut world = World::new("newest", Trigger::Manual);
    world.fleet = fleet(6);
    assert!(matches!(world.verdict(), Verdict::Superseded { by, .. } if by == run(6)));
    // Where each takes its turn, a person is asked; and it has to be known what would ship.
    let mut world = World::new("every", Trigger::Manual);
    world.fleet = fleet(6);
    assert_eq!(world.verdict(), Verdict::Survey);
    let known = |rollback, note: Option<&str>| {
        let running_image = Some(image(6).id);
        Some(Shipment { rollback, running_image, note: note.map(str::to_owned), ..Shipment::default() })
    };
    world.shipment = known(false, None);
    assert!(matches!(world.verdict(), Verdict::Ask { back: true, .. }));
    // From elsewhere it is the commits that count.
    world.fleet.current.as_mut().unwrap().reference = None;
    assert_eq!(world.verdict(), Verdict::Enter);
    world.shipment = known(true, None);
    assert!(matches!(world.verdict(), Verdict::Ask { back: true, .. }));
    world.shipment = known(false, Some("no git"));
    assert!(matches!(world.verdict(), Verdict::Ask { back: false, why } if why.contains("no git")));
    // What was found out about something else counts for nothing.
    world.fleet = fleet(7);
    assert_eq!(world.verdict(), Verdict::Survey);
}

#[test]
fn what_waits_gives_way_to_newer_runs_and_what_works_does_not() {
    let mut lanes = Lanes::default();
    let newer = Standing { reference: Some("refs/heads/main".to_owned()), ..Standing::default() };
    lanes.publish(6, newer);
    let state = before_staging(5, "newest", Trigger::Manual);
    assert_eq!(superseded(&state, &lanes).map(|(by, _)| by), Some(run(6)));
    assert_eq!(superseded(&before_staging(7, "newest", Trigger::Manual), &lanes), None);
    assert_eq!(superseded(&before_staging(5, "every", Trigger::Manual), &lanes), None);
    let mut working = state;
    let now = NOW.parse().unwrap();
    let stage: crate::ids::StageName = "try".parse().unwrap();
    let entered = RunEvent::EnvironmentEntered { environment: staging(), stage: stage.clone() };
    working.apply(now, &entered).unwrap();
    assert_eq!(superseded(&working, &lanes), None);
    let started = RunEvent::AttemptStarted { stage, attempt: 1, inputs: Default::default() };
    working.apply(now, &started).unwrap();
    assert_eq!(superseded(&working, &lanes), None);
    let gone = RunEvent::Superseded { by: run(6), reason: String::new() };
    assert!(working.apply(now, &gone).is_err(), "work under way is never superseded");
}
