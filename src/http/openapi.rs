//! The description of the API, made from the routes themselves: what is not described is not routed.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};

use super::{Problem, routes};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // Numbers, texts, lists and maps with texts as keys: nothing that JSON cannot say.
    routes::api().into_openapi().to_json().unwrap_or_default()
});

/// What is said of the API as a whole.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new().title("Windlass").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Takes a commit to production. Fields are only ever added; every error is a Problem.",
    ));
    let scheme = |scheme| SecurityScheme::Http(Http::new(scheme));
    let components = ComponentsBuilder::new()
        .schema_from::<Problem>()
        .security_scheme("token", scheme(HttpAuthScheme::Bearer))
        .security_scheme("name and token", scheme(HttpAuthScheme::Basic));
    // Any one of them; the last one says none, as on a server of this machine alone.
    let none: [&str; 0] = [];
    let any = [
        SecurityRequirement::new("token", none),
        SecurityRequirement::new("name and token", none),
        SecurityRequirement::default(),
    ];
    OpenApiBuilder::new().info(info).components(Some(components.build())).security(Some(any)).build()
}

/// This description
#[utoipa::path(get, path = "/api/v1/openapi.json", operation_id = "describe",
    responses((status = 200, description = "An OpenAPI document", body = serde_json::Value)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}
