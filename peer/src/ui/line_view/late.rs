//! What a view missed, until it has caught up with it. Pure.

use std::collections::HashMap;

use shared::peer::{ChatMessage, MessageId};

use crate::ui::entry::Entry;
use crate::ui::look::Mark;

/// What happens while the view catches up: it is shown behind that.
#[derive(Debug, Default)]
pub(super) struct Late {
    held: Vec<(Entry, ChatMessage)>,
    /// What became of messages whose state may have been looked up before.
    marks: HashMap<MessageId, Mark>,
}

impl Late {
    pub(super) fn hold(&mut self, entry: Entry, message: &ChatMessage) {
        self.held.push((entry, message.clone()));
    }

    pub(super) fn mark(&mut self, id: MessageId, mark: Mark) {
        self.marks.insert(id, mark);
    }

    /// The entry as it stands now.
    pub(super) fn newest(&self, entry: Entry) -> Entry {
        match self.marks.get(&entry.id) {
            Some(mark) if entry.mine => Entry { mark: *mark, ..entry },
            _ => entry,
        }
    }

    /// What came meanwhile and is behind `last`, in order.
    pub(super) fn rest(mut self, last: i64) -> Vec<(Entry, ChatMessage)> {
        let mut held = std::mem::take(&mut self.held);
        held.retain(|(entry, _)| entry.seq > last);
        held.sort_by_key(|(entry, _)| entry.seq);
        held.into_iter().map(|(entry, message)| (self.newest(entry), message)).collect()
    }
}
