//! `windlass show`

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;

use super::reach::{Place, Reach, Where, no_run, reach};
use super::text::{BOLD, DIM, clean, stage_look, step_look};
use super::{Error, Exit, shipment, text};
use crate::engine::{self, view_of_journal};
use crate::http::{client, interrupted, measure};
use crate::ids::RunId;
use crate::journal;
use crate::run::view::{AttemptView, GateView, RunView, StageStatus, StageView, StepView};

mod report;

/// So often it is looked who answers, where whoever did went away, and the pause between two looks.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Show a run: its stages and steps, why it waits or failed, and what a promotion ships
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run, such as storefront/42
    run: RunId,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub async fn run(args: Args) -> Result<Exit, Error> {
    let view = look(&args.place.place()?, &args.run).await?;
    let mut out = anstream::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", super::json(&view)?)?,
        false => print(&mut out, &view, Timestamp::now())?,
    }
    Ok(Exit::Good)
}

/// The run as it is now, whoever has it.
pub async fn look(place: impl Into<Place>, run: &RunId) -> Result<RunView, Error> {
    let place = place.into();
    let mut reached = reach(&place).await?;
    for _ in 0..LOOKS {
        let Reach::Holder(client) = &reached else { break };
        match client.run(run).await {
            // It is just going, with the end of its run: then the directory itself tells.
            Err(client::Error::Gone { .. }) if place.directory().is_some() => {
                tokio::time::sleep(PAUSE).await;
                reached = reach(&place).await?;
            }
            view => return Ok(view?),
        }
    }
    match reached {
        Reach::Holder(client) => Ok(client.run(run).await?),
        Reach::Stored(None) => Err(no_run(run, &place)),
        Reach::Stored(Some(store)) => {
            let idle = place.is_idle().then(|| interrupted(run));
            let mut view = match view_of_journal(store.as_ref(), run, idle.as_deref()).await {
                Err(engine::Error::Journal(journal::Error::NoRun(_))) => return Err(no_run(run, &place)),
                view => view?,
            };
            if let Some(data) = place.directory() {
                measure(&mut view, data);
            }
            Ok(view)
        }
    }
}

fn print(out: &mut impl Write, view: &RunView, now: Timestamp) -> io::Result<()> {
    header(out, view, now)?;
    for stage in &view.stages {
        writeln!(out)?;
        print_stage(out, stage, now)?;
    }
    for gate in &view.gates {
        writeln!(out)?;
        print_gate(out, view, gate)?;
    }
    Ok(())
}

fn header(out: &mut impl Write, view: &RunView, now: Timestamp) -> io::Result<()> {
    let style = text::run_look(view.status).style;
    let took = text::between(view.created_at, view.finished_at.unwrap_or(now));
    let since = if view.finished_at.is_some() { "in" } else { "for" };
    writeln!(out, "{BOLD}{}{BOLD:#}  {style}{}{style:#} {since} {took}", view.run, view.status.as_str())?;
    if let Some(why) = &view.waiting_for {
        writeln!(out, "  {}", clean(why))?;
    }
    if let Some(by) = &view.cancelled_by {
        field(out, "cancelled by", &clean(by))?;
    }
    if let Some(by) = &view.superseded_by {
        field(out, "superseded", &format!("by {by}"))?;
    }
    if let Some(commit) = &view.commit {
        let branch = view.branch.as_deref().map(|branch| format!(" on {}", clean(branch)));
        field(out, "commit", &format!("{commit}{}", branch.unwrap_or_default()))?;
        let message = view.message.as_deref().and_then(|message| message.lines().next()).unwrap_or_default();
        field(out, "", &clean(message))?;
        field(out, "", &clean(view.author.as_deref().unwrap_or_default()))?;
    }
    let proved = if view.actor_verified { "" } else { " (unverified)" };
    field(out, "started by", &format!("{}{proved}, {}", clean(&view.actor), text::date(view.created_at)))?;
    for replay in &view.replays {
        field(out, "replayed by", &format!("{}, {}", text::replay(replay), text::date(replay.at)))?;
    }
    for (name, value) in &view.params {
        field(out, "param", &format!("{name}={}", clean(value)))?;
    }
    Ok(())
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    match value {
        "" => Ok(()),
        value => writeln!(out, "  {DIM}{name:<12}{DIM:#} {value}"),
    }
}

fn print_stage(out: &mut impl Write, stage: &StageView, now: Timestamp) -> io::Result<()> {
    let look = stage_look(stage.status);
    let style = look.style;
    write!(out, "{style}{} {}{style:#}", look.symbol, stage.name)?;
    if stage.uses != "script" {
        write!(out, " {DIM}({}){DIM:#}", stage.uses)?;
    }
    write!(out, "  {}", stage.status.as_str())?;
    if let Some(started) = stage.started_at {
        let word = if stage.finished_at.is_some() { "in" } else { "for" };
        write!(out, " {word} {}", text::between(started, stage.finished_at.unwrap_or(now)))?;
    }
    if stage.attempt > 1 {
        write!(out, ", attempt {}", stage.attempt)?;
    }
    if let (Some(environment), true) = (&stage.environment, stage.started_at.is_some()) {
        write!(out, ", {environment}")?;
    }
    writeln!(out)?;
    if let Some(why) = &stage.waiting_for {
        writeln!(out, "    {}", clean(why))?;
    }
    if let Some(reason) = &stage.reason {
        let cause = stage.cause.filter(|_| stage.status == StageStatus::Failed);
        let cause = cause.map(|cause| format!(" ({})", cause.as_str())).unwrap_or_default();
        writeln!(out, "    {style}{}{style:#}{cause}", clean(reason))?;
    }
    for step in &stage.steps {
        print_step(out, step, now)?;
    }
    if let Some(report) = &stage.report {
        report::print(out, report)?;
    }
    // The attempt that is shown above is not told twice.
    for attempt in stage.history.iter().filter(|attempt| attempt.attempt != stage.attempt) {
        print_attempt(out, attempt, now)?;
    }
    for (name, digest) in &stage.artifacts {
        writeln!(out, "    {DIM}artifact{DIM:#} {name} {}", text::short(digest, 13))?;
    }
    if let Some(image) = &stage.image {
        let parent = image.parent.as_ref().map(|parent| format!(", from {parent}")).unwrap_or_default();
        writeln!(out, "    {DIM}image{DIM:#} {} ({}){parent}", image.name, image.id)?;
    }
    for (name, value) in &stage.outputs {
        writeln!(out, "    {DIM}output{DIM:#} {name}={}", text::short(&clean(value), 200))?;
    }
    Ok(())
}

/// An earlier attempt.
fn print_attempt(out: &mut impl Write, attempt: &AttemptView, now: Timestamp) -> io::Result<()> {
    let look = stage_look(attempt.status);
    let style = look.style;
    let took = text::between(attempt.started_at, attempt.finished_at.unwrap_or(now));
    writeln!(
        out,
        "    {DIM}attempt {}{DIM:#} {style}{}{style:#} in {took}",
        attempt.attempt,
        attempt.status.as_str()
    )?;
    if let Some(reason) = &attempt.reason {
        let cause = attempt.cause.filter(|_| attempt.status == StageStatus::Failed);
        let cause = cause.map(|cause| format!(" ({})", cause.as_str())).unwrap_or_default();
        writeln!(out, "      {}{cause}", clean(reason))?;
    }
    for step in attempt.steps.iter().filter(|step| step.started_at.is_some()) {
        write!(out, "  ")?;
        print_step(out, step, now)?;
    }
    Ok(())
}

fn print_step(out: &mut impl Write, step: &StepView, now: Timestamp) -> io::Result<()> {
    let look = step_look(step.status);
    let style = look.style;
    write!(out, "    {style}{}{style:#} {}", look.symbol, clean(&step.name))?;
    if let Some(started) = step.started_at {
        write!(out, "  {DIM}{}{DIM:#}", text::between(started, step.finished_at.unwrap_or(now)))?;
    }
    if let Some(code) = step.exit_code {
        write!(out, "{DIM}, exit code {code}{DIM:#}")?;
    }
    if step.log_bytes > 0 {
        write!(out, "{DIM}, {} of output{DIM:#}", text::bytes(step.log_bytes))?;
    }
    writeln!(out)
}

fn print_gate(out: &mut impl Write, view: &RunView, gate: &GateView) -> io::Result<()> {
    let by = gate.actor.as_deref().map(|actor| format!(" by {}", clean(actor))).unwrap_or_default();
    let reason = gate.reason.as_deref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    let environment = &gate.environment;
    writeln!(out, "{BOLD}gate of {environment}{BOLD:#}  {}{by}{reason}", gate.status)?;
    for approval in &gate.approvals {
        writeln!(out, "    approved by {}, {}", clean(&approval.actor), text::date(approval.at))?;
    }
    if !gate.roles.is_empty() {
        writeln!(out, "    asks for {}", gate.roles.join(" or "))?;
    }
    for line in shipment::lines(&gate.ships, environment) {
        writeln!(out, "    {line}")?;
    }
    if gate.status == "waiting" && !view.status.is_final() {
        writeln!(out, "    windlass promote {} {environment}", view.run)?;
    }
    Ok(())
}
