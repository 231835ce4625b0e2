//! Runs that wait for the calendar, while the clock is set and daylight saving changes.

use super::*;

const WEEKEND: &str =
    "    freeze: [{ from: \"Fri 16:00\", to: \"Mon 07:00\", timezone: Europe/Berlin, reason: weekend }]\n";

impl World {
    fn set(&self, now: &str) {
        self.clock.set(now.parse().unwrap());
    }

    /// How the run looks after it was considered once more.
    async fn considered(&self, run: &RunId) -> RunView {
        // Whatever is asked of it is answered after that; this is refused.
        let nowhere = "nowhere".parse().unwrap();
        self.act(run, Act::Promote { environment: nowhere }, "octocat").await.unwrap_err();
        self.engine.view(run).await.unwrap()
    }
}

/// The clocks of Berlin go forward in one of the weekends and back in the other.
#[tokio::test]
async fn a_promoted_run_waits_for_the_end_of_a_freeze_across_a_change_of_the_clocks() {
    for (saturday, said, before, over) in [
        ("2026-03-28T12:00:00Z", "Mon 2026-03-30 07:00", "2026-03-30T04:59:59Z", "2026-03-30T05:00:00Z"),
        ("2026-10-24T12:00:00Z", "Mon 2026-10-26 07:00", "2026-10-26T05:59:59Z", "2026-10-26T06:00:00Z"),
    ] {
        let mut world = World::new("", &format!("    promotion: manual\n{WEEKEND}"));
        world.set(saturday);
        let first = world.push("every", 1).await;
        world.until_waiting(&first, "promote it to production").await;
        world.promote(&first, "production", "octocat").await.unwrap();
        let frozen = format!("frozen until {said} Europe/Berlin");
        world.until_waiting(&first, &frozen).await;
        world.set(before);
        let view = world.considered(&first).await;
        assert!(view.waiting_for.unwrap().contains(&frozen), "{before}");
        // Another process decides the same.
        world.restart();
        world.engine.drive_all().await.unwrap();
        world.until_waiting(&first, &frozen).await;
        // Nobody wakes it: it sees for itself that the clock was set.
        world.hold(1, "production");
        world.set(over);
        world
            .until(&first, "it goes in", |view| stage(view, "production").status == StageStatus::Running)
            .await;
        // Back in the freeze: what is in is not turned out.
        world.set(saturday);
        let view = world.considered(&first).await;
        assert_eq!(stage(&view, "production").status, StageStatus::Running);
        world.release(1, "production");
        assert_eq!(world.until_ended(&first).await.status, Status::Succeeded);
        // And the next one waits again.
        let second = world.push("every", 2).await;
        world.until_waiting(&second, "promote it to production").await;
        world.promote(&second, "production", "octocat").await.unwrap();
        world.until_waiting(&second, &frozen).await;
    }
}

#[tokio::test]
async fn a_stage_is_neither_timed_out_by_a_clock_that_is_set_nor_shown_with_a_time_below_zero() {
    let world = World::new("", "");
    world.hold(1, "build");
    let run = world.push("every", 1).await;
    world.until(&run, "it builds", |view| stage(view, "build").status == StageStatus::Running).await;
    for now in
        ["2026-11-18T15:00:00Z", "1970-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "2026-11-18T09:00:00Z"]
    {
        world.set(now);
        let view = world.considered(&run).await;
        assert_eq!(stage(&view, "build").status, StageStatus::Running, "{now}");
    }
    world.release(1, "build");
    let view = world.until_ended(&run).await;
    assert_eq!(view.status, Status::Succeeded, "{view:#?}");
    // A journal whose times go back folds as any other.
    let again = load_run(world.store.as_ref(), &run).await.unwrap();
    assert!(again.ending.is_some());
}
