//! What a stage keeps in case it is run again goes when it is not run again, and not before.

use futures_util::FutureExt;

use super::*;
use crate::ids::AttemptId;

/// Looks, when it hears of a success, whether that is in the journal.
struct Keeping {
    scripted: Scripted,
    store: Arc<Memory>,
    heard: watch::Sender<Vec<(String, StageStatus)>>,
}

#[async_trait]
impl Stage for Keeping {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        self.scripted.run(attempt).await
    }

    fn recorded(&self, attempt: &AttemptId) {
        let state = load_run(self.store.as_ref(), &attempt.run).now_or_never().unwrap().unwrap();
        let view = view::view(&state, &Waits::default());
        let heard = (attempt.to_string(), stage(&view, attempt.stage.as_str()).status);
        self.heard.send_modify(|all| all.push(heard));
    }

    fn stop_bound(&self, work: &Work) -> Duration {
        self.scripted.stop_bound(work)
    }
}

#[tokio::test]
async fn a_stage_hears_of_its_success_when_that_is_in_the_journal() {
    let mut world = World::new("", "");
    world.script.send_modify(|script| {
        script.broken.insert((1, "upload"));
    });
    let (heard, hears) = watch::channel(Vec::new());
    let scripted = Scripted(world.script.subscribe());
    let keeping = Keeping { scripted, store: world.store.clone(), heard };
    world.engine = engine_of(world.directory.path(), &world.store, &world.clock, Arc::new(keeping));
    let first = world.push("every", 1).await;
    let view = world.until_ended(&first).await;
    assert_eq!(stage(&view, "upload").status, StageStatus::Failed);
    let build = AttemptId { run: first, stage: "build".parse().unwrap(), attempt: 1 };
    assert_eq!(*hears.borrow(), [(build.to_string(), StageStatus::Succeeded)], "and of no failure");
}
