//! Chat: a message is stored by its author before it is sent, and acked by its receiver after it is stored there.
//!
//! ```text
//! author                                    receiver
//! stored in the outbox ── message ─────────► rate, size, blocked? ── stored (many with one write) ──► shown
//! state: sent                                   │
//! removed from the outbox      ◄──── ack ───────┘   or refused: for now (stays queued) or for good (given up)
//! ```
//!
//! [`delivery_state`] makes the decisions of both sides; it has no clock, disk or network of its own.

mod chat_receiver;
mod chat_sender;
pub mod delivery_state;

use localization::{in_english, tr};
use rand::Rng;
use serde::{Deserialize, Serialize};
use shared::limits::{MAX_CHAT_TEXT_BYTES, MAX_MESSAGES_PER_USER};
use shared::peer::{ChatMessage, FileOffer, FileSend, MessageId, PeerErrorCode, SendKind};
use shared::{RoomName, UserName};

pub use self::chat_receiver::{ChatRateLimiter, receive_messages};
pub use self::chat_sender::{ChatSender, SettledMessage};
use super::size_format::format_size;
use super::{Error, ErrorKind, LocalUser, now_ms, run_blocking};
use crate::net::{LinkError, StreamError};
use crate::profile::Profile;
pub use crate::profile::{
    ConversationName, ConversationStatus, DeliveryCount, HistoryQuery, MessageDirection, MessageState, QueuedMessage,
    RoomMessageDetails, StoreOutcome, StoredMessage, UnreadCount,
};
use crate::util::TranslatedText;
use crate::util::shell_words::shell_quote;

/// Returns a new message with this text.
///
/// # Errors
/// [`Error::Usage`] when the text is empty or too long.
pub fn compose(text: &str) -> Result<ChatMessage, Error> {
    // Lines from a pipe end in a line break, which is no part of the message.
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(Error::Usage(tr!("the message is empty")));
    }
    if text.len() > MAX_CHAT_TEXT_BYTES {
        let len = text.len();
        return Err(Error::Usage(tr!(
            "a message has at most {limit} bytes, this one has {len}: share it as a file",
            limit = MAX_CHAT_TEXT_BYTES,
            len
        )));
    }
    Ok(new_message(text.to_owned(), None))
}

/// Returns the message that announces an offered file.
pub fn compose_offer(me: &UserName, offer: FileOffer) -> ChatMessage {
    // The text is for people: it rounds the size, which is exact in the message's offer field.
    let (name, size) = (offer.name.as_str(), format_size(offer.size));
    let text = format!("offers {name} ({size}): peer fetch {}", shell_quote(&[me.as_str(), name]));
    new_message(text, Some(offer))
}

/// Returns the text by which the members of a room learn of a file that was shared with it.
pub fn room_offer_text(room: &RoomName, offer: &FileOffer) -> String {
    let (name, size) = (offer.name.as_str(), format_size(offer.size));
    format!("offers {name} ({size}): peer fetch {}", shell_quote(&[&format!("#{room}"), name]))
}

/// Returns the message that announces a send, with this id.
pub fn compose_send(me: &UserName, id: MessageId, send: FileSend) -> ChatMessage {
    // The receiver's language isn't known here, so what others get is English.
    let (what, fetch) = (in_english(|| describe_send(&send)), shell_quote(&[me.as_str(), &send.name_prefix()]));
    let text = format!("sends {what}: peer fetch {fetch}");
    let offer =
        (send.kind == SendKind::File).then(|| FileOffer { name: send.name.clone(), size: send.size, hash: send.hash });
    ChatMessage { id, send: Some(send), ..new_message(text, offer) }
}

/// Returns the text of the room's message that announces a send.
pub fn compose_room_send(room: &RoomName, send: &FileSend) -> String {
    let fetch = shell_quote(&[&format!("#{room}"), &send.name_prefix()]);
    format!("sends {}: peer fetch {fetch}", in_english(|| describe_send(send)))
}

/// Describes what is sent: its name, the number of files of a folder, the size. As it was received: the name is not made
/// safe here.
pub fn describe_send(send: &FileSend) -> String {
    let (name, size) = (send.name_prefix(), format_size(send.size));
    match (send.kind, send.files) {
        (SendKind::File, _) => format!("{name} ({size})"),
        (SendKind::Folder, files) => {
            tr!("{name} ({n} file, {size})" | "{name} ({n} files, {size})" % files, name, size)
        }
    }
}

fn new_message(text: String, offer: Option<FileOffer>) -> ChatMessage {
    let id = MessageId::from_bytes(rand::rng().random());
    ChatMessage { id, ts: now_ms(), text: text.into(), offer, send: None }
}

/// Stores an outgoing message in the outbox. A new one is passed to `on_stored`, even if this future is dropped
/// meanwhile. A message whose id is stored already is returned as it was stored.
///
/// # Errors
/// [`Error::OutboxFull`]; [`Error::Usage`] when another message has its id; an error of the profile.
pub async fn store_outgoing(
    me: &LocalUser,
    to: &UserName,
    message: ChatMessage,
    on_stored: impl FnOnce(&StoredMessage) + Send + 'static,
) -> Result<StoredMessage, Error> {
    if *to == me.user {
        return Err(Error::Usage(tr!("you can't message yourself")));
    }
    let (profile, peer) = (me.profile.clone(), to.clone());
    run_blocking(move || {
        let at = now_ms();
        match profile.store_outgoing(&peer, &message, at)? {
            StoreOutcome::New(seq) => {
                let (direction, state) = (MessageDirection::Out, MessageState::Waiting);
                let stored = StoredMessage { seq, peer, direction, message, state, at, room: None };
                on_stored(&stored);
                Ok(stored)
            }
            // Stranger quotas are for incoming messages; the outbox has only one bound.
            StoreOutcome::Full | StoreOutcome::StrangerQuotaFull => Err(Error::OutboxFull(MAX_MESSAGES_PER_USER, peer)),
            // A repeated request with the same id is the same message only if the text is equal.
            StoreOutcome::Duplicate => match profile.outgoing_message(&peer, message.id)? {
                Some(stored) if stored.message.text == message.text => Ok(stored),
                _ => Err(Error::Usage(tr!(
                    "the id {id} is that of another message to {user}",
                    id = message.id,
                    user = peer
                ))),
            },
        }
    })
    .await
}

/// Removes an outgoing message from the outbox, and withdraws its offer if the message was never sent. Returns false if
/// it wasn't queued any more.
pub async fn cancel_message(me: &LocalUser, to: &UserName, id: MessageId) -> Result<bool, Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    run_blocking(move || {
        // Read before the state changes, which tells whether the message was ever sent.
        let before = profile.outgoing_message(&to, id)?;
        if profile.record_delivery_states(&to, &[(id, MessageState::Dropped)])?.is_empty() {
            return Ok(false);
        }
        // A message that was sent may have arrived: its receiver may know the offer.
        let unsent = before.filter(|stored| stored.state == MessageState::Waiting);
        if let Some(offer) = unsent.and_then(|stored| stored.message.offer) {
            profile.withdraw_undelivered_offer(&to, &offer)?;
        }
        Ok(true)
    })
    .await
}

/// Gives up outgoing messages, and withdraws the offers that were never announced. Messages to a user who doesn't exist
/// are deleted, as nobody got them. Returns the ids of those that were given up. Blocking.
pub fn fail_messages(
    profile: &Profile,
    to: &UserName,
    messages: Vec<ChatMessage>,
    is_unknown_user: bool,
) -> Result<Vec<MessageId>, Error> {
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let given_up = if is_unknown_user {
        profile.retract_messages(to, &ids)?
    } else {
        let outcomes: Vec<_> = ids.iter().map(|id| (*id, MessageState::Failed)).collect();
        profile.record_delivery_states(to, &outcomes)?.into_iter().map(|(id, _)| id).collect()
    };
    for offer in messages.into_iter().filter_map(|message| message.offer) {
        profile.withdraw_undelivered_offer(to, &offer)?;
    }
    Ok(given_up)
}

/// The treatment of messages that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// They stay queued: the obstacle (a tracker that lost its accounts, a full disk) may pass.
    Retry,
    /// They stay queued until the user trusts the receiver's new key.
    AfterTrust,
    /// They are given up: the receiver refuses them for good, or doesn't exist.
    Never,
}

/// Returns the treatment of messages that failed with `error`. `is_key_recorded`: the receiver's key is on record.
pub const fn retry_policy(error: &Error, is_key_recorded: bool) -> RetryPolicy {
    match error {
        // Somebody who was met before exists, whatever a tracker says that may have lost its accounts.
        Error::UnknownUser(_) | Error::Unreachable(_) | Error::OfflineWithoutKey(_) if !is_key_recorded => {
            RetryPolicy::Never
        }
        Error::Link { source: LinkError::Refused { code: PeerErrorCode::Unauthorised, .. }, .. }
        | Error::Stream {
            source:
                StreamError::Refused { code: PeerErrorCode::Unauthorised, .. }
                | StreamError::Reset(PeerErrorCode::Unauthorised),
            ..
        } => RetryPolicy::Never,
        Error::PeerKeyChanged { .. } | Error::KeyOwnedByOther { .. } => RetryPolicy::AfterTrust,
        _ => RetryPolicy::Retry,
    }
}

/// Returns true if a key of `user` is on record.
pub async fn is_key_recorded(me: &LocalUser, user: &UserName) -> Result<bool, Error> {
    let (profile, user) = (me.profile.clone(), user.clone());
    run_blocking(move || Ok(profile.known_user(&user)?.is_some())).await
}

/// True if a message that could not be delivered may stay in the outbox. It may not after a fault of this machine's
/// disk, after a change of its receiver's key, nor if it isn't known whether the receiver exists.
pub const fn may_stay_queued(kind: ErrorKind, is_key_recorded: bool, is_key_changed: bool) -> bool {
    match kind {
        ErrorKind::Disk => false,
        // The receiver's key is unchanged: only another peer answered at the address, which says nothing.
        ErrorKind::IdentityChanged => !is_key_changed,
        ErrorKind::Unavailable => true,
        _ => is_key_recorded,
    }
}

/// The outcome of a message's first delivery attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// The message.
    pub message: ChatMessage,
    /// Stored by the recipient, or waiting.
    pub state: MessageState,
    /// The reason if it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<TranslatedText>,
}

/// Returns the report on a message that stays in the outbox.
///
/// # Errors
/// [`Error::Relayed`] when waiting alone doesn't help, and the user has to act.
pub fn queued_report(message: ChatMessage, kind: ErrorKind, why: TranslatedText) -> Result<DeliveryReport, Error> {
    if matches!(kind, ErrorKind::IdentityChanged | ErrorKind::NotLoggedIn) {
        return Err(Error::Relayed { kind, message: tr!("{why}\nThe message is queued: see `peer outbox`", why) });
    }
    Ok(DeliveryReport { message, state: MessageState::Waiting, why: Some(why) })
}

/// Adds to the error of a changed key that the message is not kept: after trusting a key, one might expect it to be
/// sent.
pub fn with_not_kept_hint(error: Error) -> Error {
    match error.kind() {
        kind @ ErrorKind::IdentityChanged => {
            let message = tr!("{error}\nThe message was not sent and is not kept: send it again after that", error);
            Error::Relayed { kind, message }
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_reads_as_a_command_that_works() {
        let offer = |name: &str| {
            let hash = shared::ContentHash::of(b"");
            let offer = FileOffer { name: name.parse().unwrap(), size: 5, hash };
            compose_offer(&"alice".parse().unwrap(), offer).text.into_received()
        };
        assert_eq!(offer("a/b.pdf"), "offers a/b.pdf (5 B): peer fetch alice a/b.pdf");
        assert_eq!(offer("it's $x"), r"offers it's $x (5 B): peer fetch alice 'it'\''s $x'");
    }
}
