//! Who goes first, who gives way, and who asks a person.

use super::*;

#[tokio::test]
async fn of_ten_pushes_while_production_waits_one_waits_and_the_others_say_who_came() {
    let world = World::with_manual_production();
    for number in 1..=10 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "waiting for somebody to promote it to production").await;
    }
    for number in 1..=9 {
        let view = world.until_ended(&run(number)).await;
        assert_eq!(view.status, Status::Superseded, "{view:#?}");
        let by = view.superseded_by.unwrap();
        assert!(by.number > number, "{number} by {by}");
        let production = view.stages.last().unwrap();
        assert_eq!(production.status, StageStatus::Skipped);
        assert_eq!(production.reason, Some(format!("{by} superseded it")));
    }
    world.promote(&run(10), "production", "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(10)).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [10]);
}

#[tokio::test]
async fn what_has_not_started_gives_way_and_what_is_under_way_does_not() {
    let world = World::with_manual_production();
    world.hold(1, "build");
    let working = world.push("newest", 1).await;
    world.until(&working, "it builds", |view| stage(view, "build").status == StageStatus::Running).await;
    let (second, third) =
        (world.create(world.origin("newest", 2)).await, world.create(world.origin("newest", 3)).await);
    world.engine.drive_all().await.unwrap();
    let superseded = world.until_ended(&second).await;
    assert_eq!((superseded.status, superseded.superseded_by), (Status::Superseded, Some(third.clone())));
    assert_eq!(superseded.stages.iter().map(|stage| stage.attempts).sum::<u32>(), 0);
    world.until_waiting(&third, "promote it to production").await;
    assert_eq!(world.engine.view(&working).await.unwrap().status, Status::Running);
    world.release(1, "build");
    // It comes to staging after the newer one, which runs there.
    let late = world.until_ended(&working).await;
    assert_eq!((late.status, late.superseded_by), (Status::Superseded, Some(third)));
    assert_eq!(world.deployed("staging").await, [3]);
}

#[tokio::test]
async fn a_promoted_run_is_not_superseded_by_one_that_nobody_decided_on() {
    let world = World::with_manual_production();
    let first = world.push("newest", 1).await;
    world.until_waiting(&first, "promote it to production").await;
    world.engine.lock(&"production".parse().unwrap(), &actor("ada"), "database move").await.unwrap();
    world.promote(&first, "production", "octocat").await.unwrap();
    let said = world.until_waiting(&first, "locked by ada").await.waiting_for.unwrap();
    assert!(said.starts_with("waiting for production: locked by ada at 2026-11-18T12:00:00Z"), "{said}");
    assert!(said.ends_with("(database move); windlass unlock production"), "{said}");
    let second = world.push("newest", 2).await;
    world.until_waiting(&second, "promote it to production").await;
    assert_eq!(world.engine.view(&first).await.unwrap().status, Status::Waiting);
    world.engine.unlock(&"production".parse().unwrap(), &actor("bob")).await.unwrap();
    assert_eq!(world.until_ended(&first).await.status, Status::Succeeded);
}

#[tokio::test]
async fn with_every_ten_runs_go_through_one_environment_in_order() {
    let world = World::with_manual_production();
    world.hold(1, "e2e");
    for number in 1..=10 {
        world.push("every", number).await;
    }
    world.until_waiting(&run(2), "waiting for shop-staging: shop/1").await;
    for number in 3..=10 {
        let why = "waiting for shop/2, which is ahead of it for staging";
        world.until_waiting(&run(number), why).await;
    }
    let production: Target = "production/shop".parse().unwrap();
    world.engine.lock(&production, &actor("ada"), "watching").await.unwrap();
    world.act(&run(4), Act::Cancel { reason: "not now".to_owned() }, "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(4)).await.status, Status::Cancelled);
    world.release(1, "e2e");
    for number in [1, 2, 3, 5, 6, 7, 8, 9, 10] {
        world.until_waiting(&run(number), "promote it to production").await;
    }
    let reject = Act::Reject { environment: "production".parse().unwrap(), reason: "no".to_owned() };
    world.act(&run(5), reject, "octocat").await.unwrap();
    assert_eq!(world.until_ended(&run(5)).await.status, Status::Failed);
    for number in [3, 1, 2, 6, 7, 8, 9, 10] {
        world.promote(&run(number), "production", "octocat").await.unwrap();
        world.until_waiting(&run(number), "locked by ada").await;
    }
    world.engine.unlock(&production, &actor("ada")).await.unwrap();
    for number in [1, 2, 3, 6, 7, 8, 9, 10] {
        assert_eq!(world.until_ended(&run(number)).await.status, Status::Succeeded);
    }
    assert_eq!(world.deployed("staging").await, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    assert_eq!(world.deployed("production").await, [1, 2, 3, 6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn the_order_is_kept_after_everything_was_lost() {
    let mut world = World::with_manual_production();
    for number in 1..=6 {
        world.create(world.origin("every", number)).await;
    }
    world.hold(1, "build");
    world.engine.drive_all().await.unwrap();
    world.until_waiting(&run(6), "waiting for shop/1, which is ahead of it for staging").await;
    world.restart();
    world.engine.drive_all().await.unwrap();
    world.until_waiting(&run(2), "waiting for shop/1, which is ahead of it for staging").await;
    world.release(1, "build");
    for number in 1..=6 {
        world.until_waiting(&run(number), "promote it to production").await;
    }
    assert_eq!(world.deployed("staging").await, [1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn what_failed_on_its_way_is_not_waited_for() {
    let world = World::with_manual_production();
    world.script.send_modify(|script| {
        script.broken.insert((1, "build"));
    });
    world.hold(1, "build");
    world.push("every", 1).await;
    let second = world.push("every", 2).await;
    world.until_waiting(&second, "waiting for shop/1, which is ahead of it").await;
    world.release(1, "build");
    assert_eq!(world.until_ended(&run(1)).await.status, Status::Failed);
    world.until_waiting(&second, "promote it to production").await;
}

#[tokio::test]
async fn what_is_older_than_what_runs_asks_a_person() {
    let world = World::new("", "");
    let newer = world.push("every", 7).await;
    assert_eq!(world.until_ended(&newer).await.status, Status::Succeeded);
    let older = world.push("every", 3).await;
    let view = world.until_waiting(&older, "promote it to staging").await;
    let gate = &view.gates[0];
    assert!(gate.ships.rollback, "{gate:#?}");
    let why = "its commit is older than what staging runs: promoting it takes staging back";
    assert_eq!(gate.ships.note.as_deref(), Some(why));
    world.promote(&older, "staging", "octocat").await.unwrap();
    world.until_waiting(&older, "promote it to production").await;
    assert_eq!(world.deployed("staging").await, [1, 2]);
    // The same by the word of whoever starts it.
    let mut beforehand = world.origin("every", 2);
    beforehand.promote = Promote::All;
    beforehand.reference = None;
    let beforehand = world.create(beforehand).await;
    world.engine.drive(&beforehand).await.unwrap();
    assert_eq!(world.until_ended(&beforehand).await.status, Status::Succeeded);
}

#[tokio::test]
async fn where_git_cannot_tell_a_person_is_asked() {
    let world = World::new("", "");
    let mut unknown = world.origin("every", 1);
    unknown.commit.as_mut().unwrap().sha = "f".repeat(40).parse().unwrap();
    let unknown = world.create(unknown).await;
    world.engine.drive(&unknown).await.unwrap();
    assert_eq!(world.until_ended(&unknown).await.status, Status::Succeeded);
    let next = world.push("every", 2).await;
    let view = world.until_waiting(&next, "promote it to staging").await;
    assert!(view.gates[0].ships.note.as_ref().unwrap().contains("there is no git here"), "{view:#?}");
}

/// Everybody who is let in takes hold of the very fleet that was looked at: of all that come at once,
/// one does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_runs_never_hold_one_fleet() {
    let world = World::with_manual_production();
    let mut runs = Vec::new();
    for commit in 1..=30 {
        let run = world.push("every", commit).await;
        runs.push(run);
    }
    for run in &runs {
        world.until_waiting(run, "waiting for somebody to promote it to production").await;
    }
    let promoting = runs.iter().map(|run| world.promote(run, "production", "ada"));
    for promoted in futures_util::future::join_all(promoting).await {
        // What runs there may have changed since the gate was looked at.
        let _ = promoted;
    }
    for run in &runs {
        let _ = world.act(run, Act::Cancel { reason: String::new() }, "ada").await;
        world.until_ended(run).await;
    }
    for environment in ["staging", "production"] {
        let mut holder: Option<RunId> = None;
        let mut holds = 0;
        let stream = crate::ids::StreamId::Fleet(fleet(environment));
        for recorded in world.engine.store().read(&stream, 0).await.unwrap() {
            match recorded.event {
                store::Event::Fleet(FleetEvent::Held { run, .. }) => {
                    assert_eq!(holder, None, "{run} took {environment} from its holder");
                    holder = Some(run);
                    holds += 1;
                }
                store::Event::Fleet(FleetEvent::Released { .. }) => holder = None,
                _ => {}
            }
        }
        assert!(holds > 0, "nobody ever held {environment}");
    }
}
