//! Files that are dropped on the page: uploaded a part at a time, then shared or sent.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::{HeaderMap, StatusCode, Uri};
use bytes::Bytes;
use localization::tr;
use serde::Deserialize;
use serde_json::json;
use shared::{FileName, RoomName};

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, ApiBody, ApiPath, PageSeat, answer, done, parsed};
use crate::engine::ErrorKind;
use crate::engine::chat::ConversationName;
use crate::engine::dropped_files::{DropError, DropId, DropProgress, DropWriter};
use crate::web::account_seat::{DropDestination, DropJob};
use crate::web::byte_range::uploaded_range;
use crate::web::http_text::{header_text, percent_decoded};
use crate::web::json_answer::json_response;
use crate::web::upload_receiver::{ReceivedUpload, UploadBreak, UploadSink, receive_upload, run_sink};

/// The audience of shared files.
#[derive(Debug, Deserialize)]
pub(super) struct DropAudience {
    #[serde(default)]
    room: Option<String>,
}

/// The receiver of sent files, and words for them.
#[derive(Debug, Deserialize)]
pub(super) struct DropReceiver {
    to: String,
    #[serde(default)]
    text: Option<String>,
}

/// Tells how far an upload is.
pub(super) async fn state(page: PageSeat, uri: Uri) -> ApiAnswer {
    let (drop, name) = dropped_file(&uri)?;
    let drops = page.seat.drops.clone();
    match run_sink(move || drops.progress(drop, &name)).await? {
        DropProgress::Part(offset) => answer(&json!({ "offset": offset, "complete": false })),
        DropProgress::Complete(size) => answer(&json!({ "offset": size, "complete": true })),
    }
}

/// Takes an upload, or the rest of one.
pub(super) async fn upload(
    State(context): State<Arc<ApiContext>>,
    page: PageSeat,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> ApiAnswer {
    let (drop, name) = dropped_file(&uri)?;
    let (offset, size) = announced_range(&headers)?;
    let _own_permit = page.seat.uploads.try_acquire().map_err(|_| ApiError::too_many(5))?;
    let _permit = context.uploads.try_acquire().map_err(|_| ApiError::too_many(5))?;
    let turn = context.upload_turns.take(turn_key(&page, drop, &name)).await;
    let (drops, shown) = (page.seat.drops.clone(), name.clone());
    // The turn goes along: if this request is dropped meanwhile, the next one waits until the part is closed.
    let begun = run_sink(move || drops.begin(drop, &name, offset, size).map(|writer| (writer, turn))).await;
    match begun {
        Ok((writer, turn)) => match receive_upload(body, writer, turn).await? {
            ReceivedUpload::Whole(()) => {
                Ok(json_response(StatusCode::CREATED, &json!({ "name": shown, "size": size })))
            }
            ReceivedUpload::Part(offset) => Ok(json_response(StatusCode::ACCEPTED, &json!({ "offset": offset }))),
        },
        // Whoever didn't hear the answer gets it again; what comes with it is not read.
        Err(error) if error.is_complete() => {
            Ok(json_response(StatusCode::CREATED, &json!({ "name": shown, "size": size })))
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a file of a drop up.
pub(super) async fn cancel(State(context): State<Arc<ApiContext>>, page: PageSeat, uri: Uri) -> ApiAnswer {
    let (drop, name) = dropped_file(&uri)?;
    // The request that writes the part ends first.
    let turn = context.upload_turns.take(turn_key(&page, drop, &name)).await;
    let drops = page.seat.drops.clone();
    run_sink(move || {
        let cancelled = drops.cancel(drop, &name);
        std::mem::drop(turn);
        cancelled
    })
    .await?;
    done()
}

/// Shares a drop with everybody or with a room.
pub(super) async fn share(
    page: PageSeat,
    ApiPath(drop): ApiPath<String>,
    ApiBody(audience): ApiBody<DropAudience>,
) -> ApiAnswer {
    let room = |text: String| parsed::<RoomName>(text.strip_prefix('#').unwrap_or(&text));
    let room = audience.room.filter(|text| !text.is_empty()).map(room).transpose()?;
    begin_job(page, &drop, room.map_or(DropDestination::Everybody, DropDestination::Room)).await
}

/// Sends a drop to a user or a room.
pub(super) async fn send(
    page: PageSeat,
    ApiPath(drop): ApiPath<String>,
    ApiBody(receiver): ApiBody<DropReceiver>,
) -> ApiAnswer {
    let to: ConversationName = parsed(&receiver.to)?;
    if to.person() == Some(&page.seat.me.user) {
        return Err(ApiError::bad_request(|| tr!("you can't send files to yourself")));
    }
    let text = receiver.text.filter(|text| !text.trim().is_empty());
    // Told now: a message that is too long must not be found out when the files are hashed.
    text.as_deref().map(crate::engine::chat::compose).transpose()?;
    begin_job(page, &drop, DropDestination::Receiver { to, text }).await
}

async fn begin_job(page: PageSeat, drop: &str, destination: DropDestination) -> ApiAnswer {
    let (drop, drops) = (drop_id(drop)?, page.seat.drops.clone());
    let paths = run_sink(move || drops.take(drop)).await?;
    page.seat.run_drop_job(DropJob { drop, paths, destination }).map_err(|()| ApiError::too_many(5))?;
    Ok(json_response(StatusCode::ACCEPTED, &json!({})))
}

impl UploadSink for DropWriter {
    type Placed = ();
    type Fault = DropError;

    fn write_batch(&mut self, batch: &[Bytes]) -> Result<(), DropError> {
        batch.iter().try_for_each(|bytes| self.write(bytes))
    }

    fn is_complete(&self) -> bool {
        Self::is_complete(self)
    }

    fn written(&self) -> u64 {
        Self::written(self)
    }

    fn finish(self) -> Result<(), DropError> {
        Self::finish(self)
    }
}

impl From<UploadBreak<DropError>> for ApiError {
    fn from(why: UploadBreak<DropError>) -> Self {
        match why {
            UploadBreak::Superseded => {
                let words = || tr!("another request goes on with this upload");
                Self::new(StatusCode::CONFLICT, ErrorKind::Interrupted.as_str(), words)
            }
            UploadBreak::BrokeOff => Self::broke_off(|| tr!("the upload broke off")),
            UploadBreak::Refused(error) => error.into(),
        }
    }
}

/// Returns where the body begins, and the size of the whole file.
fn announced_range(headers: &HeaderMap) -> Result<(u64, u64), ApiError> {
    let length = header_text(headers, &CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or_else(|| {
        let words = || tr!("say how long the upload is: Content-Length");
        ApiError::new(StatusCode::LENGTH_REQUIRED, ErrorKind::Usage.as_str(), words)
    })?;
    let wrong = || ApiError::bad_request(|| tr!("Content-Range and Content-Length don't agree"));
    uploaded_range(headers.get(CONTENT_RANGE), length).ok_or_else(wrong)
}

fn drop_id(text: &str) -> Result<DropId, ApiError> {
    parsed(text)
}

/// Returns the drop and the name of `…/uploads/ID/NAME`. Read from the path itself: names may be any bytes, which an
/// extractor refuses, and may be those of other routes.
fn dropped_file(uri: &Uri) -> Result<(DropId, FileName), ApiError> {
    let mut segments = uri.path().rsplit('/').map(percent_decoded);
    let (name, drop) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let name = FileName::from_raw(&name).map_err(|why| ApiError::bad_request(|| why.to_string()))?;
    Ok((drop_id(&String::from_utf8_lossy(&drop))?, name))
}

/// Returns the key of an upload among the running ones.
fn turn_key(page: &PageSeat, drop: DropId, name: &FileName) -> [u8; 32] {
    // With the account: the browser chooses the id of a drop, and another account's browser may choose the same.
    *blake3::hash(format!("{}/{}/{}", page.seat.me.user, drop.text(), name.as_str()).as_bytes()).as_bytes()
}

impl From<DropError> for ApiError {
    fn from(error: DropError) -> Self {
        let (status, kind) = match error {
            DropError::Failed(error) => return error.into(),
            DropError::Hidden | DropError::TooLong => (StatusCode::BAD_REQUEST, ErrorKind::Usage),
            DropError::WrongOffset(_) | DropError::Incomplete => (StatusCode::CONFLICT, ErrorKind::Usage),
            DropError::Complete => (StatusCode::CONFLICT, ErrorKind::Exists),
            DropError::Full => (StatusCode::PAYLOAD_TOO_LARGE, ErrorKind::Disk),
            DropError::NoSpace => (StatusCode::INSUFFICIENT_STORAGE, ErrorKind::Disk),
        };
        let offset = if let DropError::WrongOffset(offset) = error { Some(offset) } else { None };
        let api = Self::new(status, kind.as_str(), || error.to_string());
        match offset {
            Some(offset) => api.with("offset", offset.into()),
            None => api,
        }
    }
}
