//! One conversation in the full view: loaded messages, scroll position, files. Pure.

use std::collections::HashSet;

use shared::peer::{FileStat, MessageId};

use crate::ui::conversation_item::{ConversationItem, rule_row, unread_heading};
use crate::ui::member_changes::MemberChanges;
use crate::ui::message_entry::MessageEntry;
use crate::ui::text_rows::TextRow;
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Rows kept while the view is at the end of the conversation; beyond, the older half is dropped.
const MAX_ROWS: usize = 2000;

/// The shown part of a conversation.
#[derive(Debug, Default)]
pub(super) struct ConversationPane {
    rows: Vec<ConversationItem>,
    /// The lowest sequence number loaded.
    first_seq: Option<i64>,
    history: HistoryState,
    /// Screen rows between the end of the conversation and the last shown row.
    pub(super) scroll_back: usize,
    /// The number of items at the end that `scroll_back` doesn't count yet.
    uncounted: usize,
    pub(super) files: FileListState,
    unread: Option<UnreadMarker>,
}

/// The unread messages at the time the conversation was opened.
#[derive(Debug)]
struct UnreadMarker {
    count: usize,
    /// The sequence number of the first one, once it is loaded.
    first_seq: Option<i64>,
}

/// The state of loading older messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum HistoryState {
    #[default]
    NotLoaded,
    Requested,
    Partial,
    Complete,
}

/// The state of the user's share list.
#[derive(Debug, Default)]
pub(super) enum FileListState {
    #[default]
    Unknown,
    Requested,
    /// The shares whose names begin with `start`.
    Listed {
        start: String,
        files: Vec<FileStat>,
    },
    /// The request failed.
    Failed,
}

impl ConversationPane {
    /// Returns the bound of the next page (messages before it), if a page is due, and marks it as requested.
    pub(super) fn request_page(&mut self, further: bool) -> Option<Option<i64>> {
        let is_due = match self.history {
            HistoryState::NotLoaded => true,
            HistoryState::Partial => further,
            HistoryState::Requested | HistoryState::Complete => false,
        };
        if !is_due {
            return None;
        }
        self.history = HistoryState::Requested;
        Some(self.first_seq)
    }

    /// Inserts a page of older messages; `limit` is the number that was requested.
    pub(super) fn insert_page(&mut self, page: Vec<MessageEntry>, limit: usize) {
        self.history = if page.len() < limit { HistoryState::Complete } else { HistoryState::Partial };
        if let (Some(first), Some(last)) = (page.first(), page.last()) {
            self.first_seq = Some(first.seq);
            let (range, seqs) = (first.seq..=last.seq, page.iter().map(|entry| entry.seq).collect::<HashSet<_>>());
            // Rows inside the page's range came as events meanwhile. The page holds all of them in order, but
            // their marks are newer. In a room the order isn't that of the arrival.
            let is_in = |row: &ConversationItem| match row {
                ConversationItem::Entry(entry) => seqs.contains(&entry.seq) || range.contains(&entry.seq),
                ConversationItem::Note(_) | ConversationItem::Members(_) | ConversationItem::Problem(_) => false,
            };
            let (known, rest) = std::mem::take(&mut self.rows).into_iter().partition::<Vec<_>, _>(is_in);
            let newest = |entry: MessageEntry| {
                let known = known.iter().find_map(|row| match row {
                    ConversationItem::Entry(known) if known.seq == entry.seq => Some(known.clone()),
                    _ => None,
                });
                ConversationItem::Entry(known.unwrap_or(entry))
            };
            self.rows = page.into_iter().map(newest).chain(rest).collect();
        }
        self.locate_unread();
    }

    /// Notes the number of unread messages; a separator marks the first one.
    pub(super) fn mark_unread(&mut self, unread: usize) {
        self.unread = (unread > 0).then_some(UnreadMarker { count: unread, first_seq: None });
        self.locate_unread();
    }

    /// True if at least `count` received messages are loaded, or the whole conversation is.
    pub(super) fn has_received(&self, count: usize) -> bool {
        self.history == HistoryState::Complete || self.entries().filter(|entry| !entry.is_mine()).count() >= count
    }

    /// Returns the highest sequence number, if no older page is still on its way.
    pub(super) fn last_seq(&self) -> Option<i64> {
        let is_here = matches!(self.history, HistoryState::Partial | HistoryState::Complete);
        // In a room, a message that was passed on late stands before others.
        self.entries().map(|entry| entry.seq).max().filter(|_| is_here)
    }

    /// Drops all messages, so that they are loaded again.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        (self.first_seq, self.history, self.uncounted) = (None, HistoryState::NotLoaded, 0);
    }

    pub(super) fn add(&mut self, entry: MessageEntry) {
        // A page and an event may bring the same message.
        if self.entries().rev().any(|known| known.seq == entry.seq) {
            return;
        }
        // Until the first unread message is located, it is counted from the end, which moves with each
        // arrival.
        if let Some(UnreadMarker { count, first_seq: None }) = self.unread.as_mut().filter(|_| !entry.is_mine()) {
            *count += 1;
        }
        self.push(ConversationItem::Entry(entry));
    }

    pub(super) fn add_note(&mut self, text: &str) {
        self.push(ConversationItem::Note(text.to_owned()));
    }

    /// Adds joins and leaves, to those in the last row if it tells of some.
    pub(super) fn add_member_changes(&mut self, changes: MemberChanges) {
        match self.rows.last_mut() {
            Some(ConversationItem::Members(earlier)) => earlier.extend(changes),
            _ => self.push(ConversationItem::Members(changes)),
        }
    }

    pub(super) fn add_problem(&mut self, text: &str) {
        self.push(ConversationItem::Problem(text.to_owned()));
    }

    pub(super) fn set_mark(&mut self, id: MessageId, mark: DeliveryMark) {
        let entry = self.rows.iter_mut().rev().find_map(|row| match row {
            ConversationItem::Entry(entry) if entry.is_mine() && entry.id == id => Some(entry),
            _ => None,
        });
        if let Some(entry) = entry {
            entry.mark = mark;
        }
    }

    /// Sets the mark of an own message, and that of earlier ones that were not settled.
    pub(super) fn set_marks_through(&mut self, id: MessageId, mark: DeliveryMark) {
        let up_to = self.entries().rev().find(|entry| entry.is_mine() && entry.id == id).map(|entry| entry.seq);
        let Some(up_to) = up_to else { return };
        for row in &mut self.rows {
            if let ConversationItem::Entry(entry) = row
                && entry.is_mine()
                && entry.seq <= up_to
                && !entry.mark.is_settled()
            {
                entry.mark = mark;
            }
        }
    }

    /// Removes a message that doesn't count any more.
    pub(super) fn remove(&mut self, id: MessageId) {
        self.rows.retain(|row| !matches!(row, ConversationItem::Entry(entry) if entry.id == id));
    }

    /// Returns the rows on the screen, at most `most`.
    pub(super) fn rows(&self, theme: TerminalTheme, columns: usize, most: usize) -> Vec<TextRow> {
        let wanted = self.scroll_back + most;
        let mut blocks = Vec::new();
        let mut count = 0;
        let mut rest = self.rows.iter().enumerate().rev();
        // From the end backwards, so that only rows up to the scroll position are laid out.
        while count < wanted
            && let Some((place, row)) = rest.next()
        {
            let mut block = row.rows(theme, columns, false);
            for rule in self.separators_above(place).into_iter().rev() {
                block.insert(0, rule_row(&rule, theme, columns));
            }
            count += block.len();
            blocks.push(block);
        }
        let back = self.scroll_back.min(count.saturating_sub(most));
        let all: Vec<TextRow> = blocks.into_iter().rev().flatten().collect();
        let end = all.len() - back;
        all[end.saturating_sub(most)..end].to_vec()
    }

    /// Limits scrolling to the loaded rows; returns true if the first loaded row is reached. What has come while the
    /// user looks back is counted first, so that the shown rows stay in place.
    pub(super) fn clamp_scroll(&mut self, theme: TerminalTheme, columns: usize, most: usize) -> bool {
        let uncounted = std::mem::take(&mut self.uncounted);
        if self.scroll_back > 0 {
            let new = self.rows.len().saturating_sub(uncounted)..self.rows.len();
            self.scroll_back += new.map(|place| self.row_count(place, theme, columns)).sum::<usize>();
        }
        let mut count = 0;
        for place in (0..self.rows.len()).rev() {
            // Enough is known: to wrap all of a long history would cost time at every drawing.
            if count >= self.scroll_back + most {
                return false;
            }
            count += self.row_count(place, theme, columns);
        }
        self.scroll_back = self.scroll_back.min(count.saturating_sub(most));
        true
    }

    fn push(&mut self, row: ConversationItem) {
        self.rows.push(row);
        // At the end the view follows what comes, and no rows have to stay in place.
        self.uncounted += usize::from(self.scroll_back > 0);
        // Never while the user looks back: the shown rows could be among the dropped ones.
        if self.rows.len() > MAX_ROWS && self.scroll_back == 0 {
            let gone = self.rows.len() - MAX_ROWS / 2;
            self.rows.drain(..gone);
            let first = self.entries().next().map(|entry| entry.seq);
            self.first_seq = first;
            // The dropped rows can be loaded again as a page.
            if self.history == HistoryState::Complete {
                self.history = HistoryState::Partial;
            }
        }
    }

    /// Returns the number of screen rows of an item, separators included.
    fn row_count(&self, place: usize, theme: TerminalTheme, columns: usize) -> usize {
        self.rows[place].rows(theme, columns, false).len() + self.separators_above(place).len()
    }

    fn locate_unread(&mut self) {
        let Some(UnreadMarker { count, first_seq: None }) = &self.unread else { return };
        // At least 1: `mark_unread` makes no marker for 0.
        let from = self.entries().rev().filter(|entry| !entry.is_mine()).nth(count - 1).map(|entry| entry.seq);
        if let Some(new) = &mut self.unread {
            new.first_seq = from;
        }
    }

    /// Returns the separators above a row: a new day, the first unread message.
    fn separators_above(&self, index: usize) -> Vec<String> {
        let is_first = |new: &&UnreadMarker| matches!(&self.rows[index], ConversationItem::Entry(entry) if new.first_seq == Some(entry.seq));
        let new = self.unread.as_ref().filter(is_first).map(|new| unread_heading(new.count));
        self.day_separator(index).into_iter().chain(new).collect()
    }

    /// Returns the day of a message, if the message before it is from another day.
    fn day_separator(&self, index: usize) -> Option<String> {
        let ConversationItem::Entry(entry) = &self.rows[index] else { return None };
        let before = self.rows[..index].iter().rev().find_map(|row| match row {
            ConversationItem::Entry(entry) => Some(entry.day()),
            _ => None,
        });
        let day = entry.day();
        (before.as_ref() != Some(&day)).then_some(day)
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &MessageEntry> {
        self.rows.iter().filter_map(|row| match row {
            ConversationItem::Entry(entry) => Some(entry),
            ConversationItem::Note(_) | ConversationItem::Members(_) | ConversationItem::Problem(_) => None,
        })
    }
}
