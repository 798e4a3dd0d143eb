//! Answers of JSON.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use shared::safe_text::safe_json;

/// Returns an answer of JSON for scripts.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    let kind = HeaderValue::from_static("application/json");
    (status, [(CONTENT_TYPE, kind)], value.to_string()).into_response()
}

/// Returns an answer of JSON for programs that a terminal shows safely as well, on a line of its own.
pub(super) fn terminal_json_response(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{}\n", safe_json(value.to_string()))).into_response()
}
