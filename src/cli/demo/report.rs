//! What the demo has to say at its end: a short table for people, one object for programs.

use serde::Serialize;

use super::load::Seen;
use crate::run::view::RunView;

/// The demo's result; fields are only ever added.
#[derive(Debug, Serialize)]
pub struct Report {
    pub run: String,
    pub status: &'static str,
    pub commit: Option<String>,
    pub image: Option<String>,
    pub parent: Option<String>,
    pub url: Option<String>,
    /// From the creation of version 2's run to its end.
    pub seconds: f64,
    pub stages: Vec<Stage>,
    pub swap: Swap,
}

#[derive(Debug, Serialize)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
}

/// The swap of production to version 2, and what its clients saw.
#[derive(Debug, Default, Serialize)]
pub struct Swap {
    pub requests: u64,
    pub failed: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub before: Vec<String>,
    pub after: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
}

impl Report {
    /// `first` is the run that shipped version 1: it knows the name of the parent image.
    pub fn new(first: &RunView, view: &RunView, seen: Option<Seen>) -> Self {
        let seconds = |from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>| match (from, to) {
            (Some(from), Some(to)) => round(to.duration_since(from).as_secs_f64()),
            _ => 0.0,
        };
        let image = view.stages.iter().find_map(|stage| stage.image.as_ref());
        let production = view.stages.iter().find(|stage| stage.name.as_str() == "production");
        let output = |name: &str| production.and_then(|stage| stage.outputs.get(name).cloned());
        let list = |name: &str| -> Vec<String> {
            let ids = output(name).unwrap_or_default();
            ids.split(',').filter(|id| !id.is_empty()).map(ToOwned::to_owned).collect()
        };
        let mut swap = Swap { before: list("before"), after: list("after"), ..Swap::default() };
        if let Some(seen) = seen {
            swap.requests = seen.requests;
            swap.failed = seen.failed;
            swap.p50_ms = round(seen.p50_ms);
            swap.p99_ms = round(seen.p99_ms);
            swap.first_failure = seen.first_failure;
        }
        Self {
            run: view.run.to_string(),
            status: view.status.as_str(),
            commit: view.commit.as_ref().map(ToString::to_string),
            image: image.map(|image| image.name.clone()),
            parent: image.and_then(|image| image.parent.as_ref()).map(|parent| {
                let named =
                    first.stages.iter().find_map(|stage| stage.image.as_ref()).filter(|i| i.id == *parent);
                named.map_or_else(|| parent.to_string(), |image| image.name.clone())
            }),
            url: output("url"),
            seconds: seconds(Some(view.created_at), view.finished_at),
            stages: view
                .stages
                .iter()
                .map(|stage| Stage {
                    name: stage.name.to_string(),
                    seconds: seconds(stage.started_at, stage.finished_at),
                })
                .collect(),
            swap,
        }
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        row("run", format!("{} {}", self.run, self.status));
        row("commit", self.commit.as_deref().map_or("none", |sha| &sha[..sha.len().min(12)]).to_owned());
        row("image", or_none(&self.image));
        row("its parent", or_none(&self.parent));
        let stages: Vec<String> =
            self.stages.iter().map(|stage| format!("{:<11}{:>7.1} s", stage.name, stage.seconds)).collect();
        row("stages", stages.join("\n"));
        row("in all", format!("{:<11}{:>7.1} s", "", self.seconds));
        row("instances before", self.swap.before.join("\n"));
        row("instances after", self.swap.after.join("\n"));
        row("requests", format!("{} sent during the swap, {} failed", self.swap.requests, self.swap.failed));
        if let Some(why) = &self.swap.first_failure {
            row("first failure", why.clone());
        }
        row("latency", format!("p50 {:.1} ms, p99 {:.1} ms", self.swap.p50_ms, self.swap.p99_ms));
        table.to_string()
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
