//! Forms and the name in a cookie: any body is a form or a problem, and who acts has a name that can be shown.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use axum::response::IntoResponse;
use windlass::http::ui::form::Posted;
use windlass::run::event::is_invisible;

use super::parts;

pub const WORDS: &[&str] = &[
    "name=",
    "ada",
    "&",
    "=",
    "%",
    "%00",
    "%0d%0a",
    "%e2%80%ae",
    "%ff",
    "+",
    "reason=",
    "windlass-name=",
    ";",
    "windlass-name=ada",
    "policy:x",
    "\0",
    "params.flavour=",
    "[]",
    "%7B",
    "\r\n",
];

/// The cookie, then the body, between NULs.
pub fn target(data: &[u8]) {
    let [cookie, body] = parts(data);
    let mut request = Request::post("/").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Ok(cookie) = axum::http::HeaderValue::from_bytes(cookie) {
        request = request.header(header::COOKIE, cookie);
    }
    let request = request.body(Body::from(body.to_vec())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let posted = runtime.block_on(Posted::<BTreeMap<String, String>>::from_request(request, &()));
    let posted = match posted {
        Ok(posted) => posted,
        Err(problem) => {
            let status = problem.into_response().status();
            assert!(status.is_client_error(), "{status}");
            return;
        }
    };
    assert!(posted.form.len() <= body.split(|byte| *byte == b'&').count());
    if let Ok(actor) = posted.actor() {
        assert!(!actor.verified && !actor.name.starts_with("policy:"), "{actor:?}");
        assert!(
            !actor.name.is_empty() && !actor.name.chars().any(|c| c.is_control() || is_invisible(c)),
            "{actor:?}"
        );
    }
    let back = posted.back("/runs", "promoted");
    assert_eq!(back.headers()[header::LOCATION], "/runs?said=promoted");
    assert!(back.headers().get_all(header::SET_COOKIE).iter().count() <= 1);
    if let Some(cookie) = back.headers().get(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("a cookie is plain");
        assert_eq!(cookie.matches(';').count(), 4, "the name adds nothing to the cookie: {cookie}");
    }
}
