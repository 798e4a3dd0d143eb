//! The events of a seat as a stream of server-sent events (WHATWG HTML, section 9.2).
//!
//! A stream reads the seat's feed at the browser's pace. Beyond what the feed keeps, it says `resync`: the page loads
//! everything anew.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::api_context::ApiContext;
use super::api_error::ApiError;
use super::api_request::{ApiAnswer, PageSeat};
use crate::web::account_seat::{AccountSeat, FeedPage, OpenStream};
use crate::web::chunk_body::{ChunkBody, ChunkSource};
use crate::web::http_text::{LAST_EVENT_ID, header_text};
use crate::web::page_texts::PageLanguage;

/// The time after which something is sent, so that a lost connection is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Bytes that are written at once, about.
const CHUNK_BYTES: usize = 64 << 10;

/// Begins a stream: after the event that the browser saw last, or from now on.
pub(super) async fn events(State(context): State<Arc<ApiContext>>, page: PageSeat, headers: HeaderMap) -> ApiAnswer {
    let permit = context.streams.clone().try_acquire_owned().map_err(|_| ApiError::too_many(5))?;
    let last = page.seat.feed.watch();
    // A number that can't be read counts as one that is too old: the page loads everything anew.
    let seen = header_text(&headers, &LAST_EVENT_ID).map(|id| id.trim().parse().unwrap_or(0));
    let position = seen.unwrap_or_else(|| *last.borrow());
    let (use_of_seat, ended) = (page.seat.activity.open_stream(), page.session.ended);
    let language = PageLanguage::preferred(header_text(&headers, &ACCEPT_LANGUAGE));
    let cursor = EventCursor {
        seat: page.seat,
        last,
        position,
        is_new: true,
        language,
        ended,
        _permit: permit,
        _use_of_seat: use_of_seat,
    };
    let kind = HeaderValue::from_static("text/event-stream");
    Ok(([(CONTENT_TYPE, kind)], Body::new(ChunkBody::new(cursor))).into_response())
}

/// The place in a seat's feed at which a browser reads.
struct EventCursor {
    seat: Arc<AccountSeat>,
    last: watch::Receiver<u64>,
    /// The number of the last event that was given.
    position: u64,
    /// True until the first chunk.
    is_new: bool,
    language: PageLanguage,
    ended: CancellationToken,
    _permit: OwnedSemaphorePermit,
    _use_of_seat: OpenStream,
}

impl ChunkSource for EventCursor {
    async fn next_chunk(mut self) -> Option<(Bytes, Option<Self>)> {
        // Before any event, so that a browser that is cut off has a place from which it goes on.
        if std::mem::take(&mut self.is_new) {
            let connected = json!({ "v": 1, "type": "node", "connected": self.seat.node().is_some() });
            return Some((format!(": go on\nid: {}\ndata: {connected}\n\n", self.position).into(), Some(self)));
        }
        loop {
            // Seen before the feed is read: what comes in between wakes the wait below.
            self.last.borrow_and_update();
            match self.seat.feed.after(self.position, CHUNK_BYTES) {
                FeedPage::Events(events) => {
                    let mut chunk = String::new();
                    for event in events {
                        self.position = event.id;
                        let data = self.language.format(|| event.data.to_string());
                        // Writing into a text never fails.
                        let _ = write!(chunk, "id: {}\ndata: {data}\n\n", event.id);
                    }
                    if !chunk.is_empty() {
                        return Some((chunk.into(), Some(self)));
                    }
                }
                FeedPage::Missed(last) => {
                    self.position = last;
                    let data = json!({ "v": 1, "type": "resync" });
                    return Some((format!("id: {last}\nevent: resync\ndata: {data}\n\n").into(), Some(self)));
                }
            }
            tokio::select! {
                () = self.ended.cancelled() => {
                    let data = json!({ "v": 1, "type": "session_ended" });
                    return Some((format!("data: {data}\n\n").into(), None));
                }
                // It never fails: the seat, which is held here, has the sender.
                Ok(()) = self.last.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => return Some((Bytes::from_static(b": still here\n\n"), Some(self))),
            }
        }
    }
}
