//! A webhook comes in: it is checked, stored, and only then answered. Nothing else happens meanwhile.

use super::Intake;
use super::handle::{GITHUB, Work};
use super::lanes::{Found, Job};
use crate::config::SecretError;
use crate::github::{self, BodyError, Unsigned};
use crate::secret::Secret;
use crate::store::{self, Delivery, DeliveryKey, DeliveryStatus, NewDelivery, Receipt, Settlement};

/// A body larger than this is checked on a thread where that may take its time: 1 ms.
const AT_ONCE: usize = 512 * 1024;

/// A request as GitHub sends it.
#[derive(Debug, Clone, Default)]
pub struct Hook<B> {
    /// `X-GitHub-Delivery`.
    pub id: Option<String>,
    /// `X-GitHub-Event`.
    pub event: Option<String>,
    /// `X-Hub-Signature-256`.
    pub signature: Option<Vec<u8>>,
    pub content_type: Option<String>,
    /// As it came.
    pub body: B,
}

/// Why a webhook is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("webhooks are not set up here: the settings have no github.webhook_secrets")]
    NoSecret,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error("the request has no {0} as GitHub sends it")]
    Header(&'static str),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the check of the body did not come to its end")]
    Broken,
}

impl Intake {
    /// Takes a webhook in. Durable when it returns; handled after that.
    pub async fn receive<B>(&self, hook: Hook<B>) -> Result<(DeliveryKey, Receipt), Refused>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        let secrets = self.webhook_secrets()?;
        let large = hook.body.as_ref().len() > AT_ONCE;
        let checked = move || check(&secrets, hook);
        let (new, work) = match large {
            true => tokio::task::spawn_blocking(checked).await.map_err(|_| Refused::Broken)??,
            false => checked()?,
        };
        let shared = &self.0.shared;
        let new = NewDelivery { received_at: shared.clock.now(), ..new };
        let key = new.key.clone();
        let delivery = Delivery {
            key: key.clone(),
            event: new.event.clone(),
            received_at: new.received_at,
            body: None,
            settlement: Settlement { status: DeliveryStatus::Pending, reason: None, runs: Vec::new() },
        };
        // On its own: whoever hangs up before the answer takes nothing back that is written, and it is
        // handled also then.
        let (shared, mut job) = (shared.clone(), Job::of(key.clone(), None));
        let stored = tokio::spawn(async move {
            let receipt = shared.engine.store().deliver(new).await?;
            // Also what was known: nobody may have heard that it was stored. What is settled or under way
            // is not taken up a second time.
            if receipt == Receipt::New {
                job.found = Some(Box::new(Found { delivery, work }));
            }
            let _ = shared.jobs.send(job);
            Ok::<_, store::Error>(receipt)
        });
        let receipt = stored.await.map_err(|_| Refused::Broken)??;
        Ok((key, receipt))
    }

    /// Looked up for each request: who changes a secret's file need not restart anything.
    fn webhook_secrets(&self) -> Result<Vec<Secret>, Refused> {
        let secrets = self.catalog().settings.webhook_secrets()?;
        match secrets.is_empty() {
            true => Err(Refused::NoSecret),
            false => Ok(secrets),
        }
    }
}

fn check<B: AsRef<[u8]>>(secrets: &[Secret], hook: Hook<B>) -> Result<(NewDelivery, Work), Refused> {
    let body = hook.body.as_ref();
    github::verify(secrets, hook.signature.as_deref(), body)?;
    let word =
        |value: Option<String>, name| value.filter(|value| is_word(value)).ok_or(Refused::Header(name));
    let id = word(hook.id, "X-GitHub-Delivery")?;
    let event = word(hook.event, "X-GitHub-Event")?;
    let body = github::json(hook.content_type.as_deref(), body)?;
    let work = github::told(&event, &body)?.into();
    let key = DeliveryKey { source: GITHUB.to_owned(), id };
    let body = body.into_owned();
    Ok((NewDelivery { key, event, received_at: jiff::Timestamp::UNIX_EPOCH, body }, work))
}

/// What GitHub writes there: a UUID, the name of an event.
fn is_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=100).contains(&text.len()) && text.bytes().all(plain)
}
