//! Pages, codes and assets.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use localization::tr;

use super::address_limits::GuestPeer;
use super::chat_section::ChatSection;
use super::file_listing::FileListing;
use super::guest_admission::{SESSION_COOKIE, admit};
use super::guest_refusal::{AnswerForm, GuestRefusal, HTML};
use super::http_text::{form_fields, percent_encoded};
use super::link_event::LinkEvent;
use super::page_assets::asset_response;
use super::web_context::WebContext;
use crate::engine::{Error, now_ms, run_blocking};

const MAX_FORM_BYTES: usize = 4096;
const FORM_TIMEOUT: Duration = Duration::from_secs(15);

/// Answers with the page of a link, or with the form that takes its code.
pub(super) async fn link_page(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let form = AnswerForm::of(&headers);
    let page = guest_page(&context, peer, &id, query.as_deref(), form, &headers).await;
    page.unwrap_or_else(|refusal| refusal.answer(&context.frame, form))
}

async fn guest_page(
    context: &Arc<WebContext>,
    peer: GuestPeer,
    id: &str,
    query: Option<&str>,
    form: AnswerForm,
    headers: &HeaderMap,
) -> Result<Response, GuestRefusal> {
    let guest = admit(context, peer.address(), id, headers).await?;
    let fields = form_fields(query.unwrap_or_default());
    let value = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let folder = value("in").unwrap_or_default();
    let number = value("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let (context, language) = (context.clone(), form.language);
    // On another thread: a page of many files is work for milliseconds.
    let page = run_blocking(move || {
        let (frame, link) = (&context.frame, &guest.link);
        let view = || Ok::<_, Error>(ChatSection::new(context.links.chat_view(&guest, 0)?));
        let chat = link.has_chat.then(view).transpose()?;
        if link.folder.is_some() {
            return Ok(frame.upload_page(language, link, chat.as_ref()));
        }
        let files = context.links.files(link)?;
        match &chat {
            Some(chat) if files.is_empty() => Ok(frame.chat_page(language, link, chat)),
            chat => {
                let listing = FileListing::new(&files, &folder, number);
                Ok(frame.download_page(language, link, &files, &listing, chat.as_ref()))
            }
        }
    });
    Ok(([(CONTENT_TYPE, HTML)], page.await?).into_response())
}

/// Takes a code: the right one gets a session, and leads to the page.
pub(super) async fn enter(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = AnswerForm::of(&headers);
    let entered = open_session(&context, peer, &id, body).await;
    match entered {
        Ok(response) => response,
        Err(GuestRefusal::Unauthorised) => {
            form.enter_form(&context.frame, StatusCode::FORBIDDEN, Some(form.language.enter_wrong()))
        }
        Err(refusal) => refusal.answer(&context.frame, form),
    }
}

async fn open_session(
    context: &Arc<WebContext>,
    peer: GuestPeer,
    id: &str,
    body: Body,
) -> Result<Response, GuestRefusal> {
    let body = tokio::time::timeout(FORM_TIMEOUT, to_bytes(body, MAX_FORM_BYTES)).await;
    let body = body.map_err(|_| GuestRefusal::broke_off(|| tr!("the code doesn't come: try again")))?;
    let body = body.map_err(|_| GuestRefusal::bad_request(|| tr!("that is no form with a code")))?;
    let fields = form_fields(std::str::from_utf8(&body).unwrap_or_default());
    let code = fields.into_iter().find_map(|(name, value)| (name == "code").then_some(value)).unwrap_or_default();
    let (links, wanted) = (context.links.clone(), id.to_owned());
    let look = run_blocking(move || links.open_session(&wanted, &code));
    let (link, session) = context.try_code(peer.address(), look).await?;
    (context.events)(LinkEvent::Opened { link: link.number, address: peer.ip() });
    let (path, seconds) = (format!("/l/{}/", link.id), (link.expires_at - now_ms()).max(0) / 1000);
    // Neither a script nor a page of another site can use it.
    let cookie =
        format!("{SESSION_COOKIE}={session}; Path={path}; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    // 303, so that the page can be loaded anew without sending the code again (RFC 9110, 15.4.4).
    Ok((StatusCode::SEE_OTHER, [(LOCATION, path), (SET_COOKIE, cookie)]).into_response())
}

/// Leads from an address without a slash to the link: the addresses in its page are relative.
pub(super) async fn add_slash(Path(id): Path<String>) -> Response {
    redirect_to_link(&id)
}

/// Leads whoever loads the address of the form anew back to the link.
pub(super) async fn back_to_link(Path(id): Path<String>) -> Response {
    redirect_to_link(&id)
}

fn redirect_to_link(id: &str) -> Response {
    let path = format!("/l/{}/", percent_encoded(id.as_bytes()));
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

/// Answers with a file of the pages.
pub(super) async fn asset(Path((_, name)): Path<(String, String)>) -> Response {
    asset_response(&name)
}

/// Answers where there is nothing.
pub(super) async fn not_found(State(context): State<Arc<WebContext>>, headers: HeaderMap) -> Response {
    GuestRefusal::NotFound.answer(&context.frame, AnswerForm::of(&headers))
}
