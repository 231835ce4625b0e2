//! The bucket: it is there, in the region, and may be written.

use super::Doctor;
use crate::cloud::Error;
use crate::cloud::aws::operations::{ABORT_MULTIPART_UPLOAD, CREATE_MULTIPART_UPLOAD, HEAD_BUCKET};

/// Nothing is ever stored under it.
const PROBE: &str = "windlass-doctor";

impl Doctor<'_> {
    pub(super) async fn bucket(&mut self) {
        let (client, bucket) = (&self.aws.client, self.aws.setup.account.bucket.as_str());
        let region = client.region();
        let about = format!("bucket {bucket}");
        let head = client.call(HEAD_BUCKET, |services| services.s3.head_bucket().bucket(bucket).send()).await;
        match head {
            Ok(head) if head.bucket_region().is_some_and(|there| there != region) => {
                let there = head.bucket_region().unwrap_or_default();
                let says = format!("it is in {there}, and clouds.aws.region is {region}");
                return self.findings.missing(about, says, "name a bucket of the same region");
            }
            Ok(_) => {}
            // It redirects to the region that the bucket is in.
            Err(Error::Failed(says)) if says.contains("HTTP 301") || says.contains("PermanentRedirect") => {
                let says = format!("it is not in {region} ({says})");
                return self.findings.missing(about, says, "name a bucket of the same region");
            }
            Err(Error::NotFound(_)) => {
                let next = format!("aws s3 mb s3://{bucket} --region {region}");
                return self.findings.missing(about, "there is no such bucket", next);
            }
            Err(error) => {
                let next =
                    "windlass policy prints what has to be allowed; another account may have that name";
                return self.findings.failed(about, &error, next);
            }
        }
        match self.may_write(bucket).await {
            Ok(()) => self.findings.ok(about, format!("in {region}, and may be written")),
            Err(error) => {
                self.findings.failed(about, &error, "windlass policy prints what has to be allowed")
            }
        }
    }

    /// Begins an upload and gives it up: no object comes of it, and nobody is told of one.
    async fn may_write(&self, bucket: &str) -> Result<(), Error> {
        let client = &self.aws.client;
        let begun = client
            .call(CREATE_MULTIPART_UPLOAD, |services| {
                services.s3.create_multipart_upload().bucket(bucket).key(PROBE).send()
            })
            .await?;
        let upload = begun.upload_id().unwrap_or_default();
        client
            .call(ABORT_MULTIPART_UPLOAD, |services| {
                let request = services.s3.abort_multipart_upload().bucket(bucket).key(PROBE);
                request.upload_id(upload).send()
            })
            .await?;
        Ok(())
    }
}
