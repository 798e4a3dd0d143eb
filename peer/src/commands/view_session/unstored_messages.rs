//! Messages that no node is known to have stored, in the order in which they were written. No I/O.

use std::collections::VecDeque;

use shared::UserName;
use shared::peer::{ChatMessage, MessageId};

/// A queue of messages that are still to be stored. To store one twice is harmless: its id identifies it.
#[derive(Debug, Default)]
pub(super) struct UnstoredMessages {
    queue: VecDeque<(UserName, ChatMessage)>,
}

impl UnstoredMessages {
    /// Adds a message behind the others.
    pub(super) fn push(&mut self, to: UserName, message: ChatMessage) {
        self.queue.push_back((to, message));
    }

    /// Adds messages that were written before the others, in their order.
    pub(super) fn prepend(&mut self, earlier: Vec<(UserName, ChatMessage)>) {
        earlier.into_iter().rev().for_each(|message| self.queue.push_front(message));
    }

    /// Returns the message that is to be stored next.
    pub(super) fn first(&self) -> Option<&(UserName, ChatMessage)> {
        self.queue.front()
    }

    /// Removes a message that is stored, or that can't ever be.
    pub(super) fn remove(&mut self, id: MessageId) {
        self.queue.retain(|(_, message)| message.id != id);
    }

    /// True if no message is left to store.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_writing() {
        let bob: UserName = "bob".parse().unwrap();
        let message = |byte: u8| {
            let id = MessageId::from_bytes([byte; 16]);
            (bob.clone(), ChatMessage { id, ts: 0, text: byte.to_string().into(), offer: None, send: None })
        };
        let mut unsaid = UnstoredMessages::default();
        let (to, third) = message(3);
        unsaid.push(to, third);
        // The node ended without an answer to these.
        unsaid.prepend(vec![message(1), message(2)]);
        unsaid.remove(message(2).1.id);
        let mut order = Vec::new();
        while let Some((_, first)) = unsaid.first().cloned() {
            order.push(first.text);
            unsaid.remove(first.id);
        }
        assert_eq!(order, ["1", "3"]);
        assert!(unsaid.is_empty());
    }
}
