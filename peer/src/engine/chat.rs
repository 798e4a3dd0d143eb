//! Conversations: a message is stored by its author before it is sent, and acked by the other side after it is stored.
//!
//! ```text
//! author                                    receiver
//! stored, waits in the outbox ── message ──► rate, size, blocked? ── stored (many with one write) ──► shown
//! sent                                          │
//! out of the outbox            ◄──── ack ───────┘   or refused: now (it waits on) or for ever (it is given up)
//! ```
//!
//! [`delivery_state`] is the part of both that decides; it knows neither clock nor disk nor network.

mod chat_receiver;
mod chat_sender;
pub mod delivery_state;
mod direct_delivery;

use rand::Rng;
use shared::UserName;
use shared::limits::{MAX_CHAT_TEXT_BYTES, MAX_MESSAGES_PER_USER};
use shared::peer::{ChatMessage, FileOffer, MessageId, PeerErrorCode};

pub use self::chat_receiver::{ChatRateLimiter, receive_messages};
pub use self::chat_sender::{ChatSender, SettledMessage};
pub use self::direct_delivery::{DirectDelivery, unreachable_is_offline};
use super::node::control::DeliveryReport;
use super::size_format::format_size;
use super::{Error, ErrorKind, LocalUser, now_ms, run_blocking, shell_quote};
use crate::net::{LinkError, StreamError};
use crate::profile::Profile;
pub use crate::profile::{
    ConversationStatus, HistoryQuery, MessageDirection, MessageState, QueuedMessage, StoreOutcome, StoredMessage,
    UnreadCount,
};

/// Makes a message of a text.
///
/// # Errors
/// [`Error::Usage`] when it is empty or too long.
pub fn compose(text: &str) -> Result<ChatMessage, Error> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(Error::Usage("there is nothing to send".to_owned()));
    }
    if text.len() > MAX_CHAT_TEXT_BYTES {
        let len = text.len();
        return Err(Error::Usage(format!(
            "a message has at most {MAX_CHAT_TEXT_BYTES} bytes, this one has {len}: share it as a file"
        )));
    }
    Ok(new_message(text.to_owned(), None))
}

/// The line of a conversation that tells of a file.
pub fn compose_offer(me: &UserName, offer: FileOffer) -> ChatMessage {
    // For people; the exact size travels beside the text.
    let (name, size) = (offer.name.as_str(), format_size(offer.size));
    let text = format!("offers {name} ({size}): peer fetch {}", shell_quote(&[me.as_str(), name]));
    new_message(text, Some(offer))
}

fn new_message(text: String, offer: Option<FileOffer>) -> ChatMessage {
    ChatMessage { id: MessageId::from_bytes(rand::rng().random()), ts: now_ms(), text: text.into(), offer, room: None }
}

/// Stores a message of ours; from here on it waits. One that is new is told with `tell`, even if nobody waits for this any
/// more; one whose id is there already is given back as it was stored.
///
/// # Errors
/// [`Error::OutboxFull`], [`Error::Usage`] when another message has its id, or what is wrong with the profile.
pub async fn store_outgoing(
    me: &LocalUser,
    to: &UserName,
    message: ChatMessage,
    on_stored: impl FnOnce(&StoredMessage) + Send + 'static,
) -> Result<StoredMessage, Error> {
    if *to == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    let (profile, peer) = (me.profile.clone(), to.clone());
    run_blocking(move || {
        let at = now_ms();
        match profile.store_outgoing(&peer, &message, at)? {
            StoreOutcome::New(seq) => {
                let (direction, state) = (MessageDirection::Out, MessageState::Waiting);
                let stored = StoredMessage { seq, peer, direction, message, state, at };
                on_stored(&stored);
                Ok(stored)
            }
            StoreOutcome::Full | StoreOutcome::StrangerQuotaFull => Err(Error::OutboxFull(MAX_MESSAGES_PER_USER, peer)),
            StoreOutcome::Duplicate => match profile.outgoing_message(&peer, message.id)? {
                Some(stored) if stored.message.text == message.text => Ok(stored),
                _ => Err(Error::Usage(format!("the id {} is that of another message to {peer}", message.id))),
            },
        }
    })
    .await
}

/// Takes one message of ours out of what waits, and with it an offer that was sent to nobody; false when it didn't wait any
/// more.
///
/// # Errors
/// What is wrong with the profile.
pub async fn cancel_message(me: &LocalUser, to: &UserName, id: MessageId) -> Result<bool, Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    run_blocking(move || {
        let before = profile.outgoing_message(&to, id)?;
        if profile.record_delivery_states(&to, &[(id, MessageState::Dropped)])?.is_empty() {
            return Ok(false);
        }
        // Of one that went out, its receiver may know.
        let unsent = before.filter(|stored| stored.state == MessageState::Waiting);
        if let Some(offer) = unsent.and_then(|stored| stored.message.offer) {
            profile.withdraw_undelivered_offer(&to, &offer)?;
        }
        Ok(true)
    })
    .await
}

/// Gives up messages of ours, and with them the offers of which nobody was told. Those to somebody who doesn't exist are
/// forgotten: nothing was said to anybody. Tells which were given up. Blocking.
///
/// # Errors
/// What is wrong with the profile.
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

/// What becomes of messages that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryPolicy {
    /// They wait: whatever is in the way now, a tracker that lost its accounts, a disk that is full, may pass.
    Retry,
    /// They wait until the user says that another key is right.
    AfterTrust,
    /// They never will be: their receiver takes nothing from us, or there is nobody of that name.
    Never,
}

/// What becomes of messages that could not be delivered for this reason; `met`: their receiver's key is on record.
pub const fn retry_policy(error: &Error, is_key_recorded: bool) -> RetryPolicy {
    match error {
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

/// Whether the key of `user` is on record.
///
/// # Errors
/// What is wrong with the profile.
pub async fn is_key_recorded(me: &LocalUser, user: &UserName) -> Result<bool, Error> {
    let (profile, user) = (me.profile.clone(), user.clone());
    run_blocking(move || Ok(profile.known_user(&user)?.is_some())).await
}

/// Whether a message that could not go for this reason stays in the outbox: not when something is wrong here, not when its
/// receiver's identity changed (`is_changed`), and not for somebody of whom nobody can say whether they exist.
pub const fn may_stay_queued(kind: ErrorKind, is_key_recorded: bool, is_key_changed: bool) -> bool {
    match kind {
        ErrorKind::Disk => false,
        // Somebody else at their address takes nothing from what there is to say to them.
        ErrorKind::IdentityChanged => !is_key_changed,
        ErrorKind::Unavailable => true,
        _ => is_key_recorded,
    }
}

/// What is told of a message that stays in the outbox.
///
/// # Errors
/// [`Error::Relayed`] where waiting alone doesn't help: somebody has to look at it.
pub fn queued_report(message: ChatMessage, kind: ErrorKind, why: String) -> Result<DeliveryReport, Error> {
    if matches!(kind, ErrorKind::IdentityChanged | ErrorKind::NotLoggedIn) {
        return Err(Error::Relayed { kind, message: format!("{why}\nThe message is queued: see `peer outbox`") });
    }
    Ok(DeliveryReport { message, state: MessageState::Waiting, why: Some(why) })
}

/// Says of a message that was taken out of the outbox for this error that it isn't kept, where one might expect that: there
/// is something to be done first.
pub fn with_not_kept_hint(error: Error) -> Error {
    match error.kind() {
        kind @ ErrorKind::IdentityChanged => {
            let message = format!("{error}\nThe message was not sent and is not kept: send it again after that");
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
