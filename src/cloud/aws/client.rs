//! Connections to the services of an account in a region, and the one way to send a request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use tokio::sync::OnceCell;

use super::credentials::{self, Lack};
use super::limiter::{self, Limiter, Tally};
use super::operations::{Operation, Repeat};
use crate::cloud::Error;
use crate::cloud::hearing::{self, Call};
use crate::cloud::setup::Account;

/// The name of sessions in which a role is assumed: it is in the account's trail.
pub(super) const ROLE_SESSION: &str = "windlass";

const CONNECT: Duration = Duration::from_secs(5);
/// For one request; a whole upload takes as long as it takes.
const REQUEST: Duration = Duration::from_secs(30);

/// So often a request is sent again here before whoever asked is told to wait.
const THROTTLED_TRIES: u32 = 8;
/// So often a request is sent in all that may be repeated when no answer came.
const UNANSWERED_TRIES: u32 = 4;
/// The pause before that, longer with each.
const UNANSWERED: Duration = Duration::from_millis(500);

/// By region, and a role or an account.
type By<T> = Arc<Mutex<HashMap<(String, Option<String>), Arc<T>>>>;

/// The clients of a process, one for each account, region and role.
#[derive(Clone, Default)]
pub struct Clients {
    /// Instead of the usual chain of credentials and addresses.
    given: Option<SdkConfig>,
    known: By<Client>,
    /// By region, and the account that a role's ARN names. Whose account the credentials of the process
    /// itself are is not looked up: they have a limiter of their own.
    limiters: By<Limiter>,
    tally: Arc<Tally>,
}

impl Clients {
    /// Clients with these credentials, which send to these addresses.
    pub fn with(config: SdkConfig) -> Self {
        Self { given: Some(config), ..Self::default() }
    }

    pub fn get(&self, account: &Account, role: Option<&str>) -> Arc<Client> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.region.clone(), role.map(str::to_owned));
        let client = || Arc::new(Client::new(account, role, self));
        known.entry(key).or_insert_with(client).clone()
    }

    /// The limiter that everybody shares who sends to that account.
    fn limiter(&self, account: &Account, role: Option<&str>) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let number = role.and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
        let limiter = || Arc::new(Limiter::new(account.rate));
        limiters.entry((account.region.clone(), number)).or_insert_with(limiter).clone()
    }

    /// What became of all requests so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// The services of an account in a region.
pub struct Client {
    region: String,
    role: Option<String>,
    given: Option<SdkConfig>,
    services: OnceCell<Services>,
    limiter: Arc<Limiter>,
    tally: Arc<Tally>,
    /// What is known of the instances that are seen with it.
    pub(super) roster: super::roster::Roster,
    pub(super) room: super::room::Room,
}

/// One connection pool for each service.
pub struct Services {
    pub config: SdkConfig,
    /// The same before a role was assumed.
    pub source: SdkConfig,
    /// S3 itself is not what objects are sent to, but something that answers like it.
    pub elsewhere: bool,
    pub ec2: aws_sdk_ec2::Client,
    pub elb: aws_sdk_elasticloadbalancingv2::Client,
    pub autoscaling: aws_sdk_autoscaling::Client,
    pub s3: aws_sdk_s3::Client,
    pub ssm: aws_sdk_ssm::Client,
    pub quotas: aws_sdk_servicequotas::Client,
    pub sts: aws_sdk_sts::Client,
}

impl Client {
    fn new(account: &Account, role: Option<&str>, clients: &Clients) -> Self {
        Self {
            region: account.region.clone(),
            role: role.map(str::to_owned),
            given: clients.given.clone(),
            services: OnceCell::new(),
            limiter: clients.limiter(account, role),
            tally: clients.tally.clone(),
            roster: Default::default(),
            room: Default::default(),
        }
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The role that is assumed.
    pub fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// The services; credentials are looked for with the first request.
    pub async fn services(&self) -> &Services {
        let connect = || Services::connect(&self.region, self.role.as_deref(), self.given.clone());
        self.services.get_or_init(connect).await
    }

    /// Sends a request, and says so to whoever hears. Throttling is waited out; a request that may be
    /// repeated is sent again when no answer came: `|services| services.ec2.describe_images().send()`.
    ///
    /// # Errors
    /// By meaning; [`Error::Ambiguous`] where nobody knows whether it was done, and the operation is
    /// not one to be repeated.
    pub async fn call<O, E, Sending>(
        &self,
        operation: Operation,
        send: impl Fn(&Services) -> Sending,
    ) -> Result<O, Error>
    where
        // Not an `AsyncFn`: nobody could say that what that answers may change threads.
        Sending: Future<Output = Result<O, SdkError<E>>>,
        O: RequestId,
        E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
    {
        let services = self.services().await;
        let (mut throttled, mut unanswered) = (0, 0);
        loop {
            self.limiter.turn().await;
            let sent = Instant::now();
            let done = send(services).await;
            let took = sent.elapsed();
            let tell = |request: Option<&str>, error: Option<&str>| {
                let (service, operation) = (operation.service, operation.name);
                hearing::called(&Call { service, operation, request, took, error });
            };
            let error = match done {
                Ok(answer) => {
                    self.tally.add(operation, took, false, false);
                    tell(answer.request_id(), None);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let code = code(&error);
            tell(error.as_service_error().and_then(RequestId::request_id), Some(&code));
            let meaning = self.meaning(operation, &error, &code);
            self.tally.add(operation, took, true, matches!(meaning, Error::Throttled { .. }));
            match &meaning {
                Error::Throttled { .. } => {
                    throttled += 1;
                    let pause = limiter::pause(throttled);
                    if throttled > THROTTLED_TRIES {
                        return Err(Error::Throttled { after: pause });
                    }
                    self.limiter.hold_off(pause);
                }
                Error::Ambiguous(_)
                    if operation.repeat == Repeat::Freely && unanswered + 1 < UNANSWERED_TRIES =>
                {
                    unanswered += 1;
                    tokio::time::sleep(UNANSWERED * unanswered).await;
                }
                _ => return Err(meaning),
            }
        }
    }

    /// What an error means to whoever asked.
    fn meaning<E>(&self, operation: Operation, error: &SdkError<E>, code: &str) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let said = match error {
            SdkError::ServiceError(service) => service.err().message().unwrap_or_default().to_owned(),
            other => causes(other),
        };
        let told = format!("{} {code}: {said}", operation.name);
        match error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                match (by_code(code, status, &said, told), credentials::advice(operation, code)) {
                    (Error::Denied(told), Some(advice)) => Error::Denied(format!("{told} ({advice})")),
                    (meaning, _) => meaning,
                }
            }
            SdkError::ConstructionFailure(_) => Error::Failed(told),
            // Credentials are looked for before anything is sent.
            SdkError::DispatchFailure(failure) if failure.is_other() => {
                let cause = failure.as_connector_error().and_then(std::error::Error::source);
                match cause.and_then(|cause| credentials::lack(cause, self.role.as_deref())) {
                    Some(Lack::Denied(sentence)) => Error::Denied(sentence),
                    Some(Lack::Passing(sentence)) => Error::Ambiguous(sentence),
                    None => Error::Ambiguous(told),
                }
            }
            _ => Error::Ambiguous(told),
        }
    }
}

impl Services {
    async fn connect(region: &str, role: Option<&str>, given: Option<SdkConfig>) -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(REQUEST).build();
        let version = BehaviorVersion::v2026_01_12();
        let region = Region::new(region.to_owned());
        let config = match given {
            Some(given) => given,
            None => {
                let chain = credentials::chain(region.clone()).await;
                aws_config::defaults(version).region(region.clone()).credentials_provider(chain).load().await
            }
        };
        let config = config.into_builder().region(region).timeout_config(timeouts);
        // The loop below repeats requests, with one limiter for all.
        let mut config = config.retry_config(RetryConfig::disabled()).build();
        let source = config.clone();
        if let Some(role) = role {
            let provider =
                AssumeRoleProvider::builder(role).session_name(ROLE_SESSION).configure(&config).build().await;
            let provider = aws_sdk_ec2::config::SharedCredentialsProvider::new(provider);
            config = config.into_builder().credentials_provider(provider).build();
        }
        let elsewhere = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let mut s3 = aws_sdk_s3::config::Builder::from(&config);
        if elsewhere {
            s3 = s3
                .force_path_style(true)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        Self {
            ec2: aws_sdk_ec2::Client::new(&config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            autoscaling: aws_sdk_autoscaling::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            ssm: aws_sdk_ssm::Client::new(&config),
            quotas: aws_sdk_servicequotas::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            config,
            source,
            elsewhere,
        }
    }
}

/// What went wrong, in a word.
fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    match error {
        SdkError::ServiceError(service) => match service.err().code() {
            Some(code) => code.to_owned(),
            None => format!("HTTP {}", service.raw().status().as_u16()),
        },
        SdkError::TimeoutError(_) => "timeout".to_owned(),
        SdkError::DispatchFailure(_) => "no connection".to_owned(),
        SdkError::ResponseError(_) => "unreadable answer".to_owned(),
        _ => "not sent".to_owned(),
    }
}

/// What an error says, and each of its causes.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |cause| cause.source());
    let mut said: Vec<String> = chain.map(ToString::to_string).collect();
    said.dedup();
    said.join(": ")
}

/// The code that AWS gave for an error of [`Client::call`].
pub(super) fn code_of(error: &Error) -> Option<&str> {
    let (Error::NotFound(told)
    | Error::Conflict(told)
    | Error::NoCapacity(told)
    | Error::Denied(told)
    | Error::Ambiguous(told)
    | Error::Failed(told)) = error
    else {
        return None;
    };
    // As `meaning` writes it.
    Some(told.split_once(' ')?.1.split_once(':')?.0)
}

/// The codes are those of "Error codes for the Amazon EC2 API", and of the references of ELB, Auto
/// Scaling, S3, SSM and Service Quotas; an unknown one of the service's own making (5xx) says that it may
/// have been done.
fn by_code(code: &str, status: u16, said: &str, told: String) -> Error {
    let after = limiter::pause(1);
    match code {
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown"
        | "EC2ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "ThrottledException"
        | "BandwidthLimitExceeded"
        // Two tag the same thing at once.
        | "ConcurrentTagAccess"
        | "PriorRequestNotComplete"
        // Another change of the same group is under way.
        | "ResourceContention"
        | "ScalingActivityInProgress" => Error::Throttled { after },
        "ValidationException" | "ValidationError" if said.contains("Request limit exceeded") => {
            Error::Throttled { after }
        }
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "InsufficientCapacity"
        | "UnfulfillableCapacity"
        | "SpotMaxPriceTooLow"
        // A type that the subnet's zone does not have.
        | "Unsupported" => Error::NoCapacity(told),
        "TooManyTargets" | "TooManyUniqueTargetGroupsPerLoadBalancer" | "TargetGroupAssociationLimit"
        | "MaxSpotInstanceCountExceeded" => Error::Denied(told),
        // A quota: only people raise it.
        _ if code.ends_with("LimitExceeded") => Error::Denied(told),
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "Forbidden"
        | "AuthFailure"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "RequestExpired"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "OptInRequired"
        | "PendingVerification"
        | "UnrecognizedClientException"
        | "Blocked" => Error::Denied(told),
        "IdempotentParameterMismatch"
        | "ResourceAlreadyExists"
        | "AlreadyExists"
        | "ResourceInUse"
        | "IncorrectInstanceState"
        | "IncorrectState" => Error::Conflict(told),
        _ if code.ends_with(".Duplicate")
            || code.ends_with(".InUse")
            || code.ends_with("AlreadyExists")
            || code.ends_with("AlreadyExistsException") => Error::Conflict(told),
        // An answer to HEAD says no more than this.
        "HTTP 404" => Error::NotFound(told),
        "HTTP 403" => Error::Denied(told),
        "HTTP 503" | "HTTP 429" => Error::Throttled { after },
        // S3 says so also with a status of 200, when it had begun to answer.
        "InternalError" | "RequestTimeout" => Error::Ambiguous(told),
        // A snapshot of an image that is still there.
        _ if code.ends_with(".InUse") => Error::Conflict(told),
        "NoSuchKey"
        | "NoSuchBucket"
        | "NoSuchUpload"
        | "NoSuchResourceException"
        | "InvocationDoesNotExist"
        | "NotFound"
        | "TargetGroupNotFound"
        | "LoadBalancerNotFound"
        | "ListenerNotFound"
        | "RuleNotFound" => Error::NotFound(told),
        // An id that nothing can have.
        _ if code.ends_with(".Malformed") => Error::NotFound(told),
        _ if code.ends_with(".NotFound")
            || code.ends_with(".NotFoundException")
            || code.ends_with(".Unavailable") => Error::NotFound(told),
        _ if status >= 500 => Error::Ambiguous(told),
        _ if status == 403 => Error::Denied(told),
        _ if status == 404 => Error::NotFound(told),
        _ => Error::Failed(told),
    }
}

#[cfg(test)]
mod tests;
