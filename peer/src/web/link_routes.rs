//! The addresses of a server, and what holds for all of them: where a request may come from, and what its answer forbids.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use localization::tr;

use super::answer_headers::{FETCH_SITE, add_common_headers};
use super::archive_layout::ArchiveFormat;
use super::guest_refusal::AnswerForm;
use super::http_text::header_text;
use super::request_origin::{RequestOrigin, is_own_host};
use super::web_context::WebContext;
use super::{chat_routes, download_routes, form_upload, page_routes, upload_routes};

const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                           form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Returns the routes of a server.
pub(super) fn link_router(context: Arc<WebContext>) -> Router {
    Router::new()
        .route("/l/{id}", get(page_routes::add_slash))
        .route("/l/{id}/", get(page_routes::link_page))
        .route("/l/{id}/enter", post(page_routes::enter).get(page_routes::back_to_link))
        .route("/l/{id}/file/{number}/{name}", get(download_routes::file))
        .route("/l/{id}/zip/{name}", get(download_routes::archive).layer(Extension(ArchiveFormat::Zip)))
        .route("/l/{id}/tar/{name}", get(download_routes::archive).layer(Extension(ArchiveFormat::Tar)))
        .route("/l/{id}/chat", get(chat_routes::conversation).post(chat_routes::write))
        .route("/l/{id}/in/", post(form_upload::upload_form).get(page_routes::back_to_link))
        .route("/l/{id}/in/{name}", get(upload_routes::state).put(upload_routes::upload).delete(upload_routes::cancel))
        .route("/assets/{version}/{name}", get(page_routes::asset))
        .fallback(page_routes::not_found)
        .layer(from_fn_with_state(context.clone(), guard))
        .with_state(context)
}

/// Refuses what may not come from where it comes, and adds the headers that all answers have.
async fn guard(State(context): State<Arc<WebContext>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = header_text(headers, &HOST).unwrap_or_default();
    let origin = header_text(headers, &ORIGIN);
    // One that is no text counts as that of another site, not as missing.
    let fetch_site = headers.get(FETCH_SITE).map(|site| site.to_str().unwrap_or_default());
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let form = AnswerForm::of(headers);
    let refuse = |status, words: fn() -> String| form.words(&context.frame, status, &form.language.format(words));
    let mut response = if !is_own_host(host, &context.own_names) {
        refuse(StatusCode::MISDIRECTED_REQUEST, || tr!("this machine has no such name: use its address"))
    } else if is_change && !(RequestOrigin { scheme: "https", host, origin, fetch_site }).may_change() {
        refuse(StatusCode::FORBIDDEN, || tr!("a page of another site may not do that"))
    } else {
        next.run(request).await
    };
    add_common_headers(response.headers_mut(), PAGE_POLICY);
    response
}
