//! Rollbacks, quarantine, locks, approvals, freezes, and runs that stop early.

use super::*;

#[tokio::test]
async fn a_rollback_goes_back_and_what_it_goes_back_from_is_refused_until_that_is_lifted() {
    let world = World::new("", "");
    for number in 1..=2 {
        let pushed = world.push("newest", number).await;
        assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
    }
    let back = world.engine.rollback(&fleet("production"), &actor("ada"), "it burns").await.unwrap();
    let twice = world.engine.rollback(&fleet("production"), &actor("bob"), "").await.unwrap_err();
    assert!(twice.to_string().contains("shop/3 rolls shop-production back already"), "{twice}");
    world.engine.drive(&back).await.unwrap();
    let view = world.until_ended(&back).await;
    assert_eq!((view.status, view.stages.len()), (Status::Succeeded, 1), "{view:#?}");
    let state = world.fleet("production").await;
    assert_eq!(state.current.as_ref().unwrap().image.id.as_str(), "image-of-1");
    let quarantine = state.quarantined.values().next().unwrap();
    assert_eq!(quarantine.reason, "shop/3 rolled back from it: it burns");

    let nothing = world.engine.rollback(&fleet("production"), &actor("ada"), "").await.unwrap_err();
    assert!(nothing.to_string().contains("has nothing to go back to"), "{nothing}");
    // Refused at the gate of an environment that never ran anything else.
    let policy = |view: &RunView| {
        let failed = view.stages.iter().find(|stage| stage.status == StageStatus::Failed).unwrap();
        (failed.cause, failed.reason.clone().unwrap())
    };
    let staging = world.engine.rollback(&fleet("staging"), &actor("ada"), "").await.unwrap();
    world.engine.drive(&staging).await.unwrap();
    assert_eq!(world.until_ended(&staging).await.status, Status::Succeeded);
    let name = quarantine.name.clone();
    world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), " ").await.unwrap_err();
    world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), "mended").await.unwrap();
    assert_eq!(world.fleet("production").await.quarantined.len(), 0);
    assert_eq!(world.fleet("staging").await.quarantined.len(), 0);
    let again = world.engine.lift(&"shop".parse().unwrap(), &name, &actor("ada"), "mended").await;
    assert!(again.unwrap_err().to_string().contains("is in quarantine"));

    // A run whose image somebody puts in quarantine while it waits is refused.
    world.engine.lock(&"production".parse().unwrap(), &actor("ada"), "wait").await.unwrap();
    let last = world.push("newest", 9).await;
    world.until_waiting(&last, "locked by ada").await;
    let quarantined = FleetEvent::Quarantined {
        image: format!("image-of-{}", last.number).parse().unwrap(),
        name: "shop-9".to_owned(),
        actor: actor("ada"),
        reason: "it burns".to_owned(),
    };
    let sequence = world.fleet("staging").await.sequence;
    let now = Timestamp::UNIX_EPOCH;
    let append = journal::fleet_append(&fleet("staging"), sequence, vec![(now, quarantined)]);
    world.store.append(vec![append]).await.unwrap();
    world.engine.unlock(&"production".parse().unwrap(), &actor("ada")).await.unwrap();
    let (cause, reason) = policy(&world.until_ended(&last).await);
    assert_eq!(cause, Some(Cause::Policy));
    assert!(reason.contains("windlass lift shop shop-9 --reason"), "{reason}");
}

#[tokio::test]
async fn a_rollback_goes_before_others_and_only_from_what_it_was_asked_for() {
    let world = World::with_manual_production();
    for number in 1..=3 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "promote it to production").await;
        if number < 3 {
            world.promote(&pushed, "production", "octocat").await.unwrap();
            assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
        }
    }
    let production: Target = "production".parse().unwrap();
    world.engine.lock(&production, &actor("ada"), "wait").await.unwrap();
    world.promote(&run(3), "production", "octocat").await.unwrap();
    world.until_waiting(&run(3), "locked by ada").await;
    let back = world.engine.rollback(&fleet("production"), &actor("bob"), "").await.unwrap();
    world.engine.drive(&back).await.unwrap();
    world.until_waiting(&back, "locked by ada").await;
    world.engine.unlock(&production, &actor("ada")).await.unwrap();
    assert_eq!(world.until_ended(&back).await.status, Status::Succeeded);
    assert_eq!(world.until_ended(&run(3)).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [1, 2, 4, 3]);
}

#[tokio::test]
async fn a_lock_belongs_to_whoever_set_it() {
    let world = World::with_manual_production();
    let staging: Target = "staging".parse().unwrap();
    world.engine.lock(&staging, &actor("ada"), "one").await.unwrap();
    world.engine.lock(&staging, &actor("ada"), "two").await.unwrap();
    let other = world.engine.lock(&staging, &actor("bob"), "mine").await.unwrap_err().to_string();
    assert!(other.contains("locked already, by ada") && other.contains("(two)"), "{other}");
    world.engine.unlock(&staging, &actor("bob")).await.unwrap();
    let open = world.engine.unlock(&staging, &actor("bob")).await.unwrap_err().to_string();
    assert!(open.contains("staging is not locked"), "{open}");
}

#[tokio::test]
async fn so_many_different_people_have_to_say_yes_and_no_author() {
    let approvals = "    promotion: manual\n    approvals: { count: 2, roles: [manager], author: false }\n";
    let world = World::new("", approvals);
    let mut origin = world.origin("newest", 1);
    origin.promote = Promote::All;
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    let view = world.until_waiting(&run, "waiting for 2 more of 2 people").await;
    assert!(view.waiting_for.as_ref().unwrap().contains("a command line's word does not count"), "{view:#?}");
    assert_eq!(
        (view.gates[0].approvals_needed, view.gates[0].roles.as_slice()),
        (2, &["manager".to_owned()][..])
    );
    let stranger = world.promote(&run, "production", "mallory").await.unwrap_err().to_string();
    assert!(stranger.contains("mallory may not promote to production"), "{stranger}");
    world.promote(&run, "production", "ada").await.unwrap();
    let twice = world.promote(&run, "production", "Ada").await.unwrap_err().to_string();
    assert!(twice.contains("has approved shop/1 for production already"), "{twice}");
    let view = world.until_waiting(&run, "waiting for 1 more of 2 people").await;
    assert_eq!(view.gates[0].approvals[0].actor, "ada");
    world.promote(&run, "production", "bob").await.unwrap();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
}

#[tokio::test]
async fn a_freeze_holds_also_what_was_promoted_and_lets_rollbacks_through() {
    let freeze = "    promotion: manual\n    freeze: [{ from: \"Fri 16:00\", to: \"Mon 07:00\", timezone: Europe/Berlin, reason: weekend }]\n";
    let world = World::new("", freeze);
    for number in 1..=2 {
        let pushed = world.push("newest", number).await;
        world.until_waiting(&pushed, "promote it to production").await;
        world.promote(&pushed, "production", "octocat").await.unwrap();
        assert_eq!(world.until_ended(&pushed).await.status, Status::Succeeded);
    }
    world.clock.set("2026-11-20T18:00:00Z".parse().unwrap());
    let run = world.push("newest", 3).await;
    world.until_waiting(&run, "promote it to production").await;
    world.promote(&run, "production", "octocat").await.unwrap();
    let said = "production is frozen until Mon 2026-11-23 07:00 Europe/Berlin (weekend)";
    world.until_waiting(&run, said).await;
    let back = world.engine.rollback(&fleet("production"), &actor("ada"), "").await.unwrap();
    world.engine.drive(&back).await.unwrap();
    assert_eq!(world.until_ended(&back).await.status, Status::Succeeded);
    world.clock.set("2026-11-23T06:00:00Z".parse().unwrap());
    world.engine.0.lanes.wake_all();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
    assert_eq!(world.deployed("production").await, [1, 2, 4, 3]);
}

#[tokio::test]
async fn a_pull_request_goes_as_far_as_it_should() {
    let world = World::with_manual_production();
    let mut origin = world.origin("newest", 1);
    origin.until = vec!["upload".parse::<StageName>().unwrap()];
    origin.trigger = Trigger::PullRequest { delivery: "d".to_owned(), number: 12 };
    origin.reference = Some("refs/pull/12/head".to_owned());
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    let view = world.until_ended(&run).await;
    assert_eq!(view.status, Status::Succeeded);
    assert_eq!(stage(&view, "upload").status, StageStatus::Succeeded);
    for name in ["bake", "staging", "production"] {
        let reason = stage(&view, name).reason.as_deref();
        assert_eq!(reason, Some("a pull request goes as far as upload"), "{name}");
    }
}

#[tokio::test]
async fn a_role_that_somebody_is_given_counts_for_runs_under_way() {
    let world = World::new("", "    promotion: manual\n    approvals: { roles: [manager] }\n");
    let run = world.push("every", 1).await;
    world.until_waiting(&run, "promote it to production").await;
    world.promote(&run, "production", "carol").await.unwrap_err();
    let path = world.directory.path().join("windlass.yaml");
    let carol = "people:\n  carol: { roles: [manager], emails: [carol@example.com] }\n";
    let settings = std::fs::read_to_string(&path).unwrap().replace("people:\n", carol);
    std::fs::write(&path, settings).unwrap();
    world.engine.use_settings(Arc::new(Settings::read(&path).unwrap()));
    world.promote(&run, "production", "carol").await.unwrap();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
}
