//! What a cloud says while it works, and who hears it.
//!
//! An implementation says what it does, and names every request that it sends, to whoever hears the
//! task it works in: the log of a step, a person at a terminal. Nobody is fine too.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

tokio::task_local! {
    static HEARER: Arc<dyn Hearer>;
}

/// Somebody who hears.
pub trait Hearer: Send + Sync {
    fn say(&self, line: &str);
    /// A request was answered, or was not.
    fn called(&self, call: &Call<'_>) {
        self.say(&call.to_string());
    }
}

/// A request to a service of the cloud.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `ec2`
    pub service: &'a str,
    /// `RunInstances`
    pub operation: &'a str,
    /// What the service calls it, where it answered.
    pub request: Option<&'a str>,
    pub took: Duration,
    /// The code of the error; `None` where there was none.
    pub error: Option<&'a str>,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {} ms", self.service, self.operation, self.took.as_millis())?;
        if let Some(error) = self.error {
            write!(f, " {error}")?;
        }
        match self.request {
            Some(request) => write!(f, " (request {request})"),
            None => Ok(()),
        }
    }
}

/// Does `work`, and `hearer` hears what is said in it. What it spawns is not heard.
pub async fn heard<T>(hearer: Arc<dyn Hearer>, work: impl Future<Output = T>) -> T {
    HEARER.scope(hearer, work).await
}

/// Says a line to whoever hears this task.
pub fn say(line: &str) {
    let _ = HEARER.try_with(|hearer| hearer.say(line));
}

/// Tells of a request to whoever hears this task.
pub fn called(call: &Call<'_>) {
    let _ = HEARER.try_with(|hearer| hearer.called(call));
}

/// Whoever hears this task, for work that goes on in another.
pub fn hearer() -> Option<Arc<dyn Hearer>> {
    HEARER.try_with(Arc::clone).ok()
}
