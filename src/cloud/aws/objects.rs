//! S3.
//!
//! - Content is read before anything is sent: what is not as promised never appears.
//! - An object says its digest in its metadata, and is only ever replaced as a whole.
//! - Small content goes in one request and large content in parts ([`multipart`]); whichever is killed
//!   or loses an answer, the next [`Objects::put`] looks what is there and goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::operation::upload_part::builders::UploadPartFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use hyper::body::Bytes;
use sha2::Digest as _;
use tokio::io::AsyncWriteExt;

use super::{Aws, operations};
use crate::cloud::{Error, Objects, hearing, objects};
use crate::ids::Digest;

mod content;
mod multipart;

use content::{Check, Content, Sum};
use multipart::Sent;

/// The metadata that says the SHA-256 of an object's content.
const DIGEST: &str = "windlass-digest";

/// For a request that carries a part: with 30 s alone, a part would need 3 Mbit/s.
const TRANSFER: Duration = Duration::from_secs(10 * 60);

/// So often is an upload begun again that went away or did not answer.
const TRIES: u32 = 4;

#[async_trait]
impl Objects for Aws {
    async fn put(&self, key: &str, file: &Path, digest: &Digest) -> Result<(), Error> {
        objects::check_key(key)?;
        if self.digest(key).await?.as_ref() == Some(digest) {
            hearing::say("it is there already");
            return Ok(());
        }
        let check = if self.client.services().await.elsewhere { Check::Md5 } else { Check::Sha256 };
        let (name, path, promised) = (key.to_owned(), file.to_owned(), digest.clone());
        let content = blocking(move || content::read(&name, &path, &promised, check)).await?;
        let large = match content {
            Content::Small(content, sum) => return self.send_small(key, content, sum, digest).await,
            Content::Large(large) => Arc::new(large),
        };
        let mut tried = 0;
        loop {
            // A second time only ours: somebody who puts something else there may be under way.
            let error = match self.send_parts(key, &large, digest, check, tried == 0).await? {
                Sent::Done => return Ok(()),
                Sent::Unclear(error) => error,
            };
            if self.digest(key).await?.as_ref() == Some(digest) {
                return Ok(());
            }
            tried += 1;
            if tried == TRIES {
                return Err(error);
            }
            hearing::say(&format!("begins again, as the upload went away or did not answer: {error}"));
        }
    }

    async fn get(&self, key: &str, to: &Path) -> Result<(), Error> {
        objects::check_key(key)?;
        let unwritable = |error: std::io::Error| Error::Failed(format!("{}: {error}", to.display()));
        let beside = match to.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::NamedTempFile::new_in(beside).map_err(unwritable)?;
        let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(unwritable)?);
        let (is, said) = self.fetch(key, Some(&mut file)).await?;
        file.flush().await.map_err(unwritable)?;
        if said.is_some_and(|said| said != is) {
            return Err(Error::Failed(format!("what came of {} is damaged", self.location(key))));
        }
        temporary.persist(to).map_err(|error| unwritable(error.error))?;
        Ok(())
    }

    async fn digest(&self, key: &str) -> Result<Option<Digest>, Error> {
        objects::check_key(key)?;
        let bucket = &self.setup.account.bucket;
        let head = self.client.call(operations::HEAD_OBJECT, |services| {
            services.s3.head_object().bucket(bucket).key(key).send()
        });
        let head = match head.await {
            Ok(head) => head,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        match head.metadata().and_then(|said| said.get(DIGEST)?.parse().ok()) {
            Some(digest) => Ok(Some(digest)),
            // Somebody else stored it.
            None => match self.fetch(key, None).await {
                Ok((is, _)) => Ok(Some(is)),
                Err(Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let bucket = &self.setup.account.bucket;
        let (mut keys, mut from) = (Vec::new(), None);
        loop {
            let page = self.client.call(operations::LIST_OBJECTS_V2, |services| {
                let request = services.s3.list_objects_v2().bucket(bucket).prefix(prefix);
                request.set_continuation_token(from.clone()).send()
            });
            let page = page.await.map_err(|error| no_bucket(bucket, error))?;
            let found = page.contents().iter().filter_map(|object| object.key());
            keys.extend(found.filter(|key| objects::check_key(key).is_ok()).map(str::to_owned));
            match page.next_continuation_token() {
                Some(next) => from = Some(next.to_owned()),
                None => break,
            }
        }
        // Not every kind of bucket lists in order.
        keys.sort();
        Ok(keys)
    }

    fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.setup.account.bucket)
    }
}

impl Aws {
    async fn send_small(&self, key: &str, content: Bytes, sum: Sum, digest: &Digest) -> Result<(), Error> {
        let bucket = &self.setup.account.bucket;
        let sent = self.client.call(operations::PUT_OBJECT, |services| {
            let request = services.s3.put_object().bucket(bucket).key(key);
            let request = request.metadata(DIGEST, digest.to_string());
            let request = checked(request, &sum).body(ByteStream::from(content.clone()));
            request.customize().config_override(patient()).send()
        });
        sent.await.map(drop).map_err(|error| no_bucket(bucket, error))
    }

    /// Reads an object, and answers the digest of what came and the one that it says it has.
    async fn fetch(
        &self,
        key: &str,
        mut to: Option<&mut tokio::fs::File>,
    ) -> Result<(Digest, Option<Digest>), Error> {
        let mut answer = self.ask(key, 0, None).await?;
        let said = answer.metadata().and_then(|said| said.get(DIGEST)?.parse().ok());
        let version = answer.e_tag().map(str::to_owned);
        let (mut hash, mut came, mut tried) = (sha2::Sha256::new(), 0, 0);
        loop {
            match answer.body.next().await {
                None => return Ok((Digest::from_hash(hash.finalize().as_slice()), said)),
                Some(Ok(piece)) => {
                    hash.update(&piece);
                    came += piece.len() as u64;
                    if let Some(file) = &mut to {
                        file.write_all(&piece).await.map_err(|error| Error::Failed(error.to_string()))?;
                    }
                }
                Some(Err(error)) => {
                    tried += 1;
                    if tried == TRIES {
                        return Err(Error::Ambiguous(format!("{key} broke off: {error}")));
                    }
                    hearing::say(&format!("it broke off after {came} bytes, and goes on: {error}"));
                    answer = self.ask(key, came, version.clone()).await?;
                }
            }
        }
    }

    /// Asks for an object from somewhere on, of that version.
    async fn ask(&self, key: &str, from: u64, version: Option<String>) -> Result<GetObjectOutput, Error> {
        let bucket = &self.setup.account.bucket;
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let answer = self.client.call(operations::GET_OBJECT, |services| {
            let request = services.s3.get_object().bucket(bucket).key(key);
            request.set_range(range.clone()).set_if_match(version.clone()).send()
        });
        answer.await.map_err(|error| match error {
            Error::NotFound(_) => Error::NotFound(format!("the object {key}")),
            other => other,
        })
    }
}

fn checked(request: PutObjectFluentBuilder, sum: &Sum) -> PutObjectFluentBuilder {
    match sum {
        Sum::Sha256(_) => request.checksum_sha256(sum.text()),
        Sum::Md5(_) => request.content_md5(sum.text()),
    }
}

fn checked_part(request: UploadPartFluentBuilder, sum: &Sum) -> UploadPartFluentBuilder {
    match sum {
        Sum::Sha256(_) => request.checksum_sha256(sum.text()),
        Sum::Md5(_) => request.content_md5(sum.text()),
    }
}

/// Time for content to get there.
fn patient() -> aws_sdk_s3::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(TRANSFER).build();
    aws_sdk_s3::Config::builder().timeout_config(timeouts)
}

/// Where an object may be stored although nothing is there, only the bucket can be missing.
fn no_bucket(bucket: &str, error: Error) -> Error {
    match error {
        Error::NotFound(said) => Error::NotFound(format!(
            "the bucket {bucket} ({said}): clouds.aws.bucket has to name one that exists in that region"
        )),
        other => other,
    }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(act).await;
    done.map_err(|error| Error::Ambiguous(format!("a file could not be read to its end: {error}")))?
}
