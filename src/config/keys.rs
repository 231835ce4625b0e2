//! Every key of the settings file.

use std::time::Duration;

use crate::pipeline::shape::{Key, Keys, Shape, Table};

const NUMBER: u64 = u32::MAX as u64;

/// The whole file.
pub static FILE: Shape = Shape::Table(&SETTINGS);

static SETTINGS: Table = Table {
    what: "the settings file",
    keys: &[
        Key::optional(
            "environments",
            Shape::Map(Keys::Names("environment"), &Shape::Table(&ENVIRONMENT)),
            "policy for the places where services run",
        ),
        Key::optional(
            "secrets",
            Shape::Map(Keys::Variables, &Shape::Table(&SECRET)),
            "where the values come from of the secrets that stages name",
        ),
        Key::optional("runner", Shape::Table(&RUNNER), "how steps are run"),
        Key::optional("server", Shape::Table(&SERVER), "how `windlass serve` is reached"),
        Key::later("people"),
        Key::later("clouds"),
        Key::later("github"),
    ],
    one_of: &[],
};

static ENVIRONMENT: Table = Table {
    what: "an environment",
    keys: &[
        Key::required("group", Shape::Name, "dev, qa, canary, production, or the one more that you name"),
        Key::optional(
            "promotion",
            Shape::Word(&["automatic", "manual"], &[]),
            "whether somebody must say that a run goes on into it; automatic unless given",
        ),
        Key::optional("approvals", Shape::Table(&APPROVALS), "how many people must say so: one"),
        Key::optional(
            "fleets",
            Shape::Map(Keys::Names("fleet"), &Shape::Table(&FLEET)),
            "the fleets here, by service",
        ),
        Key::later("freeze"),
    ],
    one_of: &[],
};

static APPROVALS: Table = Table {
    what: "\"approvals\"",
    keys: &[
        Key::required("count", Shape::Whole(1, NUMBER), "so many people; 1 so far"),
        Key::later("roles"),
        Key::later("author"),
    ],
    one_of: &[],
};

static FLEET: Table = Table {
    what: "a fleet",
    keys: &[
        Key::required("cloud", Shape::Word(&["local"], &["aws"]), "where its instances run"),
        Key::required("size", Shape::Whole(1, 1_000), "how many instances"),
        Key::required("port", Shape::Whole(1, 65_535), "where its balancer listens, on loopback"),
        Key::required("health", Shape::Table(&HEALTH), "how its instances are asked whether they are well"),
        Key::optional(
            "drain",
            Shape::Time(Duration::ZERO),
            "how long open requests of an instance that goes may take; 10s unless given",
        ),
        Key::optional(
            "patience",
            Shape::Time(Duration::from_millis(1)),
            "an instance that is not healthy so long after its launch has failed; 60s unless given",
        ),
        Key::optional("strategy", Shape::Table(&STRATEGY), "how it is moved to another image"),
        Key::optional(
            "env",
            Shape::Map(Keys::Variables, &Shape::Text),
            "environment variables of its instances, besides PORT",
        ),
    ],
    one_of: &[],
};

static HEALTH: Table = Table {
    what: "\"health\"",
    keys: &[
        Key::required("path", Shape::UrlPath, "answered with 2xx by an instance that is well"),
        Key::optional(
            "interval",
            Shape::Time(Duration::from_millis(10)),
            "between two checks; 1s unless given",
        ),
        Key::optional(
            "timeout",
            Shape::Time(Duration::from_millis(1)),
            "no answer within this time is a bad one; 2s unless given",
        ),
        Key::optional("healthy", Shape::Whole(1, 1_000), "so many good answers in a row; 2 unless given"),
        Key::optional("unhealthy", Shape::Whole(1, 1_000), "so many bad answers in a row; 2 unless given"),
    ],
    one_of: &[],
};

static STRATEGY: Table = Table {
    what: "\"strategy\"",
    keys: &[
        Key::optional("rolling", Shape::Table(&ROLLING), "a batch at a time"),
        Key::later("blue_green"),
        Key::later("canary"),
    ],
    one_of: &["rolling", "blue_green", "canary"],
};

static ROLLING: Table = Table {
    what: "\"rolling\"",
    keys: &[
        Key::optional(
            "batch",
            Shape::Share(1),
            "instances swapped at a time, or a percentage; 1 unless given",
        ),
        Key::optional("surge", Shape::Share(1), "instances above the size meanwhile; 1 unless given"),
        Key::optional("floor", Shape::Share(0), "never fewer healthy ones than this; the size unless given"),
    ],
    one_of: &[],
};

static SECRET: Table = Table {
    what: "a secret",
    keys: &[
        Key::optional("env", Shape::Variable, "an environment variable of whoever runs Windlass"),
        Key::optional("file", Shape::AnyPath, "a file, relative to this one; one final newline is left out"),
    ],
    one_of: &["env", "file"],
};

static RUNNER: Table = Table {
    what: "\"runner\"",
    keys: &[
        Key::optional(
            "slots",
            Shape::Whole(1, 10_000),
            "stages of shell at the same time; one for each core unless given",
        ),
        Key::optional("pass", Shape::List(&Shape::Variable), "environment variables that steps inherit"),
        Key::later("user"),
    ],
    one_of: &[],
};

static SERVER: Table = Table {
    what: "\"server\"",
    keys: &[Key::optional(
        "hosts",
        Shape::List(&Shape::Text),
        "names under which browsers reach it, as behind a proxy: windlass.example.com",
    )],
    one_of: &[],
};
