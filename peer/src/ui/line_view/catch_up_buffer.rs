//! Events held while a view loads the messages it missed. Pure.

use std::collections::HashMap;

use shared::peer::{FileOffer, MessageId};

use crate::ui::message_entry::MessageEntry;
use crate::ui::theme::DeliveryMark;

/// Messages and delivery states that arrived during a catch-up; they are shown after it.
#[derive(Debug, Default)]
pub(super) struct CatchUpBuffer {
    queued: Vec<(MessageEntry, Option<FileOffer>)>,
    /// Delivery states that may be newer than the loaded messages'.
    marks: HashMap<MessageId, DeliveryMark>,
}

impl CatchUpBuffer {
    pub(super) fn push(&mut self, entry: MessageEntry, offer: Option<&FileOffer>) {
        self.queued.push((entry, offer.cloned()));
    }

    pub(super) fn set_mark(&mut self, id: MessageId, mark: DeliveryMark) {
        self.marks.insert(id, mark);
    }

    /// Returns the entry with its latest delivery mark.
    pub(super) fn with_latest_mark(&self, entry: MessageEntry) -> MessageEntry {
        match self.marks.get(&entry.id) {
            Some(mark) if entry.is_mine() => MessageEntry { mark: *mark, ..entry },
            _ => entry,
        }
    }

    /// Returns the held entries after `last`, in order.
    pub(super) fn into_entries_after(mut self, last: i64) -> Vec<(MessageEntry, Option<FileOffer>)> {
        let mut held = std::mem::take(&mut self.queued);
        // A message up to there was loaded, and would be shown twice.
        held.retain(|(entry, _)| entry.seq > last);
        held.sort_by_key(|(entry, _)| entry.seq);
        held.into_iter().map(|(entry, offer)| (self.with_latest_mark(entry), offer)).collect()
    }
}
