//! A launch for which the cloud has no room: it is waited for, visibly, and asked for again on a steady
//! beat.

use std::time::{Duration, Instant};

use super::Step;
use crate::run::event::Failure;
use crate::run::state::WAITING_FOR;

/// What is known of it.
#[derive(Debug, Default)]
pub struct Shortage {
    /// Why there is no room, and when it is asked for again.
    under_way: Option<(String, Instant)>,
}

impl Shortage {
    /// How long nothing is launched yet.
    pub fn left(&self) -> Option<Duration> {
        let (_, until) = self.under_way.as_ref()?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// There is none, for this reason. It is said when it is another reason than before.
    pub async fn met(&mut self, step: &mut Step, why: String, beat: Duration) -> Result<(), Failure> {
        let said = format!("waiting for capacity: {why}");
        if step.noted::<String>(WAITING_FOR).as_ref() != Some(&said) {
            step.say(&said);
            step.note(WAITING_FOR, &said).await?;
        }
        self.under_way = Some((why, Instant::now() + beat));
        Ok(())
    }

    /// There was room again, or nobody asks any more.
    pub async fn over(&mut self, step: &mut Step) -> Result<(), Failure> {
        self.under_way = None;
        if step.noted::<String>(WAITING_FOR).is_some() {
            step.say("there is capacity again");
            step.note(WAITING_FOR, &()).await?;
        }
        Ok(())
    }
}
