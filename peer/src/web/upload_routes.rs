//! Uploads: a part at a time, from where the last request ended.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use localization::tr;
use serde_json::{Value, json};

use super::address_limits::GuestPeer;
use super::byte_range::uploaded_range;
use super::guest_admission::admit;
use super::guest_refusal::{AnswerForm, GuestRefusal};
use super::http_text::{form_fields, header_text, percent_decoded};
use super::json_answer::terminal_json_response;
use super::link_event::LinkEvent;
use super::upload_receiver::{ReceivedUpload, UploadBreak, UploadSink, receive_upload, run_sink};
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, GuestUploadError, PlacedUpload, UploadAnnouncement, UploadWriter};

const UPLOAD_KEY: HeaderName = HeaderName::from_static("upload-key");
const MAX_KEY_BYTES: usize = 512;

/// Answers how far an upload is, or with its file if it is complete.
pub(super) async fn state(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let answered = async {
        let guest = admit(&context, peer.address(), &link_id(uri.path()), &headers).await?;
        let announced = asked_upload(uri.path(), query)?;
        let links = context.links.clone();
        match run_sink(move || links.upload_offset(&guest, &announced)).await {
            Ok(offset) => Ok(terminal_json_response(StatusCode::OK, &json!({ "offset": offset }))),
            Err(GuestUploadError::Complete(placed)) => {
                Ok(terminal_json_response(StatusCode::OK, &placed_json(&placed)))
            }
            Err(error) => Err(error.into()),
        }
    };
    answered.await.unwrap_or_else(|refusal: GuestRefusal| refusal.answer(&context.frame, AnswerForm::of(&headers)))
}

/// Gives an unfinished upload up: its part goes, and its bytes are free again.
pub(super) async fn cancel(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let cancelled = async {
        let guest = admit(&context, peer.address(), &link_id(uri.path()), &headers).await?;
        let announced = asked_upload(uri.path(), query)?;
        // The request that writes the part ends first.
        let turn = context.upload_turns.take(turn_key(&guest, &announced)).await;
        let links = context.links.clone();
        run_sink(move || {
            let cancelled = links.cancel_upload(&guest, &announced);
            drop(turn);
            cancelled
        })
        .await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    cancelled.await.unwrap_or_else(|refusal: GuestRefusal| refusal.answer(&context.frame, AnswerForm::of(&headers)))
}

/// Takes an upload, or the rest of one.
pub(super) async fn upload(
    State(context): State<Arc<WebContext>>,
    Extension(peer): Extension<GuestPeer>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let taken = take_upload(&context, peer, uri.path(), &headers, body).await;
    match taken {
        Ok(response) => response,
        Err(GuestRefusal::Upload(GuestUploadError::WrongOffset(offset))) => {
            terminal_json_response(StatusCode::CONFLICT, &json!({ "offset": offset }))
        }
        Err(refusal) => refusal.answer(&context.frame, AnswerForm::of(&headers)),
    }
}

async fn take_upload(
    context: &Arc<WebContext>,
    peer: GuestPeer,
    path: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, GuestRefusal> {
    let guest = admit(context, peer.address(), &link_id(path), headers).await?;
    let announced = announcement(path, headers)?;
    // Before the turn: requests that wait for theirs are bounded as well.
    let _permit = context.uploads.admit(peer.address()).ok_or(GuestRefusal::Busy)?;
    let turn = context.upload_turns.take(turn_key(&guest, &announced)).await;
    let (links, link) = (context.links.clone(), guest.link.number);
    // The turn goes along: if this request is dropped meanwhile, the next one waits until the part is closed.
    let begun = run_sink(move || links.begin_upload(&guest, &announced).map(|writer| (writer, turn))).await;
    let placed = match begun {
        Ok((writer, turn)) => match receive_upload(body, writer, turn).await? {
            ReceivedUpload::Whole(placed) => placed,
            ReceivedUpload::Part(offset) => {
                return Ok(terminal_json_response(StatusCode::ACCEPTED, &json!({ "offset": offset })));
            }
        },
        // Whoever didn't hear the answer gets it again; what comes with it is not read.
        Err(GuestUploadError::Complete(placed)) => {
            return Ok(terminal_json_response(StatusCode::CREATED, &placed_json(&placed)));
        }
        Err(error) => return Err(error.into()),
    };
    let answer = terminal_json_response(StatusCode::CREATED, &placed_json(&placed));
    let PlacedUpload { name, size, hash } = placed;
    (context.events)(LinkEvent::Received { link, address: peer.ip(), name, size, hash });
    Ok(answer)
}

impl UploadSink for UploadWriter {
    type Placed = PlacedUpload;
    type Fault = GuestUploadError;

    fn write_batch(&mut self, batch: &[Bytes]) -> Result<(), GuestUploadError> {
        batch.iter().try_for_each(|bytes| self.write(bytes))
    }

    fn is_complete(&self) -> bool {
        Self::is_complete(self)
    }

    fn written(&self) -> u64 {
        Self::written(self)
    }

    fn finish(self) -> Result<PlacedUpload, GuestUploadError> {
        Self::finish(self)
    }
}

impl From<UploadBreak<GuestUploadError>> for GuestRefusal {
    fn from(why: UploadBreak<GuestUploadError>) -> Self {
        match why {
            UploadBreak::Superseded => Self::Superseded,
            UploadBreak::BrokeOff => Self::broke_off(|| tr!("the upload broke off")),
            UploadBreak::Refused(error) => error.into(),
        }
    }
}

/// Returns the upload of a path and of a query with its size and its mark.
fn asked_upload(path: &str, query: Option<String>) -> Result<UploadAnnouncement, GuestRefusal> {
    let fields = form_fields(&query.unwrap_or_default());
    let value = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let size = value("size").and_then(|size| size.parse().ok());
    Ok(UploadAnnouncement {
        name: last_segment(path),
        size: size.ok_or_else(|| GuestRefusal::bad_request(|| tr!("say the size: ?size=BYTES")))?,
        key: checked_key(value("key"))?,
        offset: 0,
    })
}

fn announcement(path: &str, headers: &HeaderMap) -> Result<UploadAnnouncement, GuestRefusal> {
    let length = header_text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or(GuestRefusal::LengthRequired)?;
    let wrong = || GuestRefusal::bad_request(|| tr!("Content-Range and Content-Length don't agree"));
    let (offset, size) = uploaded_range(headers.get(CONTENT_RANGE), length).ok_or_else(wrong)?;
    let key = header_text(headers, &UPLOAD_KEY).map(|key| String::from_utf8_lossy(&percent_decoded(key)).into_owned());
    Ok(UploadAnnouncement { name: last_segment(path), size, key: checked_key(key)?, offset })
}

fn checked_key(key: Option<String>) -> Result<Option<String>, GuestRefusal> {
    match key {
        Some(key) if key.len() > MAX_KEY_BYTES => {
            Err(GuestRefusal::bad_request(|| tr!("the mark of the upload is too long")))
        }
        key => Ok(key.filter(|key| !key.is_empty())),
    }
}

/// Returns the key of an upload among the running ones; two that are one on record have one key.
fn turn_key(guest: &AdmittedGuest, announced: &UploadAnnouncement) -> [u8; 32] {
    // Debug quotes the texts, so that no two announcements are written alike.
    let text = format!("{}/{:?}/{:?}/{}", guest.link.number, guest.session, announced.key, announced.size);
    *blake3::hash(&[text.as_bytes(), &[0], &announced.name].concat()).as_bytes()
}

/// Returns the link of `/l/ID/in/NAME`. Read from the path itself: names may be any bytes, which an extractor refuses.
fn link_id(path: &str) -> String {
    String::from_utf8_lossy(&percent_decoded(path.split('/').nth(2).unwrap_or_default())).into_owned()
}

fn last_segment(path: &str) -> Vec<u8> {
    percent_decoded(path.rsplit('/').next().unwrap_or_default())
}

fn placed_json(placed: &PlacedUpload) -> Value {
    json!({ "name": placed.name, "size": placed.size, "hash": placed.hash })
}
