//! Every key of the settings file.

use std::time::Duration;

use super::aws;
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
        Key::optional(
            "people",
            Shape::Map(Keys::People, &Shape::Table(&PERSON)),
            "those who act, by the name they act under",
        ),
        Key::optional("github", Shape::Table(&GITHUB), "what GitHub and this server know of each other"),
        Key::optional(
            "clouds",
            Shape::Table(&aws::CLOUDS),
            "accounts that fleets, images and artifacts live in",
        ),
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
        Key::optional("approvals", Shape::Table(&APPROVALS), "who must say so"),
        Key::optional(
            "fleets",
            Shape::Map(Keys::Names("fleet"), &Shape::Table(&FLEET)),
            "the fleets here, by service",
        ),
        Key::optional(
            "freeze",
            Shape::OneOrList(&Shape::Table(&FREEZE)),
            "times in which no run goes in: one, or a list",
        ),
        Key::optional(
            "role",
            Shape::Text,
            "on AWS: the ARN of a role to assume for what is done to its fleets; the cloud's unless given",
        ),
    ],
    one_of: &[],
};

static APPROVALS: Table = Table {
    what: "\"approvals\"",
    keys: &[
        Key::optional("count", Shape::Whole(1, NUMBER), "so many different people; 1 unless given"),
        Key::optional(
            "roles",
            Shape::OneOrList(&Shape::Name),
            "each of them has one of these roles; anybody may unless given",
        ),
        Key::optional(
            "author",
            Shape::Flag,
            "whether somebody who wrote a commit that ships may be one of them; true unless given",
        ),
        Key::optional(
            "automation",
            Shape::Flag,
            "whether `run --promote` and `demo --auto` may stand in for people; unless given, as `author`",
        ),
    ],
    one_of: &[],
};

static FLEET: Table = Table {
    what: "a fleet",
    keys: &[
        Key::required("cloud", Shape::Word(&["local", "aws"], &[]), "where its instances run"),
        Key::required("size", Shape::Whole(1, 1_000), "how many instances"),
        Key::required(
            "port",
            Shape::Whole(1, 65_535),
            "where its balancer listens, on loopback; on AWS: where its instances listen",
        ),
        Key::optional(
            "health",
            Shape::Table(&HEALTH),
            "how its instances are asked whether they are well; on AWS the target groups say that",
        ),
        Key::optional(
            "version",
            Shape::UrlPath,
            "asked of each new instance itself: its answer has to name the version; not asked unless given",
        ),
        Key::optional(
            "drain",
            Shape::Time(Duration::ZERO),
            "how long open requests of an instance that goes may take; 10s unless given; \
             on AWS the target groups say that",
        ),
        Key::optional(
            "patience",
            Shape::Time(Duration::from_millis(1)),
            "an instance that is not healthy so long after its launch has failed; 60s unless given, on AWS 10m",
        ),
        aws::TARGET_GROUPS,
        aws::STANDBY_TARGET_GROUPS,
        aws::LAUNCH,
        aws::AUTO_SCALING_GROUP,
        aws::URL,
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
        Key::optional(
            "blue_green",
            Shape::Table(&BLUE_GREEN),
            "all at once: new instances beside the old ones, and one switch",
        ),
        Key::later("canary"),
    ],
    one_of: &["rolling", "blue_green", "canary"],
};

static BLUE_GREEN: Table = Table {
    what: "\"blue_green\"",
    keys: &[Key::optional(
        "hold",
        Shape::Time(Duration::ZERO),
        "how long the old instances stand by after the switch; 10m unless given",
    )],
    one_of: &[],
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

static FREEZE: Table = Table {
    what: "\"freeze\"",
    keys: &[
        Key::required("from", Shape::Text, "\"Fri 16:00\" for every week, or \"2026-12-20 00:00\" for once"),
        Key::required("to", Shape::Text, "as `from`"),
        Key::required("timezone", Shape::TimeZone, "whose clocks are meant, Europe/Berlin"),
        Key::required("reason", Shape::Prose, "for people who wait"),
    ],
    one_of: &[],
};

static PERSON: Table = Table {
    what: "a person",
    keys: &[
        Key::optional("roles", Shape::OneOrList(&Shape::Name), "what approvals ask for"),
        Key::optional("emails", Shape::OneOrList(&Shape::Email), "the addresses they commit with"),
        Key::optional("github", Shape::Login, "their login there"),
        Key::optional(
            "token",
            Shape::Table(&SECRET),
            "proves who they are to a server that listens beyond this machine",
        ),
    ],
    one_of: &[],
};

static GITHUB: Table = Table {
    what: "\"github\"",
    keys: &[
        Key::optional(
            "webhook_secrets",
            Shape::List(&Shape::Table(&SECRET)),
            "what webhooks are signed with: one, and a second while it is changed",
        ),
        Key::optional(
            "repositories",
            Shape::Map(Keys::Repositories, &Shape::Table(&REPOSITORY)),
            "repositories, by owner/name",
        ),
    ],
    one_of: &[],
};

static REPOSITORY: Table = Table {
    what: "a repository",
    keys: &[Key::required(
        "url",
        Shape::Text,
        "where it is cloned from: a path relative to this file, file://, https://, ssh:// or user@host:path",
    )],
    one_of: &[],
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
        Key::optional(
            "log_limit",
            Shape::Size(1024),
            "longest output of a step, which is ended when it writes more; 1GiB unless given",
        ),
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
