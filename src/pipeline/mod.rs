//! PURE. What the author wrote: from the text of a pipeline file to a [`model::Pipeline`] that is
//! always legal, or to *all* that is wrong with the file, each problem with its place.
//!
//! [`yaml`] gives a tree in which every value knows its place; [`shape`] holds it against the table of
//! [`keys`]; [`spec`] takes it apart; `check` holds the meaning against the rules and makes the model.
//! No input makes any of it panic or run long.
//!
//! Deliberately absent: reading files, the settings (a pipeline sees [`Surroundings`] only), and what
//! happens in a run.

use std::borrow::Cow;

pub mod cron;
pub mod expression;
pub mod graph;
pub mod keys;
pub mod model;
pub mod patterns;
pub mod problem;
pub mod schema;
pub mod shape;
pub mod text;
pub mod yaml;

mod check;
mod edit;
mod rollback;
mod spec;
#[cfg(test)]
mod tests;

pub use check::{Machines, Place, STAGES_LIMIT, Surroundings};
pub use edit::{WithEdit, read_edited};
pub use problem::{Problem, Problems, Severity};
pub use rollback::rollback;

/// The annotated pipeline file in which every key appears.
pub const REFERENCE: &str = include_str!("reference.yaml");

/// Reads the text of a pipeline file. `file` is its name in messages. Environments, fleets and
/// secrets are not checked; see [`read_in`].
pub fn read(text: &str, file: &str) -> Result<model::Pipeline, Problems> {
    result(examine(text, file, None))
}

/// Reads the text of a pipeline file, and checks that everything it counts on is there.
pub fn read_in(text: &str, file: &str, surroundings: &Surroundings) -> Result<model::Pipeline, Problems> {
    result(examine(text, file, Some(surroundings)))
}

/// The pipeline, unless there are errors, and every problem, warnings too.
pub fn examine(
    text: &str,
    file: &str,
    surroundings: Option<&Surroundings>,
) -> (Option<model::Pipeline>, Problems) {
    let mut problems = Problems::new(file, text);
    let Some(root) = yaml::read(text, &mut problems) else { return (None, problems.sorted()) };
    let confirm = |problems: &mut Problems| yaml::confirm(&root, text, problems);
    understand(&root, text, surroundings, problems, confirm)
}

/// What a tree means. `source` is the text that the places of its values are in; `confirm` reads the
/// values a second time.
fn understand(
    root: &yaml::Node,
    source: &str,
    surroundings: Option<&Surroundings>,
    mut problems: Problems,
    confirm: impl FnOnce(&mut Problems),
) -> (Option<model::Pipeline>, Problems) {
    shape::check(&keys::FILE, root, "the pipeline", source, &mut problems);
    let spec = spec::Pipeline::of(root);
    let mut pipeline = check::check(&spec, source, surroundings, &mut problems);
    if pipeline.is_some() {
        confirm(&mut problems);
    } else if !problems.has_errors() {
        problems
            .error(0..0, "this pipeline is not understood")
            .help("this is a defect of Windlass; please report the file");
    }
    if problems.has_errors() {
        pipeline = None;
    }
    (pipeline, problems.sorted())
}

fn result((pipeline, problems): (Option<model::Pipeline>, Problems)) -> Result<model::Pipeline, Problems> {
    pipeline.ok_or(problems)
}

/// The text of a file's bytes, which must be UTF-8.
pub fn decode<'a>(bytes: &'a [u8], file: &str) -> Result<&'a str, Problems> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good: Cow<'_, str> = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let mut problems = Problems::new(file, &good);
        problems
            .error(good.len()..good.len(), "the file is not UTF-8: a byte here is no part of a character")
            .help("save it as UTF-8");
        problems
    })
}
