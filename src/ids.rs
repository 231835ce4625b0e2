//! The names of things, each a type of its own, so that a stage can never be passed where an
//! environment is meant. A value of these types always follows the naming convention; reading one
//! from text checks it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name an author may give, in characters. Instance names join a service, an environment,
/// a version and a number, and must stay under the 128 characters that clouds allow for a tag.
pub const NAME_LIMIT: usize = 40;

/// What [`check_name`] takes, as a regular expression.
const NAME_PATTERN: &str = "^[A-Za-z]([A-Za-z0-9-]{0,38}[A-Za-z0-9])?$";

/// What ids of other houses have, as a regular expression.
const OPAQUE_PATTERN: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most {NAME_LIMIT} characters, this one has {0}")]
    TooLong(usize),
    #[error("a name starts with a letter, this one with {0:?}")]
    Start(char),
    #[error("a name has only letters, digits and hyphens, this one has {0:?}")]
    Character(char),
    #[error("a name does not end with a hyphen")]
    End,
}

/// Checks the naming convention: letters, digits and hyphens, a letter first, no hyphen last, at
/// most [`NAME_LIMIT`] characters.
pub fn check_name(text: &str) -> Result<(), NameError> {
    let count = text.chars().count();
    let first = text.chars().next().ok_or(NameError::Empty)?;
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(NameError::Character(bad));
    }
    if !first.is_ascii_alphabetic() {
        return Err(NameError::Start(first));
    }
    if text.ends_with('-') {
        return Err(NameError::End);
    }
    if count > NAME_LIMIT {
        return Err(NameError::TooLong(count));
    }
    Ok(())
}

/// The description of a text for programs: the pattern is what every legal one matches.
macro_rules! text_schema {
    ($name:ident, $pattern:expr) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                let text = utoipa::openapi::schema::Type::String;
                let text = utoipa::openapi::schema::SchemaType::new(text);
                utoipa::openapi::ObjectBuilder::new().schema_type(text).pattern(Some($pattern)).into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $error:ty, $pattern:expr) => {
        text_schema!($name, $pattern);

        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(
    /// A pipeline, and the service it ships: they have one name.
    PipelineName, check_name, NameError, NAME_PATTERN
);
text_type!(
    /// A stage of a pipeline.
    StageName, check_name, NameError, NAME_PATTERN
);
text_type!(
    /// An environment such as `production`.
    EnvironmentName, check_name, NameError, NAME_PATTERN
);
text_type!(
    /// The name an author gives to what a stage produces, unique in its pipeline.
    ArtifactName, check_name, NameError, NAME_PATTERN
);

/// Why a text is not an id of the given kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("a run is named like storefront/42, not {0:?}")]
    Run(String),
    #[error("a commit is 40 or 64 hexadecimal digits, not {0:?}")]
    Commit(String),
    #[error("a digest is 64 hexadecimal digits, not {0:?}")]
    Digest(String),
    #[error("an id has letters, digits, hyphens, dots and underscores, at most 200 of them, not {0:?}")]
    Opaque(String),
    #[error("a fleet is named like production/storefront, not {0:?}")]
    Fleet(String),
}

fn check_commit(text: &str) -> Result<(), IdError> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match hex && matches!(text.len(), 40 | 64) {
        true => Ok(()),
        false => Err(IdError::Commit(text.to_owned())),
    }
}

fn check_digest(text: &str) -> Result<(), IdError> {
    let hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match hex && text.len() == 64 {
        true => Ok(()),
        false => Err(IdError::Digest(text.to_owned())),
    }
}

fn check_opaque(text: &str) -> Result<(), IdError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    match !text.is_empty() && text.len() <= 200 && text.bytes().all(plain) && !text.starts_with('.') {
        true => Ok(()),
        false => Err(IdError::Opaque(text.to_owned())),
    }
}

text_type!(
    /// A full commit hash, lower case.
    CommitSha, check_commit, IdError, "^([0-9a-f]{40}|[0-9a-f]{64})$"
);
text_type!(
    /// The SHA-256 of some content, 64 lower-case hexadecimal digits.
    Digest, check_digest, IdError, "^[0-9a-f]{64}$"
);
text_type!(
    /// A baked machine image, in the words of its cloud.
    ImageId, check_opaque, IdError, OPAQUE_PATTERN
);
text_type!(
    /// A running instance, in the words of its cloud. The local cloud uses the instance's name.
    InstanceId, check_opaque, IdError, OPAQUE_PATTERN
);
text_type!(
    /// The key of a recorded intent. It goes to the outside as idempotency token and tag: the same
    /// key never causes an effect twice.
    Key, check_opaque, IdError, OPAQUE_PATTERN
);

impl CommitSha {
    /// The first eight digits, as versions and messages show them.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_hash(sha2::Sha256::digest(bytes).as_slice())
    }

    /// The digest whose 32 hash bytes are `hash`.
    pub fn from_hash(hash: &[u8]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in hash {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The first twelve digits, for names and messages.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// A run: one execution of a pipeline for one commit. Shown as `storefront/42`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub pipeline: PipelineName,
    /// Counts from 1 in each pipeline, without gaps.
    pub number: u64,
}

impl RunId {
    pub fn new(pipeline: PipelineName, number: u64) -> Self {
        Self { pipeline, number }
    }

    /// The run's version: its number and short commit, `42-9f3c2a1b`; the number alone for a run
    /// without a commit.
    pub fn version(&self, commit: Option<&CommitSha>) -> String {
        match commit {
            Some(commit) => format!("{}-{}", self.number, commit.short()),
            None => self.number.to_string(),
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.pipeline, self.number))
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || IdError::Run(text.to_owned());
        let (pipeline, number) = text.split_once('/').ok_or_else(wrong)?;
        // In one way only: neither +42 nor 042.
        let plain = number.starts_with(|c: char| c.is_ascii_digit() && c != '0');
        let number: u64 = number.parse().map_err(|_| wrong())?;
        match pipeline.parse() {
            Ok(pipeline) if plain => Ok(Self { pipeline, number }),
            _ => Err(wrong()),
        }
    }
}

/// The instances of one service in one environment behind one load balancer. Shown as
/// `storefront-production`, the name every node of it starts with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FleetId {
    pub service: PipelineName,
    pub environment: EnvironmentName,
}

impl FleetId {
    pub fn new(service: PipelineName, environment: EnvironmentName) -> Self {
        Self { service, environment }
    }

    /// The name of the `n`th instance that `version` launched here:
    /// `storefront-production-42-9f3c2a1b-1`.
    pub fn instance_name(&self, version: &str, n: u32) -> String {
        format!("{self}-{version}-{n}")
    }
}

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.service, self.environment))
    }
}

macro_rules! serde_by_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

/// A journal: of a run, of a fleet, or of an environment. Shown as `run:storefront/42`,
/// `fleet:production/storefront` and `environment:production`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamId {
    Run(RunId),
    Fleet(FleetId),
    Environment(EnvironmentName),
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => f.pad(&format!("run:{run}")),
            Self::Fleet(fleet) => f.pad(&format!("fleet:{}/{}", fleet.environment, fleet.service)),
            Self::Environment(environment) => f.pad(&format!("environment:{environment}")),
        }
    }
}

impl FromStr for StreamId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || IdError::Fleet(text.to_owned());
        match text.split_once(':') {
            Some(("run", run)) => Ok(Self::Run(run.parse()?)),
            Some(("fleet", fleet)) => {
                let (environment, service) = fleet.split_once('/').ok_or_else(wrong)?;
                match (service.parse(), environment.parse()) {
                    (Ok(service), Ok(environment)) => Ok(Self::Fleet(FleetId { service, environment })),
                    _ => Err(wrong()),
                }
            }
            Some(("environment", environment)) => {
                environment.parse().map(Self::Environment).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

serde_by_text!(RunId, StreamId);
text_schema!(RunId, "^[A-Za-z]([A-Za-z0-9-]{0,38}[A-Za-z0-9])?/[1-9][0-9]*$");

/// One try of a stage. Attempts count from 1 within their stage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    pub run: RunId,
    pub stage: StageName,
    pub attempt: u32,
}

impl AttemptId {
    /// The key of this attempt's intents: unique in a data directory and stable across restarts.
    pub fn key(&self) -> Key {
        Key(format!("{}-{}.{}.{}", self.run.pipeline, self.run.number, self.stage, self.attempt))
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} attempt {}", self.run, self.stage, self.attempt)
    }
}

/// One step of an attempt. Steps count from 1 within their attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId {
    pub attempt: AttemptId,
    pub step: u32,
}

impl StepId {
    pub fn key(&self) -> Key {
        Key(format!("{}.{}", self.attempt.key(), self.step))
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} step {}", self.attempt, self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for good in ["a", "storefront", "end-2-end", "A9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(NAME_LIMIT + 1);
        for bad in ["", "9a", "-a", "a-", "a_b", "a b", "é", "../x", long.as_str()] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_read_what_they_show() {
        let run: RunId = "storefront/42".parse().unwrap();
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        for stream in ["run:storefront/42", "fleet:production/store-front", "environment:production"] {
            assert_eq!(stream.parse::<StreamId>().unwrap().to_string(), stream);
        }
        for bad in [
            "storefront",
            "storefront/0",
            "storefront/x",
            "/1",
            "9/1",
            "storefront/-1",
            "storefront/+1",
            "storefront/01",
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_is_number_and_short_commit() {
        let run: RunId = "storefront/42".parse().unwrap();
        let commit: CommitSha = "9f3c2a1b00000000000000000000000000000000".parse().unwrap();
        assert_eq!(run.version(Some(&commit)), "42-9f3c2a1b");
        assert_eq!(run.version(None), "42");
    }
}
