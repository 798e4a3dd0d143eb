//! Conversations with the guests of links: each browser session of a link has one, and all programs that send the token
//! have one together. They are stored before anybody is told of them; their bounds are those of the profile.

use localization::tr;
use shared::limits::MAX_CHAT_TEXT_BYTES;
use shared::peer::MessageId;

use super::{AdmittedGuest, GuestLinks};
use crate::engine::{Error, now_ms};
use crate::profile::{
    GuestChatBound, GuestConversation, GuestIdentity, GuestMessage, GuestMessageOutcome, GuestName, GuestNameError,
    GuestPost, NewGuestMessage, Profile,
};

/// The session under which all programs that send the token are on record.
const PROGRAMS: [u8; 32] = [0; 32];
/// Messages of a page, and bytes of their texts; as JSON a byte may become six.
const VIEW_LIMITS: (usize, usize) = (200, 128 << 10);
/// Messages that a stream has in memory at once.
const MAX_CONTINUATION: usize = 8;

/// A message of a guest, as it asks for it.
#[derive(Debug, Clone, Default)]
pub struct GuestMessageRequest {
    /// The text.
    pub text: String,
    /// The name that the guest gives itself; empty for none.
    pub name: String,
    /// The id by which a repeated request is known.
    pub id: Option<MessageId>,
}

/// A guest's own conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestChatView {
    /// The guest; `None` if it hasn't written.
    pub who: Option<GuestIdentity>,
    /// Its messages, the oldest first.
    pub messages: Vec<GuestMessage>,
}

/// The reason why a message of a guest isn't taken.
#[derive(Debug, thiserror::Error)]
pub enum GuestChatError {
    /// There is nothing in it.
    #[error("{}", tr!("the message is empty"))]
    Empty,
    /// It is longer than a message may be.
    #[error("{}", tr!("a message has at most {limit} bytes", limit = MAX_CHAT_TEXT_BYTES))]
    TooLong,
    /// The name can't be used.
    #[error(transparent)]
    Name(#[from] GuestNameError),
    /// The user has to answer first.
    #[error("{}", tr!("that is all that can be left without an answer: wait for one"))]
    Unanswered,
    /// The conversation, or the link, has no room.
    #[error("{}", tr!("there is no room for more messages here: ask for a new link"))]
    Full,
    /// The link is gone, or takes no messages.
    #[error("{}", tr!("nobody takes messages here"))]
    NoChat,
    /// A fault of this machine.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl AdmittedGuest {
    /// Returns the session under which its conversation is on record.
    fn chat_session(&self) -> [u8; 32] {
        self.session.map_or(PROGRAMS, |session| session.claim())
    }
}

impl GuestLinks {
    /// Stores a message of a guest, and wakes whoever waits for it. A repeated request finds its message; then `false` is
    /// returned with it.
    pub fn post_message(
        &self,
        guest: &AdmittedGuest,
        network: &str,
        request: &GuestMessageRequest,
    ) -> Result<(GuestPost, bool), GuestChatError> {
        let text = checked_text(&request.text)?;
        let name = match request.name.trim() {
            "" => None,
            name => Some(name.parse::<GuestName>()?),
        };
        let session = guest.chat_session();
        let new = NewGuestMessage {
            session: &session,
            network,
            name: name.as_ref(),
            id: request.id,
            text: &text,
            at: now_ms(),
        };
        match self.profile.add_guest_message(guest.link.number, new).map_err(Error::from)? {
            GuestMessageOutcome::Stored(post) => {
                self.chat_signal.send(Some((post.who.link, post.who.guest)));
                Ok((post, true))
            }
            GuestMessageOutcome::Known(post) => Ok((post, false)),
            GuestMessageOutcome::Refused(GuestChatBound::Unanswered) => Err(GuestChatError::Unanswered),
            GuestMessageOutcome::Refused(GuestChatBound::Conversations | GuestChatBound::Full) => {
                Err(GuestChatError::Full)
            }
            GuestMessageOutcome::NoChat => Err(GuestChatError::NoChat),
        }
    }

    /// Returns the last messages of a guest's own conversation after a place, as many as a page shows.
    pub fn chat_view(&self, guest: &AdmittedGuest, after: i64) -> Result<GuestChatView, Error> {
        let link = guest.link.number;
        let Some(who) = self.profile.guest_by_session(link, &guest.chat_session())? else {
            return Ok(GuestChatView::default());
        };
        let messages = self.profile.latest_guest_messages((link, who.guest), after, VIEW_LIMITS)?;
        Ok(GuestChatView { who: Some(who), messages })
    }

    /// Returns the next messages of a guest's own conversation after a place, few enough for memory.
    pub fn chat_continuation(&self, guest: &AdmittedGuest, after: i64) -> Result<GuestChatView, Error> {
        let link = guest.link.number;
        let Some(who) = self.profile.guest_by_session(link, &guest.chat_session())? else {
            return Ok(GuestChatView::default());
        };
        let messages = self.profile.guest_messages((link, who.guest), after, MAX_CONTINUATION)?;
        Ok(GuestChatView { who: Some(who), messages })
    }

    /// Stores an answer of the user, and wakes the guest's browser.
    ///
    /// # Errors
    /// As [`answer_guest`].
    pub fn answer(&self, conversation: (i64, i64), text: &str) -> Result<GuestPost, Error> {
        let post = answer_guest(&self.profile, conversation, text)?;
        self.chat_signal.send(Some(conversation));
        Ok(post)
    }

    /// Returns the conversations of a link.
    pub fn conversations(&self, link: i64) -> Result<Vec<GuestConversation>, Error> {
        Ok(self.profile.guest_conversations(link)?)
    }

    /// Returns the place of the last message at a link, which another process may have stored.
    pub fn last_message(&self, link: i64) -> Result<i64, Error> {
        Ok(self.profile.last_guest_message(link)?)
    }
}

/// Stores an answer of the user in a conversation.
///
/// # Errors
/// [`Error::Usage`] if the text is empty or too long, or there is no such conversation.
pub fn answer_guest(profile: &Profile, (link, guest): (i64, i64), text: &str) -> Result<GuestPost, Error> {
    let text = checked_text(text).map_err(|why| Error::Usage(why.to_string()))?;
    profile.add_guest_answer((link, guest), &text, now_ms())?.ok_or_else(|| {
        Error::Usage(tr!("there is no guest {link}.{guest}: `peer link chat {link}` shows who wrote", link, guest))
    })
}

/// Returns a text without the line breaks at its end; forms send CR LF for each line break.
fn checked_text(text: &str) -> Result<String, GuestChatError> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(GuestChatError::Empty);
    }
    let text = text.replace("\r\n", "\n");
    if text.len() > MAX_CHAT_TEXT_BYTES { Err(GuestChatError::TooLong) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_as_it_is_stored() {
        assert_eq!(checked_text("a\r\nb\r\n").unwrap(), "a\nb");
        for empty in ["", " \n\t", "\r\n"] {
            assert!(matches!(checked_text(empty), Err(GuestChatError::Empty)));
        }
        // The form counts its line breaks twice.
        let lines = "x\r\n".repeat(MAX_CHAT_TEXT_BYTES / 2);
        assert_eq!(checked_text(&lines).unwrap().len(), MAX_CHAT_TEXT_BYTES - 1);
        assert!(matches!(checked_text(&"x".repeat(MAX_CHAT_TEXT_BYTES + 1)), Err(GuestChatError::TooLong)));
    }
}
