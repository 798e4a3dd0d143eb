//! Arriving messages, missed messages and delivery states, for the line view. Pure.

use std::time::Instant;

use localization::tr;
use shared::peer::{FileOffer, MessageId};

use super::{LineViewModel, MAX_CATCH_UP_INTERVAL, MarkedMessage, ScrollbackItem};
use crate::engine::chat::StoredMessage;
use crate::ui::chat_model::Conversation;
use crate::ui::conversation_item::ConversationItem;
use crate::ui::line_view::catch_up_buffer::{CatchUpBuffer, HeldMessage, MessageSource};
use crate::ui::message_entry::MessageEntry;
use crate::ui::poll_backoff::PollBackoff;
use crate::ui::theme::DeliveryMark;
use crate::ui::view::{MAX_CATCH_UP_MESSAGES, RequestFailure, ViewCommand};

impl LineViewModel {
    /// Shows a new message, or holds it while missed messages are being loaded.
    pub(super) fn receive_message(&mut self, new: HeldMessage) -> Vec<ViewCommand> {
        if self.is_suspended {
            self.shown.set_gap(true);
            return Vec::new();
        }
        if let Some(late) = &mut self.catch_up {
            late.push(new);
            return Vec::new();
        }
        let is_theirs = !new.entry.is_mine();
        if self.show_new(new) && is_theirs { self.mark_read() } else { Vec::new() }
    }

    /// Shows a new message, unless a catch-up has shown it already; returns true if it is shown now.
    fn show_new(&mut self, HeldMessage { entry, offer, source }: HeldMessage) -> bool {
        let seq = entry.seq;
        if self.shown.contains(seq) {
            return false;
        }
        self.show_message(entry, offer.as_ref());
        if source == MessageSource::Node {
            self.shown.complete_by_event(seq);
        }
        true
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
        if self.first_unseen.is_some() || self.is_suspended {
            return Vec::new();
        }
        vec![ViewCommand::MarkRead { with: self.with.clone(), up_to: self.shown.complete_up_to() }]
    }

    /// Requests the messages of which no event told, and the states of the unacked ones. While a request is under way,
    /// the next one follows its answer, which may be older than what was missed.
    pub(super) fn request_catch_up(&mut self) -> Option<ViewCommand> {
        self.shown.set_gap(true);
        if self.is_suspended {
            return None;
        }
        if let Some(late) = &mut self.catch_up {
            late.is_outdated = true;
            return None;
        }
        let wish = self.catch_up_command();
        if let ViewCommand::CatchUp { after, .. } = wish {
            self.catch_up = Some(CatchUpBuffer::new(after));
        }
        Some(wish)
    }

    fn catch_up_command(&self) -> ViewCommand {
        let shown = self.shown.complete_up_to();
        // Starts before the oldest unacked message: its state may have changed unseen.
        let open = self.chat.conversation(&self.with).and_then(Conversation::first_undelivered).map(|seq| seq - 1);
        let after = open.map_or(shown, |open| open.min(shown));
        ViewCommand::CatchUp { with: self.with.clone(), after, before: None }
    }

    pub(super) fn handle_catch_up(&mut self, messages: &[StoredMessage]) -> Vec<ViewCommand> {
        let Some(mut late) = self.catch_up.take() else { return Vec::new() };
        // Both the answer and what was held are loaded again.
        if self.is_suspended {
            return Vec::new();
        }
        // New events stay held until the last page has come.
        let is_full = messages.len() >= MAX_CATCH_UP_MESSAGES;
        let next = if self.with.room().is_some() {
            late.push_page(messages);
            let next = messages.first().filter(|_| is_full).map(|first| (late.after, Some(first.seq)));
            if next.is_none() {
                self.show_missed(&late.take_pages(), &late);
            }
            next
        } else {
            self.show_missed(messages, &late);
            messages.last().filter(|_| is_full).map(|last| (last.seq, None))
        };
        if let Some((after, before)) = next {
            self.catch_up = Some(late);
            return vec![ViewCommand::CatchUp { with: self.with.clone(), after, before }];
        }
        self.catch_up_poll = PollBackoff::new(MAX_CATCH_UP_INTERVAL);
        self.has_reported_gap = false;
        if std::mem::take(&mut late.is_outdated) {
            let wish = self.catch_up_command();
            if let ViewCommand::CatchUp { after, .. } = wish {
                late.after = after;
            }
            self.catch_up = Some(late);
            return vec![wish];
        }
        self.shown.set_gap(false);
        self.show_held(late);
        self.mark_read()
    }

    /// Shows what was held, without the missed messages: they are requested again after a while.
    pub(super) fn handle_catch_up_failed(&mut self, why: &RequestFailure) {
        let Some(late) = self.catch_up.take() else { return };
        if !self.is_suspended {
            self.show_held(late);
        }
        if let RequestFailure::Error(words) = why
            && !std::mem::replace(&mut self.has_reported_gap, true)
        {
            self.add_problem(words.clone());
        }
    }

    /// Requests missed messages again, if the last request failed.
    pub(super) fn retry_catch_up(&mut self, now: Instant) -> Option<ViewCommand> {
        let is_behind = self.shown.has_gap() && self.catch_up.is_none() && !self.is_suspended;
        let is_due = is_behind && self.catch_up_poll.try_poll(now);
        if is_due { self.request_catch_up() } else { None }
    }

    /// Shows the loaded messages that are not shown yet, and new states of the others.
    fn show_missed(&mut self, messages: &[StoredMessage], late: &CatchUpBuffer) {
        for stored in messages {
            let mut entry = late.with_latest_mark(self.chat.entry(stored));
            if !self.shown.contains(entry.seq) {
                if let (Some(details), Some(room)) = (&mut entry.room, &stored.room) {
                    details.is_late = room.is_late;
                }
                self.show_message(entry, stored.message.offer.as_ref());
            } else if self.marked_messages.contains_key(&entry.id) {
                self.chat.settle(&self.with, entry.id, entry.mark);
                self.show_mark(entry.id, entry.mark, None);
            }
        }
        // In a room's order, one that arrived early may follow one that arrived later.
        if let Some(last) = messages.iter().map(|stored| stored.seq).max() {
            self.shown.complete(last);
        }
    }

    fn show_held(&mut self, late: CatchUpBuffer) {
        for held in late.into_held() {
            self.show_new(held);
        }
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
                None => self.push_item(ScrollbackItem::Mark { mark, row, ts, cells }),
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
