//! Messages as they come, what was missed of them, and what becomes of ours. Pure.

use shared::peer::{ChatMessage, MessageId};

use super::{Item, LineView, Open};
use crate::engine::chat::StoredMessage;
use crate::ui::entry::Entry;
use crate::ui::look::Mark;
use crate::ui::view::{CAUGHT_UP_AT_ONCE, Wish};

impl LineView {
    /// A message of this conversation: behind what was missed, if something was.
    pub(super) fn comes(&mut self, entry: Entry, message: &ChatMessage) -> Vec<Wish> {
        if let Some(late) = &mut self.late {
            late.hold(entry, message);
            return Vec::new();
        }
        if entry.seq <= self.last {
            return Vec::new();
        }
        let is_theirs = !entry.mine;
        self.put(entry, message);
        if is_theirs { self.seen() } else { Vec::new() }
    }

    pub(super) fn put(&mut self, entry: Entry, message: &ChatMessage) {
        let is_theirs = !entry.mine;
        self.show(entry);
        if let Some(offer) = message.offer.as_ref().filter(|_| is_theirs) {
            self.offered(offer.name.as_str(), offer.size);
        }
    }

    pub(super) fn seen(&self) -> Vec<Wish> {
        if self.unseen.is_some() {
            return Vec::new();
        }
        vec![Wish::MarkRead { with: self.with.clone(), up_to: self.last }]
    }

    /// Asks for what was said and not shown, and for what became of what was on its way.
    pub(super) fn catch_up(&mut self) -> Wish {
        self.late.get_or_insert_default();
        let open = self.open.values().map(|open| open.seq - 1).min();
        Wish::CatchUp { with: self.with.clone(), after: open.map_or(self.last, |open| open.min(self.last)) }
    }

    pub(super) fn caught_up(&mut self, messages: &[StoredMessage]) -> Vec<Wish> {
        // Of two answers, the first one told it all.
        let Some(late) = self.late.take() else { return Vec::new() };
        for stored in messages {
            let entry = late.newest(Entry::stored(stored));
            if entry.seq > self.last {
                self.put(entry, &stored.message);
            } else if self.open.contains_key(&entry.id) {
                self.settle(entry.id, entry.mark, None);
            }
        }
        if let (true, Some(last)) = (messages.len() >= CAUGHT_UP_AT_ONCE, messages.last()) {
            self.late = Some(late);
            return vec![Wish::CatchUp { with: self.with.clone(), after: last.seq }];
        }
        for (entry, message) in late.rest(self.last) {
            self.put(entry, &message);
        }
        self.seen()
    }

    pub(super) fn settle(&mut self, id: MessageId, mark: Mark, why: Option<&str>) {
        if let Some(late) = &mut self.late {
            late.mark(id, mark);
        }
        let is_open = matches!(mark, Mark::Waiting | Mark::Sent);
        let known = if is_open { self.open.get(&id).copied() } else { self.open.remove(&id) };
        match known {
            Some(open) => self.remark(id, mark, open),
            None if !is_open => self.open_before = self.open_before.saturating_sub(1),
            None => {}
        }
        if mark == Mark::Failed {
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            self.items.push(Item::Problem(format!("not delivered{why}")));
        } else if mark == Mark::Stored {
            self.frozen = false;
        }
    }

    /// Changes a mark: before its message is put above, or over it afterwards.
    pub(super) fn remark(&mut self, id: MessageId, mark: Mark, Open { row, ts, .. }: Open) {
        let pending = self.items.iter_mut().find_map(|item| match item {
            Item::Entry(entry) if entry.id == id => Some(entry),
            _ => None,
        });
        match pending {
            Some(entry) => entry.mark = mark,
            None => self.items.push(Item::Mark { mark, row, ts }),
        }
    }
}
