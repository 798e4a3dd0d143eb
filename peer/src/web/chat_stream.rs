//! The live end of a conversation: a response without an end that has each message as it comes (server-sent events).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use shared::safe_text::safe_json;

use super::chat_stream_slots::ChatStreamSlot;
use super::chunk_body::ChunkSource;
use super::web_context::WebContext;
use crate::engine::guest_links::{AdmittedGuest, ChangedConversation, GuestChatChanges};
use crate::engine::{Error, now_ms, run_blocking};

/// Time between two signs of life; with each, it is looked whether the link still holds.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The first bytes: the browser waits so long before it connects again.
const GREETING: &[u8] = b"retry: 2000\n\n";

/// A stream of a conversation.
pub(super) struct ChatStream {
    context: Arc<WebContext>,
    guest: AdmittedGuest,
    slot: ChatStreamSlot,
    changes: GuestChatChanges,
    /// The number of the guest, once it has written.
    number: Option<i64>,
    /// The place of the last message that was sent.
    after: i64,
    is_greeted: bool,
    is_over: bool,
}

impl ChatStream {
    /// Returns a stream of what comes after a place.
    pub(super) fn new(context: Arc<WebContext>, guest: AdmittedGuest, slot: ChatStreamSlot, after: i64) -> Self {
        // Before the first look, so that nothing falls in between.
        let changes = context.links.chat_signal().subscribe();
        Self { context, guest, slot, changes, number: None, after, is_greeted: false, is_over: false }
    }

    /// Waits for messages, the end, or the time of a sign of life.
    async fn wait(&mut self) -> Result<Bytes, Error> {
        loop {
            let messages = self.take_messages().await?;
            if !messages.is_empty() {
                return Ok(messages.into());
            }
            let until_end = u64::try_from(self.guest.link.expires_at - now_ms()).unwrap_or(0);
            // A little later than its end, so that the look finds the link ended.
            let sleep = HEARTBEAT.min(Duration::from_millis(until_end + 10));
            let is_heartbeat = tokio::select! {
                changed = own_change(&mut self.changes, self.guest.link.number, self.number) => match changed {
                    Some(_) => continue,
                    // The link may be gone.
                    None => false,
                },
                () = self.slot.superseded.cancelled() => return Ok(self.end("replaced")),
                () = tokio::time::sleep(sleep) => true,
            };
            let (links, link) = (self.context.links.clone(), self.guest.link.clone());
            if !run_blocking(move || links.is_live(&link)).await? {
                return Ok(self.end("end"));
            }
            if is_heartbeat {
                return Ok(Bytes::from_static(b":\n\n"));
            }
        }
    }

    fn end(&mut self, event: &str) -> Bytes {
        self.is_over = true;
        // Browsers tell of no event without data.
        format!("event: {event}\ndata: {{}}\n\n").into()
    }

    /// Returns the events of the messages that came.
    async fn take_messages(&mut self) -> Result<String, Error> {
        let (links, guest, after) = (self.context.links.clone(), self.guest.clone(), self.after);
        let view = run_blocking(move || links.chat_continuation(&guest, after)).await?;
        self.number = view.who.map(|who| who.guest);
        let mut events = String::new();
        for message in &view.messages {
            self.after = message.seq;
            // JSON has no line breaks of its own.
            events.push_str(&format!("id: {}\ndata: {}\n\n", message.seq, safe_json(json!(message).to_string())));
        }
        Ok(events)
    }
}

impl ChunkSource for ChatStream {
    async fn next_chunk(mut self) -> Option<(Bytes, Option<Self>)> {
        if !std::mem::replace(&mut self.is_greeted, true) {
            return Some((Bytes::from_static(GREETING), Some(self)));
        }
        match self.wait().await {
            Ok(bytes) if self.is_over => Some((bytes, None)),
            Ok(bytes) => Some((bytes, Some(self))),
            Err(why) => {
                tracing::error!("a conversation with a guest breaks off: {why}");
                None
            }
        }
    }
}

/// Waits for a change of a guest's conversation, or of all. One who never wrote may be any.
async fn own_change(changes: &mut GuestChatChanges, link: i64, number: Option<i64>) -> ChangedConversation {
    loop {
        let changed = changes.next().await;
        let is_own = |(of, guest)| of == link && number.is_none_or(|number| number == guest);
        if changed.is_none_or(is_own) {
            return changed;
        }
    }
}
