//! PURE. What lies beside the database against what the journals name.

use std::collections::{BTreeMap, BTreeSet};

use super::{Area, Finding, Judge};
use crate::ids::{Digest, ImageId, StepId};

const AGAIN: &str = "restore it from a backup, or replay the stage that made it";

/// How the ids of images begin that are here; others are in another cloud.
const LOCAL: &str = "img-";

/// What was seen of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// How long each needed log is, in bytes; none for one that is not there.
    pub logs: BTreeMap<StepId, u64>,
    /// Directories of logs of which no run is known.
    pub strange_logs: Vec<String>,
    /// What is wrong with a needed artifact; none for one that is whole.
    pub artifacts: BTreeMap<Digest, String>,
    /// Contents that no artifact names, and their bytes.
    pub unneeded: (u64, u64),
    /// Objects of the local store; the digest of those that are needed and were looked at.
    pub objects: BTreeMap<String, Option<Digest>>,
    pub images: BTreeMap<ImageId, ImageFact>,
    /// Records of instances that cannot be read, and why.
    pub instances: Vec<(String, String)>,
    /// Lines of the runner's records that cannot be read.
    pub runner_lines: u64,
    /// Why the runner's records cannot be read at all.
    pub runner: Option<String>,
    /// Why the balancer's state cannot be read.
    pub balancer: Option<String>,
}

/// An image that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFact {
    /// Why it is not what was baked.
    pub problem: Option<String>,
}

impl Judge {
    /// Takes in the files. All journals were judged by then.
    pub fn files(&mut self, files: &Files) {
        self.logs(files);
        self.artifacts(files);
        self.objects(files);
        self.images(files);
        for (instance, why) in &files.instances {
            let finding = Finding::error(Area::Instances, instance, why.clone());
            self.found(finding.advice("see that its process is gone, then move its directory away"));
        }
        if files.runner_lines > 0 {
            let problem = format!("{} of its lines cannot be read and are passed over", files.runner_lines);
            let advice =
                "the machine lost power while it was written; a step whose end is lost counts as lost";
            self.found(Finding::warning(Area::Runner, "runner/journal", problem).advice(advice));
        }
        if let Some(why) = &files.runner {
            let advice = "use the version that wrote it; or move it away while no step runs";
            self.found(Finding::error(Area::Runner, "runner/journal", why.clone()).advice(advice));
        }
        if let Some(why) = &files.balancer {
            let advice = "move it away and deploy again, or restore it from a backup";
            self.found(Finding::error(Area::Balancer, "balancer.json", why.clone()).advice(advice));
        }
    }

    fn logs(&mut self, files: &Files) {
        let mut found = Vec::new();
        for (step, wanted) in &self.needs.logs {
            let place = format!("{} step {}", step.attempt, step.step);
            let finding = match files.logs.get(step) {
                Some(length) if length >= wanted => continue,
                Some(length) => {
                    Finding::error(Area::Logs, place, format!("it has {length} bytes instead of {wanted}"))
                }
                None => Finding::error(Area::Logs, place, format!("it is not there; it had {wanted} bytes")),
            };
            found.push(finding.advice("restore it from a backup; runs do not need it to go on"));
        }
        self.looked.logs += self.needs.logs.len() as u64;
        self.findings.extend(found);
        for place in &files.strange_logs {
            let finding = Finding::note(Area::Logs, place, "no run here wrote these logs");
            self.found(finding.advice("remove them, if nobody wants them"));
        }
    }

    fn artifacts(&mut self, files: &Files) {
        let mut found = Vec::new();
        for (digest, run) in &self.needs.artifacts {
            if let Some(why) = files.artifacts.get(digest) {
                let problem = format!("of {run}: {why}");
                found.push(Finding::error(Area::Artifacts, digest, problem).advice(AGAIN));
            }
        }
        self.looked.artifacts += self.needs.artifacts.len() as u64;
        self.findings.extend(found);
        if let (contents @ 1.., bytes) = files.unneeded {
            let problem =
                format!("{contents} stored contents ({bytes} bytes) belong to no artifact of a run");
            self.found(
                Finding::note(Area::Artifacts, "artifacts/blobs", problem).advice("nothing: they do no harm"),
            );
        }
    }

    fn objects(&mut self, files: &Files) {
        let mut found = Vec::new();
        for (key, (digest, run)) in &self.needs.objects {
            let problem = match files.objects.get(key) {
                None => format!("{run} uploaded it, and it is not there"),
                Some(Some(is)) if is != digest => format!("it is not what {run} uploaded"),
                Some(_) => continue,
            };
            found.push(Finding::error(Area::Objects, key, problem).advice(AGAIN));
        }
        self.looked.objects += self.needs.objects.len() as u64;
        self.findings.extend(found);
        let named: BTreeSet<&String> = self.needs.objects.keys().collect();
        let of_ours = |key: &&String| !named.contains(*key) && !key.ends_with("/manifest.json");
        if let strange @ 1.. = files.objects.keys().filter(of_ours).count() {
            let problem = format!("{strange} objects are there that no run has finished uploading");
            self.found(Finding::note(Area::Objects, "objects", problem).advice("nothing: they do no harm"));
        }
    }

    fn images(&mut self, files: &Files) {
        let mut found = Vec::new();
        let local = |image: &ImageId| image.as_str().starts_with(LOCAL);
        for (image, by) in self.needs.images.iter().filter(|(image, _)| local(image)) {
            if !files.images.contains_key(image) {
                let problem = format!("{by} needs it, and it is not there");
                let advice = "restore it from a backup, or replay its run from the bake on";
                found.push(Finding::error(Area::Images, image, problem).advice(advice));
            }
        }
        for (image, fact) in &files.images {
            if let Some(problem) = &fact.problem {
                let advice = "restore it from a backup, or move it away and replay its run from the bake on";
                found.push(Finding::error(Area::Images, image, problem.clone()).advice(advice));
            } else if !self.needs.known_images.contains(image) {
                let finding = Finding::note(Area::Images, image, "no run here made it and no fleet ran it");
                found.push(
                    finding.advice("nothing: it does no harm; windlass gc never ends what it cannot explain"),
                );
            }
        }
        self.looked.images += files.images.len() as u64;
        self.findings.extend(found);
    }
}
