//! The pages: what people see in a browser, and the forms they decide with.
//!
//! Rendered here, on the server, from the same documents that the API answers. Always true:
//!
//! - Everything works without JavaScript; the two small modules only make a page live.
//! - A page asks no other host for anything, and may not: see [`POLICY`].
//! - What comes from outside is text: the templates escape it, and [`text::visible`] goes over the whole
//!   page, so that no name can hide or turn a part of it.
//! - Every POST goes through [`form::Posted`], which knows who acts; that it comes from one of these pages
//!   and not from another host's, [`super::guard`] has seen to.
//! - A form answers with a redirect to the page it stands on, or with that page, the refusal, and the
//!   status that the API would answer.
//!
//! Deliberately absent: a framework, inline scripts and styles, state in the browser but for the name
//! that somebody without credentials goes by.

use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use self::form::Who;
use super::{Api, Problem};

mod acts;
pub mod ansi;
mod assets;
mod deliveries;
mod fleet;
pub mod form;
mod front;
mod hold;
mod live;
mod log;
mod pipelines;
mod run;
mod runs;
#[cfg(test)]
mod tests;
mod text;

/// What a page may do (Content Security Policy, level 3): its own style, scripts and forms, and nothing
/// of another host.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

pub(super) fn router() -> Router<Api> {
    let run = Router::new()
        .route("/", get(run::show))
        .route("/promote", post(acts::promote).get(acts::back))
        .route("/reject", post(acts::reject).get(acts::back))
        .route("/cancel", post(acts::cancel).get(acts::back))
        .route("/replay", post(acts::replay).get(acts::back))
        .route("/logs/{stage}", get(log::show))
        .route("/logs/{stage}/text", get(log::text))
        .route("/logs/{stage}/live", get(live::stream));
    let fleet = Router::new()
        .route("/", get(fleet::show))
        .route("/rollback", post(hold::rollback).get(hold::back))
        .route("/lock", post(hold::lock).get(hold::back))
        .route("/unlock", post(hold::unlock).get(hold::back))
        .route("/lift", post(hold::lift).get(hold::back));
    Router::new()
        .route("/", get(front::show))
        .route("/runs", get(runs::show))
        .route("/pipelines", get(pipelines::show))
        .route("/pipelines/{name}/trigger", post(pipelines::trigger).get(pipelines::back))
        .route("/deliveries", get(deliveries::show))
        .route("/deliveries/again", post(deliveries::again).get(deliveries::back))
        .nest("/fleets/{environment}/{service}", fleet)
        .nest("/runs/{pipeline}/{number}", run)
        .route("/assets/{name}", get(assets::serve))
        .layer(middleware::from_fn(finish))
}

/// Where there is no page.
pub(super) async fn missing(uri: Uri, request: Request) -> Response {
    let problem = Problem::not_found(format!("there is nothing at {}", uri.path()));
    match wants_page(&request) {
        true => dressed(problem.into_response()),
        false => Problem::not_found("there is no such path here").into_response(),
    }
}

/// Whether it is a browser that asks, for something to show to a person.
fn wants_page(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html")) && !request.uri().path().starts_with("/api/")
}

/// Problems become pages, and every answer gets the headers that all pages have.
async fn finish(request: Request, next: Next) -> Response {
    dressed(next.run(request).await)
}

fn dressed(response: Response) -> Response {
    let mut response = match response.extensions().get::<Problem>().cloned() {
        None => response,
        Some(problem) => {
            let status = response.status();
            let base = Base { title: problem.title.clone(), who: Who::Unknown, notice: None };
            page(status, &Failed { base, problem }).unwrap_or(response)
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What all pages have.
struct Base {
    title: String,
    who: Who,
    notice: Option<Notice>,
}

/// What came of a form, above the page it stands on.
enum Notice {
    /// It was done.
    Done(&'static str),
    /// It was not, with what somebody had typed.
    Refused { problem: Problem, typed: Typed },
}

/// What somebody had typed into a form that was refused, by the field's name in the templates.
type Typed = Vec<(String, String)>;

impl Base {
    fn new(title: impl Into<String>, who: Who) -> Self {
        Self { title: title.into(), who, notice: None }
    }

    /// With what the address says was done before: a word of [`acts::SAID`].
    fn said(mut self, word: Option<&str>) -> Self {
        let known = |word| acts::SAID.iter().find(|(known, _)| *known == word);
        self.notice = word.and_then(known).map(|(_, sentence)| Notice::Done(sentence));
        self
    }

    fn done(&self) -> Option<&'static str> {
        match &self.notice {
            Some(Notice::Done(sentence)) => Some(sentence),
            _ => None,
        }
    }

    fn refused(&self) -> Option<&Problem> {
        match &self.notice {
            Some(Notice::Refused { problem, .. }) => Some(problem),
            _ => None,
        }
    }

    /// With what was refused, and what somebody had typed.
    fn refusal(title: impl Into<String>, who: Who, problem: Problem, typed: Typed) -> (StatusCode, Self) {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Self { title: title.into(), who, notice: Some(Notice::Refused { problem, typed }) })
    }

    /// What somebody had typed into the field before the form was refused.
    fn typed(&self, wanted: &str) -> &str {
        let typed = match &self.notice {
            Some(Notice::Refused { typed, .. }) => typed.as_slice(),
            _ => &[],
        };
        typed.iter().find(|(field, _)| field == wanted).map_or("", |(_, text)| text)
    }

    /// Whether what was refused is about that pipeline.
    fn is_about(&self, pipeline: &str) -> bool {
        match &self.notice {
            Some(Notice::Refused { typed, .. }) => {
                typed.iter().any(|(field, _)| field.strip_prefix("params.") == Some(pipeline))
            }
            _ => false,
        }
    }

    fn css(&self) -> &'static str {
        &assets::CSS.path
    }

    fn live_script(&self) -> &'static str {
        &assets::LIVE.path
    }

    fn log_script(&self) -> &'static str {
        &assets::LOG.path
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Failed {
    base: Base,
    problem: Problem,
}

/// A rendered page.
fn page(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let html = template.render().map_err(Problem::failed)?;
    Ok((status, Html(text::visible(&html))).into_response())
}
