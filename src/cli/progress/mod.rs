//! Shows a run while it goes on: a screenful that is redrawn on a terminal, a line for each change
//! that matters in a pipe.

use std::io::{IsTerminal, Write};

use jiff::Timestamp;

use super::text;
use crate::run::view::{RunView, Status};

mod live;
mod news;
mod screen;
#[cfg(test)]
mod tests;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Stdout,
    /// Where a document for programs goes to the standard output.
    Stderr,
}

/// The progress of one run.
pub struct Progress {
    target: Target,
    live: Option<live::Live>,
    before: Option<RunView>,
    /// What is added to commands that are shown, so that they find the same data directory.
    place: String,
    /// Where the pages of a server are that is there as long as the run is shown.
    pages: Option<String>,
}

impl Progress {
    pub fn new(target: Target, place: String) -> Self {
        let terminal = match target {
            Target::Stdout => std::io::stdout().is_terminal(),
            Target::Stderr => std::io::stderr().is_terminal(),
        };
        let live = terminal.then(|| live::Live::new(target));
        Self { target, live, before: None, place, pages: None }
    }

    /// Shows people who are asked for something the page where they do it; `pages` is
    /// `http://127.0.0.1:7430`.
    pub fn with_pages(self, pages: String) -> Self {
        Self { pages: Some(pages), ..self }
    }

    /// Whether it is worth calling [`Self::tick`].
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Shows what is new.
    pub fn show(&mut self, view: &RunView) {
        let now = Timestamp::now();
        match &mut self.live {
            Some(live) => {
                for line in news::gates(self.before.as_ref(), view, &self.place, self.pages.as_deref()) {
                    live.say(&line);
                }
                live.draw(&screen::lines(view, now));
            }
            None => {
                let (before, pages) = (self.before.as_ref(), self.pages.as_deref());
                for line in news::lines(before, view, now, &self.place, pages) {
                    self.print(&line);
                }
            }
        }
        self.before = Some(view.clone());
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        if let (Some(live), Some(view)) = (&mut self.live, &self.before) {
            live.draw(&screen::lines(view, Timestamp::now()));
        }
    }

    /// Says something beside what the run does.
    pub fn say(&mut self, line: &str) {
        match &self.live {
            Some(live) => live.say(line),
            None => self.print(line),
        }
    }

    /// Leaves the last state of the run on the terminal. What comes after is not redrawn.
    pub fn stop(&mut self) {
        if let Some(live) = self.live.take() {
            live.clear();
            if let Some(view) = &self.before {
                for line in screen::lines(view, Timestamp::now()) {
                    self.print(&line);
                }
            }
        }
    }

    /// The run has ended: says how, in the last line.
    pub fn finish(&mut self, view: &RunView) {
        self.stop();
        self.print(&ending(view, &self.place));
    }

    /// A run goes on also when nobody reads about it any more: errors are ignored.
    fn print(&self, line: &str) {
        let _ = match self.target {
            Target::Stdout => writeln!(anstream::stdout().lock(), "{line}"),
            Target::Stderr => writeln!(anstream::stderr().lock(), "{line}"),
        };
    }
}

/// How the run ended, in one line, with the command that tells more.
pub fn ending(view: &RunView, place: &str) -> String {
    let begun = view.replays.last().map_or(view.created_at, |replay| replay.at);
    let took = text::between(begun, view.finished_at.unwrap_or_else(Timestamp::now));
    let run = &view.run;
    let style = text::run_look(view.status).style.bold();
    match view.status {
        Status::Succeeded => format!("{run} {style}succeeded{style:#} in {took}"),
        Status::Failed => {
            let failed = view.stages.iter().find(|stage| stage.cause.is_some());
            let why = failed.map(|stage| {
                let reason = stage.reason.as_deref().map(text::clean).unwrap_or_default();
                let logs = match stage.steps.iter().any(|step| step.started_at.is_some()) {
                    true => format!("windlass logs {run} {}{place}", stage.name),
                    false => format!("windlass show {run}{place}"),
                };
                format!(": {}: {reason}\nwhat it said: {logs}", stage.name)
            });
            format!("{run} {style}failed{style:#} after {took}{}", why.unwrap_or_default())
        }
        Status::Cancelled => {
            let by = view.cancelled_by.as_deref().map(|by| format!(" by {}", text::clean(by)));
            format!("{run} was {style}cancelled{style:#}{} after {took}", by.unwrap_or_default())
        }
        Status::Superseded => {
            let by = view.superseded_by.as_ref().map(|by| format!(" by {by}"));
            format!("{run} was {style}superseded{style:#}{} after {took}", by.unwrap_or_default())
        }
        status => format!("{run} is {}", status.as_str()),
    }
}
