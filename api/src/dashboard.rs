//! The web dashboard, embedded in the program.
//!
//! A browser gets the dashboard's one page for every address that is not a route of the API; the page's script shows
//! what belongs to the address. A program that was built without the dashboard answers with instructions for building
//! it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::Error;
use crate::etag;

#[derive(RustEmbed)]
#[folder = "dashboard/dist"]
#[allow_missing = true]
struct Files;

const ABSENT: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Lamina</title></head>
<body>
<h1>Lamina runs, but without its dashboard</h1>
<p>The dashboard was not built into this program. Run <code>make dashboard</code> (it needs Node 20), then build again.</p>
<p>The HTTP API works: see <a href=\"/openapi.json\">/openapi.json</a>.</p>
</body>
</html>
";

/// Content security policy: no inline scripts or styles, nothing from other servers, and no frame around the page.
const POLICY: &str =
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Answers a request that no route of the API matches.
pub(crate) async fn fallback(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return Error::NotFound("such resource".into()).into_response();
    }
    let path = uri.path().trim_start_matches('/');
    match Files::get(path) {
        Some(file) if !path.is_empty() => serve(path, file, &headers),
        _ if accepts_html(&headers) => page(&headers),
        _ => Error::NotFound("such resource".into()).into_response(),
    }
}

/// The dashboard's one page.
fn page(headers: &HeaderMap) -> Response {
    match Files::get("index.html") {
        Some(index) => serve("index.html", index, headers),
        None => guarded("text/html; charset=utf-8", "no-cache", Body::from(ABSENT)),
    }
}

fn serve(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    // The bundler puts a digest of the content into each name under assets/.
    let caching = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let known = etag::is_known(headers, &tag);
    let mut response = guarded(media_type(path), caching, if known { Body::empty() } else { Body::from(file.data) });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response.headers_mut().extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    response
}

/// An answer with the headers that protect a page in the browser.
fn guarded(media_type: &'static str, caching: &'static str, body: Body) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (HEADERS, [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, caching)], body).into_response()
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains("text/html")))
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
