//! What is written down of a builder, in the bucket below `bakes/KEY/GENERATION`: what it was asked for,
//! who follows it, what it said, and that it is over.
//!
//! The order is written before the machine is asked for, and never changes: whoever asks for the same
//! generation asks for the same with the same token, and EC2 makes one of it.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::{Aws, operations};
use crate::cloud::{Error, Objects, Tags};
use crate::ids::{CommitSha, Digest, ImageId, Key};

/// The version of the stored format of [`Order`].
pub const SCHEMA: u32 = 1;

/// What a builder was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub schema: u32,
    pub generation: u32,
    /// The client token of `RunInstances`.
    pub token: String,
    pub at: Timestamp,
    /// The addresses that its scripts have hold so long.
    pub until: Timestamp,
    pub timeout: Duration,
    /// What it starts from.
    pub ami: ImageId,
    pub instance_type: String,
    pub subnet: String,
    pub security_groups: Vec<String>,
    pub profile: Option<String>,
    pub spot: bool,
    pub user_data: String,
    /// What SSM is to run, instead of user data.
    pub command: Option<String>,
    pub tags: Tags,
    pub image: Wanted,
}

/// The image that it is for. Whoever joins gets this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    pub key: Digest,
    pub name: String,
    pub parent: Option<ImageId>,
    pub commit: Option<CommitSha>,
    pub start: String,
}

/// What a builder said last.
#[derive(Debug, Clone, Deserialize)]
pub struct Verdict {
    pub verdict: String,
    pub phase: Option<String>,
    pub command: Option<usize>,
    pub exit_code: Option<i32>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.verdict == "ok"
    }
}

/// That a generation is over, whatever becomes of its machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Over {
    pub reason: String,
}

/// Somebody who follows a builder, and how much of its log was said there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Follower {
    pub said: u64,
}

/// The command by which SSM runs the script.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    pub command: String,
}

/// What there is of the builders for an image.
#[derive(Debug, Default)]
pub struct Papers(BTreeMap<u32, Vec<String>>);

impl Papers {
    /// The generation that was begun last.
    pub fn newest(&self) -> u32 {
        self.0.keys().next_back().copied().unwrap_or_default()
    }

    pub fn has(&self, generation: u32, name: &str) -> bool {
        self.0.get(&generation).is_some_and(|names| names.iter().any(|known| known == name))
    }

    /// Whether somebody follows a builder and has not given it up.
    pub fn is_followed(&self, generation: u32) -> bool {
        let mut names = self.0.get(&generation).into_iter().flatten();
        let follows = |name: &str| {
            let key = name.strip_prefix("followers/");
            key.is_some_and(|key| !self.has(generation, &format!("left/{key}")))
        };
        names.any(|name| follows(name))
    }

    /// The builder that somebody followed last.
    pub fn followed_by(&self, key: &Key) -> Option<u32> {
        let name = follower(key);
        self.0.keys().copied().rev().find(|generation| self.has(*generation, &name))
    }
}

pub const ORDER: &str = "order.json";
pub const BOOTSTRAP: &str = "bootstrap.sh";
pub const LOG: &str = "log";
pub const VERDICT: &str = "verdict.json";
pub const OVER: &str = "over.json";

pub const SENT: &str = "sent.json";

/// That this attempt has given the builder up.
pub fn left(key: &Key) -> String {
    format!("left/{key}")
}

pub fn follower(key: &Key) -> String {
    format!("followers/{key}")
}

/// Where something of a builder is in the bucket.
pub fn place(image: &Digest, generation: u32, name: &str) -> String {
    format!("bakes/{image}/{generation}/{name}")
}

impl Aws {
    pub(in crate::cloud::aws) async fn papers(&self, image: &Digest) -> Result<Papers, Error> {
        let prefix = format!("bakes/{image}/");
        let mut papers = Papers::default();
        for key in self.list(&prefix).await? {
            let Some((generation, name)) = key.strip_prefix(&prefix).and_then(|rest| rest.split_once('/'))
            else {
                continue;
            };
            if let Ok(generation) = generation.parse() {
                papers.0.entry(generation).or_default().push(name.to_owned());
            }
        }
        Ok(papers)
    }

    /// Reads a paper; `None` when it is not there.
    pub(in crate::cloud::aws) async fn paper<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let Some(bytes) = self.read_from(key, 0).await? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| Error::Failed(format!("{} cannot be read: {error}", self.location(key))))
    }

    pub(in crate::cloud::aws) async fn write_paper<T: Serialize>(
        &self,
        key: &str,
        paper: &T,
    ) -> Result<(), Error> {
        self.write(key, serde_json::to_vec(paper).unwrap_or_default(), false).await.map(drop)
    }

    /// Writes a paper where there is none yet. `false`: there is one.
    pub(in crate::cloud::aws) async fn write_new_paper<T: Serialize>(
        &self,
        key: &str,
        paper: &T,
    ) -> Result<bool, Error> {
        self.write(key, serde_json::to_vec(paper).unwrap_or_default(), true).await
    }

    /// An object's content from somewhere on; `None` when it is not there or not that long.
    pub(in crate::cloud::aws) async fn read_from(
        &self,
        key: &str,
        from: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let bucket = &self.setup.account.bucket;
        // One byte that is known already, so that a range is never empty, which S3 calls an error.
        let range = (from > 0).then(|| format!("bytes={}-", from - 1));
        let answer = self.client.call(operations::GET_OBJECT, |services| {
            services.s3.get_object().bucket(bucket).key(key).set_range(range.clone()).send()
        });
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(Error::Failed(said)) if said.contains("InvalidRange") => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = answer.body.collect().await;
        let body = body.map_err(|error| Error::Ambiguous(format!("{key} broke off: {error}")))?;
        let mut bytes = body.to_vec();
        if from > 0 {
            bytes.drain(..1.min(bytes.len()));
        }
        Ok(Some(bytes))
    }

    pub(in crate::cloud::aws) async fn write(
        &self,
        key: &str,
        content: Vec<u8>,
        new: bool,
    ) -> Result<bool, Error> {
        let bucket = &self.setup.account.bucket;
        let written = self.client.call(operations::PUT_OBJECT, |services| {
            let request = services.s3.put_object().bucket(bucket).key(key);
            let request = request.set_if_none_match(new.then(|| "*".to_owned()));
            request.body(ByteStream::from(content.clone())).send()
        });
        match written.await {
            Ok(_) => Ok(true),
            // "PreconditionFailed", and while another write is under way "ConditionalRequestConflict":
            // "Error responses", Amazon S3 API reference.
            Err(Error::Failed(said) | Error::Conflict(said))
                if new && (said.contains("PreconditionFailed") || said.contains("ConditionalRequest")) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(in crate::cloud::aws) async fn remove(&self, key: &str) -> Result<(), Error> {
        let bucket = &self.setup.account.bucket;
        let removed = self.client.call(operations::DELETE_OBJECT, |services| {
            services.s3.delete_object().bucket(bucket).key(key).send()
        });
        match removed.await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
