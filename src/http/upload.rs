//! Bodies that come in time. Always true: whoever sends a body a byte a minute loses its connection, whatever
//! it asks for; a page or a stream may take as long as it takes, once its request is whole.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

/// The body of a request is whole within this time: less than what a whole answer may take, so that it is
/// this that is said. A webhook of 25 MiB needs 10 Mbit/s for it, and GitHub itself gives up after 10 s.
const TIME: Duration = Duration::from_secs(20);

/// Lets a request through whose body fails when it is not whole in time.
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    next.run(request.map(|body| within(body, TIME))).await
}

fn within(body: Body, time: Duration) -> Body {
    match body.is_end_stream() {
        true => body,
        false => Body::new(Timed { body, late: Box::pin(tokio::time::sleep(time)), time }),
    }
}

/// A body with the time at which it has to be whole.
struct Timed {
    body: Body,
    late: Pin<Box<Sleep>>,
    time: Duration,
}

impl hyper::body::Body for Timed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(context) {
            return ready;
        }
        let time = self.time;
        self.late.as_mut().poll(context).map(|()| {
            let why = format!("it was not whole within {} s", time.as_secs_f32());
            Some(Err(axum::Error::new(std::io::Error::new(std::io::ErrorKind::TimedOut, why))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequest;
    use futures_util::{StreamExt, stream};

    use super::*;

    fn body(
        first: &'static str,
        rest: impl futures_util::Stream<Item = &'static str> + Send + 'static,
    ) -> Body {
        Body::from_stream(stream::iter([first]).chain(rest).map(Ok::<_, std::io::Error>))
    }

    async fn read(body: Body, time: Duration) -> Result<Bytes, String> {
        let request = Request::new(within(body, time));
        Bytes::from_request(request, &()).await.map_err(|rejection| rejection.body_text())
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_fails_and_says_why() {
        let late = read(body("a", stream::pending()), Duration::from_millis(20)).await;
        assert!(late.as_ref().is_err_and(|why| why.contains("not whole within 0.02 s")), "{late:?}");
    }

    #[tokio::test]
    async fn a_body_that_comes_in_time_is_what_it_was() {
        let whole = read(body("a", stream::iter(["b", "c"])), Duration::from_secs(60)).await;
        assert_eq!(whole, Ok(Bytes::from_static(b"abc")));
        let known = within(Body::from("known"), TIME);
        assert_eq!(known.size_hint().exact(), Some(5), "its length is known as before");
        assert!(within(Body::empty(), TIME).is_end_stream());
    }
}
