//! Conversations: a message is stored by its author before it is sent, and acked by the other side after it is stored.
//!
//! ```text
//! author                                    receiver
//! stored, waits in the outbox ── message ──► rate, size, blocked? ── stored (many with one write) ──► shown
//! sent                                          │
//! out of the outbox            ◄──── ack ───────┘   or refused: now (it waits on) or for ever (it is given up)
//! ```
//!
//! [`ledger`] is the part of both that decides; it knows neither clock nor disk nor network.

pub mod ledger;
mod outgoing;
mod receive;
mod visit;

use rand::Rng;
use shared::UserName;
use shared::limits::{CHAT_TEXT_BYTES, MESSAGES_PER_PERSON};
use shared::peer::{ChatMessage, Code, MessageId, Offer};

pub use self::outgoing::{Outgoing, Settled};
pub use self::receive::{Intake, receive};
pub use self::visit::{Visit, unreachable_is_offline};
use super::amount::size;
use super::node::control::Delivery;
use super::{Error, ErrorKind, Me, blocking, now_ms, words};
use crate::net::{LinkError, StreamError};
use crate::profile::Profile;
pub use crate::profile::{Direction, HistoryQuery, Kept, MessageState, Standing, StoredMessage, Unread, Waiting};

/// Makes a message of a text.
///
/// # Errors
/// [`Error::Usage`] when it is empty or too long.
pub fn compose(text: &str) -> Result<ChatMessage, Error> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(Error::Usage("there is nothing to send".to_owned()));
    }
    if text.len() > CHAT_TEXT_BYTES {
        let len = text.len();
        return Err(Error::Usage(format!(
            "a message has at most {CHAT_TEXT_BYTES} bytes, this one has {len}: share it as a file"
        )));
    }
    Ok(message(text.to_owned(), None))
}

/// The line of a conversation that tells of a file.
pub fn compose_offer(me: &UserName, offer: Offer) -> ChatMessage {
    // For people; the exact size travels beside the text.
    let (name, size) = (offer.name.as_str(), size(offer.size));
    let text = format!("offers {name} ({size}): peer fetch {}", words(&[me.as_str(), name]));
    message(text, Some(offer))
}

fn message(text: String, offer: Option<Offer>) -> ChatMessage {
    ChatMessage { id: MessageId::from_bytes(rand::rng().random()), ts: now_ms(), text: text.into(), offer, room: None }
}

/// Stores a message of ours; from here on it waits. One that is new is told with `tell`, even if nobody waits for this any
/// more; one whose id is there already is given back as it was stored.
///
/// # Errors
/// [`Error::OutboxFull`], [`Error::Usage`] when another message has its id, or what is wrong with the profile.
pub async fn store_ours(
    me: &Me,
    to: &UserName,
    message: ChatMessage,
    tell: impl FnOnce(&StoredMessage) + Send + 'static,
) -> Result<StoredMessage, Error> {
    if *to == me.user {
        return Err(Error::Usage("that is you".to_owned()));
    }
    let (profile, peer) = (me.profile.clone(), to.clone());
    blocking(move || {
        let at = now_ms();
        match profile.store_ours(&peer, &message, at)? {
            Kept::New(seq) => {
                let (direction, state) = (Direction::Out, MessageState::Waiting);
                let stored = StoredMessage { seq, peer, direction, message, state, at };
                tell(&stored);
                Ok(stored)
            }
            Kept::Full | Kept::Unaccepted => Err(Error::OutboxFull(MESSAGES_PER_PERSON, peer)),
            Kept::Before => match profile.message_of_ours(&peer, message.id)? {
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
pub async fn take_out(me: &Me, to: &UserName, id: MessageId) -> Result<bool, Error> {
    let (profile, to) = (me.profile.clone(), to.clone());
    blocking(move || {
        let before = profile.message_of_ours(&to, id)?;
        if profile.settle(&to, &[(id, MessageState::Dropped)])?.is_empty() {
            return Ok(false);
        }
        // Of one that went out, its receiver may know.
        let unsent = before.filter(|stored| stored.state == MessageState::Waiting);
        if let Some(offer) = unsent.and_then(|stored| stored.message.offer) {
            profile.withdraw_untold(&to, &offer)?;
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
pub fn give_up(
    profile: &Profile,
    to: &UserName,
    messages: Vec<ChatMessage>,
    is_nobody: bool,
) -> Result<Vec<MessageId>, Error> {
    let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
    let given_up = if is_nobody {
        profile.forget_ours(to, &ids)?
    } else {
        let outcomes: Vec<_> = ids.iter().map(|id| (*id, MessageState::Failed)).collect();
        profile.settle(to, &outcomes)?.into_iter().map(|(id, _)| id).collect()
    };
    for offer in messages.into_iter().filter_map(|message| message.offer) {
        profile.withdraw_untold(to, &offer)?;
    }
    Ok(given_up)
}

/// What becomes of messages that could not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// They wait: whatever is in the way now, a tracker that lost its accounts, a disk that is full, may pass.
    Later,
    /// They wait until the user says that another key is right.
    WhenTrusted,
    /// They never will be: their receiver takes nothing from us, or there is nobody of that name.
    Never,
}

/// What becomes of messages that could not be delivered for this reason; `met`: their receiver's key is on record.
pub const fn prospect(error: &Error, met: bool) -> Prospect {
    match error {
        Error::UnknownUser(_) | Error::Unreachable(_) | Error::Keyless(_) if !met => Prospect::Never,
        Error::Link { source: LinkError::Refused { code: Code::Unauthorised, .. }, .. }
        | Error::Stream {
            source: StreamError::Answered { code: Code::Unauthorised, .. } | StreamError::Reset(Code::Unauthorised),
            ..
        } => Prospect::Never,
        Error::PeerChanged { .. } | Error::KeyOfAnother { .. } => Prospect::WhenTrusted,
        _ => Prospect::Later,
    }
}

/// Whether the key of `user` is on record.
///
/// # Errors
/// What is wrong with the profile.
pub async fn is_met(me: &Me, user: &UserName) -> Result<bool, Error> {
    let (profile, user) = (me.profile.clone(), user.clone());
    blocking(move || Ok(profile.friend(&user)?.is_some())).await
}

/// Whether a message that could not go for this reason stays in the outbox: not when something is wrong here, not when its
/// receiver's identity changed (`is_changed`), and not for somebody of whom nobody can say whether they exist.
pub const fn may_wait(kind: ErrorKind, met: bool, is_changed: bool) -> bool {
    match kind {
        ErrorKind::Disk => false,
        // Somebody else at their address takes nothing from what there is to say to them.
        ErrorKind::IdentityChanged => !is_changed,
        ErrorKind::Unavailable => true,
        _ => met,
    }
}

/// What is told of a message that stays in the outbox.
///
/// # Errors
/// [`Error::Told`] where waiting alone doesn't help: somebody has to look at it.
pub fn waits(message: ChatMessage, kind: ErrorKind, why: String) -> Result<Delivery, Error> {
    if matches!(kind, ErrorKind::IdentityChanged | ErrorKind::NotLoggedIn) {
        return Err(Error::Told { kind, message: format!("{why}\nThe message is queued: see `peer outbox`") });
    }
    Ok(Delivery { message, state: MessageState::Waiting, why: Some(why) })
}

/// Says of a message that was taken out of the outbox for this error that it isn't kept, where one might expect that: there
/// is something to be done first.
pub fn not_kept(error: Error) -> Error {
    match error.kind() {
        kind @ ErrorKind::IdentityChanged => {
            let message = format!("{error}\nThe message was not sent and is not kept: send it again after that");
            Error::Told { kind, message }
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
            let offer = Offer { name: name.parse().unwrap(), size: 5, hash };
            compose_offer(&"alice".parse().unwrap(), offer).text.into_received()
        };
        assert_eq!(offer("a/b.pdf"), "offers a/b.pdf (5 B): peer fetch alice a/b.pdf");
        assert_eq!(offer("it's $x"), r"offers it's $x (5 B): peer fetch alice 'it'\''s $x'");
    }
}
