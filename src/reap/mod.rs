//! PURE. Which things of ours in a cloud nobody needs any more, and why.
//!
//! What is always true:
//!
//! - what no record of ours explains is never ended: another data directory may own it;
//! - nothing ends that an unfinished run works with, or that a fleet runs, keeps standing by, is being
//!   moved to or would go back to;
//! - what is younger than [`YOUNG`] stays: a cloud shows things late, and a run records them later still;
//! - of each service the newest images that were certified or rolled out stay.
//!
//! A thing is explained when the journal of its run is here, and it came to be while that run was under
//! way, or is recorded there. Numbers of runs alone prove nothing: every data directory counts from 1.
//!
//! An ended run can be replayed for ever, so that is no reason to keep its image for ever: a replay from
//! its bake on makes it again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::cloud::inventory::{Kind, Thing};
use crate::ids::{Digest, FleetId, ImageId, PipelineName, RunId, StageName};

mod images;
mod instances;
#[cfg(test)]
mod tests;

/// What is younger is left alone. Longer than any cloud takes to show what it made, and than clocks
/// differ.
pub const YOUNG: SignedDuration = SignedDuration::from_mins(15);

/// An image that was never certified nor rolled out, one in quarantine, and what a builder said are kept so
/// long for whoever wants to look: a night and the morning after.
pub const AFTERMATH: SignedDuration = SignedDuration::from_hours(24);

/// An upload that was not completed in this time is begun afresh, should its run ever go on.
pub const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// So many images of a service are kept where the settings do not say.
pub const KEEP_IMAGES: u32 = 5;

/// What the journals say.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The runs that things name. One that is missing is not known here.
    pub runs: BTreeMap<RunId, Run>,
    pub fleets: BTreeMap<FleetId, Fleet>,
    /// Images that unfinished runs work with, each with one of them.
    pub images: BTreeMap<ImageId, RunId>,
    /// What images are made of that unfinished runs are making, or are about to.
    pub bakes: BTreeMap<Digest, RunId>,
    /// Images that must not be used, and since when.
    pub quarantined: BTreeMap<(PipelineName, ImageId), Timestamp>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    pub began_at: Timestamp,
    /// `None` while anything may still happen by itself.
    pub ended_at: Option<Timestamp>,
    /// Stages in which nothing more happens by itself, though the run goes on.
    pub over: BTreeSet<StageName>,
    /// The images that it recorded.
    pub images: BTreeSet<ImageId>,
}

/// A fleet.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// What it last completed a rollout to; `None` when it was taken down, or before the first.
    pub current: Option<Version>,
    /// What stands by, whether its time is over or not.
    pub standby: Option<Version>,
    /// What a rollback goes back to.
    pub previous: Option<ImageId>,
    /// Where a rollout moves it whose end is not recorded.
    pub next: Option<Version>,
    /// Why nobody else touches its instances now: a rollout is under way, a run holds it.
    pub busy: Option<String>,
    /// Every release that was ever rolled out to it, or was begun to be.
    pub releases: BTreeSet<Digest>,
    /// Every image that it ever ran.
    pub images: BTreeSet<ImageId>,
    /// How many instances it should have.
    pub size: u32,
    pub health: Health,
}

/// An image, and the release that it is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub image: ImageId,
    pub release: Digest,
}

/// How a fleet was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Nobody looked, or could.
    #[default]
    Unknown,
    /// So many of so many take traffic in the current release.
    Serving { healthy: u32, size: u32 },
}

/// What is to become of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ends,
    Stays,
    /// No record of ours explains it, so it stays.
    Unknown,
}

/// A thing, what is to become of it, and the reason as a sentence without a subject: `its run … ended`.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub thing: Thing,
    pub fate: Fate,
    pub reason: String,
}

/// Judges everything that there is in a cloud. `keep`: so many images of each service stay besides those
/// in use, at least one.
pub fn judge(things: &[Thing], facts: &Facts, now: Timestamp, keep: u32) -> Vec<Verdict> {
    let judge = Judge { things, facts, now, kept: images::newest(things, facts, keep.max(1)), keep };
    let verdict = |thing: &Thing| {
        let (fate, reason) = judge.sentence(thing);
        Verdict { thing: thing.clone(), fate, reason }
    };
    things.iter().map(verdict).collect()
}

/// A fate and its reason.
type Sentence = (Fate, String);

fn ends(reason: impl Into<String>) -> Sentence {
    (Fate::Ends, reason.into())
}

fn stays(reason: impl Into<String>) -> Sentence {
    (Fate::Stays, reason.into())
}

fn unknown(reason: impl Into<String>) -> Sentence {
    (Fate::Unknown, reason.into())
}

struct Judge<'a> {
    things: &'a [Thing],
    facts: &'a Facts,
    now: Timestamp,
    /// Images that stay because they are among the newest.
    kept: BTreeSet<&'a str>,
    keep: u32,
}

impl Judge<'_> {
    fn sentence(&self, thing: &Thing) -> Sentence {
        let (id, run) = match self.run_of(thing) {
            Ok(known) => known,
            Err(nobody) => return nobody,
        };
        if self.age(thing.created_at) < YOUNG {
            return stays(format!("it is younger than {}", words(YOUNG)));
        }
        match thing.kind {
            Kind::Builder => self.work(thing, id, run, "a builder"),
            // Whoever asks for that image again counts on: the same tokens would be given to other machines.
            Kind::Scratch if self.age(thing.created_at) < AFTERMATH => {
                stays(format!("it is kept for {}", words(AFTERMATH)))
            }
            Kind::Scratch => self.work(thing, id, run, "what a builder fetched and wrote"),
            Kind::Instance => self.instance(thing, id, run),
            Kind::Upload => self.upload(thing, id, run),
            Kind::Image => self.image(thing, id, run),
            Kind::Snapshot => self.snapshot(thing, id, run),
        }
    }

    /// The run that explains a thing.
    fn run_of<'t>(&self, thing: &'t Thing) -> Result<(&'t RunId, &Run), Sentence> {
        let Some(id) = &thing.run else { return Err(unknown("it does not say which run it is of")) };
        let Some(run) = self.facts.runs.get(id) else {
            return Err(unknown(format!("{id} is not known here: it may be of another data directory")));
        };
        let recorded = match thing.kind {
            Kind::Image => run.images.iter().any(|image| image.as_str() == thing.id),
            Kind::Instance => self.is_of_fleet(thing),
            Kind::Builder | Kind::Upload | Kind::Scratch | Kind::Snapshot => false,
        };
        let begun = run.began_at <= later(thing.created_at);
        let open = run.ended_at.is_none_or(|ended| thing.created_at <= later(ended));
        match recorded || (begun && open) {
            true => Ok((id, run)),
            false => Err(unknown(format!(
                "{id} was not under way when it came to be: it may be of another data directory"
            ))),
        }
    }

    /// What a stage needs while it works, and nobody afterwards.
    fn work(&self, thing: &Thing, id: &RunId, run: &Run, what: &str) -> Sentence {
        if let Some(other) = thing.image_key.as_ref().and_then(|key| self.facts.bakes.get(key)) {
            return stays(format!("{other} makes that image"));
        }
        match (run.ended_at, &thing.stage) {
            (Some(ended), _) => ends(format!("{what} of {id}, which ended {} ago", self.since(ended))),
            (None, Some(stage)) if run.over.contains(stage) => {
                ends(format!("{what} of {id}, whose stage {stage} is over"))
            }
            (None, _) => stays(format!("{id} has not ended")),
        }
    }

    fn upload(&self, thing: &Thing, id: &RunId, run: &Run) -> Sentence {
        match run.ended_at {
            Some(ended) => {
                ends(format!("an unfinished upload of {id}, which ended {} ago", self.since(ended)))
            }
            None if self.age(thing.created_at) > STALE => {
                ends(format!("an unfinished upload of {id}, begun {} ago", self.since(thing.created_at)))
            }
            None => stays(format!("{id} has not ended")),
        }
    }

    fn age(&self, at: Timestamp) -> SignedDuration {
        self.now.duration_since(at)
    }

    /// How long ago that was, in words.
    fn since(&self, at: Timestamp) -> String {
        words(self.age(at))
    }
}

/// A time after which nobody doubts that something came after `at`.
fn later(at: Timestamp) -> Timestamp {
    at.checked_add(YOUNG).unwrap_or(Timestamp::MAX)
}

/// A stretch of time, as exact as it matters here: `15 min`, `3 h`, `9 days`.
pub fn words(time: SignedDuration) -> String {
    let minutes = time.as_mins().max(0);
    match minutes {
        0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
