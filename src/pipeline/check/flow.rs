//! What goes from stage to stage: artifacts, uploads, the image.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::spec::{Bake, Kind, Name, Stage, Text};
use super::super::text;
use super::Check;

/// An artifact and the stage that makes it.
struct Made<'a> {
    stage: usize,
    name: &'a Name<'a>,
}

impl<'a> Check<'a> {
    pub(super) fn flow(&mut self) {
        let made = self.made();
        self.paths();
        let tangled = self.tangled();
        let uploads = self.uploads();
        for place in 0..self.spec.stages.len() {
            if !self.is_ordered(place, &tangled) {
                self.existence(place, &made);
                continue;
            }
            match &self.stage(place).kind {
                Some(Kind::Upload { artifacts }) => self.upload(place, artifacts, &made),
                Some(Kind::Bake(bake)) => self.bake(place, bake, &made, &uploads),
                Some(Kind::Deploy) => self.one_image(place, "deploys"),
                Some(Kind::Certify) => self.one_image(place, "certifies"),
                Some(Kind::Checkout | Kind::Script { .. }) | None => {}
            }
        }
    }

    /// The artifacts of the pipeline; their names are unique.
    fn made(&mut self) -> HashMap<&'a str, Made<'a>> {
        let mut made: HashMap<&'a str, Made<'a>> = HashMap::new();
        for (place, stage) in self.spec.stages.iter().enumerate() {
            let Some(Kind::Script { artifacts, .. }) = &stage.kind else { continue };
            for (name, _) in artifacts {
                match made.get(name.text) {
                    Some(first) => {
                        let other = self.stage(first.stage).name.text;
                        let message =
                            format!("the artifact {:?} is made by the stage {other:?} already", name.text);
                        self.error(name.at.clone(), message).help("artifact names are unique in a pipeline");
                    }
                    None => {
                        made.insert(name.text, Made { stage: place, name });
                    }
                }
            }
        }
        made
    }

    /// No two artifacts at one path, and none inside another: a stage after both would have one
    /// workspace for them.
    fn paths(&mut self) {
        let mut taken: BTreeMap<String, &'a str> = BTreeMap::new();
        for stage in &self.spec.stages {
            let Some(Kind::Script { artifacts, .. }) = &stage.kind else { continue };
            for (name, path) in artifacts {
                let Ok(clean) = text::path(path.text) else { continue };
                let at = path.node.at.clone();
                if clean == "." {
                    self.error(at, format!("the artifact {:?} is the whole workspace", name.text))
                        .help("name the directory or file in it that the stage makes");
                    continue;
                }
                if let Some((other, theirs)) = overlapping(&taken, &clean) {
                    let message = match theirs == clean {
                        true => format!(
                            "the artifacts {other:?} and {:?} have the same path {clean:?}",
                            name.text
                        ),
                        false => format!(
                            "the paths of the artifacts {other:?} and {:?} lie inside each other: {theirs:?} and {clean:?}",
                            name.text
                        ),
                    };
                    self.error(at, message).help("a stage after both gets both, at the paths they came from");
                    continue;
                }
                taken.insert(clean, name.text);
            }
        }
    }

    /// What each stage uploads.
    fn uploads(&self) -> Vec<&'a [Text<'a>]> {
        let stages = self.spec.stages.iter();
        stages
            .map(|stage| match &stage.kind {
                Some(Kind::Upload { artifacts }) => artifacts.as_slice(),
                _ => &[],
            })
            .collect()
    }

    fn upload(&mut self, place: usize, artifacts: &[Text<'a>], made: &HashMap<&str, Made<'a>>) {
        self.repeated(artifacts);
        for artifact in artifacts {
            self.made_before(place, artifact, made);
        }
    }

    fn repeated(&mut self, artifacts: &[Text<'a>]) {
        let mut seen = HashSet::new();
        for artifact in artifacts {
            if !seen.insert(artifact.text) {
                self.error(
                    artifact.node.at.clone(),
                    format!("the artifact {:?} is named twice", artifact.text),
                );
            }
        }
    }

    /// Whether an ancestor makes the artifact; else that is a problem.
    fn made_before(&mut self, place: usize, artifact: &Text<'a>, made: &HashMap<&str, Made<'a>>) -> bool {
        let at = artifact.node.at.clone();
        let Some(maker) = made.get(artifact.text) else {
            self.unknown_artifact(artifact, made);
            return false;
        };
        if self.graph.ancestors(place).contains(maker.stage) {
            return true;
        }
        let after = self.graph.ancestors(maker.stage).contains(place);
        let maker = self.stage(maker.stage).name.text;
        let message = format!(
            "the artifact {:?} is made by the stage {maker:?}, which does not come before this one",
            artifact.text
        );
        self.error(at, message).help(match after {
            true => format!("{maker:?} comes after this stage"),
            false => format!("add {maker:?} to `needs`"),
        });
        false
    }

    fn unknown_artifact(&mut self, artifact: &Text<'a>, made: &HashMap<&str, Made<'a>>) {
        let message = format!("no stage makes the artifact {:?}", artifact.text);
        let mut known: Vec<&str> = made.values().map(|made| made.name.text).collect();
        known.sort_unstable();
        self.problems.unknown(artifact.node.at.clone(), message, artifact.text, known);
    }

    /// For a stage of which it is not known what comes before it: whether the artifacts exist at all.
    fn existence(&mut self, place: usize, made: &HashMap<&str, Made<'a>>) {
        let named = match &self.stage(place).kind {
            Some(Kind::Upload { artifacts }) => artifacts.as_slice(),
            Some(Kind::Bake(Bake { artifacts: Some(artifacts), .. })) => artifacts.as_slice(),
            _ => return,
        };
        for artifact in named.iter().filter(|artifact| !made.contains_key(artifact.text)) {
            self.unknown_artifact(artifact, made);
        }
    }

    fn bake(
        &mut self,
        place: usize,
        bake: &'a Bake<'a>,
        made: &HashMap<&str, Made<'a>>,
        uploads: &[&[Text<'a>]],
    ) {
        let stage = self.stage(place);
        let uploaded: HashSet<&str> = (self.graph.ancestors(place).iter())
            .flat_map(|ancestor| uploads[ancestor].iter().map(|artifact| artifact.text))
            .collect();
        match &bake.artifacts {
            Some(named) => {
                self.repeated(named);
                for artifact in named {
                    if self.made_before(place, artifact, made) && !uploaded.contains(artifact.text) {
                        let message =
                            format!("the artifact {:?} is not uploaded before this stage", artifact.text);
                        self.error(artifact.node.at.clone(), message).help("an image is made of artifacts that a stage with `uses: upload` before it put into the object store");
                    }
                }
            }
            None if uploaded.is_empty() => {
                let message =
                    format!("nothing is uploaded before {:?}, so its image would be empty", stage.name.text);
                self.error(stage.name.at.clone(), message).help("let it need a stage with `uses: upload`");
            }
            None => {}
        }
        let ancestors = self.graph.ancestors(place);
        let checkout =
            ancestors.iter().any(|ancestor| matches!(self.stage(ancestor).kind, Some(Kind::Checkout)));
        if let (Some(first), false) = (bake.files.first(), checkout) {
            self.error(
                first.node.at.clone(),
                "files come from the commit, and no checkout comes before this stage",
            );
        }
        let base = bake.base.as_ref().map(|base| (base, base.name.is_some(), base.owner.is_some()));
        match base {
            Some((base, true, false)) => {
                self.error(base.at.clone(), "whose image of that name? \"owner\" is missing")
                    .help("anybody may give an image any name: owner: \"136693071363\", or owner: self");
            }
            Some((base, false, true)) => {
                self.error(
                    base.at.clone(),
                    "\"owner\" says whose image \"name\" means, and there is no name",
                );
            }
            _ => {}
        }
    }

    /// A stage that works on an image has exactly one bake before it.
    fn one_image(&mut self, place: usize, does: &str) {
        let ancestors = self.graph.ancestors(place).iter();
        let bakes: Vec<&str> = ancestors
            .map(|ancestor| self.stage(ancestor))
            .filter(|stage: &&Stage<'_>| matches!(stage.kind, Some(Kind::Bake(_))))
            .map(|stage| stage.name.text)
            .collect();
        let stage = self.stage(place);
        let at = stage.name.at.clone();
        let name = stage.name.text;
        match bakes.as_slice() {
            [_] => {}
            [] => {
                self.error(at, format!("{name:?} {does} the one image baked before it, and there is none"))
                    .help("let it need, directly or not, a stage with `uses: bake`");
            }
            several => {
                let several = several.join(", ");
                self.error(
                    at,
                    format!(
                        "{name:?} {does} the one image baked before it, and there are several: {several}"
                    ),
                )
                .help("a pipeline ships one service: let only one of them come before it");
            }
        }
    }
}

/// A path of `taken` that is `path`, or lies above or below it, with the artifact it belongs to.
fn overlapping<'a>(taken: &BTreeMap<String, &'a str>, path: &str) -> Option<(&'a str, String)> {
    let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at)).chain([path]);
    for path in above {
        if let Some(name) = taken.get(path) {
            return Some((name, path.to_owned()));
        }
    }
    let inside = format!("{path}/");
    let (below, name) = taken.range(inside.clone()..).next()?;
    below.starts_with(&inside).then(|| (*name, below.clone()))
}
