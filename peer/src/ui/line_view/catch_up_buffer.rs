//! Events held while a view loads the messages it missed. Pure.

use std::collections::HashMap;

use shared::peer::{FileOffer, MessageId};

use crate::engine::chat::StoredMessage;
use crate::ui::message_entry::MessageEntry;
use crate::ui::theme::DeliveryMark;

/// The origin of a new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageSource {
    /// An event of the node.
    Node,
    /// This view stored it itself.
    ThisView,
}

/// A new message that is held.
#[derive(Debug)]
pub(super) struct HeldMessage {
    pub(super) entry: MessageEntry,
    pub(super) offer: Option<FileOffer>,
    pub(super) source: MessageSource,
}

/// Messages and delivery states that arrived during a catch-up; they are shown after it.
#[derive(Debug)]
pub(super) struct CatchUpBuffer {
    /// The bound of the catch-up: only messages after this place.
    pub(super) after: i64,
    /// True if events were missed since the request: another one follows.
    pub(super) is_outdated: bool,
    held: Vec<HeldMessage>,
    /// Delivery states that may be newer than the loaded messages'.
    marks: HashMap<MessageId, DeliveryMark>,
    /// The pages of a room, the last one first: nothing is shown before its first one has come.
    pages: Vec<Vec<StoredMessage>>,
}

impl CatchUpBuffer {
    pub(super) fn new(after: i64) -> Self {
        Self { after, is_outdated: false, held: Vec::new(), marks: HashMap::new(), pages: Vec::new() }
    }

    pub(super) fn push(&mut self, held: HeldMessage) {
        self.held.push(held);
    }

    pub(super) fn push_page(&mut self, page: &[StoredMessage]) {
        self.pages.push(page.to_vec());
    }

    /// Removes and returns the messages of all pages, in their order.
    pub(super) fn take_pages(&mut self) -> Vec<StoredMessage> {
        std::mem::take(&mut self.pages).into_iter().rev().flatten().collect()
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

    /// Returns the held messages in the order of their places.
    pub(super) fn into_held(mut self) -> Vec<HeldMessage> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|held| held.entry.seq);
        held.into_iter().map(|held| HeldMessage { entry: self.with_latest_mark(held.entry.clone()), ..held }).collect()
    }
}
