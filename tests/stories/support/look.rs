//! What the documents of `show`, `runs` and `status` say.

use serde_json::Value;

/// A stage of a run.
#[track_caller]
pub fn stage<'a>(run: &'a Value, name: &str) -> &'a Value {
    let stages = run["stages"].as_array().unwrap();
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no stage {name}: {run:#}"))
}

pub fn is(stage_of: &Value, name: &str, status: &str) -> bool {
    stage(stage_of, name)["status"] == status
}

/// Whether the stage is at this step.
pub fn is_at(run: &Value, name: &str, step: &str) -> bool {
    let steps = stage(run, name)["steps"].as_array().unwrap();
    steps
        .iter()
        .any(|found| found["status"] == "running" && found["name"].as_str().unwrap().starts_with(step))
}

#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The image that the run baked.
#[track_caller]
pub fn image(run: &Value) -> &str {
    text(&stage(run, "bake")["outputs"]["image"])
}

/// A list that an output holds, separated by commas.
#[track_caller]
pub fn list(value: &Value) -> Vec<&str> {
    text(value).split(',').filter(|word| !word.is_empty()).collect()
}
