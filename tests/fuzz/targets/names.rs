//! Names of things: each reads back as itself and in no second way, and none leaves its directory where it
//! becomes a path.

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;

use windlass::ids::{
    ArtifactName, AttemptId, CommitSha, Digest, EnvironmentName, ImageId, InstanceId, Key, PipelineName,
    RunId, StageName, StepId, StreamId,
};
use windlass::log;
use windlass::pipeline::text as language;

use super::text;

pub const WORDS: &[&str] = &[
    "storefront",
    "/",
    "42",
    "-",
    "_",
    ".",
    "..",
    "run:",
    "fleet:",
    "environment:",
    "+1",
    "01",
    "9f3c2a1b",
    "é",
    "\u{131}",
    "img-",
    ":",
    " ",
    "~",
    "\\",
    "sha256",
    "1h",
    "30m",
    "%",
    "100%",
    "refs/heads/",
    "@{",
    ".lock",
    "[bot]",
    "@",
];

pub fn target(data: &[u8]) {
    let text = text(data);
    exact::<PipelineName>(text);
    exact::<StageName>(text);
    exact::<EnvironmentName>(text);
    exact::<ArtifactName>(text);
    exact::<ImageId>(text);
    exact::<InstanceId>(text);
    exact::<CommitSha>(text);
    exact::<Digest>(text);
    exact::<Key>(text);
    exact::<RunId>(text);
    exact::<StreamId>(text);
    if let (Ok(run), Ok(stage)) = (text.parse::<RunId>(), "build".parse()) {
        let step = StepId { attempt: AttemptId { run, stage, attempt: u32::MAX }, step: u32::MAX };
        below(&log::path(Path::new("/data"), &step));
    }
    if let Ok(path) = language::path(text) {
        below(&Path::new("/data").join(&path));
        assert_eq!(language::path(&path), Ok(path.clone()), "it is plain already");
    }
    if let Ok(duration) = language::duration(text) {
        assert!(duration <= language::TIME_LIMIT);
        assert_eq!(language::duration(&language::show_duration(duration)), Ok(duration));
    }
    if let Ok(share) = language::share(text) {
        assert!(share.of(0) == 0 || !text.ends_with('%'));
    }
    if language::branch(text).is_ok() {
        assert!(
            !text.starts_with('-')
                && !text.contains("..")
                && !text.contains(|c: char| c.is_ascii_whitespace()),
            "{text:?}"
        );
    }
    if language::repository(text).is_ok() {
        below(&Path::new("/data").join(text));
    }
    if let Ok(hundredths) = language::per_cent(text) {
        assert!(hundredths <= 10_000);
    }
    for check in [language::variable, language::param, language::person, language::login, language::email] {
        if check(text).is_ok() {
            assert!(
                !text.is_empty() && !text.contains(|c: char| c.is_control() || c.is_whitespace()),
                "{text:?}"
            );
        }
    }
}

fn exact<T: FromStr + Display + Debug>(text: &str) {
    let Ok(name) = text.parse::<T>() else { return };
    assert_eq!(name.to_string(), text, "{name:?} is written in two ways");
    assert!(!text.contains(|c: char| c.is_control() || c.is_whitespace()), "{text:?}");
}

fn below(path: &Path) {
    let inside =
        path.strip_prefix("/data").unwrap_or_else(|_| panic!("{} leaves its directory", path.display()));
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    assert!(plain, "{} leaves its directory", path.display());
}
