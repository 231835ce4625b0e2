//! The real stages, as the simulation runs them.
//!
//! Work on files happens on other threads, and how fast they are is nobody's to say. So a stage gets
//! its turn until all that it began there is done: seen from the engine, files take no time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use windlass::ids::AttemptId;
use windlass::run::event::{Failure, Outcome};
use windlass::stage::{Attempt, Stage, Work};

use crate::clock;
use crate::world::Life;

pub struct Simulated {
    pub inner: Arc<dyn Stage>,
    pub life: Arc<Life>,
    /// Whether it works on files.
    pub files: bool,
}

#[async_trait]
impl Stage for Simulated {
    async fn run(&self, attempt: &mut Attempt) -> Result<Outcome, Failure> {
        if !self.files {
            return self.inner.run(attempt).await;
        }
        settled(self.inner.run(attempt)).await
    }

    fn recorded(&self, attempt: &AttemptId) {
        self.inner.recorded(attempt);
        if self.files {
            wait_for_other_threads();
        }
    }

    fn stop_bound(&self, work: &Work) -> Duration {
        let bound = self.inner.stop_bound(work);
        let world = &self.life.world;
        world.ledger().told_to_stop(work.id.clone(), clock::elapsed(), bound, self.life.number);
        bound
    }
}

/// Remembers to be woken, and by whom.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    /// Whom to wake when nobody is looking.
    outer: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        let outer = self.outer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        outer.into_iter().for_each(Waker::wake);
    }
}

/// Polls until nothing is under way on other threads. The runtime has one of them, and it does one
/// thing after the other.
async fn settled<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let bell = Arc::new(Bell::default());
    poll_fn(|context| {
        let outer = |waker| *bell.outer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = waker;
        outer(None);
        loop {
            bell.rung.store(false, Ordering::SeqCst);
            let polled = work.as_mut().poll(&mut Context::from_waker(&bell.clone().into()));
            wait_for_other_threads();
            if polled.is_ready() {
                return polled;
            }
            if !bell.rung.load(Ordering::SeqCst) {
                outer(Some(context.waker().clone()));
                return Poll::Pending;
            }
        }
    })
    .await
}

fn wait_for_other_threads() {
    let (done, was_done) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || done.send(()));
    let _ = was_done.recv();
}
