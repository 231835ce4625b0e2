//! A pipeline with other values in the `with` of its stages, as a replay asks for them.
//!
//! An edit is read like the file: the same shapes, the same rules, the same second reading. A problem with
//! what it says names the edit, as no line of the file has it.

use std::rc::Rc;

use crate::ids::StageName;

use super::model::Pipeline;
use super::yaml::{self, Node, Put};
use super::{Problems, understand};

#[cfg(test)]
mod tests;

/// Another value for one key of a stage's `with`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithEdit {
    pub stage: StageName,
    pub key: String,
    /// As YAML: `./storefront`, `[app, assets]`, `{ directory: base/ }`.
    pub value: String,
}

impl WithEdit {
    fn name(&self) -> String {
        format!("{}.with.{}", self.stage, self.key)
    }
}

/// What was read of an edit.
struct Read {
    text: String,
    start: usize,
    value: Rc<Node>,
}

/// Reads the text of a pipeline file with these edits; the later one of two of the same key counts.
/// `file` is its name in messages. Environments, fleets and secrets are not checked.
///
/// # Errors
///
/// All that is wrong with the file or the edits: a stage that there is not, a key that its kind does not
/// have, a value that cannot stand there.
pub fn read_edited(text: &str, file: &str, edits: &[WithEdit]) -> Result<Pipeline, Problems> {
    let mut problems = Problems::new(file, text);
    let Some(root) = yaml::read(text, &mut problems) else { return Err(problems.sorted()) };
    let mut source = text.to_owned();
    let mut edited = Rc::clone(&root);
    let mut values = Vec::new();
    for edit in edits {
        let name = edit.name();
        let written = format!("{name}={}", edit.value);
        let start = problems.attach(&name, &written);
        source.extend(["\n", &written]);
        let Some(value) = value(edit, start + name.len() + 1, &mut problems) else { continue };
        if !is_stage(edit, &root, start, &mut problems) {
            continue;
        }
        let path = ["stages", edit.stage.as_str(), "with", &edit.key].map(str::to_owned).to_vec();
        let put = Put { path, at: start..start + name.len(), value: Rc::clone(&value.value) };
        edited = yaml::put(&edited, &put);
        values.push(value);
    }
    let confirm = |problems: &mut Problems| {
        yaml::confirm(&root, text, problems);
        for read in &values {
            yaml::confirm_at(&read.value, &read.text, read.start, problems);
        }
    };
    let (pipeline, problems) = understand(&edited, &source, None, problems, confirm);
    pipeline.ok_or(problems)
}

fn value(edit: &WithEdit, start: usize, problems: &mut Problems) -> Option<Read> {
    let text = edit.value.clone();
    if text.len() > yaml::SIZE_LIMIT {
        let message = format!("the edit has {} bytes; at most {} are read", text.len(), yaml::SIZE_LIMIT);
        problems.error(start..start, message);
        return None;
    }
    let value = yaml::read_at(&text, start, problems)?;
    if value.is_null() {
        problems
            .error(start..start + text.len(), "the edit has no value")
            .help("an empty text is written \"\"");
        return None;
    }
    Some(Read { text, start, value })
}

fn is_stage(edit: &WithEdit, root: &Node, start: usize, problems: &mut Problems) -> bool {
    // Without stages the file has a problem already.
    let Some(stages) = root.get("stages") else { return true };
    if stages.entry(edit.stage.as_str()).is_some() {
        return true;
    }
    let known = stages.entries().iter().map(|entry| entry.key.as_str());
    let at = start..start + edit.stage.as_str().len();
    problems.unknown(at, format!("unknown stage {:?}", edit.stage.as_str()), edit.stage.as_str(), known);
    false
}
