//! A run as a stream of its states.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::look::look;
use crate::engine::{self, Engine};
use crate::ids::RunId;
use crate::run::view::RunView;

/// An event of a stream, as the description of the API shows it: the fields of `text/event-stream`.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct SentEvent {
    /// What `data` is.
    pub event: Option<String>,
    pub data: Option<String>,
}

/// The pause between two views: nobody sees more than ten a second.
const PAUSE: Duration = Duration::from_millis(100);

/// A view of thousands of stages takes its time, to be made and to be shown, which is the run's: the pause
/// is so many times as long, and at most this.
const RATIO: u32 = 20;
const LONGEST: Duration = Duration::from_secs(1);

/// The run as it is now, and again whenever it changed. Ends after the run has ended; also when
/// nobody drives it (any more), and with `stop`.
pub fn changes(
    engine: Engine,
    data: Arc<Path>,
    run: RunId,
    stop: CancellationToken,
) -> impl Stream<Item = Result<RunView, engine::Error>> + Send + Unpin {
    let changes = engine.handle(&run).map(|handle| handle.changes());
    let watch = Watch { engine, data, run, stop, changes, shown: None, made_in: Duration::ZERO };
    Box::pin(futures_util::stream::unfold(Some(watch), async |watch| {
        let mut watch = watch?;
        match watch.next().await {
            Ok((view, Next::More)) => Some((Ok(view), Some(watch))),
            Ok((view, Next::Nothing)) => Some((Ok(view), None)),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Watch {
    engine: Engine,
    data: Arc<Path>,
    run: RunId,
    stop: CancellationToken,
    /// `None` while nobody drives the run.
    changes: Option<watch::Receiver<u64>>,
    /// When it was shown last.
    shown: Option<Instant>,
    /// How long it took to make that.
    made_in: Duration,
}

/// What comes after a view.
enum Next {
    More,
    Nothing,
}

impl Watch {
    async fn next(&mut self) -> Result<(RunView, Next), engine::Error> {
        let shown_in = self.shown.map_or(Duration::ZERO, |shown| shown.elapsed());
        let pause = ((self.made_in + shown_in) * RATIO).clamp(PAUSE, LONGEST);
        let driven = match (&mut self.changes, self.shown) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(changes), Some(shown)) => tokio::select! {
                driven = changed(changes, shown + pause) => driven,
                () = self.stop.cancelled() => false,
            },
        };
        if let Some(changes) = &mut self.changes {
            changes.mark_unchanged();
        }
        let begun = Instant::now();
        let view = look(&self.engine, &self.data, &self.run).await?;
        self.shown = Some(Instant::now());
        self.made_in = begun.elapsed();
        let next = if driven && !view.status.is_final() { Next::More } else { Next::Nothing };
        Ok((view, next))
    }
}

/// Waits for a change, and until `earliest`; at once when the run's driver ends. Answers whether it
/// is still driven.
async fn changed(changes: &mut watch::Receiver<u64>, earliest: Instant) -> bool {
    if changes.changed().await.is_err() {
        return false;
    }
    let closed = async { while changes.changed().await.is_ok() {} };
    tokio::time::timeout_at(earliest, closed).await.is_err()
}
