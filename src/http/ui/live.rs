//! The output of a step as a stream, already taken apart: what `log.js` puts behind a log's page.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::{Stream, StreamExt};
use tokio_util::bytes::Bytes;

use super::ansi::{self, Style};
use super::log::{Found, Stage, Which, find};
use crate::http::extract::{Asked, Run};
use crate::http::logs::{ended, has_ended};
use crate::http::look::look;
use crate::http::{Api, Problem};
use crate::ids::StepId;
use crate::log;

/// After a piece that was not full, whatever comes in this time is one more piece: a step that writes line
/// by line does not become an event for each.
const PAUSE: Duration = Duration::from_millis(50);

/// Less than this is not full.
const FULL: usize = 32 * 1024;

/// So often something is sent on a quiet stream, so that both sides notice that the other is gone.
const ALIVE: Duration = Duration::from_secs(15);

/// Where a reader is: so many bytes, and how text looks there. Written `812.1f00`.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    offset: u64,
    style: Style,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (offset, style) = text.split_once('.')?;
        let style = Style::unpack(u32::from_str_radix(style, 16).ok()?);
        Some(Self { offset: offset.parse().ok()?, style })
    }

    fn write(self) -> String {
        format!("{}.{:x}", self.offset, self.style.pack())
    }
}

/// Events `text` with the spans of the next piece, each with its place, so that a browser that loses the
/// connection goes on from there; `end` when the step has ended, with the number of the step that follows,
/// or 0.
pub async fn stream(
    State(api): State<Api>,
    Run(run): Run,
    Path(Stage { stage }): Path<Stage>,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Found { step, .. } = find(&api, &run, &stage, &which).await?;
    let last = headers.get("last-event-id").and_then(|place| place.to_str().ok());
    let place = last.or(which.from.as_deref()).and_then(Place::read).unwrap_or_default();
    let until = ended(api.engine.clone(), api.data.clone(), step.clone(), api.shutdown.clone());
    let bytes = Box::pin(log::follow(log::path(&api.data, &step), place.offset, until));
    let reader = Reader { api, step, place, bytes, held: Vec::new(), full: true };
    let events = futures_util::stream::unfold(Some(reader), async |reader| {
        let mut reader = reader?;
        match reader.next().await {
            Some(event) => Some((Ok(event), Some(reader))),
            None => reader.end().await.map(|event| (Ok(event), None)),
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

struct Reader {
    api: Api,
    step: StepId,
    place: Place,
    bytes: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// The beginning of something that is not whole yet.
    held: Vec<u8>,
    /// Whether the last piece was: then more is there already.
    full: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if !self.full {
                tokio::time::sleep(PAUSE).await;
            }
            let bytes = self.bytes.next().await;
            let end = bytes.is_none();
            // A log that cannot be read any further ends here; the page says how to see it again.
            let bytes = bytes.and_then(Result::ok).unwrap_or_default();
            if end && self.held.is_empty() {
                return None;
            }
            self.full = bytes.len() >= FULL;
            self.held.extend(bytes);
            let (spans, read) = ansi::read(&mut self.place.style, &self.held, end);
            self.held.drain(..read);
            self.place.offset += read as u64;
            if !spans.is_empty() {
                let event = Event::default().event("text").id(self.place.write()).json_data(spans);
                return Some(event.unwrap_or_else(|error| Event::default().comment(error.to_string())));
            }
        }
    }

    /// Nothing when the stream ends for another reason than the step's end.
    async fn end(self) -> Option<Event> {
        let Self { api, step, .. } = self;
        let view = look(&api.engine, &api.data, &step.attempt.run).await.ok()?;
        if !has_ended(&view, &step) {
            return None;
        }
        let stage = view.stages.iter().find(|stage| stage.name == step.attempt.stage)?;
        let newest = stage.attempt == step.attempt.attempt && !stage.status.is_final();
        let follows = newest && stage.steps.len() as u64 > u64::from(step.step);
        // Browsers do not tell of an event without data.
        let next = if follows { step.step + 1 } else { 0 };
        Some(Event::default().event("end").data(next.to_string()))
    }
}
