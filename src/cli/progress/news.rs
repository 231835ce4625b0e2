//! PURE. What changed in a run, a line for each change that matters.

use jiff::Timestamp;

use crate::cli::shipment;
use crate::cli::text::{self, between, clean, clock};
use crate::run::view::{GateView, RunView, StageStatus, StageView, StepStatus};

/// What happened between two views of a run, in the order of time. `place` is added to commands; `pages`
/// is where a server's pages are.
pub fn lines(
    before: Option<&RunView>,
    view: &RunView,
    now: Timestamp,
    place: &str,
    pages: Option<&str>,
) -> Vec<String> {
    let mut news: Vec<(Timestamp, String)> = Vec::new();
    if before.is_none() {
        news.push((view.created_at, begins(view)));
    }
    let known = before.map_or(0, |before| before.replays.len());
    for replay in view.replays.iter().skip(known) {
        news.push((replay.at, format!("replayed by {}", text::replay(replay))));
    }
    for gate in &view.gates {
        let old = old_gate(before, gate);
        if gate.status != "waiting"
            && old.is_none_or(|old| (&old.status, old.decided_at) != (&gate.status, gate.decided_at))
        {
            // Before whatever came of it.
            news.push((gate.reached_at, decided(gate)));
        }
    }
    for (i, stage) in view.stages.iter().enumerate() {
        let old = before.and_then(|before| before.stages.get(i));
        changes(old, stage, now, &mut news);
    }
    if let Some(by) = &view.cancelled_by
        && before.is_none_or(|before| before.cancelled_by.is_none())
    {
        news.push((now, format!("being cancelled by {}", clean(by))));
    }
    // Stable: what happened at the same time stays in the order of the file.
    news.sort_by_key(|(at, _)| *at);
    let mut lines: Vec<String> = news.into_iter().map(|(at, text)| format!("{} {text}", clock(at))).collect();
    lines.extend(gates(before, view, place, pages));
    lines
}

fn begins(view: &RunView) -> String {
    let Some(commit) = &view.commit else { return format!("{} begins", view.run) };
    let branch = view.branch.as_deref().map(|branch| format!(" of {}", clean(branch))).unwrap_or_default();
    let subject = view.message.as_deref().and_then(|message| message.lines().next()).unwrap_or_default();
    format!("{} begins with {}{branch}: {}", view.run, commit.short(), clean(subject))
}

/// The gates that the run has come to, and what waits there.
pub fn gates(before: Option<&RunView>, view: &RunView, place: &str, pages: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    for gate in view.gates.iter().filter(|gate| gate.status == "waiting" && !view.status.is_final()) {
        if old_gate(before, gate).is_some_and(|old| old.reached_at == gate.reached_at) {
            continue;
        }
        let (run, environment) = (&view.run, &gate.environment);
        lines.push(format!("{} {environment} waits for a promotion of {run}", clock(gate.reached_at)));
        lines.extend(shipment::lines(&gate.ships, environment).into_iter().map(|line| format!("  {line}")));
        let page = pages.map(|pages| format!("open {pages}/runs/{run} and click Promote, or: "));
        let page = page.unwrap_or_default();
        lines.push(format!("  to ship it: {page}windlass promote {run} {environment}{place}"));
        lines.push(format!("  or not:     windlass reject {run} {environment} --reason \"…\"{place}"));
    }
    lines
}

fn old_gate<'a>(before: Option<&'a RunView>, gate: &GateView) -> Option<&'a GateView> {
    before?.gates.iter().find(|old| old.environment == gate.environment)
}

fn decided(gate: &GateView) -> String {
    let by = gate.actor.as_deref().map(clean).unwrap_or_default();
    let reason = gate.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    format!("{} {} by {by}{reason}", gate.environment, gate.status)
}

fn changes(old: Option<&StageView>, stage: &StageView, now: Timestamp, news: &mut Vec<(Timestamp, String)>) {
    let name = &stage.name;
    if stage.waiting_for.is_some() && old.is_none_or(|old| old.waiting_for != stage.waiting_for) {
        // A slot comes free by itself; that is not worth a line.
        if let (Some(why), StageStatus::Waiting | StageStatus::Running) = (&stage.waiting_for, stage.status) {
            news.push((now, format!("{name}: {}", clean(why))));
        }
    }
    let attempt = old.map_or(0, |old| old.attempt);
    if let Some(started) = stage.started_at
        && stage.attempt > attempt
        && stage.status == StageStatus::Running
    {
        let again =
            if stage.attempt > 1 { format!(" again, attempt {}", stage.attempt) } else { String::new() };
        news.push((started, format!("{name} started{again}")));
    }
    if let Some(step) = stage.steps.iter().rfind(|step| step.status == StepStatus::Running)
        && let Some(started) = step.started_at
    {
        let known = old.filter(|old| old.attempt == stage.attempt).is_some_and(|old| {
            old.steps.iter().any(|old| old.started_at == step.started_at && old.name == step.name)
        });
        if !known {
            news.push((started, format!("{name}: {}", clean(&step.name))));
        }
    }
    if old.is_some_and(|old| old.status == stage.status && old.attempt == stage.attempt) {
        return;
    }
    let at = stage.finished_at.unwrap_or(now);
    let took = stage.started_at.map(|started| between(started, at)).unwrap_or_default();
    let reason = stage.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    match stage.status {
        StageStatus::Succeeded => news.push((at, format!("{name} succeeded in {took}"))),
        StageStatus::Failed if took.is_empty() => news.push((at, format!("{name} failed{reason}"))),
        StageStatus::Failed => news.push((at, format!("{name} failed after {took}{reason}"))),
        StageStatus::Retrying => news.push((at, format!("{name} is to be tried again{reason}"))),
        StageStatus::Skipped => news.push((now, format!("{name} skipped{reason}"))),
        StageStatus::Cancelled => news.push((at, format!("{name} cancelled"))),
        StageStatus::Pending | StageStatus::Queued | StageStatus::Running | StageStatus::Waiting => {}
    }
}
