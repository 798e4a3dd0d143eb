//! Arriving messages, missed messages and delivery states, for the line view. Pure.

use localization::tr;
use shared::peer::{FileOffer, MessageId};

use super::{LineViewModel, MarkedMessage, ScrollbackItem};
use crate::engine::chat::StoredMessage;
use crate::ui::chat_model::Conversation;
use crate::ui::conversation_item::ConversationItem;
use crate::ui::message_entry::MessageEntry;
use crate::ui::theme::DeliveryMark;
use crate::ui::view::{MAX_CATCH_UP_MESSAGES, ViewCommand};

impl LineViewModel {
    /// Shows a new message, or holds it while missed messages are being loaded.
    pub(super) fn receive_message(&mut self, entry: MessageEntry, offer: Option<&FileOffer>) -> Vec<ViewCommand> {
        if let Some(late) = &mut self.catch_up {
            late.push(entry, offer);
            return Vec::new();
        }
        // A message can arrive as an event after a catch-up has shown it.
        if entry.seq <= self.last_seq {
            return Vec::new();
        }
        let is_theirs = !entry.is_mine();
        self.show_message(entry, offer);
        if is_theirs { self.mark_read() } else { Vec::new() }
    }

    pub(super) fn show_message(&mut self, entry: MessageEntry, offer: Option<&FileOffer>) {
        let is_theirs = !entry.is_mine();
        let entry = self.with_send_number(entry);
        // One line says it all.
        let offer = offer.filter(|_| entry.send.is_none());
        self.show_entry(entry);
        if let Some(offer) = offer.filter(|_| is_theirs) {
            self.show_offer(offer.name.as_str(), offer.size);
        }
    }

    /// Gives what is sent with a message its number among the files that can be fetched.
    pub(super) fn with_send_number(&mut self, entry: MessageEntry) -> MessageEntry {
        let send = entry.send.as_ref().map(|send| (send.name_prefix(), send.size));
        let number = send.map(|(name, size)| self.composer_mut().files_mut().add(&name, size, true));
        entry.with_send_number(number)
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
        let open = self.chat.conversation(&self.with).and_then(Conversation::first_undelivered).map(|seq| seq - 1);
        ViewCommand::CatchUp {
            with: self.with.clone(),
            after: open.map_or(self.last_seq, |open| open.min(self.last_seq)),
        }
    }

    pub(super) fn handle_catch_up(&mut self, messages: &[StoredMessage]) -> Vec<ViewCommand> {
        // Overlapping requests: the first answer was complete, the second finds no buffer.
        let Some(late) = self.catch_up.take() else { return Vec::new() };
        // In a room's order, one that arrived early may follow one that arrived later.
        let shown_up_to = self.last_seq;
        for stored in messages {
            let mut entry = late.with_latest_mark(self.chat.entry(stored));
            if entry.seq > shown_up_to {
                if let (Some(details), Some(room)) = (&mut entry.room, &stored.room) {
                    details.is_late = room.is_late;
                }
                self.show_message(entry, stored.message.offer.as_ref());
            } else if self.marked_messages.contains_key(&entry.id) {
                self.chat.settle(&self.with, entry.id, entry.mark);
                self.show_mark(entry.id, entry.mark, None);
            }
        }
        // A full page: there may be more. New events stay held until the last page has come.
        let last = messages.iter().map(|stored| stored.seq).max();
        if let (true, Some(after)) = (messages.len() >= MAX_CATCH_UP_MESSAGES, last) {
            self.catch_up = Some(late);
            return vec![ViewCommand::CatchUp { with: self.with.clone(), after }];
        }
        for (entry, offer) in late.into_entries_after(self.last_seq) {
            self.show_message(entry, offer.as_ref());
        }
        self.mark_read()
    }

    /// Shows a new delivery mark: in the pending entry, or by a [`ScrollbackItem::Mark`] if the entry is printed already.
    pub(super) fn show_mark(&mut self, id: MessageId, mark: DeliveryMark, why: Option<&str>) {
        // The answer to a catch-up may be older than this event; the buffer keeps the later state.
        if let Some(late) = &mut self.catch_up {
            late.set_mark(id, mark);
        }
        if let Some(MarkedMessage { row, ts, cells, .. }) = self.marked_messages.get(&id).copied() {
            let pending = self.pending_items.iter_mut().find_map(|item| match item {
                ScrollbackItem::Item(ConversationItem::Entry(entry)) if entry.id == id => Some(entry),
                _ => None,
            });
            match pending {
                Some(entry) => entry.mark = mark,
                None => self.pending_items.push(ScrollbackItem::Mark { mark, row, ts, cells }),
            }
        }
        if mark.is_settled() {
            self.marked_messages.remove(&id);
        }
        if mark == DeliveryMark::Failed {
            self.add_problem(match why {
                Some(why) => tr!("not delivered: {why}", why),
                None => tr!("not delivered"),
            });
        }
    }
}
