//! Every key of the pipeline file. The words behind a key are its documentation in editors.

use std::time::Duration;

use super::shape::{Key, Keys, Kinds, Shape, Table};

mod triggers;

/// Longest list of attempts: more hides a fault rather than mending it.
pub const ATTEMPTS_LIMIT: u64 = 100;

/// The whole file.
pub static FILE: Shape = Shape::Table(&PIPELINE);

static PIPELINE: Table = Table {
    what: "the pipeline",
    keys: &[
        Key::required("name", Shape::Name, "the pipeline and the service that it ships"),
        Key::optional(
            "source",
            Shape::Table(&SOURCE),
            "where the commits come from; `--source` says otherwise",
        ),
        Key::optional(
            "params",
            Shape::Map(Keys::Params, &Shape::Table(&PARAM)),
            "what whoever starts a run may set",
        ),
        Key::required(
            "stages",
            Shape::Map(Keys::SomeNames("stage"), &Shape::Kinds(&STAGE)),
            "what is done, as a graph",
        ),
        Key::optional("on", Shape::Switches(&triggers::ON), "what starts a run by itself"),
        Key::optional(
            "queue",
            Shape::Word(&["newest", "every"], &[]),
            "what a newer run does to older ones of its ref that wait: supersede them (newest, unless given) or not",
        ),
    ],
    one_of: &[],
};

static SOURCE: Table = Table {
    what: "\"source\"",
    keys: &[
        Key::optional(
            "git",
            Shape::Text,
            "a path relative to this file, file://, https://, ssh:// or user@host:path",
        ),
        Key::optional("github", Shape::Repository, "a repository on GitHub, owner/name"),
    ],
    one_of: &["git", "github"],
};

static PARAM: Table = Table {
    what: "a param",
    keys: &[
        Key::optional("default", Shape::Text, "without a default, the param must be given"),
        Key::optional("description", Shape::Prose, "for people"),
    ],
    one_of: &[],
};

pub static STAGE: Kinds = Kinds {
    key: "uses",
    default: &SCRIPT,
    kinds: &[
        ("checkout", &CHECKOUT),
        ("upload", &UPLOAD),
        ("bake", &BAKE),
        ("deploy", &DEPLOY),
        ("certify", &CERTIFY),
    ],
};

const NEEDS: Key = Key::optional("needs", Shape::OneOrList(&Shape::Name), "the stages that come before");
const IF: Key = Key::optional(
    "if",
    Shape::Condition,
    "runs only if this is true; without a status function, `success()` is meant too",
);
const TIMEOUT: Key = Key::optional(
    "timeout",
    Shape::Time(Duration::from_millis(1)),
    "how long one attempt may take; 1h unless given",
);
const RETRY: Key =
    Key::optional("retry", Shape::Table(&RETRY_TABLE), "which failures are tried again; none unless given");

static RETRY_TABLE: Table = Table {
    what: "\"retry\"",
    keys: &[
        Key::required("attempts", Shape::Whole(1, ATTEMPTS_LIMIT), "attempts in all, the first included"),
        Key::optional(
            "on",
            Shape::OneOrList(&Shape::Word(&["infrastructure", "timeout", "task"], &[])),
            "the causes that are tried again; infrastructure unless given",
        ),
    ],
    one_of: &[],
};

static SCRIPT: Table = Table {
    what: "a stage with steps",
    keys: &[
        NEEDS,
        IF,
        Key::optional(
            "environment",
            Shape::Name,
            "keeps that environment's fleet ours while it runs, and gives WINDLASS_URL",
        ),
        TIMEOUT,
        RETRY,
        Key::optional(
            "env",
            Shape::Map(Keys::Variables, &Shape::Template),
            "environment variables of the steps",
        ),
        Key::optional(
            "secrets",
            Shape::OneOrList(&Shape::Variable),
            "secrets of the settings, each an environment variable of that name",
        ),
        Key::required(
            "steps",
            Shape::List(&Shape::Table(&STEP)),
            "shell commands, one after the other in one workspace",
        ),
        Key::optional(
            "artifacts",
            Shape::Map(Keys::Names("artifact"), &Shape::Path),
            "what the stage produces: name and path in the workspace",
        ),
        Key::optional("reports", Shape::Table(&REPORTS), "reports that the steps leave in the workspace"),
    ],
    one_of: &[],
};

static REPORTS: Table = Table {
    what: "\"reports\"",
    keys: &[
        Key::optional("junit", Shape::OneOrList(&Shape::PathPattern), "patterns of JUnit XML files"),
        Key::optional("coverage", Shape::Table(&COVERAGE), "how much of the code the tests ran through"),
    ],
    one_of: &[],
};

static COVERAGE: Table = Table {
    what: "\"coverage\"",
    keys: &[
        Key::optional("lcov", Shape::OneOrList(&Shape::PathPattern), "patterns of LCOV files"),
        Key::optional("cobertura", Shape::OneOrList(&Shape::PathPattern), "patterns of Cobertura XML files"),
        Key::optional(
            "at_least",
            Shape::PerCent,
            "with fewer per cent of the lines covered, the stage fails",
        ),
    ],
    one_of: &["lcov", "cobertura"],
};

static STEP: Table = Table {
    what: "a step",
    keys: &[
        Key::required("run", Shape::Command, "shell commands; values reach them as environment variables"),
        Key::optional("name", Shape::Text, "the first line of `run` unless given"),
        Key::optional("shell", Shape::Word(&["sh", "bash"], &[]), "`sh -e`, or `bash -euo pipefail`"),
    ],
    one_of: &[],
};

static CHECKOUT: Table = Table { what: "a checkout stage", keys: &[NEEDS, IF, TIMEOUT, RETRY], one_of: &[] };

static UPLOAD: Table = Table {
    what: "an upload stage",
    keys: &[
        NEEDS,
        IF,
        TIMEOUT,
        RETRY,
        Key::required("with", Shape::Table(&UPLOAD_WITH), "which artifacts go to the object store"),
    ],
    one_of: &[],
};

static UPLOAD_WITH: Table = Table {
    what: "\"with\" of an upload stage",
    keys: &[
        Key::optional("artifact", Shape::Name, "one artifact, made by a stage before"),
        Key::optional("artifacts", Shape::List(&Shape::Name), "several artifacts, made by stages before"),
    ],
    one_of: &["artifact", "artifacts"],
};

static BAKE: Table = Table {
    what: "a bake stage",
    keys: &[
        NEEDS,
        IF,
        TIMEOUT,
        RETRY,
        Key::required("with", Shape::Table(&BAKE_WITH), "what the image is made of"),
        Key::later("env"),
        Key::later("secrets"),
    ],
    one_of: &[],
};

static BAKE_WITH: Table = Table {
    what: "\"with\" of a bake stage",
    keys: &[
        Key::optional("from", Shape::Name, "the environment whose fleet's image is built upon"),
        Key::optional(
            "base",
            Shape::Table(&BASE),
            "what is built upon where no fleet runs an image yet; else an empty tree",
        ),
        Key::optional(
            "artifacts",
            Shape::List(&Shape::Name),
            "what fills the image; every artifact uploaded before, unless given",
        ),
        Key::optional(
            "files",
            Shape::List(&Shape::Path),
            "paths of the commit, at hand only while provisioning",
        ),
        Key::optional(
            "provision",
            Shape::List(&Shape::Table(&STEP)),
            "commands run in the image's app directory",
        ),
        Key::required(
            "start",
            Shape::Command,
            "the command that starts the service, run by sh in the app directory",
        ),
    ],
    one_of: &[],
};

static BASE: Table = Table {
    what: "\"base\"",
    keys: &[
        Key::optional("directory", Shape::Path, "a directory of the commit, or beside this file"),
        Key::optional("ami", Shape::Text, "on AWS: the id of a machine image, ami-0abc"),
        Key::optional(
            "name",
            Shape::Text,
            "on AWS: the newest machine image of this name, in which * stands for anything: debian-12-amd64-*",
        ),
        Key::optional("owner", Shape::Text, "whose image of that name: an account's number, or self"),
    ],
    one_of: &["directory", "ami", "name"],
};

static DEPLOY: Table = Table {
    what: "a deploy stage",
    keys: &[
        NEEDS,
        IF,
        Key::required(
            "environment",
            Shape::Name,
            "the environment whose fleet is moved to the image baked before",
        ),
        TIMEOUT,
        RETRY,
    ],
    one_of: &[],
};

static CERTIFY: Table = Table { what: "a certify stage", keys: &[NEEDS, IF, TIMEOUT, RETRY], one_of: &[] };
