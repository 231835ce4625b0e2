//! What every cloud must do, as suites that run against an implementation: [`compute`] (and of it
//! [`images`] alone), [`balancer`] (and of it [`targets`], which needs no request through it) and
//! [`objects`]. Each takes a function that makes a fresh, empty one, and panics at the first promise that
//! is broken, with the promise in the message.

use std::time::Duration;

mod balancing;
mod computing;
mod standing;
mod storing;

pub use balancing::balancer;
pub use computing::{Ground, compute, images};
pub use standing::targets;
pub use storing::objects;

/// How long an implementation may take for what it promises to do by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `look` finds what it wants, and answers that. Contracts without a way to be woken
/// leave only looking again.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
    }
}
