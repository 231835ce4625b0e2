//! PURE. A run as lines for a terminal.

use jiff::Timestamp;

use crate::cli::text::{BOLD, DIM, between, clean, run_look, stage_look};
use crate::run::view::{RunView, StageStatus, StageView, StepStatus};

/// Past so many stages only those are shown that are doing something or went wrong, at most as many;
/// the others are counted.
const STAGES: usize = 30;

/// Width of a bar, in characters.
const BAR: usize = 16;

/// A line for the run and one for each stage worth showing.
pub fn lines(view: &RunView, now: Timestamp) -> Vec<String> {
    let style = run_look(view.status).style;
    let commit = view.commit.as_ref().map(|commit| format!("  {}", commit.short())).unwrap_or_default();
    let branch = view.branch.as_deref().map(|branch| format!(" {}", clean(branch))).unwrap_or_default();
    let took = between(view.created_at, view.finished_at.unwrap_or(now));
    let mut lines = vec![format!(
        "{BOLD}{}{BOLD:#}{commit}{branch}  {style}{}{style:#}  {took}",
        view.run,
        view.status.as_str()
    )];
    let all = view.stages.len() <= STAGES;
    let shown: Vec<&StageView> =
        view.stages.iter().filter(|stage| all || is_worth_a_line(stage.status)).take(STAGES).collect();
    let width = shown.iter().map(|stage| stage.name.as_str().len()).max().unwrap_or(0);
    lines.extend(shown.iter().map(|stage| line(stage, width, now)));
    if !all {
        lines.push(format!("  {DIM}{}{DIM:#}", summary(view)));
    }
    lines
}

fn is_worth_a_line(status: StageStatus) -> bool {
    match status {
        StageStatus::Running | StageStatus::Retrying | StageStatus::Waiting | StageStatus::Failed => true,
        StageStatus::Pending
        | StageStatus::Queued
        | StageStatus::Succeeded
        | StageStatus::Skipped
        | StageStatus::Cancelled => false,
    }
}

fn line(stage: &StageView, width: usize, now: Timestamp) -> String {
    let look = stage_look(stage.status);
    let (symbol, style) = (look.symbol, look.style);
    let took = match (stage.status, stage.started_at) {
        (StageStatus::Pending | StageStatus::Queued, _) | (_, None) => String::new(),
        (_, Some(started)) => between(started, stage.finished_at.unwrap_or(now)),
    };
    let attempt = if stage.attempt > 1 { format!(" attempt {}", stage.attempt) } else { String::new() };
    format!(
        "  {style}{symbol}{style:#} {:<width$}  {style}{:<9}{style:#}  {took:>9}{attempt}  {}",
        stage.name,
        stage.status.as_str(),
        detail(stage),
    )
    .trim_end()
    .to_owned()
}

/// What it is doing, or why it does nothing.
fn detail(stage: &StageView) -> String {
    if let Some(why) = &stage.waiting_for {
        return clean(why);
    }
    match stage.status {
        StageStatus::Failed | StageStatus::Skipped | StageStatus::Retrying => {
            stage.reason.as_deref().map(clean).unwrap_or_default()
        }
        StageStatus::Running => {
            let step = stage.steps.iter().rev().find(|step| step.status == StepStatus::Running);
            step.map(|step| format!("{}{}", bar(&step.name).unwrap_or_default(), clean(&step.name)))
                .unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// The bar of a step that is one of several batches, as its name says: `Swap batch 2 of 4`. The batch
/// that is under way counts half.
fn bar(step: &str) -> Option<String> {
    let (_, numbers) = step.rsplit_once("batch ")?;
    let (batch, batches) = numbers.split_once(" of ")?;
    let (batch, batches): (usize, usize) = (batch.parse().ok()?, batches.parse().ok()?);
    if batch == 0 || batch > batches || batches > 100_000 {
        return None;
    }
    let full = (2 * batch - 1) * BAR / (2 * batches);
    Some(format!("{}{} ", "█".repeat(full), "░".repeat(BAR - full)))
}

fn summary(view: &RunView) -> String {
    let counted = [
        StageStatus::Succeeded,
        StageStatus::Failed,
        StageStatus::Running,
        StageStatus::Retrying,
        StageStatus::Waiting,
        StageStatus::Queued,
        StageStatus::Pending,
        StageStatus::Skipped,
        StageStatus::Cancelled,
    ];
    let count = |status| view.stages.iter().filter(|stage| stage.status == status).count();
    let parts = counted.into_iter().map(|status| (count(status), status)).filter(|(count, _)| *count > 0);
    let parts: Vec<String> = parts.map(|(count, status)| format!("{count} {}", status.as_str())).collect();
    format!("{} of {} stages", parts.join(", "), view.stages.len())
}
