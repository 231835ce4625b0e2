//! Addresses that give whoever has them one object for a while, without credentials of their own.
//!
//! Such an address dies with the session it was signed in, whatever it says itself ("Using query
//! parameters", Amazon S3 API reference). So it is only ever made of a session that lasts as long.

use std::time::{Duration, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_sdk_s3::config::{Builder, Credentials, ProvideCredentials};
use aws_sdk_s3::presigning::PresigningConfig;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::Aws;
use super::client::causes;
use super::client::{Client, ROLE_SESSION};
use crate::cloud::{Error, objects};

/// So much of a session is not counted on: clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest that an address may hold: `X-Amz-Expires`, "Using query parameters", Amazon S3 API
/// reference.
const LONGEST_ADDRESS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest session of a role: `DurationSeconds` of `AssumeRole`, AWS STS API reference.
const LONGEST_SESSION: Duration = Duration::from_secs(12 * 60 * 60);

/// The session that addresses are signed in.
#[derive(Default)]
pub struct Session(Mutex<Option<Credentials>>);

impl Aws {
    /// An address that answers a GET with the object, for so long from now on.
    ///
    /// # Errors
    /// [`Error::Denied`]: no session lasts that long, see [`Aws::session_lasts`].
    pub async fn presigned_get(&self, key: &str, lasts: Duration) -> Result<String, Error> {
        let (signing, config) = self.signing(key, lasts).await?;
        let s3 = &self.client.services().await.s3;
        let request = s3.get_object().bucket(&self.setup.account.bucket).key(key);
        let signed = request.customize().config_override(signing).presigned(config).await;
        signed.map(|request| request.uri().to_owned()).map_err(|error| unsigned(key, &error))
    }

    /// An address that takes the object's new content by PUT, for so long from now on.
    ///
    /// # Errors
    /// As [`Aws::presigned_get`].
    pub async fn presigned_put(&self, key: &str, lasts: Duration) -> Result<String, Error> {
        let (signing, config) = self.signing(key, lasts).await?;
        let s3 = &self.client.services().await.s3;
        let request = s3.put_object().bucket(&self.setup.account.bucket).key(key);
        let signed = request.customize().config_override(signing).presigned(config).await;
        signed.map(|request| request.uri().to_owned()).map_err(|error| unsigned(key, &error))
    }

    /// Whether addresses that are made from now on hold for so long. Where the session ends before, a
    /// fresh one is asked for. A session that does not say when it ends is taken to last.
    ///
    /// # Errors
    /// [`Error::Denied`] says when the session ends, and what to do.
    pub async fn session_lasts(&self, needed: Duration) -> Result<(), Error> {
        self.lasting(needed).await.map(drop)
    }

    async fn signing(&self, key: &str, lasts: Duration) -> Result<(Builder, PresigningConfig), Error> {
        objects::check_key(key)?;
        let credentials = self.lasting(lasts).await?;
        let config = PresigningConfig::expires_in(lasts).map_err(|error| Error::Failed(error.to_string()))?;
        Ok((aws_sdk_s3::Config::builder().credentials_provider(credentials), config))
    }

    /// Credentials of a session that lasts.
    async fn lasting(&self, needed: Duration) -> Result<Credentials, Error> {
        if needed > LONGEST_ADDRESS {
            return Err(Error::Denied(format!(
                "a presigned address holds for 7 days at most, and {} are needed: shorten the timeout",
                said(needed)
            )));
        }
        let mut session = self.session.0.lock().await;
        if let Some(known) = session.as_ref().filter(|known| missing(known, needed).is_none()) {
            return Ok(known.clone());
        }
        let fresh = renew(&self.client, needed).await?;
        *session = Some(fresh.clone());
        Ok(fresh)
    }
}

/// A fresh session that lasts.
async fn renew(client: &Client, needed: Duration) -> Result<Credentials, Error> {
    let services = client.services().await;
    let provider = services.config.credentials_provider().ok_or_else(none)?;
    let fresh = provider.provide_credentials().await.map_err(|error| no_session(&error))?;
    let Some(ends) = missing(&fresh, needed) else { return Ok(fresh) };
    let too_short = |more: &str| {
        Error::Denied(format!(
            "presigned addresses are needed for {}, and die with the session of the credentials, which \
             ends at {ends}{more}; use a role whose sessions may last longer (MaxSessionDuration, at most \
             12 hours, and 1 hour for a role that a role assumes), or a shorter clouds.aws.builder.timeout",
            said(needed)
        ))
    };
    let length = needed + MARGIN * 2;
    let Some(role) = client.role().filter(|_| length <= LONGEST_SESSION) else { return Err(too_short("")) };
    // Roles give an hour unless they are asked for more.
    let asked = AssumeRoleProvider::builder(role)
        .session_name(ROLE_SESSION)
        .session_length(length)
        .configure(&services.source);
    match asked.build().await.provide_credentials().await {
        Ok(longer) if missing(&longer, needed).is_none() => Ok(longer),
        Ok(_) => Err(too_short("")),
        Err(error) => Err(too_short(&format!(" (a longer one of {role} was refused: {})", causes(&error)))),
    }
}

/// When the session ends, where that is too early.
fn missing(session: &Credentials, needed: Duration) -> Option<Timestamp> {
    let ends = session.expiry()?;
    let until = SystemTime::now() + needed + MARGIN;
    (ends < until).then(|| Timestamp::try_from(ends).unwrap_or(Timestamp::MIN))
}

fn said(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

fn none() -> Error {
    Error::Denied(
        "there are no AWS credentials: set AWS_PROFILE, or what else the AWS tools take; windlass doctor \
         says what is found"
            .to_owned(),
    )
}

fn no_session(error: &(impl std::error::Error + 'static)) -> Error {
    Error::Denied(format!("AWS credentials could not be had: {}", causes(error)))
}

fn unsigned(key: &str, error: &(impl std::error::Error + 'static)) -> Error {
    Error::Failed(format!("an address of {key} could not be signed: {}", causes(error)))
}

#[cfg(test)]
mod tests;
