//! Conversations of guests: what was written, live or at once, and what a guest writes.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use localization::tr;
use serde_json::json;

use super::address_limits::GuestPeer;
use super::chat_stream::ChatStream;
use super::chunk_body::ChunkBody;
use super::guest_admission::admit;
use super::guest_refusal::{AnswerForm, GuestRefusal};
use super::http_text::{LAST_EVENT_ID, form_fields, header_text};
use super::json_answer::terminal_json_response;
use super::link_event::LinkEvent;
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, GuestChatError, GuestMessageRequest};
use crate::engine::run_blocking;

/// A message of 16 KiB with every byte as `%XX`, and room for its other fields.
const MAX_BODY_BYTES: usize = 64 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
const EVENT_STREAM: &str = "text/event-stream";

/// Answers with the conversation of a guest: as a stream where that is asked for, else what there is now.
pub(super) async fn conversation(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let form = AnswerForm::of(&headers);
    let answered = async {
        let guest = admit_talker(&context, peer, &id, &headers).await?;
        // Whoever loads the address of the form anew.
        if form.is_html() {
            return Ok(to_page(&guest));
        }
        let after = start_place(query.as_deref(), &headers);
        if header_text(&headers, &ACCEPT).is_some_and(|accept| accept.contains(EVENT_STREAM)) {
            let slot = context.chat_streams.take((guest.link.number, guest.session), peer.address());
            let slot = slot.ok_or(GuestRefusal::Busy)?;
            let body = ChunkBody::new(ChatStream::new(context.clone(), guest, slot, after));
            return Ok(([(CONTENT_TYPE, EVENT_STREAM)], Body::new(body)).into_response());
        }
        let links = context.links.clone();
        let view = run_blocking(move || links.chat_view(&guest, after)).await?;
        let name = view.who.and_then(|who| who.name);
        Ok(terminal_json_response(StatusCode::OK, &json!({ "name": name, "messages": view.messages })))
    };
    answered.await.unwrap_or_else(|refusal: GuestRefusal| refusal.answer(&context.frame, form))
}

/// Takes a message of a guest.
pub(super) async fn write(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = AnswerForm::of(&headers);
    let written = async {
        let guest = admit_talker(&context, peer, &id, &headers).await?;
        // Before the body is read: whoever floods costs no more than a header.
        if !context.try_count_message(peer.address()) {
            return Err(GuestRefusal::TooFast);
        }
        let request = read_request(&headers, body).await?;
        let (links, writer, network) = (context.links.clone(), guest.clone(), peer.address().to_string());
        let posted = run_blocking(move || Ok(links.post_message(&writer, &network, &request))).await?;
        let (post, is_new) = posted?;
        let answer = match form.is_html() {
            true => to_page(&guest),
            false => terminal_json_response(StatusCode::CREATED, &json!(post.message)),
        };
        if is_new {
            (context.events)(LinkEvent::Written { address: peer.ip(), post });
        }
        Ok(answer)
    };
    written.await.unwrap_or_else(|refusal| refusal.answer(&context.frame, form))
}

/// Returns the guest behind a request for a link that takes messages.
async fn admit_talker(
    context: &Arc<WebContext>,
    peer: GuestPeer,
    id: &str,
    headers: &HeaderMap,
) -> Result<AdmittedGuest, GuestRefusal> {
    let guest = admit(context, peer.address(), id, headers).await?;
    if guest.link.has_chat { Ok(guest) } else { Err(GuestRefusal::NotFound) }
}

/// Returns the place after which messages are asked for; that of a stream that broke off counts first.
fn start_place(query: Option<&str>, headers: &HeaderMap) -> i64 {
    let last = header_text(headers, &LAST_EVENT_ID).and_then(|last| last.parse().ok());
    let asked = || form_fields(query.unwrap_or_default()).into_iter().find(|(name, _)| name == "after");
    last.or_else(|| asked()?.1.parse().ok()).unwrap_or(0)
}

/// Reads a message: a form with `text`, `name` and `id`, or the text alone.
async fn read_request(headers: &HeaderMap, body: Body) -> Result<GuestMessageRequest, GuestRefusal> {
    // Before any of it is read: whoever waits to be asked for it sends nothing.
    let length = header_text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| length > MAX_BODY_BYTES) {
        return Err(GuestChatError::TooLong.into());
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await;
    let body = body.map_err(|_| GuestRefusal::broke_off(|| tr!("the message doesn't come")))?;
    let body = body.map_err(|_| GuestRefusal::bad_request(|| tr!("the message is too long, or it broke off")))?;
    let body = std::str::from_utf8(&body);
    let body = body.map_err(|_| GuestRefusal::bad_request(|| tr!("the message is not UTF-8")))?;
    if header_text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/plain")) {
        return Ok(GuestMessageRequest { text: body.to_owned(), ..GuestMessageRequest::default() });
    }
    let mut request = GuestMessageRequest::default();
    for (name, value) in form_fields(body) {
        match name.as_str() {
            "text" => request.text = value,
            "name" => request.name = value,
            "id" => request.id = value.parse().ok(),
            _ => {}
        }
    }
    Ok(request)
}

fn to_page(guest: &AdmittedGuest) -> Response {
    // 303: the browser goes on with GET, and loading that page again writes nothing twice (RFC 9110, 15.4.4).
    (StatusCode::SEE_OTHER, [(LOCATION, format!("/l/{}/#talk", guest.link.id))]).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_stream_goes_on_where_it_broke_off() {
        let mut headers = HeaderMap::new();
        assert_eq!(start_place(None, &headers), 0);
        assert_eq!(start_place(Some("after=7&x"), &headers), 7);
        assert_eq!(start_place(Some("after=x"), &headers), 0);
        headers.insert(LAST_EVENT_ID, HeaderValue::from_static("9"));
        assert_eq!(start_place(Some("after=7"), &headers), 9);
    }
}
