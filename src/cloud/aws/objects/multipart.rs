//! Large content, in parts. Killed anywhere, the next one goes on with the parts that are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt};

use super::content::{Check, Large, Sum};
use super::{DIGEST, blocking, no_bucket, patient};
use crate::cloud::aws::{Aws, operations};
use crate::cloud::{Error, hearing};
use crate::ids::Digest;

/// What became of an upload.
pub(super) enum Sent {
    Done,
    /// It went away or did not answer: whoever puts looks what is there, and begins again.
    Unclear(Error),
}

/// What is there of an upload.
struct Upload {
    id: String,
    parts: BTreeMap<i32, CompletedPart>,
}

impl Aws {
    /// Sends large content. `tidy`: uploads of another content under that key are ended.
    pub(super) async fn send_parts(
        &self,
        key: &str,
        content: &Arc<Large>,
        digest: &Digest,
        check: Check,
        tidy: bool,
    ) -> Result<Sent, Error> {
        let mut upload = match self.resumable(key, content, tidy).await? {
            Some(upload) => upload,
            None => match self.begin(key, digest, check).await {
                Ok(id) => Upload { id, parts: BTreeMap::new() },
                Err(error @ Error::Ambiguous(_)) => return Ok(Sent::Unclear(error)),
                Err(error) => return Err(error),
            },
        };
        match self.send_missing(key, content, &mut upload).await {
            Ok(()) => {}
            Err(error @ Error::NotFound(_)) => return Ok(Sent::Unclear(error)),
            Err(error) => return Err(error),
        }
        match self.complete(key, upload).await {
            Ok(()) => Ok(Sent::Done),
            Err(error @ (Error::NotFound(_) | Error::Ambiguous(_))) => Ok(Sent::Unclear(error)),
            Err(error) => Err(error),
        }
    }

    /// The upload under way whose parts are all of this content.
    async fn resumable(&self, key: &str, content: &Large, tidy: bool) -> Result<Option<Upload>, Error> {
        let mut found = None;
        for id in self.uploads(key).await? {
            let parts = match self.parts(key, &id, content).await {
                Ok(parts) => parts,
                // It ended meanwhile.
                Err(Error::NotFound(_)) => continue,
                // Not all that answers like S3 does so here: nobody knows what it is of.
                Err(Error::Failed(_)) => None,
                Err(error) => return Err(error),
            };
            match parts {
                Some(parts) if found.is_none() => found = Some(Upload { id, parts }),
                _ if tidy => self.end_upload(key, &id).await?,
                _ => {}
            }
        }
        if let Some(upload) = &found {
            let (there, all) = (upload.parts.len(), content.numbers().count());
            hearing::say(&format!(
                "an upload that was interrupted goes on: {there} of {all} parts are there"
            ));
        }
        Ok(found)
    }

    /// The uploads under way under exactly this key.
    async fn uploads(&self, key: &str) -> Result<Vec<String>, Error> {
        let bucket = &self.setup.account.bucket;
        let (mut ids, mut from) = (Vec::new(), (None, None));
        loop {
            let (key_marker, id_marker) = &from;
            let page = self.client.call(operations::LIST_MULTIPART_UPLOADS, |services| {
                let request = services.s3.list_multipart_uploads().bucket(bucket).prefix(key);
                let request = request.set_key_marker(key_marker.clone());
                request.set_upload_id_marker(id_marker.clone()).send()
            });
            let page = page.await.map_err(|error| no_bucket(bucket, error))?;
            let ours = page.uploads().iter().filter(|upload| upload.key() == Some(key));
            ids.extend(ours.filter_map(|upload| upload.upload_id()).map(str::to_owned));
            match (page.is_truncated(), page.next_key_marker()) {
                (Some(true), Some(next)) => {
                    from = (Some(next.to_owned()), page.next_upload_id_marker().map(str::to_owned));
                }
                _ => return Ok(ids),
            }
        }
    }

    /// The parts that are there; `None` when there are none, or one is of another content.
    async fn parts(
        &self,
        key: &str,
        id: &str,
        content: &Large,
    ) -> Result<Option<BTreeMap<i32, CompletedPart>>, Error> {
        let bucket = &self.setup.account.bucket;
        let (mut parts, mut from) = (BTreeMap::new(), None);
        loop {
            let page = self.client.call(operations::LIST_PARTS, |services| {
                let request = services.s3.list_parts().bucket(bucket).key(key).upload_id(id);
                request.set_part_number_marker(from.clone()).send()
            });
            let page = page.await?;
            for part in page.parts() {
                let Some(number) = part.part_number().filter(|_| content.has(part)) else { return Ok(None) };
                let done = CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(part.e_tag().map(str::to_owned))
                    .set_checksum_sha256(part.checksum_sha256().map(str::to_owned));
                parts.insert(number, done.build());
            }
            match (page.is_truncated(), page.next_part_number_marker()) {
                (Some(true), Some(next)) => from = Some(next.to_owned()),
                _ => return Ok(Some(parts).filter(|parts| !parts.is_empty())),
            }
        }
    }

    async fn end_upload(&self, key: &str, id: &str) -> Result<(), Error> {
        let bucket = &self.setup.account.bucket;
        hearing::say("an upload of another content under this name is ended");
        let ended = self.client.call(operations::ABORT_MULTIPART_UPLOAD, |services| {
            services.s3.abort_multipart_upload().bucket(bucket).key(key).upload_id(id).send()
        });
        match ended.await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn begin(&self, key: &str, digest: &Digest, check: Check) -> Result<String, Error> {
        let bucket = &self.setup.account.bucket;
        let begun = self.client.call(operations::CREATE_MULTIPART_UPLOAD, |services| {
            let request = services.s3.create_multipart_upload().bucket(bucket).key(key);
            let request = request.metadata(DIGEST, digest.to_string());
            match check {
                Check::Sha256 => request.checksum_algorithm(ChecksumAlgorithm::Sha256).send(),
                Check::Md5 => request.send(),
            }
        });
        let begun = begun.await.map_err(|error| no_bucket(bucket, error))?;
        let id = begun.upload_id().map(str::to_owned);
        id.ok_or_else(|| Error::Ambiguous("S3 began an upload and did not say which".to_owned()))
    }

    async fn send_missing(&self, key: &str, content: &Arc<Large>, upload: &mut Upload) -> Result<(), Error> {
        let missing: Vec<i32> =
            content.numbers().filter(|number| !upload.parts.contains_key(number)).collect();
        let mut left: u64 = missing.iter().map(|number| content.length(*number)).sum();
        let mut said = (content.size - left) * 10 / content.size;
        let id = upload.id.clone();
        // All in this task: whoever drops it stops them, and what was sent stays there.
        let sending =
            futures_util::stream::iter(missing).map(|number| self.send_part(key, &id, content, number));
        let mut sending = std::pin::pin!(sending.buffer_unordered(content.at_once()));
        while let Some((number, part)) = sending.try_next().await? {
            upload.parts.insert(number, part);
            left -= content.length(number);
            let tenths = (content.size - left) * 10 / content.size;
            if tenths > said {
                said = tenths;
                hearing::say(&format!("{} of {} bytes are there", content.size - left, content.size));
            }
        }
        Ok(())
    }

    async fn send_part(
        &self,
        key: &str,
        id: &str,
        content: &Arc<Large>,
        number: i32,
    ) -> Result<(i32, CompletedPart), Error> {
        let (of, bucket) = (content.clone(), &self.setup.account.bucket);
        let (piece, sum) = blocking(move || of.piece(number)).await?;
        let sent = self.client.call(operations::UPLOAD_PART, |services| {
            let request = services.s3.upload_part().bucket(bucket).key(key).upload_id(id).part_number(number);
            let request = super::checked_part(request, &sum).body(ByteStream::from(piece.clone()));
            request.customize().config_override(patient()).send()
        });
        let sent = sent.await?;
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(sent.e_tag().map(str::to_owned))
            .set_checksum_sha256(matches!(sum, Sum::Sha256(_)).then(|| sum.text()));
        Ok((number, part.build()))
    }

    async fn complete(&self, key: &str, upload: Upload) -> Result<(), Error> {
        let bucket = &self.setup.account.bucket;
        let parts = upload.parts.into_values().collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let done = self.client.call(operations::COMPLETE_MULTIPART_UPLOAD, |services| {
            let request = services.s3.complete_multipart_upload().bucket(bucket).key(key);
            let request = request.upload_id(&upload.id).multipart_upload(parts.clone());
            request.customize().config_override(patient()).send()
        });
        done.await.map(drop)
    }
}
