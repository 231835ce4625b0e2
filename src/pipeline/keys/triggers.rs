//! The keys of `on`: what starts a run by itself.

use super::super::shape::{Key, Shape, Table};

pub(super) static ON: Table = Table {
    what: "\"on\"",
    keys: &[
        Key::optional("push", Shape::Maybe(&Shape::Table(&PUSH)), "pushes to the source"),
        Key::optional(
            "pull_request",
            Shape::Maybe(&Shape::Table(&PULL_REQUEST)),
            "pull requests that are opened, reopened or pushed to",
        ),
        Key::optional("schedule", Shape::OneOrList(&Shape::Table(&SCHEDULE)), "the clock: one, or a list"),
    ],
    one_of: &[],
};

const PATHS: Key = Key::optional(
    "paths",
    Shape::OneOrList(&Shape::PathPattern),
    "patterns of changed files, one of which has to match; any file unless given",
);

static PUSH: Table = Table {
    what: "\"push\"",
    keys: &[
        Key::optional(
            "branches",
            Shape::OneOrList(&Shape::Pattern),
            "patterns of branches; every branch unless these or tags are given",
        ),
        Key::optional(
            "tags",
            Shape::OneOrList(&Shape::Pattern),
            "patterns of tags; no tag unless given, and with tags alone no branch",
        ),
        PATHS,
    ],
    one_of: &[],
};

static PULL_REQUEST: Table = Table {
    what: "\"pull_request\"",
    keys: &[
        Key::optional(
            "branches",
            Shape::OneOrList(&Shape::Pattern),
            "patterns of the branch that it is to be merged into; every one unless given",
        ),
        PATHS,
        Key::optional(
            "until",
            Shape::OneOrList(&Shape::Name),
            "the stages that the run ends with; required where a stage names an environment",
        ),
    ],
    one_of: &[],
};

static SCHEDULE: Table = Table {
    what: "\"schedule\"",
    keys: &[
        Key::required("cron", Shape::Cron, "minute, hour, day of the month, month, day of the week"),
        Key::optional("timezone", Shape::TimeZone, "whose clocks are meant, Europe/Berlin; UTC unless given"),
        Key::optional(
            "branch",
            Shape::Branch,
            "whose newest commit is taken; the one that the source has checked out unless given",
        ),
    ],
    one_of: &[],
};
