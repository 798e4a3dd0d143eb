//! The headers that all answers of a server have.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header by which a browser tells from which site a request comes.
pub(super) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const COMMON_HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// Adds the headers, with the content security policy of pages, where the answer has none of its own.
pub(super) fn add_common_headers(headers: &mut HeaderMap, page_policy: &'static str) {
    for (name, value) in COMMON_HEADERS.into_iter().chain([(CONTENT_SECURITY_POLICY, page_policy)]) {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
