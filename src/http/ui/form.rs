//! Forms, and who acts. That a form comes from one of our pages is seen to before it gets here, by
//! [`crate::http::guard`].

use axum::extract::{Form, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::Problem;
use crate::http::guard::Caller;
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
        if let Some(Caller::Person(name)) = parts.extensions.get() {
            return Self::Verified(Actor { name: name.clone(), verified: true });
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
            known if self.name.trim().is_empty() => known.clone(),
            _ => Who::Says(self.name.clone()),
        }
    }

    /// Back to a page (303, RFC 9110 section 15.4.4), which says what was done; the name is remembered.
    pub fn back(&self, path: &str, said: &str) -> Response {
        let mut response = Redirect::to(&format!("{path}?said={said}")).into_response();
        if !self.who.is_verified() && !self.name.trim().is_empty() {
            let name = utf8_percent_encode(self.name.trim(), NON_ALPHANUMERIC);
            let cookie = format!("{COOKIE}={name}; Path=/; Max-Age={KEPT}; HttpOnly; SameSite=Strict");
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
        }
        response
    }
}
