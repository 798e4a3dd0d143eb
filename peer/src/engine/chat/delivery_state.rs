//! What may be sent, and what a reply means. Pure: messages, replies and `now` come in, decisions go out.
//!
//! ```text
//! ours    stored ──► sent ──► stored there        theirs    received ──► stored ──► acked
//!            ▲          │ ├──► refused for ever                   ├──► known: acked again, not shown again
//!            └──────────┘ └──► (stream lost, "not now")           └──► no room: refused for now, stream over
//! ```
//!
//! Why every conversation keeps its author's order, whatever is lost, repeated or late: a stream carries, from the oldest
//! message that waits, all of them in order. So each stream begins at or before the first message that the receiver
//! lacks, and leaves none out; and a receiver that refuses one for now takes none behind it from that stream. Therefore
//! what is new to the receiver is always the very next one, on however many streams it comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use shared::UntrustedText;
use shared::limits::MAX_CHAT_TEXT_BYTES;
use shared::peer::{ChatMessage, ChatReply, MessageId, PeerErrorCode};

use super::{StoreOutcome, StoredMessage};

/// Messages under way on one stream.
pub const MAX_IN_FLIGHT: usize = 64;
/// How long the other side may take to store a message.
pub const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Replies to nothing, or of a kind that this version doesn't know, that are taken one after another.
const MAX_STRAY_REPLIES: usize = 1024;
/// A message that is not acked so soon is shown as sent.
const SENT_REPORT_DELAY: Duration = Duration::from_millis(300);
/// How long a message waits before it is given up: 14 days, in milliseconds.
const MESSAGE_TTL_MS: i64 = 14 * 24 * 3600 * 1000;

/// One stream's sending half: which messages are under way.
#[derive(Debug, Default)]
pub struct SendWindow {
    /// The place of the last message that was sent on this stream.
    last_sent_seq: i64,
    in_flight: VecDeque<InFlightMessage>,
    /// Replies that meant nothing since the last that did.
    stray_replies: usize,
}

#[derive(Debug)]
struct InFlightMessage {
    id: MessageId,
    sent_at: Instant,
    is_reported: bool,
}

/// What a reply means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The other side has it.
    Stored(MessageId),
    /// The other side will never take it.
    Rejected(MessageId, PeerErrorCode, UntrustedText),
    /// The other side takes nothing now: this stream is over, what waits waits on.
    Deferred(PeerErrorCode, UntrustedText),
    /// Nothing that matters.
    Ignored,
    /// Too many that mean nothing came one after another: the other side doesn't speak the protocol.
    Flood,
}

impl SendWindow {
    /// How many more messages may be under way.
    pub fn free_slots(&self) -> usize {
        MAX_IN_FLIGHT.saturating_sub(self.in_flight.len())
    }

    /// The next message to be sent is the first that waits after this place.
    pub const fn last_sent_seq(&self) -> i64 {
        self.last_sent_seq
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// A message is sent now.
    pub fn note_sent(&mut self, message: &StoredMessage, now: Instant) {
        self.last_sent_seq = message.seq;
        self.in_flight.push_back(InFlightMessage { id: message.message.id, sent_at: now, is_reported: false });
    }

    /// A reply came.
    pub fn handle_reply(&mut self, reply: ChatReply) -> ReplyOutcome {
        let (id, outcome) = match reply {
            ChatReply::Ack { id } => (id, ReplyOutcome::Stored(id)),
            ChatReply::Refused { id, code, message } if code.is_temporary() => {
                (id, ReplyOutcome::Deferred(code, message))
            }
            ChatReply::Refused { id, code, message } => (id, ReplyOutcome::Rejected(id, code, message)),
            ChatReply::Unknown => return self.handle_stray_reply(),
        };
        // Only what is under way here can be acked here, whatever the other side says.
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

    /// The messages that have been under way for so long that it is worth saying; each once.
    pub fn take_slow(&mut self, now: Instant) -> Vec<MessageId> {
        let slow =
            self.in_flight.iter_mut().filter(|flight| !flight.is_reported && now >= flight.sent_at + SENT_REPORT_DELAY);
        slow.map(|flight| {
            flight.is_reported = true;
            flight.id
        })
        .collect()
    }

    /// When [`SendWindow::take_slow`] or [`SendWindow::is_timed_out`] will have something to say.
    pub fn next_timeout(&self) -> Option<Instant> {
        let wake = |flight: &InFlightMessage| {
            flight.sent_at + if flight.is_reported { ACK_TIMEOUT } else { SENT_REPORT_DELAY }
        };
        self.in_flight.iter().map(wake).min()
    }

    /// Whether the other side takes longer than anybody may.
    pub fn is_timed_out(&self, now: Instant) -> bool {
        self.in_flight.front().is_some_and(|oldest| now >= oldest.sent_at + ACK_TIMEOUT)
    }
}

/// Whether a message can be kept at all.
///
/// # Errors
/// A code and words for its author; it is refused for ever.
pub fn check_message(message: &ChatMessage) -> Result<(), (PeerErrorCode, String)> {
    if message.text.len() > MAX_CHAT_TEXT_BYTES {
        return Err((PeerErrorCode::Limit, format!("a message has at most {MAX_CHAT_TEXT_BYTES} bytes")));
    }
    if message.text.as_received().trim().is_empty() {
        return Err((PeerErrorCode::Protocol, "a message without text".to_owned()));
    }
    Ok(())
}

/// The replies to messages of which this was kept, in their order, and whether the stream goes on.
pub fn replies_to(messages: &[ChatMessage], kept: &[StoreOutcome]) -> (Vec<ChatReply>, bool) {
    let reply = |(message, kept): (&ChatMessage, &StoreOutcome)| match kept {
        StoreOutcome::New(_) | StoreOutcome::Duplicate => ChatReply::Ack { id: message.id },
        StoreOutcome::Full => ChatReply::Refused {
            id: message.id,
            code: PeerErrorCode::Busy,
            message: "too much of yours is unread there: it can go when that was read".into(),
        },
        StoreOutcome::StrangerQuotaFull => ChatReply::Refused {
            id: message.id,
            code: PeerErrorCode::Busy,
            message: "your messages are not accepted there yet: more can go when they are".into(),
        },
    };
    let is_refused = kept.iter().any(|kept| matches!(kept, StoreOutcome::Full | StoreOutcome::StrangerQuotaFull));
    (messages.iter().zip(kept).map(reply).collect(), !is_refused)
}

/// What waits since before this is given up; both by the clock of [`crate::profile::Profile::outbox_now`], which a
/// machine's clock that jumps takes nowhere, in milliseconds.
pub const fn expiry_cutoff(now_ms: i64) -> i64 {
    now_ms.saturating_sub(MESSAGE_TTL_MS)
}

/// How long something that waits since then may still wait, by the same clock.
pub fn time_left(since_ms: i64, now_ms: i64) -> Duration {
    let waited = now_ms.saturating_sub(since_ms).clamp(0, MESSAGE_TTL_MS);
    Duration::from_millis((MESSAGE_TTL_MS - waited).unsigned_abs())
}

/// Pauses between attempts that grow, and are never the same for all who wait.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const MIN_DELAY: Duration = Duration::from_secs(2);
    const MAX_DELAY: Duration = Duration::from_secs(300);

    /// Short pauses at first.
    pub const fn new() -> Self {
        Self::with_bounds(Self::MIN_DELAY, Self::MAX_DELAY)
    }

    /// From `first`, doubled until it is `longest`.
    pub const fn with_bounds(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The next pause; `chance` is from 0 to 1.
    pub fn next_delay(&mut self, jitter: f64) -> Duration {
        let pause = self.next.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
