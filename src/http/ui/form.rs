//! Forms: where they come from, and who acts.

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::Problem;
use crate::run::event::Actor;

/// Remembers the name that somebody without credentials goes by.
const COOKIE: &str = "windlass-name";

/// A year, in seconds.
const KEPT: u32 = 31_536_000;

/// Who looks at a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A credential proved it.
    Verified(Actor),
    /// The name used before.
    Says(String),
    Unknown,
}

impl Who {
    /// Of a request: the person that its credential proved, or the name that its browser remembers.
    fn of(parts: &Parts) -> Self {
        if let Some(actor) = parts.extensions.get::<Actor>() {
            return Self::Verified(actor.clone());
        }
        let cookies = parts.headers.get_all(header::COOKIE).into_iter();
        let pairs = cookies.filter_map(|cookie| cookie.to_str().ok()).flat_map(|text| text.split(';'));
        let mut named = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        let decoded = named.next().and_then(|name| percent_decode_str(name).decode_utf8().ok());
        match decoded.and_then(|name| Actor::named(&name).ok()) {
            Some(actor) => Self::Says(actor.name),
            None => Self::Unknown,
        }
    }

    /// What stands in the field for the name.
    pub fn name(&self) -> &str {
        match self {
            Self::Verified(actor) => &actor.name,
            Self::Says(name) => name,
            Self::Unknown => "",
        }
    }

    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(parts))
    }
}

/// A form that was sent by one of our pages.
pub struct Posted<T> {
    pub form: T,
    who: Who,
    /// What was typed as the name, where there is such a field.
    name: String,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Posted<T> {
    type Rejection = Problem;
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        is_ours(&parts.headers).map_err(Problem::foreign)?;
        let who = Who::of(&parts);
        let request = Request::from_parts(parts, body);
        let wrong = |error: axum::extract::rejection::FormRejection| {
            let text = error.body_text();
            match error.into_response().status() {
                status if status == 413 => Problem::too_large(text),
                _ => Problem::request(format!("the form is not what this path takes: {text}")),
            }
        };
        // Read twice, as a form may hold a name or not, whatever else is in it.
        let Form(fields) =
            Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(wrong)?;
        let read = |error| Problem::request(format!("the form is not what this path takes: {error}"));
        let Named { name } = fields_as(&fields).map_err(read)?;
        Ok(Self { form: fields_as(&fields).map_err(read)?, who, name })
    }
}

/// The fields as a form; of two of one name, the last.
fn fields_as<T: DeserializeOwned>(fields: &[(String, String)]) -> Result<T, serde_json::Error> {
    let object = fields.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    serde_json::from_value(serde_json::Value::Object(object))
}

impl<T> Posted<T> {
    /// Who acts: the person that the credential proved, else the name in the form.
    pub fn actor(&self) -> Result<Actor, Problem> {
        match &self.who {
            Who::Verified(actor) => Ok(actor.clone()),
            _ if self.name.trim().is_empty() => {
                Err(Problem::request("say who you are: the field “Your name” is empty, and nothing was done"))
            }
            _ => Actor::named(&self.name).map_err(Problem::request),
        }
    }

    /// Who looks at the page that answers the form.
    pub fn who(&self) -> Who {
        match &self.who {
            Who::Verified(actor) => Who::Verified(actor.clone()),
            _ => Who::Says(self.name.clone()),
        }
    }

    /// Back to a page (303, RFC 9110 section 15.4.4), which says what was done; the name is remembered.
    pub fn back(&self, path: &str, said: &str) -> Response {
        let mut response = Redirect::to(&format!("{path}?said={said}")).into_response();
        if !self.who.is_verified() {
            let name = utf8_percent_encode(self.name.trim(), NON_ALPHANUMERIC);
            let cookie = format!("{COOKIE}={name}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Strict");
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
        }
        response
    }
}

/// Whether the request was sent by a page of this server, as far as browsers tell: addressed to this
/// machine by a name that only stands for it (another name may be one that was rebound), and from the
/// same origin. `Err` says what is wrong.
fn is_ours(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = text(header::HOST).ok_or("the request does not say which host it is for")?;
    if !host.parse::<Authority>().is_ok_and(|authority| is_loopback(authority.host())) {
        return Err(
            "the request is for a host that is not this one: use the address that `windlass serve` printed",
        );
    }
    match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
        Some(Ok(origin)) if origin.strip_prefix("http://").is_some_and(|from| from == host) => Ok(()),
        Some(_) => Err("the form comes from a page of another host"),
        // Browsers send an origin with every form; what does not is not one.
        None => match text(header::HeaderName::from_static("sec-fetch-site")) {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err("the form comes from a page of another host"),
        },
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(pairs: &[(&'static str, &'static str)]) -> bool {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        is_ours(&pairs.iter().map(pair).collect()).is_ok()
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        assert!(ours(&[("host", "127.0.0.1:7430"), ("origin", "http://127.0.0.1:7430")]));
        assert!(ours(&[("host", "localhost:7430"), ("origin", "http://localhost:7430")]));
        assert!(ours(&[("host", "[::1]:7430"), ("origin", "http://[::1]:7430")]));
        assert!(ours(&[("host", "localhost")]));
        assert!(ours(&[("host", "localhost"), ("sec-fetch-site", "same-origin")]));

        assert!(!ours(&[]));
        assert!(!ours(&[("host", "evil.example"), ("origin", "http://evil.example")]));
        assert!(!ours(&[("host", "127.0.0.1.evil.example"), ("origin", "http://127.0.0.1.evil.example")]));
        assert!(!ours(&[("host", "127.0.0.1:7430"), ("origin", "http://127.0.0.1:7431")]));
        assert!(!ours(&[("host", "127.0.0.1:7430"), ("origin", "http://evil.example")]));
        assert!(!ours(&[("host", "127.0.0.1:7430"), ("origin", "null")]));
        assert!(!ours(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
        assert!(!ours(&[("host", "localhost"), ("sec-fetch-site", "same-site")]));
    }
}
