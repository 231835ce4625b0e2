//! What an attempt needs to be gone on with may go when its success is durable, and not before.

use std::sync::Mutex;

use futures_util::FutureExt as _;

use super::*;
use crate::ids::{AttemptId, StreamId};
use crate::run::event::RunEvent;
use crate::store::Event;

/// Succeeds at once, and takes down what it hears of that: whether it stands in the journal by then.
struct Hearing {
    store: Arc<Memory>,
    heard: Mutex<Vec<(AttemptId, bool)>>,
}

#[async_trait]
impl Stage for Hearing {
    async fn run(&self, _: &mut Attempt) -> Result<Outcome, Failure> {
        Ok(Outcome::default())
    }

    fn recorded(&self, id: &AttemptId) {
        let journal = self.store.read(&StreamId::Run(id.run.clone()), 0).now_or_never().unwrap().unwrap();
        let stands = journal.iter().any(|recorded| {
            matches!(&recorded.event, Event::Run(RunEvent::AttemptSucceeded { stage, attempt, .. })
                if *stage == id.stage && *attempt == id.attempt)
        });
        self.heard.lock().unwrap().push((id.clone(), stands));
    }

    fn stop_bound(&self, _: &Work) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_stage_hears_of_each_success_once_when_it_is_durable() {
    let mut world = World::new("", "");
    let hearing = Arc::new(Hearing { store: world.store.clone(), heard: Mutex::default() });
    world.engine = Engine::new(Parts {
        data: world.directory.path().to_owned(),
        store: world.store.clone(),
        clock: world.clock.clone(),
        stages: BTreeMap::from([("script", hearing.clone() as Arc<dyn Stage>)]),
        surveyor: Arc::new(Numbers),
        clouds: crate::app::clouds(world.directory.path()).unwrap().0,
        slots: Slots::new(8),
    });
    let stages = "stages: { a: { steps: [{ run: a }] }, b: { needs: a, steps: [{ run: b }] } }";
    let origin = Origin { pipeline: format!("name: shop\n{stages}\n"), ..world.origin("every", 1) };
    let run = world.create(origin).await;
    world.engine.drive(&run).await.unwrap();
    assert_eq!(world.until_ended(&run).await.status, Status::Succeeded);
    let id = |stage: &str| AttemptId { run: run.clone(), stage: stage.parse().unwrap(), attempt: 1 };
    assert_eq!(*hearing.heard.lock().unwrap(), [(id("a"), true), (id("b"), true)]);
}
