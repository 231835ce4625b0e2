//! Credentials: the usual chain, bounded in time, and what to do when it finds none.

use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::{Region, SharedCredentialsProvider};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;

use super::operations::{ASSUME_ROLE, Operation};

/// The metadata service of a machine answers in milliseconds; elsewhere nobody does, and whoever has no
/// credentials should know soon.
const METADATA: Duration = Duration::from_secs(1);
const METADATA_TRIES: u32 = 2;

/// The usual chain: environment, profile, web identity, container, machine.
pub async fn chain(region: Region) -> SharedCredentialsProvider {
    let metadata = imds::Client::builder()
        .max_attempts(METADATA_TRIES)
        .connect_timeout(METADATA)
        .read_timeout(METADATA)
        .operation_attempt_timeout(METADATA * 2)
        .operation_timeout(METADATA * 4)
        .build();
    let chain = DefaultCredentialsChain::builder().region(region).imds_client(metadata).build().await;
    SharedCredentialsProvider::new(chain)
}

/// Why there were no credentials to send a request with.
pub enum Lack {
    /// Somebody has to do something; a sentence that says what.
    Denied(String),
    /// It may be there the next time.
    Passing(String),
}

/// Why credentials for a request could not be had; `None` where that was not what went wrong.
pub fn lack(error: &(dyn std::error::Error + 'static), role: Option<&str>) -> Option<Lack> {
    let causes = || std::iter::successors(Some(error), |cause| cause.source());
    if let Some(refused) = causes().find_map(|cause| cause.downcast_ref::<SdkError<AssumeRoleError>>()) {
        return Some(assuming(refused, role));
    }
    let said = super::client::causes(error);
    // The cache of credentials gives up on them with a sentence only.
    let late = said.contains("identity resolver timed out");
    if !late && !causes().any(|cause| cause.is::<CredentialsError>()) {
        return None;
    }
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    Some(Lack::Denied(format!(
        "there are no credentials for AWS. Tried: the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), \
         the profile {profile} of ~/.aws (AWS_PROFILE), a web identity token, the role of the container, the \
         role of the machine. Give one of them to the process that runs windlass; windlass doctor says \
         whether it works ({said})"
    )))
}

fn assuming(refused: &SdkError<AssumeRoleError>, role: Option<&str>) -> Lack {
    let role = role.unwrap_or("of the profile");
    let SdkError::ServiceError(service) = refused else {
        let said = super::client::causes(refused);
        return Lack::Passing(format!("the role {role} could not be assumed: {said}"));
    };
    let code = service.err().code().unwrap_or("no code");
    let said = service.err().message().unwrap_or_default();
    if service.raw().status().as_u16() >= 500 || code.contains("Throttl") {
        return Lack::Passing(format!("the role {role} could not be assumed: {code}: {said}"));
    }
    let action = ASSUME_ROLE.grants.first().map_or("", |grant| grant.action);
    Lack::Denied(format!(
        "the role {role} cannot be assumed ({code}: {said}). Its trust policy has to name these credentials, \
         and theirs has to allow {action} on it: windlass policy prints that"
    ))
}

/// What to do about a request that was denied, by the code of its error.
pub fn advice(operation: Operation, code: &str) -> Option<String> {
    Some(match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "the credentials have expired: renew them, as with aws sso login or by exporting new ones".to_owned()
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "AuthFailure" => {
            "AWS does not know these credentials: look at AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and AWS_PROFILE"
                .to_owned()
        }
        "SignatureDoesNotMatch" | "RequestTimeTooSkewed" => {
            "the secret key is not that of the key id, or this machine's clock is wrong".to_owned()
        }
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "Forbidden" | "HTTP 403" => {
            let actions: Vec<&str> = operation.grants.iter().map(|grant| grant.action).collect();
            format!("it takes {}: windlass policy prints all that is needed", actions.join(" and "))
        }
        "OptInRequired" | "PendingVerification" | "Blocked" => {
            "the account may not do this yet: see AWS's support centre".to_owned()
        }
        _ => return None,
    })
}
