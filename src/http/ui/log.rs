//! The output of a step, as far as it is written.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use askama::Template;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::ansi::{self, Span, Style};
use super::form::Who;
use super::{Base, page, run, text};
use crate::http::extract::{Asked, Run};
use crate::http::logs::has_ended;
use crate::http::look::look;
use crate::http::{Api, Problem};
use crate::ids::{AttemptId, RunId, StageName, StepId};
use crate::log;
use crate::run::view::{RunView, StageView, StepStatus, StepView};

/// So many bytes of the end of a log are on its page; the whole text is behind a link.
const TAIL: u64 = 1024 * 1024;

/// So many lines stand in one block: a browser lays out only the blocks in sight. `log.js` says the same.
const BLOCK: usize = 500;

/// The part of a path that names a stage.
#[derive(Deserialize)]
pub struct Stage {
    pub stage: String,
}

/// `?attempt=…&step=…`
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    pub attempt: Option<u32>,
    pub step: Option<u32>,
    pub from: Option<String>,
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    base: Base,
    /// Of the run.
    back: String,
    /// Of this stage's logs.
    path: String,
    stage: StageView,
    attempt: u32,
    step: u32,
    /// The steps to choose from.
    steps: Vec<Choice>,
    /// Where `log.js` goes on reading; `None` when nothing more comes.
    live: Option<String>,
    /// The log in blocks of lines.
    blocks: Vec<Vec<Span>>,
    bytes: u64,
    /// Only the end of the log is shown.
    cut: bool,
}

struct Choice {
    number: u32,
    name: String,
    status: &'static str,
}

/// The step that a request names, looked up.
pub struct Found {
    pub view: RunView,
    pub stage: StageView,
    pub step: StepId,
}

pub async fn find(api: &Api, run: &RunId, stage: &str, which: &Which) -> Result<Found, Problem> {
    let view = look(&api.engine, &api.data, run).await?;
    let found = view.stages.iter().find(|found| found.name.as_str() == stage).cloned();
    let stage = found.ok_or_else(|| Problem::not_found(format!("{run} has no stage {stage:?}")))?;
    // A stage that is to be done again has only what it did before.
    let newest = if stage.attempt == 0 { stage.attempts } else { stage.attempt };
    let attempt = which.attempt.unwrap_or(newest);
    if attempt == 0 || attempt > stage.attempts {
        let name: &StageName = &stage.name;
        return Err(Problem::not_found(match which.attempt {
            Some(attempt) => format!("{name} of {run} has no attempt {attempt}"),
            None => format!("{name} of {run} has not begun, so there is no output yet"),
        }));
    }
    let step = which.step.unwrap_or_else(|| most_telling(&stage, attempt));
    let attempt = AttemptId { run: run.clone(), stage: stage.name.clone(), attempt };
    Ok(Found { view, stage, step: StepId { attempt, step } })
}

/// The step to show when none is named: what runs, else what failed, else the last that began.
fn most_telling(stage: &StageView, attempt: u32) -> u32 {
    let steps = steps_of(stage, attempt);
    let numbered = || (1..).zip(steps);
    let first = |wanted| numbered().find(|(_, step)| step.status == wanted).map(|(number, _)| number);
    let begun = numbered().filter(|(_, step)| step.started_at.is_some()).last().map(|(number, _)| number);
    first(StepStatus::Running).or(first(StepStatus::Failed)).or(begun).unwrap_or(1)
}

pub async fn show(
    State(api): State<Api>,
    who: Who,
    Run(run): Run,
    Path(Stage { stage }): Path<Stage>,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let Found { view, stage, step } = find(&api, &run, &stage, &which).await?;
    // Before the log is read: what is written after it ended does not exist.
    let ended = has_ended(&view, &step);
    let file = log::path(&api.data, &step);
    let there = file.is_file();
    let attempt = step.attempt.attempt;
    let steps = choices(&stage, attempt);
    if ended && !there && !steps.iter().any(|choice| choice.number == step.step) {
        return Err(Problem::not_found(format!("there is no log of {step}")));
    }
    let Tail { text, begin, length } = tokio::task::spawn_blocking(|| tail(file))
        .await
        .map_err(Problem::failed)?
        .map_err(Problem::failed)?;
    let mut style = Style::default();
    let (spans, read) = ansi::read(&mut style, &text, ended);
    let back = run::path(&run);
    let path = format!("{back}/logs/{}", stage.name);
    let at = begin + read as u64;
    let live = (!ended)
        .then(|| format!("{path}/live?attempt={attempt}&step={}&from={at}.{:x}", step.step, style.pack()));
    let title = format!("{} of {run}", stage.name);
    let page_ = LogPage {
        base: Base::new(title, who),
        back,
        path,
        stage,
        attempt,
        step: step.step,
        steps,
        live,
        blocks: blocks(spans),
        bytes: length,
        cut: begin > 0,
    };
    page(StatusCode::OK, &page_)
}

/// The steps of an attempt.
fn steps_of(stage: &StageView, attempt: u32) -> &[StepView] {
    let found = stage.history.iter().find(|found| found.attempt == attempt);
    found.map_or(&[], |found| &found.steps)
}

fn choices(stage: &StageView, attempt: u32) -> Vec<Choice> {
    let choice = |(number, step): (u32, &StepView)| Choice {
        number,
        name: step.name.clone(),
        status: step.status.as_str(),
    };
    (1..).zip(steps_of(stage, attempt)).map(choice).collect()
}

/// The end of a log.
struct Tail {
    text: Vec<u8>,
    /// Where in the log it begins.
    begin: u64,
    /// Of the whole log.
    length: u64,
}

/// At most [`TAIL`] bytes, from the beginning of a line; nothing of a log that is not there yet.
fn tail(path: PathBuf) -> std::io::Result<Tail> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Tail { text: Vec::new(), begin: 0, length: 0 });
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let mut begin = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(begin))?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text)?;
    if begin > 0
        && let Some(end) = text.iter().position(|byte| *byte == b'\n')
    {
        text.drain(..=end);
        begin += end as u64 + 1;
    }
    Ok(Tail { text, begin, length })
}

/// The same text in blocks of [`BLOCK`] lines.
fn blocks(spans: Vec<Span>) -> Vec<Vec<Span>> {
    let (mut blocks, mut block, mut lines) = (Vec::new(), Vec::new(), 0);
    for Span { class, text } in spans {
        let mut piece = String::new();
        for line in text.split_inclusive('\n') {
            piece.push_str(line);
            lines += usize::from(line.ends_with('\n'));
            if lines == BLOCK {
                lines = 0;
                block.push(Span { class: class.clone(), text: std::mem::take(&mut piece) });
                blocks.push(std::mem::take(&mut block));
            }
        }
        if !piece.is_empty() {
            block.push(Span { class, text: piece });
        }
    }
    if !block.is_empty() {
        blocks.push(block);
    }
    blocks
}

/// The whole log as it was written, as plain text.
pub async fn text(
    State(api): State<Api>,
    Run(run): Run,
    Path(Stage { stage }): Path<Stage>,
    Asked(which): Asked<Which>,
) -> Result<Response, Problem> {
    let Found { step, .. } = find(&api, &run, &stage, &which).await?;
    let path = log::path(&api.data, &step);
    if !path.is_file() {
        return Err(Problem::not_found(format!("there is no log of {step}")));
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(log::follow(path, 0, async {}))).into_response())
}
