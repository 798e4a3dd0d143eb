//! What was said to a node that ended before it told whether it stored that. Pure.

use shared::UserName;

use crate::engine::chat::{Direction, StoredMessage};

/// Things said, in their order.
#[derive(Debug, Default)]
pub(super) struct Unsaid {
    waiting: Vec<(UserName, String)>,
    /// The place of the last message that is known to be stored.
    last: i64,
    /// The same when the first of these was said.
    since: i64,
}

impl Unsaid {
    /// A message is known to be stored.
    pub(super) fn stored(&mut self, seq: i64) {
        self.last = self.last.max(seq);
    }

    /// Whatever of it is stored is behind this place.
    pub(super) const fn since(&self) -> i64 {
        self.since
    }

    /// It may be stored, or not.
    pub(super) fn push(&mut self, to: UserName, text: String) {
        if self.waiting.is_empty() {
            self.since = self.last;
        }
        self.waiting.push((to, text));
    }

    /// Whether there is nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What was not stored and is to be said again, given the messages behind [`Unsaid::since`].
    pub(super) fn take(&mut self, stored: &[StoredMessage]) -> Vec<(UserName, String)> {
        let mut ours: Vec<&StoredMessage> =
            stored.iter().filter(|stored| stored.direction == Direction::Out && stored.seq > self.since).collect();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(to, text)| {
            // As it is composed, without its line end.
            let text = text.trim_end_matches(['\r', '\n']);
            let place = ours.iter().position(|stored| stored.peer == *to && stored.message.text == text);
            place.map(|place| ours.remove(place)).is_none()
        });
        waiting
    }
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, MessageId};

    use super::*;
    use crate::engine::chat::MessageState;

    fn stored(seq: i64, text: &str) -> StoredMessage {
        let id = MessageId::from_bytes(i128::from(seq).to_be_bytes());
        let message = ChatMessage { id, ts: 0, text: text.to_owned(), offer: None, room: None };
        let (direction, state) = (Direction::Out, MessageState::Waiting);
        StoredMessage { seq, peer: "bob".parse().unwrap(), direction, message, state, at: 0 }
    }

    #[test]
    fn only_what_was_not_stored_is_said_again() {
        let bob: UserName = "bob".parse().unwrap();
        let mut unsaid = Unsaid::default();
        unsaid.stored(5);
        for text in ["ok", "ok", "and\n", "so on"] {
            unsaid.push(bob.clone(), text.to_owned());
        }
        // Also what happens before it is looked at.
        unsaid.stored(8);
        let there = [stored(4, "so on"), stored(6, "ok"), stored(7, "and")];
        assert_eq!(unsaid.take(&there), [(bob.clone(), "ok".to_owned()), (bob, "so on".to_owned())]);
        assert!(unsaid.is_empty());
    }
}
