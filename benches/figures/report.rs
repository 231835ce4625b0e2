//! What was measured: a table for people, JSON for programs.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, Color, Table};
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::measure::{Summary, Unit};

/// One line of the table: something that we did, and what others took for the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    pub row: Cow<'static, str>,
    /// What of the row: `chain, 1,000 steps`.
    pub case: String,
    pub unit: Unit,
    pub ours: Summary,
    pub peers: Vec<Peer>,
    pub goals: Vec<Goal>,
    /// Where the case is a point of a curve.
    pub growth: Option<Growth>,
    /// What has to be said beside the figure: what was left out, or what limits it.
    pub note: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    pub name: Cow<'static, str>,
    pub value: Summary,
    /// Ours by theirs, round by round.
    pub ratio: Summary,
}

/// A point of a curve: which one, and how much work it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Growth {
    pub curve: String,
    /// What is counted below the curve: `steps`.
    pub of: Cow<'static, str>,
    pub size: u64,
}

/// What a case has to reach, and whether it does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Goal {
    pub goal: String,
    pub met: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    fn word(self) -> (&'static str, f64) {
        match self {
            Self::AtMost(bound) => ("≤", bound),
            Self::AtLeast(bound) => ("≥", bound),
        }
    }
}

impl Case {
    /// What we did, from the values of its rounds.
    pub fn new(row: &'static str, case: impl Into<String>, unit: Unit, ours: &[f64]) -> Self {
        Self {
            row: row.into(),
            case: case.into(),
            unit,
            ours: Summary::of(ours),
            peers: Vec::new(),
            goals: Vec::new(),
            growth: None,
            note: None,
        }
    }

    /// Adds what another took, in the same rounds as ours. Pairs are compared as far as both go.
    pub fn beside(mut self, name: &'static str, ours: &[f64], theirs: &[f64]) -> Self {
        let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        self.peers.push(Peer { name: name.into(), value: Summary::of(theirs), ratio: Summary::of(&ratios) });
        self
    }

    pub fn growing(mut self, curve: impl Into<String>, of: &'static str, size: u64) -> Self {
        self.growth = Some(Growth { curve: curve.into(), of: of.into(), size });
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The figure itself has to keep a bound.
    pub fn goal(mut self, bound: Bound) -> Self {
        let (word, limit) = bound.word();
        let met = bound.holds(self.ours.median);
        self.goals.push(Goal { goal: format!("{word} {}", self.unit.show(limit)), met });
        self
    }

    /// The ratio to a peer has to keep a bound. A peer that was not measured is no goal.
    pub fn goal_beside(mut self, name: &str, bound: Bound) -> Self {
        let (word, limit) = bound.word();
        if let Some(peer) = self.peers.iter().find(|peer| peer.name == name) {
            let met = bound.holds(peer.ratio.median);
            self.goals.push(Goal { goal: format!("{word} {limit} × {name}"), met });
        }
        self
    }
}

/// All cases, a line each.
pub fn table(cases: &[Case]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["", "what", "median", "from – to", "beside", "ratio (from – to)", "goal", ""]);
    let mut row = "";
    for case in cases {
        let name = if case.row == row { "" } else { &case.row };
        row = &case.row;
        let show = |value| case.unit.show(value);
        let lines =
            |line: &dyn Fn(&Peer) -> String| case.peers.iter().map(line).collect::<Vec<_>>().join("\n");
        let goals: Vec<&str> = case.goals.iter().map(|goal| goal.goal.as_str()).collect();
        let met = case.goals.iter().all(|goal| goal.met);
        let verdict = match (case.goals.is_empty(), met) {
            (true, _) => Cell::new(""),
            (_, true) => Cell::new("met").fg(Color::Green),
            (_, false) => Cell::new("not met").fg(Color::Red),
        };
        let what = match &case.note {
            Some(note) => format!("{}\n  {note}", case.case),
            None => case.case.clone(),
        };
        table.add_row([
            Cell::new(name),
            Cell::new(what),
            Cell::new(show(case.ours.median)),
            Cell::new(range(case.ours.rounds, show(case.ours.min), show(case.ours.max))),
            Cell::new(lines(&|peer| format!("{}: {}", peer.name, show(peer.value.median)))),
            Cell::new(lines(&|peer| ratio(&peer.ratio))),
            Cell::new(goals.join("\n")),
            verdict,
        ]);
    }
    table.to_string()
}

fn range(rounds: usize, min: String, max: String) -> String {
    if rounds > 1 { format!("{min} – {max}") } else { "once".to_owned() }
}

pub fn ratio(ratio: &Summary) -> String {
    // Of a peer that is a hundred times as slow, the part after the point is what counts.
    let show = |value: f64| match value {
        value if value >= 0.1 => format!("{value:.2}"),
        value => format!("1/{:.0}", 1.0 / value),
    };
    match ratio.rounds {
        1 => show(ratio.median),
        _ => format!("{} ({} – {})", show(ratio.median), show(ratio.min), show(ratio.max)),
    }
}
