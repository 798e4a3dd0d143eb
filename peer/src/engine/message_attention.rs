//! The messages for which the user is to be called: by the terminal's bell, or by the desktop.

use std::fmt;

use localization::tr;
use shared::names::name_encoding::display_name;
use shared::{RoomName, UntrustedText, UserName};

use super::LocalUser;
use super::chat::{ConversationName, ConversationStatus, describe_send};
use super::node_event::NodeEvent;
use super::size_format::format_size;
use crate::profile::{GuestIdentity, GuestPost};

/// A message to tell the user of at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionCall {
    /// The author.
    pub from: AttentionCaller,
    /// The text; for a stranger's request the words that it is one.
    pub text: UntrustedText,
    /// The room in which it was written.
    pub room: Option<RoomName>,
}

/// The author of a message that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttentionCaller {
    /// A user.
    User(UserName),
    /// A guest of a link.
    Guest(GuestIdentity),
}

impl AttentionCaller {
    /// Returns the user; `None` for a guest.
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::User(user) => Some(user),
            Self::Guest(_) => None,
        }
    }
}

impl fmt::Display for AttentionCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Guest(guest) => guest.fmt(f),
        }
    }
}

impl AttentionCall {
    /// Returns the call that an event makes: strangers call for their request only, not by each message, guests by their
    /// first message until they are answered, and rooms only by a mention. What is muted never calls.
    pub fn of_event(me: &LocalUser, event: &NodeEvent) -> Option<Self> {
        if let NodeEvent::GuestMessage(post) = event {
            return Self::of_guest(post);
        }
        if let Some((by, call)) = Self::of_wish(event) {
            return (!me.profile.is_muted(&(&by).into()).unwrap_or(false)).then_some(call);
        }
        let (from, text, room) = match event {
            NodeEvent::Received { from, message, .. } => {
                // In our words: the author's are for older peers.
                let sent = message.send.as_ref().map(|send| tr!("sends {what}", what = describe_send(send)).into());
                (from, sent.unwrap_or_else(|| message.text.clone()), None)
            }
            // Follows the stranger's messages, which made no call themselves.
            NodeEvent::ContactRequest { from } => (from, UntrustedText::from(tr!("wants to talk")), None),
            NodeEvent::RoomMessage(post) if post.mentions_me && post.from != me.user => {
                (&post.from, post.text.clone(), Some(post.room.clone()))
            }
            _ => return None,
        };
        let conversation: ConversationName = room.as_ref().map_or_else(|| from.into(), Into::into);
        // In doubt it calls: a message that nobody hears of is worse than a bell too many.
        if me.profile.is_muted(&conversation).unwrap_or(false) {
            return None;
        }
        let is_request = matches!(me.profile.conversation_status(from), Ok(ConversationStatus::Request(_)));
        let may_call = room.is_some() || is_request == matches!(event, NodeEvent::ContactRequest { .. });
        may_call.then(|| Self { from: AttentionCaller::User(from.clone()), text, room })
    }

    /// Returns the call of a guest's message.
    fn of_guest(post: &GuestPost) -> Option<Self> {
        let calls = !post.message.is_answer && (post.is_first || post.is_answered);
        let from = || AttentionCaller::Guest(post.who.clone());
        calls.then(|| Self { from: from(), text: post.message.text.clone(), room: None })
    }

    /// Returns the call of a file that the user wished for, and who shares it: when it can be fetched, or is there.
    fn of_wish(event: &NodeEvent) -> Option<(UserName, Self)> {
        let (file, text) = match event {
            NodeEvent::WishFound { file, is_fetched: false, .. } => {
                let (name, size) = (display_name(file.name.as_str()), format_size(file.size));
                (file, tr!("shares {name} ({size}), for which you wait", name, size))
            }
            NodeEvent::WishFetched { file, folder, .. } => {
                (file, tr!("{name} is in {folder}", name = display_name(file.name.as_str()), folder))
            }
            _ => return None,
        };
        let call = Self { from: AttentionCaller::User(file.by.clone()), text: text.into(), room: None };
        Some((file.by.clone(), call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::GuestMessage;

    #[test]
    fn a_guest_calls_once_until_it_is_answered() {
        let calls = |is_answer, is_first, is_answered| {
            let who = GuestIdentity { link: 3, guest: 1, name: "alice".parse().ok() };
            let message = GuestMessage { seq: 1, is_answer, at: 0, text: "hi".into() };
            AttentionCall::of_guest(&GuestPost { who, message, is_first, is_answered })
        };
        assert_eq!(calls(false, true, false).unwrap().from.to_string(), "guest 3.1 “alice”");
        assert_eq!((calls(false, false, false), calls(true, false, true)), (None, None));
        assert!(calls(false, false, true).is_some());
    }
}
