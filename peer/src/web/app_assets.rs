//! The files of the page, built into the program.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::guest_admission::header_text;

/// The files: the name in the address, and the content.
const FILES: &[(&str, &[u8])] = &[("index.html", include_bytes!("app/index.html"))];

/// Returns a file of the page. Browsers ask each time whether it is still the same, so that an update shows at once.
pub(super) fn app_file(name: &str, request: &HeaderMap) -> Option<Response> {
    let (name, content) = *FILES.iter().find(|(file, _)| *file == name)?;
    let tag = format!("\"{}\"", &blake3::hash(content).to_hex()[..16]);
    let is_same = header_text(request, &IF_NONE_MATCH) == Some(&*tag);
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type(name))),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, HeaderValue::try_from(tag).ok()?),
    ];
    if is_same {
        return Some((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Some((headers, content).into_response())
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "webmanifest" => "application/json",
        _ => "application/octet-stream",
    }
}
