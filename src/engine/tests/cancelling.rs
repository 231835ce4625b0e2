//! A rollout that is cancelled, or failed by its cloud, at each of its moments: it ends, in a state that
//! is named, and the next one finds a fleet that it can go on with. All moments take a minute or two:
//! `WINDLASS_EVERY_MOMENT=1 cargo test --no-default-features --lib engine::tests::cancelling`.

use super::capacity::{Small, world};
use super::moments::{Happens, Moments};
use super::*;
use crate::cloud::{Role, TargetState};

const PIPELINE: &str = "
name: shop
queue: every
stages:
  build: { steps: [{ run: make }], artifacts: { app: dist/ } }
  upload: { uses: upload, needs: build, with: { artifact: app } }
  bake: { uses: bake, needs: upload, with: { start: ./shop } }
  staging: { uses: deploy, needs: bake, environment: staging }
";

const SIZE: usize = 2;

/// How the moments are met.
#[derive(Debug, Clone, Copy)]
struct Scene {
    strategy: &'static str,
    /// Something runs there already.
    later: bool,
    /// The new version is never healthy.
    sick: bool,
    happens: Happens,
}

async fn push(world: &World, commit: u64) -> RunId {
    let origin = Origin { pipeline: PIPELINE.to_owned(), ..world.origin("every", commit) };
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    run
}

/// The images in the fleet, and how many instances of it take traffic.
fn there(small: &Small) -> (BTreeSet<String>, usize, usize) {
    let state = small.state();
    let images = state.instances.values().map(|instance| instance.image.to_string()).collect();
    let serves = |(_, target): &(&_, &crate::cloud::Target)| {
        target.role == Role::Serving && target.state == TargetState::Healthy
    };
    (images, state.instances.len(), state.targets.iter().filter(serves).count())
}

/// The fleet is whole, in the image of this run; empty with 0.
fn is_whole(small: &Small, run: u64, what: &str) {
    let (images, size, serving) = there(small);
    match run {
        0 => assert_eq!((size, serving), (0, 0), "{what}: {images:?}"),
        run => {
            assert_eq!(images, BTreeSet::from([format!("image-of-{run}")]), "{what}");
            assert_eq!((size, serving), (SIZE, SIZE), "{what}");
        }
    }
}

/// Answers whether the moment came.
async fn at_moment(scene: Scene, at: u32) -> bool {
    let what = format!("{scene:?} at moment {at}");
    let (world, small) = world();
    let fleet = format!(
        "{{ shop: {{ cloud: local, size: {SIZE}, port: 17431, health: {{ path: / }}, drain: 1s, \
         patience: 40ms, strategy: {} }} }}",
        scene.strategy
    );
    let settings = format!("environments:\n  staging:\n    group: qa\n    fleets: {fleet}\n");
    std::fs::write(world.directory.path().join("windlass.yaml"), settings).unwrap();
    let before = u64::from(scene.later);
    if scene.later {
        let first = push(&world, 1).await;
        assert_eq!(world.until_ended(&first).await.status, Status::Succeeded);
    }
    let number = before + 1;
    if scene.sick {
        small.state().sick.insert(format!("image-of-{number}"));
    }
    let moments = Moments::new(at, scene.happens);
    small.state().moments = Some(moments.clone());
    let run = push(&world, 2).await;
    let mut cancelled = false;
    let ended = world.until_ended(&run);
    tokio::pin!(ended);
    let view = loop {
        tokio::select! {
            view = &mut ended => break view,
            () = moments.reached() => {
                world.act(&run, Act::Cancel { reason: "enough".to_owned() }, "ada").await.unwrap();
                cancelled = true;
                moments.go();
            }
        }
    };
    small.state().moments = None;
    assert_eq!(cancelled, moments.happened() && scene.happens == Happens::Waits, "{what}");

    let fleet = world.fleet("staging").await;
    assert_eq!(fleet.holder, None, "{what}");
    let rollout = fleet.rollout.as_ref().filter(|rollout| rollout.run == run);
    let end =
        rollout.map(|rollout| rollout.end.clone().unwrap_or_else(|| panic!("{what}: no end is recorded")));
    match &end {
        Some(RolloutEnd::Completed) => is_whole(&small, number, &what),
        Some(RolloutEnd::RolledBack { .. }) | None if cancelled || scene.sick => {
            is_whole(&small, before, &what);
        }
        // What failed before it began has changed nothing.
        None => is_whole(&small, before, &what),
        Some(RolloutEnd::Stranded { reason }) if scene.happens == Happens::Fails => {
            assert!(reason.contains("is one of failure"), "{what}: {reason}");
        }
        end => panic!("{what}: {end:?}"),
    }
    let status = match (cancelled, &end) {
        (true, _) => Status::Cancelled,
        (false, Some(RolloutEnd::Completed)) if !moments.happened() => Status::Succeeded,
        _ => Status::Failed,
    };
    assert_eq!(view.status, status, "{what}: {view:#?}");

    let next = push(&world, 3).await;
    let view = world.until_ended(&next).await;
    assert_eq!(view.status, Status::Succeeded, "{what}, then: {view:#?}");
    is_whole(&small, number + 1, &what);
    moments.happened()
}

/// Each third moment of a scene, from `first`, one after the other until there are no more; each of them with
/// `WINDLASS_EVERY_MOMENT` in the environment.
async fn at_moments(scene: Scene, first: u32) {
    let (mut at, step) = match std::env::var_os("WINDLASS_EVERY_MOMENT") {
        Some(_) => (1, 1),
        None => (first, 3),
    };
    while at_moment(scene, at).await {
        at += step;
    }
    assert!(at > 10, "{scene:?} has only {at} moments");
}

async fn all(strategy: &'static str, happens: Happens) {
    let scene = |later, sick| Scene { strategy, later, sick, happens };
    tokio::join!(
        at_moments(scene(false, false), 1),
        at_moments(scene(false, true), 2),
        at_moments(scene(true, false), 3),
        at_moments(scene(true, true), 1),
    );
}

const ROLLING: &str = "{ rolling: { batch: 1 } }";
const BLUE_GREEN: &str = "{ blue_green: { hold: 10m } }";

#[tokio::test]
async fn a_rolling_rollout_is_cancelled_at_every_moment() {
    all(ROLLING, Happens::Waits).await;
}

#[tokio::test]
async fn a_blue_green_rollout_is_cancelled_at_every_moment() {
    all(BLUE_GREEN, Happens::Waits).await;
}

#[tokio::test]
async fn a_rolling_rollout_is_failed_by_its_cloud_at_every_moment() {
    all(ROLLING, Happens::Fails).await;
}

#[tokio::test]
async fn a_blue_green_rollout_is_failed_by_its_cloud_at_every_moment() {
    all(BLUE_GREEN, Happens::Fails).await;
}
