//! A rollout under way: look, plan, act or wait, and look again.

use std::time::Duration;

use jiff::Timestamp;

use super::{TURNED_BACK, some};
use crate::rollout::{self, Desired, Direction, End, Move, Operation, Phase, Progress};
use crate::run::decide::Stop;
use crate::run::event::Failure;
use crate::stage::attempt;
use crate::stage::fleet::{Done, Fleet};
use crate::stage::shortage::Shortage;
use crate::stage::tally::Tally;
use crate::stage::{Attempt, Step};

/// A rollout under way.
pub(super) struct Rollout<'a, 'b> {
    pub fleet: &'a mut Fleet<'b>,
    pub desired: Desired,
    pub step: Option<(String, Step)>,
    /// What was said last, so that it is said once.
    pub said: String,
    /// How long the fleet may be left alone when nothing wakes us.
    pub pace: Duration,
    /// How long after it had no room the cloud is asked again.
    pub beat: Duration,
    pub shortage: Shortage,
    pub tally: &'a Tally,
}

impl Rollout<'_, '_> {
    /// Answers how it ended, and the step that is still under way.
    pub async fn carry_out(mut self, attempt: &mut Attempt) -> Result<(End, Option<Step>), Failure> {
        if let Some(name) = attempt.pass_over_ended() {
            let step = attempt.begin(&name).await?;
            self.tally.pass_to(step.hearer());
            self.step = Some((name, step));
        }
        self.fleet.recall(&attempt.work.recorded);
        loop {
            let observed = self.fleet.observe().await?;
            self.fleet.launch_again().await?;
            if let (Some(stop), Direction::Forward) = (attempt.stop(), &self.desired.direction) {
                let reason = match stop {
                    Stop::Cancelled => "the run was cancelled",
                    Stop::TimedOut => "the stage's timeout passed",
                };
                self.turn_back(attempt, reason.to_owned()).await?;
            }
            match rollout::plan(&observed, &self.desired) {
                Move::Act { operations, progress } => {
                    let put_off = self.act(attempt, operations, progress).await?;
                    if let Some(left) = put_off {
                        self.wait(attempt, observed.now, observed.now.checked_add(left).ok()).await?;
                    }
                }
                Move::Wait { reason, until, progress } => {
                    let said = std::mem::replace(&mut self.said, reason.clone());
                    let step = step_for(&mut self.step, &self.desired, attempt, self.tally, progress).await?;
                    if said != reason {
                        step.say(&reason);
                    }
                    self.wait(attempt, observed.now, until).await?;
                }
                Move::TurnBack { reason } => self.turn_back(attempt, reason).await?,
                Move::Done(end) => {
                    let step = self.step.take().map(|(_, mut step)| {
                        step.say("the rollout is done");
                        step
                    });
                    return Ok((end, step));
                }
            }
        }
    }

    /// Carries out what the plan says. Where all of it is a launch that the cloud has no room for, the
    /// answer is how long that is put off.
    async fn act(
        &mut self,
        attempt: &mut Attempt,
        operations: Vec<Operation>,
        progress: Progress,
    ) -> Result<Option<Duration>, Failure> {
        let step = step_for(&mut self.step, &self.desired, attempt, self.tally, progress).await?;
        let mut acted = false;
        for operation in operations {
            let launches = matches!(operation, Operation::Launch { .. });
            if launches && self.shortage.left().is_some() {
                continue;
            }
            match self.fleet.carry_out(step, operation).await? {
                Done::NoRoom(why) => self.shortage.met(step, why, self.beat).await?,
                Done::Yes => {
                    acted = true;
                    if launches {
                        self.shortage.over(step).await?;
                    }
                }
            }
        }
        Ok(self.shortage.left().filter(|_| !acted))
    }

    /// Notes why, ends the batch, and goes the other way from now on.
    async fn turn_back(&mut self, attempt: &mut Attempt, reason: String) -> Result<(), Failure> {
        let mut step = match self.step.take() {
            Some((_, step)) => step,
            None => {
                let step = attempt.begin("Turn back").await?;
                self.tally.pass_to(step.hearer());
                step
            }
        };
        self.shortage.over(&mut step).await?;
        step.note(TURNED_BACK, &reason).await?;
        self.tally.pauses();
        // The step failed; the attempt goes on, to bring the fleet back.
        let _: Result<(), Failure> = attempt.finish(step, Err(Failure::task(reason.clone()))).await;
        self.desired.direction = Direction::Back { reason };
        Ok(())
    }

    /// Waits until something about the fleet may have changed.
    async fn wait(&self, attempt: &Attempt, now: Timestamp, until: Option<Timestamp>) -> Result<(), Failure> {
        let patience = until
            .map(|until| Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
            .map_or(self.pace, |left| left.min(self.pace));
        let mut stop = attempt.stop_signal();
        let turned = matches!(self.desired.direction, Direction::Back { .. });
        tokio::select! {
            biased;
            _ = attempt::stopping(&mut stop), if !turned => Ok(()),
            changed = self.fleet.changed(patience) => changed,
        }
    }
}

/// The step of this batch, begun if another one was under way.
async fn step_for<'s>(
    slot: &'s mut Option<(String, Step)>,
    desired: &Desired,
    attempt: &mut Attempt,
    tally: &Tally,
    progress: Progress,
) -> Result<&'s mut Step, Failure> {
    let forward = desired.direction == Direction::Forward;
    let name = match progress.phase {
        Phase::Batch if forward => format!("Swap batch {} of {}", progress.batch, progress.batches),
        Phase::Batch => format!("Roll back batch {} of {}", progress.batch, progress.batches),
        Phase::BringUp => format!("Bring up {} new instances", desired.size),
        Phase::Switch if forward => "Switch".to_owned(),
        Phase::Switch => "Switch back".to_owned(),
        Phase::End => "End the old instances".to_owned(),
    };
    let current = match slot.take() {
        Some((current, step)) if current == name => (current, step),
        other => {
            if let Some((_, mut step)) = other {
                step.say("this batch is done");
                attempt.finish(step, Ok(some(tally.ends()))).await?;
            }
            let step = attempt.begin(&name).await?;
            tally.pass_to(step.hearer());
            (name, step)
        }
    };
    Ok(&mut slot.insert(current).1)
}
