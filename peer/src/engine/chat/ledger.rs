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
use shared::limits::CHAT_TEXT_BYTES;
use shared::peer::{ChatMessage, ChatReply, Code, MessageId};

use super::{Kept, StoredMessage};

/// Messages under way on one stream.
pub const WINDOW: usize = 64;
/// How long the other side may take to store a message.
pub const ACK: Duration = Duration::from_secs(10);
/// Replies to nothing, or of a kind that this version doesn't know, that are taken one after another.
const IDLE_REPLIES: usize = 1024;
/// A message that is not acked so soon is shown as sent.
const SENT_AFTER: Duration = Duration::from_millis(300);
/// How long a message waits before it is given up: 14 days, in milliseconds.
const KEPT_MS: i64 = 14 * 24 * 3600 * 1000;

/// One stream's sending half: which messages are under way.
#[derive(Debug, Default)]
pub struct Sending {
    /// The place of the last message that was sent on this stream.
    after: i64,
    flight: VecDeque<Flight>,
    /// Replies that meant nothing since the last that did.
    idle_replies: usize,
}

#[derive(Debug)]
struct Flight {
    id: MessageId,
    sent: Instant,
    told: bool,
}

/// What a reply means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The other side has it.
    Stored(MessageId),
    /// The other side will never take it.
    Failed(MessageId, Code, UntrustedText),
    /// The other side takes nothing now: this stream is over, what waits waits on.
    NotNow(Code, UntrustedText),
    /// Nothing that matters.
    Nothing,
    /// Too many that mean nothing came one after another: the other side doesn't speak the protocol.
    Flood,
}

impl Sending {
    /// How many more messages may be under way.
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.flight.len())
    }

    /// The next message to be sent is the first that waits after this place.
    pub const fn after(&self) -> i64 {
        self.after
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.flight.is_empty()
    }

    /// A message is sent now.
    pub fn send(&mut self, message: &StoredMessage, now: Instant) {
        self.after = message.seq;
        self.flight.push_back(Flight { id: message.message.id, sent: now, told: false });
    }

    /// A reply came.
    pub fn reply(&mut self, reply: ChatReply) -> Outcome {
        let (id, outcome) = match reply {
            ChatReply::Ack { id } => (id, Outcome::Stored(id)),
            ChatReply::Refused { id, code, message } if code.is_for_now() => (id, Outcome::NotNow(code, message)),
            ChatReply::Refused { id, code, message } => (id, Outcome::Failed(id, code, message)),
            ChatReply::Unknown => return self.idle_reply(),
        };
        // Only what is under way here can be acked here, whatever the other side says.
        match self.flight.iter().position(|flight| flight.id == id) {
            Some(at) => {
                self.flight.remove(at);
                self.idle_replies = 0;
                outcome
            }
            None => self.idle_reply(),
        }
    }

    fn idle_reply(&mut self) -> Outcome {
        self.idle_replies += 1;
        if self.idle_replies > IDLE_REPLIES { Outcome::Flood } else { Outcome::Nothing }
    }

    /// The messages that have been under way for so long that it is worth saying; each once.
    pub fn slow(&mut self, now: Instant) -> Vec<MessageId> {
        let slow = self.flight.iter_mut().filter(|flight| !flight.told && now >= flight.sent + SENT_AFTER);
        slow.map(|flight| {
            flight.told = true;
            flight.id
        })
        .collect()
    }

    /// When [`Sending::slow`] or [`Sending::is_lost`] will have something to say.
    pub fn wake_at(&self) -> Option<Instant> {
        let wake = |flight: &Flight| flight.sent + if flight.told { ACK } else { SENT_AFTER };
        self.flight.iter().map(wake).min()
    }

    /// Whether the other side takes longer than anybody may.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.flight.front().is_some_and(|oldest| now >= oldest.sent + ACK)
    }
}

/// Whether a message can be kept at all.
///
/// # Errors
/// A code and words for its author; it is refused for ever.
pub fn admit(message: &ChatMessage) -> Result<(), (Code, String)> {
    if message.text.len() > CHAT_TEXT_BYTES {
        return Err((Code::Limit, format!("a message has at most {CHAT_TEXT_BYTES} bytes")));
    }
    if message.text.as_received().trim().is_empty() {
        return Err((Code::Protocol, "a message without text".to_owned()));
    }
    Ok(())
}

/// The replies to messages of which this was kept, in their order, and whether the stream goes on.
pub fn replies(messages: &[ChatMessage], kept: &[Kept]) -> (Vec<ChatReply>, bool) {
    let reply = |(message, kept): (&ChatMessage, &Kept)| match kept {
        Kept::New(_) | Kept::Before => ChatReply::Ack { id: message.id },
        Kept::Full => ChatReply::Refused {
            id: message.id,
            code: Code::Busy,
            message: "too much of yours is unread there: it can go when that was read".into(),
        },
        Kept::Unaccepted => ChatReply::Refused {
            id: message.id,
            code: Code::Busy,
            message: "your messages are not accepted there yet: more can go when they are".into(),
        },
    };
    let is_refused = kept.iter().any(|kept| matches!(kept, Kept::Full | Kept::Unaccepted));
    (messages.iter().zip(kept).map(reply).collect(), !is_refused)
}

/// What waits since before this is given up; both by the clock of [`crate::profile::Profile::outbox_now`], which a
/// machine's clock that jumps takes nowhere, in milliseconds.
pub const fn given_up_before(now_ms: i64) -> i64 {
    now_ms.saturating_sub(KEPT_MS)
}

/// How long something that waits since then may still wait, by the same clock.
pub fn time_left(since_ms: i64, now_ms: i64) -> Duration {
    let waited = now_ms.saturating_sub(since_ms).clamp(0, KEPT_MS);
    Duration::from_millis((KEPT_MS - waited).unsigned_abs())
}

/// Pauses between attempts that grow, and are never the same for all who wait.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(2);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Short pauses at first.
    pub const fn new() -> Self {
        Self::between(Self::FIRST, Self::LONGEST)
    }

    /// From `first`, doubled until it is `longest`.
    pub const fn between(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause; `chance` is from 0 to 1.
    pub fn pause(&mut self, chance: f64) -> Duration {
        let pause = self.next.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(self.longest);
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
