//! The decisions of chat's delivery. Pure: messages, replies and `now` come in, decisions go out.
//!
//! ```text
//! sender  stored ──► sent ──► acked               receiver  received ──► stored ──► acked
//!            ▲          │ ├──► refused for good                   ├──► known: acked again, not shown again
//!            └──────────┘ └──► (stream lost, "not now")           └──► no room: refused for now, stream ends
//! ```
//!
//! Every conversation keeps its author's order, whatever is lost, repeated or late. A stream carries all queued
//! messages in order, from the oldest one. So each stream begins at or before the first message that the receiver
//! lacks, and leaves none out. A receiver that refuses a message for now takes none behind it from that stream.
//! Therefore a message that is new to the receiver is always the very next one, on any number of streams.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::UntrustedText;
use shared::limits::MAX_CHAT_TEXT_BYTES;
use shared::peer::{ChatMessage, ChatReply, MessageId, PeerErrorCode};

use super::{StoreOutcome, StoredMessage};

/// Messages of one stream that may be sent and not yet acked.
pub const MAX_IN_FLIGHT: usize = 64;
/// Time for the receiver to store and ack a message.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Replies in a row that match no message, or are of an unknown kind, before the stream is given up.
const MAX_STRAY_REPLIES: usize = 1024;
/// Time without an ack after which a message is shown as sent.
const SENT_REPORT_DELAY: Duration = Duration::from_millis(300);
/// Time after which a queued message expires: 14 days, in milliseconds.
const MESSAGE_TTL_MS: i64 = 14 * 24 * 3600 * 1000;

/// The messages of one stream that are sent and not yet acked.
#[derive(Debug, Default)]
pub struct SendWindow {
    /// The outbox place of the last message that was sent on this stream.
    last_sent_seq: i64,
    in_flight: VecDeque<InFlightMessage>,
    /// Stray replies since the last one that matched a message.
    stray_replies: usize,
}

#[derive(Debug)]
struct InFlightMessage {
    id: MessageId,
    sent_at: Instant,
    is_reported: bool,
}

/// The meaning of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The receiver has stored the message.
    Stored(MessageId),
    /// The receiver refuses the message for good.
    Rejected(MessageId, PeerErrorCode, UntrustedText),
    /// The receiver takes nothing for now: the stream ends, and the messages stay queued.
    Deferred(PeerErrorCode, UntrustedText),
    /// A stray reply, of which a few are allowed.
    Ignored,
    /// Too many stray replies in a row: the receiver doesn't speak the protocol.
    Flood,
}

impl SendWindow {
    /// Returns the number of further messages that may be sent.
    pub fn free_slots(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.in_flight.len())
    }

    /// Returns the outbox place behind which the next message to send is looked for.
    pub const fn last_sent_seq(&self) -> i64 {
        self.last_sent_seq
    }

    /// True if no message waits for its ack.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Records that a message was sent at `now`.
    pub fn note_sent(&mut self, message: &StoredMessage, now: Instant) {
        self.last_sent_seq = message.seq;
        self.in_flight.push_back(InFlightMessage { id: message.message.id, sent_at: now, is_reported: false });
    }

    /// Handles a reply.
    pub fn handle_reply(&mut self, reply: ChatReply) -> ReplyOutcome {
        let (id, outcome) = match reply {
            ChatReply::Ack { id } => (id, ReplyOutcome::Stored(id)),
            ChatReply::Refused { id, code, message } if code.is_temporary() => {
                (id, ReplyOutcome::Deferred(code, message))
            }
            ChatReply::Refused { id, code, message } => (id, ReplyOutcome::Rejected(id, code, message)),
            ChatReply::Unknown => return self.handle_stray_reply(),
        };
        // Only messages in flight here can be acked, or a peer could settle messages that it never got.
        match self.in_flight.iter().position(|flight| flight.id == id) {
            Some(at) => {
                self.in_flight.remove(at);
                self.stray_replies = 0;
                outcome
            }
            None => self.handle_stray_reply(),
        }
    }

    fn handle_stray_reply(&mut self) -> ReplyOutcome {
        self.stray_replies += 1;
        if self.stray_replies > MAX_STRAY_REPLIES { ReplyOutcome::Flood } else { ReplyOutcome::Ignored }
    }

    /// Returns the messages that have waited long enough for their acks to be shown as sent; each once.
    pub fn take_slow(&mut self, now: Instant) -> Vec<MessageId> {
        let slow =
            self.in_flight.iter_mut().filter(|flight| !flight.is_reported && now >= flight.sent_at + SENT_REPORT_DELAY);
        slow.map(|flight| {
            flight.is_reported = true;
            flight.id
        })
        .collect()
    }

    /// Returns the time at which [`SendWindow::take_slow`] or [`SendWindow::is_timed_out`] changes; `None` if idle.
    pub fn next_timeout(&self) -> Option<Instant> {
        let wake = |flight: &InFlightMessage| {
            flight.sent_at + if flight.is_reported { ACK_TIMEOUT } else { SENT_REPORT_DELAY }
        };
        self.in_flight.iter().map(wake).min()
    }

    /// True if the oldest message has waited for its ack longer than [`ACK_TIMEOUT`].
    pub fn is_timed_out(&self, now: Instant) -> bool {
        // Messages are sent in order, so the oldest is in front.
        self.in_flight.front().is_some_and(|oldest| now >= oldest.sent_at + ACK_TIMEOUT)
    }
}

/// Checks that a received message may be stored.
///
/// # Errors
/// The code and words of a refusal for good.
pub fn check_message(message: &ChatMessage) -> Result<(), (PeerErrorCode, String)> {
    if message.text.len() > MAX_CHAT_TEXT_BYTES {
        return Err((PeerErrorCode::Limit, format!("a message has at most {MAX_CHAT_TEXT_BYTES} bytes")));
    }
    if message.text.as_received().trim().is_empty() {
        return Err((PeerErrorCode::Protocol, "a message without text".to_owned()));
    }
    Ok(())
}

/// Returns the replies to messages with these store outcomes, in order, and whether the stream goes on.
pub fn replies_to(messages: &[ChatMessage], kept: &[StoreOutcome]) -> (Vec<ChatReply>, bool) {
    let reply = |(message, kept): (&ChatMessage, &StoreOutcome)| match kept {
        // A duplicate was stored earlier and its ack lost.
        StoreOutcome::New(_) | StoreOutcome::Duplicate => ChatReply::Ack { id: message.id },
        StoreOutcome::Full => ChatReply::Refused {
            id: message.id,
            code: PeerErrorCode::Busy,
            message: "too many of your messages are unread there: it is sent when they are read".into(),
        },
        StoreOutcome::StrangerQuotaFull => ChatReply::Refused {
            id: message.id,
            code: PeerErrorCode::Busy,
            message: "your messages are not accepted there yet: more are sent when they are".into(),
        },
    };
    let is_refused = kept.iter().any(|kept| matches!(kept, StoreOutcome::Full | StoreOutcome::StrangerQuotaFull));
    (messages.iter().zip(kept).map(reply).collect(), !is_refused)
}

/// Returns the time before which queued messages expire. Both times are milliseconds of
/// [`crate::profile::Profile::outbox_now`], a clock that jumps of the machine's clock don't affect.
pub const fn expiry_cutoff(now_ms: i64) -> i64 {
    now_ms.saturating_sub(MESSAGE_TTL_MS)
}

/// Returns the time that a message queued at `since_ms` has left, by the same clock.
pub fn time_left(since_ms: i64, now_ms: i64) -> Duration {
    let waited = now_ms.saturating_sub(since_ms).clamp(0, MESSAGE_TTL_MS);
    Duration::from_millis((MESSAGE_TTL_MS - waited).unsigned_abs())
}

#[cfg(test)]
mod tests;
