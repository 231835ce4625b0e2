//! Stages whose code does not come back when it is told to stop: they are ended by force, in a state that
//! is named, and give back what they held.

use super::*;

/// Says that it runs, begins a rollout where it is a deployment, and never comes back.
struct Hung(watch::Sender<u32>);

#[async_trait]
impl Stage for Hung {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        let work = attempt.work.clone();
        let Next::Do(_step) = attempt.next::<()>("Hang").await? else { return Ok(Outcome::default()) };
        if let Kind::Deploy = work.stage().kind {
            let image = image(&work);
            let started = FleetEvent::RolloutStarted {
                run: work.id.run.clone(),
                stage: work.id.stage.clone(),
                attempt: work.id.attempt,
                key: work.id.key(),
                release: Release { image: image.id.clone(), env: BTreeMap::new() },
                image: Box::new(image),
                size: 1,
                reference: None,
            };
            attempt.record_fleet(&fleet("staging"), started).await?;
        }
        self.0.send_modify(|hung| *hung += 1);
        std::future::pending().await
    }

    fn stop_bound(&self, _: &Work) -> Duration {
        Duration::from_millis(50)
    }
}

/// A world in which stages of these kinds hang, with one slot.
fn hanging(kinds: &[&'static str]) -> (World, watch::Receiver<u32>) {
    let mut world = World::new("", "");
    let (hung, hangs) = watch::channel(0);
    let scripts = world.script.subscribe();
    let stages = ["script", "upload", "bake", "deploy", "certify"].into_iter().map(|word| {
        let stage: Arc<dyn Stage> = match kinds.contains(&word) {
            true => Arc::new(Hung(hung.clone())),
            false => Arc::new(Scripted(scripts.clone())),
        };
        (word, stage)
    });
    world.engine = Engine::new(Parts {
        stages: stages.collect(),
        slots: Slots::new(1),
        ..parts(world.directory.path(), &world.store, world.clock.clone(), &scripts)
    });
    (world, hangs)
}

#[tokio::test]
async fn what_hangs_is_ended_by_force_and_gives_its_slot_back() {
    let (world, mut hangs) = hanging(&["script"]);
    let first = world.push("every", 1).await;
    hangs.wait_for(|hung| *hung == 1).await.unwrap();
    let second = world.push("every", 2).await;
    world.until_waiting(&second, "waiting for a free slot").await;
    world.act(&first, Act::Cancel { reason: String::new() }, "ada").await.unwrap();
    let view = world.until_ended(&first).await;
    let build = stage(&view, "build");
    assert_eq!(
        (view.status, build.status, build.cause),
        (Status::Cancelled, StageStatus::Cancelled, Some(Cause::Cancelled))
    );
    assert!(build.reason.as_ref().unwrap().contains("ended by force"), "{build:#?}");
    assert_ne!(build.steps[0].status.as_str(), "running", "{build:#?}");
    hangs.wait_for(|hung| *hung == 2).await.unwrap();
}

#[tokio::test]
async fn a_rollout_that_is_ended_by_force_is_said_to_be_in_the_middle_and_holds_nobody_up() {
    let (mut world, mut hangs) = hanging(&["deploy"]);
    let first = world.push("every", 1).await;
    hangs.wait_for(|hung| *hung == 1).await.unwrap();
    world.act(&first, Act::Cancel { reason: String::new() }, "ada").await.unwrap();
    assert_eq!(world.until_ended(&first).await.status, Status::Cancelled);
    let fleet = world.fleet("staging").await;
    assert_eq!(fleet.holder, None);
    let end = fleet.rollout.unwrap().end;
    let Some(RolloutEnd::Stranded { reason }) = end else { panic!("{end:?}") };
    assert!(reason.contains("was left in the middle") && reason.contains("ended by force"), "{reason}");

    // The same after everything of the process is lost.
    world.restart();
    let again = world.engine.view(&first).await.unwrap();
    assert_eq!((again.status, stage(&again, "staging").status), (Status::Cancelled, StageStatus::Cancelled));
    let second = world.push("every", 2).await;
    assert_eq!(world.until_ended(&second).await.status, Status::Succeeded);
    assert_eq!(world.deployed("staging").await, [2]);
}
