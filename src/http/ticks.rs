//! That something changed, as a stream: for lists that are looked at again then.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::Stream;
use tokio::time::Instant;

use super::Api;
use super::changes::SentEvent;
use super::problem::Problems;

/// The pause between two ticks: at most four a second.
const PAUSE: Duration = Duration::from_millis(250);

/// Without any change of a run there is a tick so often: the health of instances changes without one.
const SLOW: Duration = Duration::from_secs(5);

/// That something changed, as a stream
///
/// An event `change` at once, and whenever something of a run changed, at most four a second. Its data
/// counts the changes since the holder began, and means nothing else.
#[utoipa::path(get, path = "/api/v1/changes", operation_id = "ticks",
    responses(
        (status = 200, description = "Ticks", body = SentEvent, content_type = "text/event-stream"),
        Problems))]
pub(super) async fn stream(State(api): State<Api>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (changes, stop) = (api.engine.changes(), api.shutdown.clone());
    let ticks = futures_util::stream::unfold((changes, stop, None), async |(mut changes, stop, last)| {
        if let Some(last) = last {
            let next = async {
                let _ = tokio::time::timeout_at(last + SLOW, changes.changed()).await;
                tokio::time::sleep_until(last + PAUSE).await;
            };
            tokio::select! {
                () = next => {}
                () = stop.cancelled() => return None,
            }
        }
        let count = *changes.borrow_and_update();
        let event = Event::default().event("change").data(count.to_string());
        Some((Ok(event), (changes, stop, Some(Instant::now()))))
    });
    Sse::new(ticks).keep_alive(KeepAlive::default())
}
