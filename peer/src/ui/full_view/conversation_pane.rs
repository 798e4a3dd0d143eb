//! One conversation in the full view: loaded messages, scroll position, files. Pure.

use std::collections::{HashMap, HashSet};

use shared::peer::{FileStat, MessageId};

use super::page_merging::{merge_newest_page, merge_older_page};
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
    loaded: LoadedPart,
    /// The bound of the page that is under way.
    requested: Option<Option<i64>>,
    /// True if messages may be missing of which no event told.
    is_stale: bool,
    /// Messages that this view stored itself, until a page brings them.
    stored_here: HashSet<i64>,
    /// Delivery marks that came since the request; the page may have older ones.
    new_marks: HashMap<MessageId, DeliveryMark>,
    /// Screen rows between the end of the conversation and the last shown row.
    pub(super) scroll_back: usize,
    /// The number of items at the end that `scroll_back` doesn't count yet.
    uncounted: usize,
    /// The look and the width with which rows were last counted.
    counted_with: Option<(TerminalTheme, usize)>,
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

/// The part of the conversation that is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum LoadedPart {
    #[default]
    Nothing,
    Last,
    Everything,
}

/// The row at the lower edge of the screen.
#[derive(Debug, Clone, Copy)]
struct ScrollAnchor {
    /// The sequence number of the last message that begins above the edge.
    seq: i64,
    /// The rows of this message below the edge; negative if the edge is further down.
    rows_below: isize,
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
    /// Returns the bound of the next page (messages before it), if a page is due, and marks it as requested. One is under
    /// way at a time.
    pub(super) fn request_page(&mut self, further: bool) -> Option<Option<i64>> {
        let before = if self.is_page_due() {
            None
        } else if further && self.loaded == LoadedPart::Last && self.requested.is_none() {
            self.first_seq
        } else {
            return None;
        };
        self.requested = Some(before);
        if before.is_none() {
            self.is_stale = false;
        }
        self.new_marks.clear();
        Some(before)
    }

    /// True if the newest page is to be requested.
    pub(super) fn is_page_due(&self) -> bool {
        // Whoever looks back keeps the rows they read until they are at the end again.
        let is_due = self.loaded == LoadedPart::Nothing || (self.is_stale && self.scroll_back == 0);
        is_due && self.requested.is_none()
    }

    /// True if the page with this bound is the one that was requested.
    pub(super) fn expects_page(&self, before: Option<i64>) -> bool {
        self.requested == Some(before)
    }

    /// Records that the request of a page failed: it can be made again.
    pub(super) fn release_page(&mut self, before: Option<i64>) {
        if self.expects_page(before) {
            self.requested = None;
            self.is_stale |= before.is_none();
        }
    }

    /// Inserts the requested page; `limit` is the number that was requested.
    pub(super) fn insert_page(&mut self, before: Option<i64>, page: Vec<MessageEntry>, limit: usize) {
        self.requested = None;
        let marks = std::mem::take(&mut self.new_marks);
        let with_new_mark = |entry: MessageEntry| match marks.get(&entry.id) {
            Some(mark) if entry.is_mine() => MessageEntry { mark: *mark, ..entry },
            _ => entry,
        };
        let page: Vec<MessageEntry> = page.into_iter().map(with_new_mark).collect();
        let first = page.first().map(|entry| entry.seq);
        let loaded = if page.len() < limit { LoadedPart::Everything } else { LoadedPart::Last };
        for entry in &page {
            self.stored_here.remove(&entry.seq);
        }
        if before.is_some() {
            self.rows = merge_older_page(page, std::mem::take(&mut self.rows));
            (self.loaded, self.first_seq) = (loaded, first.or(self.first_seq));
        } else {
            let anchor = self.scroll_anchor();
            let merged = merge_newest_page(page, std::mem::take(&mut self.rows), self.scroll_back > 0);
            self.rows = merged.rows;
            if !merged.has_older {
                (self.loaded, self.first_seq) = (loaded, first);
            }
            self.scroll_to(anchor);
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
        self.loaded == LoadedPart::Everything || self.entries().filter(|entry| !entry.is_mine()).count() >= count
    }

    /// Returns the sequence number up to which no message is missing at the end, if that is known.
    pub(super) fn last_seq(&self) -> Option<i64> {
        let is_here = self.loaded != LoadedPart::Nothing && !self.is_stale && !self.expects_page(None);
        let told = self.entries().map(|entry| entry.seq).filter(|seq| !self.stored_here.contains(seq));
        // In a room, a message that was passed on late stands before others.
        told.max().filter(|_| is_here)
    }

    /// Records that messages may be missing, so that the newest page is loaded again.
    pub(super) const fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Adds a message that this view stored itself: others may have been stored before it of which no event tells.
    pub(super) fn add_stored_here(&mut self, entry: MessageEntry) {
        self.stored_here.insert(entry.seq);
        self.add(entry);
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
        if self.requested.is_some() {
            self.new_marks.insert(id, mark);
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
                if self.requested.is_some() {
                    self.new_marks.insert(entry.id, mark);
                }
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
        self.counted_with = Some((theme, columns));
        self.count_new_rows(theme, columns);
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

    /// Counts the rows that have come while the user looks back.
    fn count_new_rows(&mut self, theme: TerminalTheme, columns: usize) {
        let uncounted = std::mem::take(&mut self.uncounted);
        if self.scroll_back > 0 {
            let new = self.rows.len().saturating_sub(uncounted)..self.rows.len();
            self.scroll_back += new.map(|place| self.row_count(place, theme, columns)).sum::<usize>();
        }
    }

    /// Returns the row at the lower edge of the screen, if the user looks back.
    fn scroll_anchor(&mut self) -> Option<ScrollAnchor> {
        let (theme, columns) = self.counted_with?;
        self.count_new_rows(theme, columns);
        if self.scroll_back == 0 {
            return None;
        }
        let mut below = 0;
        for place in (0..self.rows.len()).rev() {
            let count = self.row_count(place, theme, columns);
            if let ConversationItem::Entry(entry) = &self.rows[place]
                && below + count > self.scroll_back
            {
                let rows_below = self.scroll_back.cast_signed() - below.cast_signed();
                return Some(ScrollAnchor { seq: entry.seq, rows_below });
            }
            below += count;
        }
        None
    }

    /// Scrolls to where the row at the lower edge of the screen is now.
    fn scroll_to(&mut self, anchor: Option<ScrollAnchor>) {
        self.uncounted = 0;
        let (Some(ScrollAnchor { seq, rows_below }), Some((theme, columns))) = (anchor, self.counted_with) else {
            return;
        };
        let is_it = |row: &ConversationItem| matches!(row, ConversationItem::Entry(entry) if entry.seq == seq);
        if let Some(place) = self.rows.iter().rposition(is_it) {
            let below: usize = (place + 1..self.rows.len()).map(|place| self.row_count(place, theme, columns)).sum();
            self.scroll_back = below.saturating_add_signed(rows_below);
        }
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
            if self.loaded == LoadedPart::Everything {
                self.loaded = LoadedPart::Last;
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
