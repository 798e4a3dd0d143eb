//! Arriving messages, missed messages and delivery states, for the line view. Pure.

use shared::peer::{ChatMessage, MessageId};

use super::{LineViewModel, ScrollbackItem, UndeliveredMessage};
use crate::engine::chat::StoredMessage;
use crate::ui::message_entry::MessageEntry;
use crate::ui::theme::DeliveryMark;
use crate::ui::view::{MAX_CATCH_UP_MESSAGES, ViewCommand};

impl LineViewModel {
    /// Shows a new message, or holds it while missed messages are being loaded.
    pub(super) fn receive_message(&mut self, entry: MessageEntry, message: &ChatMessage) -> Vec<ViewCommand> {
        if let Some(late) = &mut self.catch_up {
            late.push(entry, message);
            return Vec::new();
        }
        // A message can arrive as an event after a catch-up has shown it.
        if entry.seq <= self.last_seq {
            return Vec::new();
        }
        let is_theirs = !entry.is_mine;
        self.show_message(entry, message);
        if is_theirs { self.mark_read() } else { Vec::new() }
    }

    pub(super) fn show_message(&mut self, entry: MessageEntry, message: &ChatMessage) {
        let is_theirs = !entry.is_mine;
        self.show_entry(entry);
        if let Some(offer) = message.offer.as_ref().filter(|_| is_theirs) {
            self.show_offer(offer.name.as_str(), offer.size);
        }
    }

    pub(super) fn mark_read(&self) -> Vec<ViewCommand> {
        // Marking as read means everything up to a sequence number, so a gap before the shown part forbids
        // it.
        if self.first_unseen.is_some() {
            return Vec::new();
        }
        vec![ViewCommand::MarkRead { with: self.with.clone(), up_to: self.last_seq }]
    }

    /// Requests messages after the last shown one, and the states of the unacked ones.
    pub(super) fn request_catch_up(&mut self) -> ViewCommand {
        self.catch_up.get_or_insert_default();
        // Starts before the oldest unacked message: its state may have changed unseen.
        let open = self.undelivered.values().map(|open| open.seq - 1).min();
        ViewCommand::CatchUp {
            with: self.with.clone(),
            after: open.map_or(self.last_seq, |open| open.min(self.last_seq)),
        }
    }

    pub(super) fn handle_catch_up(&mut self, messages: &[StoredMessage]) -> Vec<ViewCommand> {
        // Overlapping requests: the first answer was complete, the second finds no buffer.
        let Some(late) = self.catch_up.take() else { return Vec::new() };
        for stored in messages {
            let entry = late.with_latest_mark(MessageEntry::from_stored(stored));
            if entry.seq > self.last_seq {
                self.show_message(entry, &stored.message);
            } else if self.undelivered.contains_key(&entry.id) {
                self.settle(entry.id, entry.mark, None);
            }
        }
        // A full page: there may be more. New events stay held until the last page has come.
        if let (true, Some(last)) = (messages.len() >= MAX_CATCH_UP_MESSAGES, messages.last()) {
            self.catch_up = Some(late);
            return vec![ViewCommand::CatchUp { with: self.with.clone(), after: last.seq }];
        }
        for (entry, message) in late.into_entries_after(self.last_seq) {
            self.show_message(entry, &message);
        }
        self.mark_read()
    }

    pub(super) fn settle(&mut self, id: MessageId, mark: DeliveryMark, why: Option<&str>) {
        // The answer to a catch-up may be older than this event; the buffer keeps the later state.
        if let Some(late) = &mut self.catch_up {
            late.set_mark(id, mark);
        }
        let is_open = matches!(mark, DeliveryMark::Waiting | DeliveryMark::Sent);
        let known = if is_open { self.undelivered.get(&id).copied() } else { self.undelivered.remove(&id) };
        match known {
            Some(open) => self.update_mark(id, mark, open),
            // An unknown id belongs to a message that is older than the shown ones.
            None if !is_open => self.undelivered_before = self.undelivered_before.saturating_sub(1),
            None => {}
        }
        if mark == DeliveryMark::Failed {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            self.pending_items.push(ScrollbackItem::Problem(format!("not delivered{why}")));
        } else if mark == DeliveryMark::Stored {
            // An ack proves that deliveries to this user work again.
            self.frozen = false;
        }
    }

    /// Changes a mark: in the pending entry, or by a [`ScrollbackItem::Mark`] if the entry is printed already.
    pub(super) fn update_mark(
        &mut self,
        id: MessageId,
        mark: DeliveryMark,
        UndeliveredMessage { row, ts, .. }: UndeliveredMessage,
    ) {
        let pending = self.pending_items.iter_mut().find_map(|item| match item {
            ScrollbackItem::Entry(entry) if entry.id == id => Some(entry),
            _ => None,
        });
        match pending {
            Some(entry) => entry.mark = mark,
            None => self.pending_items.push(ScrollbackItem::Mark { mark, row, ts }),
        }
    }
}
