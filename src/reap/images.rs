//! PURE. Retention: which images stay, and the snapshots with them.

use std::collections::{BTreeMap, BTreeSet};

use super::{AFTERMATH, Facts, Fate, Judge, Run, Sentence, ends, stays, words};
use crate::cloud::inventory::{Kind, Thing};
use crate::ids::{ImageId, PipelineName, RunId};

/// The newest `keep` images of each service that were certified or rolled out, and the newest that was
/// certified; one that nobody here knows, or that must not be used, is none of them.
pub(super) fn newest<'a>(things: &'a [Thing], facts: &Facts, keep: u32) -> BTreeSet<&'a str> {
    let mut good: BTreeMap<&PipelineName, Vec<&Thing>> = BTreeMap::new();
    for thing in things.iter().filter(|thing| thing.kind == Kind::Image) {
        let ours = thing.run.as_ref().is_some_and(|run| facts.runs.contains_key(run));
        if let Some(service) = &thing.service
            && ours
            && is_proven(thing, facts)
            && quarantined(thing, facts).is_none()
        {
            good.entry(service).or_default().push(thing);
        }
    }
    let mut newest = BTreeSet::new();
    for images in good.values_mut() {
        images.sort_by_key(|image| std::cmp::Reverse((image.created_at, &image.id)));
        newest.extend(images.iter().take(keep as usize).map(|image| image.id.as_str()));
        // The next bake may have nothing else to build upon.
        newest.extend(images.iter().find(|image| image.certified).map(|image| image.id.as_str()));
    }
    newest
}

/// Whether the image was certified, or a fleet ever ran it: pipelines need not certify.
fn is_proven(image: &Thing, facts: &Facts) -> bool {
    let mut ran = facts.fleets.values().flat_map(|fleet| &fleet.images);
    image.certified || ran.any(|ran| ran.as_str() == image.id)
}

fn quarantined(image: &Thing, facts: &Facts) -> Option<jiff::Timestamp> {
    let id: ImageId = image.id.parse().ok()?;
    facts.quarantined.get(&(image.service.clone()?, id)).copied()
}

impl Judge<'_> {
    pub(super) fn image(&self, thing: &Thing, id: &RunId, run: &Run) -> Sentence {
        if let Some(used) = self.used(thing) {
            return stays(used);
        }
        let Some(ended) = run.ended_at else { return stays(format!("{id} has not ended")) };
        if let Some(since) = quarantined(thing, self.facts) {
            let since_then = self.since(since);
            return match self.age(since.max(ended)) > AFTERMATH {
                true => ends(format!("in quarantine for {since_then}, and nobody runs it")),
                false => stays(format!("in quarantine for {since_then}: kept for {}", words(AFTERMATH))),
            };
        }
        if self.kept.contains(thing.id.as_str()) {
            return stays(format!(
                "one of the newest {} that were certified or rolled out",
                self.keep.max(1)
            ));
        }
        if is_proven(thing, self.facts) {
            return ends(format!("{} newer ones are kept, and nobody runs it", self.keep.max(1)));
        }
        match self.age(ended) > AFTERMATH {
            true => ends(format!(
                "it was never certified nor rolled out, and {id} ended {} ago",
                self.since(ended)
            )),
            false => stays(format!("{id} ended {} ago: kept for {}", self.since(ended), words(AFTERMATH))),
        }
    }

    /// Who uses an image. What was built upon it needs it no more.
    fn used(&self, image: &Thing) -> Option<String> {
        let is = |id: &ImageId| id.as_str() == image.id;
        for (name, fleet) in &self.facts.fleets {
            let of = |version: &Option<super::Version>| version.as_ref().is_some_and(|v| is(&v.image));
            if of(&fleet.current) {
                return Some(format!("{name} runs it"));
            }
            if of(&fleet.next) {
                return Some(format!("{name} is being moved to it"));
            }
            if of(&fleet.standby) {
                return Some(format!("it stands by for {name}"));
            }
            if fleet.previous.as_ref().is_some_and(is) {
                return Some(format!("{name} would go back to it"));
            }
        }
        let runs_it = |thing: &&Thing| thing.kind == Kind::Instance && thing.image.as_ref().is_some_and(is);
        if let Some(instance) = self.things.iter().find(runs_it) {
            return Some(format!("the instance {} runs it", instance.id));
        }
        let worked_with = self.facts.images.iter().find(|(id, _)| is(id)).map(|(_, run)| run);
        let made = || image.image_key.as_ref().and_then(|key| self.facts.bakes.get(key));
        worked_with.or_else(made).map(|run| format!("{run} works with it"))
    }

    /// A snapshot goes with its image. One of which the image is gone was left when that was ended, or
    /// never came to be.
    pub(super) fn snapshot(&self, thing: &Thing, id: &RunId, run: &Run) -> Sentence {
        let mut images = self.things.iter().filter(|other| other.kind == Kind::Image);
        let of = |image: &&Thing| {
            // What an image is stored in does not show before it is finished.
            let unfinished = image.parts.is_empty() && image.image_key == thing.image_key;
            image.parts.contains(&thing.id) || unfinished
        };
        if let Some(image) = images.find(of) {
            return match self.image_fate(image) {
                Fate::Ends => stays(format!("it goes with {}", image.id)),
                Fate::Stays | Fate::Unknown => stays(format!("a part of {}", image.id)),
            };
        }
        if let Some(other) = thing.image_key.as_ref().and_then(|key| self.facts.bakes.get(key)) {
            return stays(format!("{other} makes that image"));
        }
        match run.ended_at {
            Some(ended) => ends(format!("its image is gone, and {id} ended {} ago", self.since(ended))),
            None => stays(format!("{id} has not ended")),
        }
    }

    fn image_fate(&self, image: &Thing) -> Fate {
        self.sentence(image).0
    }
}
