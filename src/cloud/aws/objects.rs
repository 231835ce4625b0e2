//! S3.

use std::path::Path;

use async_trait::async_trait;

use super::Aws;
use crate::cloud::{Error, Objects};
use crate::ids::Digest;

fn later<T>() -> Result<T, Error> {
    Err(Error::Failed("objects on S3 are not supported yet".to_owned()))
}

#[async_trait]
impl Objects for Aws {
    async fn put(&self, _key: &str, _file: &Path, _digest: &Digest) -> Result<(), Error> {
        later()
    }
    async fn get(&self, _key: &str, _to: &Path) -> Result<(), Error> {
        later()
    }
    async fn digest(&self, _key: &str) -> Result<Option<Digest>, Error> {
        later()
    }
    async fn list(&self, _prefix: &str) -> Result<Vec<String>, Error> {
        later()
    }
    fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.setup.account.bucket)
    }
}
