//! The clock of a client's connection: how long the head of its next request may take.
//!
//! That is asked for each request anew, and nearly never comes to pass. So a connection has one timer of
//! the runtime, which stays set while deadlines come and go: it wakes the connection at most once in the
//! time that a head may take, and is then set to the deadline that counts by now.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::lock;

/// The runtime's timer, shared by the deadlines of one connection. `None` before the first of them.
type Shared = Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>;

/// For one connection only, which has one deadline at a time.
pub(super) struct HeadTimer(Shared);

impl HeadTimer {
    pub fn new() -> Self {
        Self(Shared::default())
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline { at: deadline.into(), timer: self.0.clone() })
    }

    /// As the runtime has it.
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

struct Deadline {
    at: tokio::time::Instant,
    timer: Shared,
}

impl Sleep for Deadline {}

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = lock(&self.timer);
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.at)));
        if timer.deadline() > self.at {
            timer.as_mut().reset(self.at);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            // It was set for an earlier deadline, which does not count any more.
            if timer.deadline() >= self.at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_deadline_comes_after_a_later_one_was_given_up() {
        let timer = HeadTimer::new();
        assert!(timer.sleep(HOUR).now_or_never().is_none());
        timer.sleep(MOMENT).await;
        timer.sleep_until(timer.now()).await;
    }

    #[tokio::test]
    async fn a_deadline_does_not_come_when_an_earlier_one_would_have() {
        let timer = HeadTimer::new();
        assert!(timer.sleep(MOMENT).now_or_never().is_none());
        let begun = timer.now();
        timer.sleep(3 * MOMENT).await;
        assert!(timer.now() - begun >= 3 * MOMENT);
    }
}
