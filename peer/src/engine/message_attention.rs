//! The messages for which the user is to be called: by the terminal's bell, or by the desktop.

use localization::tr;
use shared::names::name_encoding::display_name;
use shared::{RoomName, UntrustedText, UserName};

use super::LocalUser;
use super::chat::{ConversationName, ConversationStatus, describe_send};
use super::node_event::NodeEvent;
use super::size_format::format_size;

/// A message to tell the user of at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionCall {
    /// The author.
    pub from: UserName,
    /// The text; for a stranger's request the words that it is one.
    pub text: UntrustedText,
    /// The room in which it was written.
    pub room: Option<RoomName>,
}

impl AttentionCall {
    /// Returns the call that an event makes: strangers call for their request only, not by each message, and rooms only
    /// by a mention. What is muted never calls.
    pub fn of_event(me: &LocalUser, event: &NodeEvent) -> Option<Self> {
        if let Some(call) = Self::of_wish(event) {
            return (!me.profile.is_muted(&(&call.from).into()).unwrap_or(false)).then_some(call);
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
        may_call.then(|| Self { from: from.clone(), text, room })
    }

    /// Returns the call of a file that the user wished for: when it can be fetched, or is there.
    fn of_wish(event: &NodeEvent) -> Option<Self> {
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
        Some(Self { from: file.by.clone(), text: text.into(), room: None })
    }
}
