//! What holds for all requests of a server of pages: where they may come from, and what their answers forbid.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use localization::tr;

use super::api_context::ApiContext;
use super::api_error::ApiError;
use crate::web::answer_headers::{FETCH_SITE, add_common_headers};
use crate::web::http_text::header_text;
use crate::web::request_origin::{RequestOrigin, is_own_host};

const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                           img-src 'self' blob: data:; font-src 'self'; manifest-src 'self'; form-action 'self'; \
                           base-uri 'none'; frame-ancestors 'none'";

/// Refuses what may not come from where it comes, puts errors into the browser's language, and adds the headers that all
/// answers have.
pub(super) async fn guard(State(context): State<Arc<ApiContext>>, request: Request, next: Next) -> Response {
    let asked = request.headers().clone();
    let refusal = refusal(&context, &request);
    let response = match refusal {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    };
    let mut response = ApiError::finish(response, &asked, context.mode, &context.hidden);
    add_common_headers(response.headers_mut(), PAGE_POLICY);
    response
}

fn refusal(context: &ApiContext, request: &Request) -> Option<ApiError> {
    let headers = request.headers();
    let host = header_text(headers, &HOST).unwrap_or_default();
    if !is_own_host(host, &context.own_names) {
        let words = || tr!("this machine has no such name: use its address");
        return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "foreign_host", words));
    }
    // One that is no text counts as that of another site, not as missing.
    let fetch_site = headers.get(FETCH_SITE).map(|site| site.to_str().unwrap_or_default());
    let origin = RequestOrigin { scheme: context.scheme(), host, origin: header_text(headers, &ORIGIN), fetch_site };
    let is_page = matches!(*request.method(), Method::GET | Method::HEAD) && !is_private(request.uri().path());
    (!is_page && !origin.may_change()).then(|| {
        let words = || tr!("a page of another site may not do that");
        ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", words)
    })
}

/// Returns whether an address is for the page alone, even if it only reads. Anybody may lead to the page itself.
fn is_private(path: &str) -> bool {
    path.starts_with("/api/") || path.starts_with("/d/")
}
