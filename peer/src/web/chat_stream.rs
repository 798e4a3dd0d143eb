//! The live end of a conversation: a response without an end that has each message as it comes (server-sent events).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::json;
use shared::safe_text::safe_json;

use super::chat_stream_slots::ChatStreamSlot;
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
    phase: StreamPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamPhase {
    Greeting,
    Messages,
    Ended,
}

impl ChatStream {
    /// Returns a stream of what comes after a place.
    pub(super) fn new(context: Arc<WebContext>, guest: AdmittedGuest, slot: ChatStreamSlot, after: i64) -> Self {
        // Before the first look, so that nothing falls in between.
        let changes = context.links.chat_signal().subscribe();
        Self { context, guest, slot, changes, number: None, after, phase: StreamPhase::Greeting }
    }

    /// Returns the next bytes; `None` at the end.
    async fn next(mut self) -> (Option<Bytes>, Self) {
        match self.phase {
            StreamPhase::Greeting => {
                self.phase = StreamPhase::Messages;
                return (Some(Bytes::from_static(GREETING)), self);
            }
            StreamPhase::Ended => return (None, self),
            StreamPhase::Messages => {}
        }
        let bytes = match self.wait().await {
            Ok(bytes) => bytes,
            Err(why) => {
                tracing::error!("a conversation with a guest breaks off: {why}");
                return (None, self);
            }
        };
        (Some(bytes), self)
    }

    /// Waits for messages, the end, or the time of a sign of life.
    async fn wait(&mut self) -> Result<Bytes, Error> {
        loop {
            let messages = self.take_messages().await?;
            if !messages.is_empty() {
                return Ok(messages.into());
            }
            let until_end = u64::try_from(self.guest.link.expires_at - now_ms()).unwrap_or(0);
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
        self.phase = StreamPhase::Ended;
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

type NextBytes = Pin<Box<dyn Future<Output = (Option<Bytes>, ChatStream)> + Send>>;

/// The body of a response that is a stream.
pub(super) struct ChatStreamBody(Option<NextBytes>);

impl ChatStreamBody {
    pub(super) fn new(stream: ChatStream) -> Self {
        Self(Some(Box::pin(stream.next())))
    }
}

impl Body for ChatStreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        let Some(next) = &mut body.0 else { return Poll::Ready(None) };
        let (bytes, stream) = ready!(next.as_mut().poll(context));
        body.0 = bytes.is_some().then(|| Box::pin(stream.next()) as NextBytes);
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
