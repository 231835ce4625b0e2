//! The one style and the two scripts. Their names carry a digest of what is in them, so that a browser
//! may keep them for ever, and a newer program is asked for newer ones.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::http::Problem;
use crate::ids::Digest;

/// A year: as long as a cache keeps anything (RFC 9111, section 5.2.2.1 sets no limit; browsers do).
const FOR_EVER: &str = "public, max-age=31536000, immutable";

pub struct Asset {
    pub path: String,
    kind: &'static str,
    text: &'static str,
}

pub static CSS: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("pages", "css", "text/css; charset=utf-8", include_str!("assets/pages.css")));
pub static LIVE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("live", "js", "text/javascript; charset=utf-8", include_str!("assets/live.js"))
});
pub static LOG: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("log", "js", "text/javascript; charset=utf-8", include_str!("assets/log.js"))
});

impl Asset {
    fn new(name: &str, ending: &str, kind: &'static str, text: &'static str) -> Self {
        let digest = Digest::of(text.as_bytes());
        Self { path: format!("/assets/{name}-{}.{ending}", digest.short()), kind, text }
    }
}

pub async fn serve(Path(name): Path<String>) -> Result<Response, Problem> {
    let path = format!("/assets/{name}");
    let asset = [&CSS, &LIVE, &LOG].into_iter().find(|asset| asset.path == path);
    let asset = asset.ok_or_else(|| Problem::not_found(format!("there is nothing at {path}")))?;
    let headers = [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, FOR_EVER)];
    Ok((headers, asset.text).into_response())
}
