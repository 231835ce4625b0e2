//! What a request over TCP must have before anybody looks at it: a name that is ours, an origin that is
//! ours, and a proof of who it comes from where one is asked for.
//!
//! The names keep out pages of other hosts whose name resolves to us (DNS rebinding); the origin keeps
//! out forms and scripts of other pages (cross-site request forgery). Requests on the unix socket come
//! from this user and pass.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use super::Problem;
use super::access::{Access, Proof};
use crate::run::event::Actor;

/// Asked by machines that have no credential.
const OPEN: [&str; 3] = ["/healthz", "/readyz", WEBHOOK];

/// GitHub proves itself by a signature, and its requests have no origin.
const WEBHOOK: &str = "/webhooks/github";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// Nothing proves who.
    Somebody,
    /// A credential of this person came along.
    Person(String),
}

/// The rules of one TCP listener.
#[derive(Clone)]
pub(super) struct Guard {
    pub address: SocketAddr,
    pub access: Access,
}

impl Caller {
    /// Who acts, where the request says `said`: somebody with a credential may leave that out, and
    /// cannot be somebody else.
    pub fn actor(&self, said: Option<&str>) -> Result<Actor, Problem> {
        let said = said.filter(|said| !said.is_empty());
        match (self, said) {
            (Self::Person(name), Some(said)) if said != name => Err(Problem::forbidden(format!(
                "the credential is that of {name}, and the actor is {said:?}"
            ))
            .hint("leave the actor out: it is whom the credential belongs to")),
            (Self::Person(name), _) => Ok(Actor { name: name.clone(), verified: true }),
            (Self::Somebody, Some(said)) => Actor::named(said).map_err(Problem::request),
            (Self::Somebody, None) => Err(Problem::request("nothing says who acts: \"actor\" is missing")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().unwrap_or(Self::Somebody))
    }
}

/// Lets a request pass, or answers it.
pub(super) async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    match guard.admit(&request) {
        Err(refused) => refused.into_response(),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
    }
}

/// Why a request does not pass.
enum Refused {
    Problem(Box<Problem>),
    /// Nothing proves who it comes from.
    Unproved(Box<Problem>),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Unproved(problem) => {
                let mut response = problem.into_response();
                for scheme in [r#"Basic realm="windlass", charset="UTF-8""#, r#"Bearer realm="windlass""#] {
                    response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
                }
                response
            }
        }
    }
}

impl Guard {
    fn admit(&self, request: &Request) -> Result<Caller, Refused> {
        let host = self.host(request)?;
        let path = request.uri().path();
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if changes && path != WEBHOOK {
            same_origin(request.headers(), &host)?;
            if path.starts_with("/api/") && !is_json(request.headers()) {
                return Err(Problem::media("the API takes bodies of application/json").into());
            }
        }
        if OPEN.contains(&path) || !self.access.asks() {
            return Ok(Caller::Somebody);
        }
        self.person(request.headers()).map(Caller::Person)
    }

    /// The host that the request is for, which is one of ours.
    fn host(&self, request: &Request) -> Result<Authority, Problem> {
        let mut named = request.headers().get_all(header::HOST).iter();
        let host = named.next().and_then(|host| host.to_str().ok()).and_then(|host| host.parse().ok());
        let (Some(host), None) = (host, named.next()) else {
            return Err(Problem::request("a request has one header Host, the name it is for"));
        };
        // In a request line that names a host too, both must be ours.
        let line = request.uri().authority();
        match self.is_ours(&host) && line.is_none_or(|line| self.is_ours(line)) {
            true => Ok(host),
            false => {
                let problem = format!("this server does not answer for {host:?}");
                Err(Problem::misdirected(problem).hint(format!(
                    "ask http://{}; behind a proxy, name the host in the settings: server: {{ hosts: [{}] }}",
                    self.address,
                    host.host()
                )))
            }
        }
    }

    fn is_ours(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let host = authority.host();
        if self.access.names(host) {
            return true;
        }
        if authority.port_u16().unwrap_or(80) != self.address.port() {
            return false;
        }
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            // A page of another host never has an address for a name, so any address is good where we
            // listen at all of them.
            Ok(address) => {
                address == self.address.ip() || address.is_loopback() || self.address.ip().is_unspecified()
            }
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        }
    }

    fn person(&self, headers: &HeaderMap) -> Result<String, Refused> {
        let unproved = |why: &str| {
            let hint =
                "send the header Authorization: Bearer TOKEN; the command line takes it from WINDLASS_TOKEN";
            Refused::Unproved(Box::new(Problem::unproved(why).hint(hint)))
        };
        let sent =
            headers.get(header::AUTHORIZATION).ok_or_else(|| unproved("this server asks for a token"))?;
        let sent = sent.to_str().map_err(|_| unproved("the credential is not text"))?;
        let (scheme, value) = sent.split_once(' ').unwrap_or((sent, ""));
        let value = value.trim();
        let found = if scheme.eq_ignore_ascii_case("bearer") {
            self.access.person(&Proof::Bearer(value))
        } else if scheme.eq_ignore_ascii_case("basic") {
            let decoded = base64::engine::general_purpose::STANDARD.decode(value).unwrap_or_default();
            let decoded = String::from_utf8(decoded).unwrap_or_default();
            let (person, token) = decoded.split_once(':').unwrap_or_default();
            self.access.person(&Proof::Basic { person, token })
        } else {
            return Err(unproved("a credential is a Bearer token, or Basic with a name and its token"));
        };
        found.ok_or_else(|| unproved("the token is nobody's"))
    }
}

/// Refuses what a page of another origin sent.
fn same_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let foreign = || Problem::forbidden("the request comes from a page of another origin");
    if headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin") {
        return Err(foreign());
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| foreign())?;
        let (scheme, rest) = origin.split_once("://").ok_or_else(foreign)?;
        let port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(foreign()),
        };
        let authority: Authority = rest.parse().map_err(|_| foreign())?;
        let same = authority.host().eq_ignore_ascii_case(host.host())
            && authority.port_u16().unwrap_or(port) == host.port_u16().unwrap_or(port);
        if !same {
            return Err(foreign());
        }
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Adds what every answer has: browsers take nothing for what it is not, show it in no frame, and tell
/// nobody where they came from. A page that set a policy of its own keeps it.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with that, browsers send `Origin: null` with forms (Fetch standard, 3.2).
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    // What is shown belongs to whoever asked, and is another thing a moment later.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
