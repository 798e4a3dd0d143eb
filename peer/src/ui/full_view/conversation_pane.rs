//! The conversation with one person, as far as it was looked back at. Pure.

use std::time::Instant;

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::peer::{FileStat, MessageId};
use shared::safe_text::safe_block;

use crate::engine::chat::StoredMessage;
use crate::ui::composer::MessageComposer;
use crate::ui::message_entry::MessageEntry;
use crate::ui::text_rows::{TextRow, WrapOptions, layout_rows};
use crate::ui::theme::{DeliveryMark, TerminalTheme};

/// Rows that are kept of what was said while nobody looked back.
const MAX_ROWS: usize = 2000;

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct ConversationPane {
    rows: Vec<ConversationRow>,
    /// The place of the earliest message that is here.
    first_seq: Option<i64>,
    history: HistoryState,
    pub(super) composer: MessageComposer,
    /// Rows of the screen between the end and what is shown.
    pub(super) scroll_back: usize,
    pub(super) typing_until: Option<Instant>,
    pub(super) files: FileListState,
    unread: Option<UnreadMarker>,
}

/// What was unread when the conversation was entered.
#[derive(Debug)]
struct UnreadMarker {
    count: usize,
    /// The place of the first of it, when that is here.
    first_seq: Option<i64>,
}

/// How much of the past is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum HistoryState {
    #[default]
    NotLoaded,
    /// It was asked for.
    Requested,
    Partial,
    Complete,
}

/// What the other one shares.
#[derive(Debug, Default)]
pub(super) enum FileListState {
    #[default]
    Unknown,
    Requested,
    /// Those whose names start so.
    Listed {
        start: String,
        files: Vec<FileStat>,
    },
    /// They could not be had.
    Failed,
}

#[derive(Debug)]
enum ConversationRow {
    Entry(MessageEntry),
    Note(String),
    Problem(String),
}

impl ConversationPane {
    /// Whether the past is to be asked for, and before which place; from then on it is on its way.
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

    /// Takes a page of the past; `limit` were asked for.
    pub(super) fn insert_page(&mut self, messages: &[StoredMessage], limit: usize) {
        self.history = if messages.len() < limit { HistoryState::Complete } else { HistoryState::Partial };
        if let Some(first) = messages.first() {
            self.first_seq = Some(first.seq);
        }
        for stored in messages {
            self.add_offer(stored);
        }
        if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
            // Of what came meanwhile, the page has all that is in between, and in order.
            let is_in = |row: &ConversationRow| matches!(row, ConversationRow::Entry(entry) if (first.seq..=last.seq).contains(&entry.seq));
            let (known, rest) = std::mem::take(&mut self.rows).into_iter().partition::<Vec<_>, _>(is_in);
            let page = messages.iter().map(|stored| {
                let entry = MessageEntry::from_stored(stored);
                let known = known.iter().find_map(|row| match row {
                    ConversationRow::Entry(known) if known.seq == entry.seq => Some(known.clone()),
                    _ => None,
                });
                ConversationRow::Entry(known.unwrap_or(entry))
            });
            self.rows = page.chain(rest).collect();
        }
        self.locate_unread();
    }

    /// So much was unread when it was entered: a rule shows where that begins.
    pub(super) fn mark_unread(&mut self, unread: usize) {
        self.unread = (unread > 0).then_some(UnreadMarker { count: unread, first_seq: None });
        self.locate_unread();
    }

    /// Whether so many messages of the other one are here, or all there are.
    pub(super) fn has_received(&self, count: usize) -> bool {
        self.history == HistoryState::Complete || self.entries().filter(|entry| !entry.is_mine).count() >= count
    }

    /// The place of the last message, when none before it is still to come.
    pub(super) fn last_seq(&self) -> Option<i64> {
        let is_here = matches!(self.history, HistoryState::Partial | HistoryState::Complete);
        self.entries().next_back().filter(|_| is_here).map(|entry| entry.seq)
    }

    /// Forgets what was said: it has to be asked for again.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        (self.first_seq, self.history) = (None, HistoryState::NotLoaded);
    }

    pub(super) fn add(&mut self, entry: MessageEntry) {
        if self.entries().rev().any(|known| known.seq == entry.seq) {
            return;
        }
        if let Some(UnreadMarker { count, first_seq: None }) = self.unread.as_mut().filter(|_| !entry.is_mine) {
            *count += 1;
        }
        self.push(ConversationRow::Entry(entry));
    }

    pub(super) fn add_note(&mut self, text: &str) {
        self.push(ConversationRow::Note(text.to_owned()));
    }

    pub(super) fn add_problem(&mut self, text: &str) {
        self.push(ConversationRow::Problem(text.to_owned()));
    }

    pub(super) fn set_mark(&mut self, id: MessageId, mark: DeliveryMark) {
        let entry = self.rows.iter_mut().rev().find_map(|row| match row {
            ConversationRow::Entry(entry) if entry.is_mine && entry.id == id => Some(entry),
            _ => None,
        });
        if let Some(entry) = entry {
            entry.mark = mark;
        }
    }

    /// The last rows, as many as fit, as far back as is wished.
    pub(super) fn rows(&self, with: &UserName, theme: TerminalTheme, columns: usize, most: usize) -> Vec<TextRow> {
        let wanted = self.scroll_back + most;
        let mut blocks = Vec::new();
        let mut count = 0;
        let mut rest = self.rows.iter().enumerate().rev();
        while count < wanted
            && let Some((place, row)) = rest.next()
        {
            let mut block = row.lines(with, theme, columns);
            for rule in self.separators_above(place).into_iter().rev() {
                let dash = if theme.unicode { "──" } else { "--" };
                block.insert(0, Line::styled(format!("{dash} {rule} {dash}"), theme.dim()).into());
            }
            count += block.len();
            blocks.push(block);
        }
        let back = self.scroll_back.min(count.saturating_sub(most));
        let all: Vec<TextRow> = blocks.into_iter().rev().flatten().collect();
        let end = all.len() - back;
        all[end.saturating_sub(most)..end].to_vec()
    }

    /// Looks no further back than there is something; true when that is where the past ends that is here.
    pub(super) fn clamp_scroll(&mut self, with: &UserName, theme: TerminalTheme, columns: usize, most: usize) -> bool {
        let mut count = 0;
        for (place, row) in self.rows.iter().enumerate().rev() {
            if count >= self.scroll_back + most {
                return false;
            }
            count += row.lines(with, theme, columns).len() + self.separators_above(place).len();
        }
        self.scroll_back = self.scroll_back.min(count.saturating_sub(most));
        true
    }

    fn add_offer(&mut self, stored: &StoredMessage) {
        if let Some(offer) = &stored.message.offer {
            self.composer.files_mut().add(offer.name.as_str(), offer.size, true);
        }
    }

    fn push(&mut self, row: ConversationRow) {
        self.rows.push(row);
        // Whoever looks back goes on seeing the same.
        self.scroll_back += usize::from(self.scroll_back > 0);
        if self.rows.len() > MAX_ROWS && self.scroll_back == 0 {
            let gone = self.rows.len() - MAX_ROWS / 2;
            self.rows.drain(..gone);
            let first = self.entries().next().map(|entry| entry.seq);
            self.first_seq = first;
            if self.history == HistoryState::Complete {
                self.history = HistoryState::Partial;
            }
        }
    }

    fn locate_unread(&mut self) {
        let Some(UnreadMarker { count, first_seq: None }) = &self.unread else { return };
        let from = self.entries().rev().filter(|entry| !entry.is_mine).nth(count - 1).map(|entry| entry.seq);
        if let Some(new) = &mut self.unread {
            new.first_seq = from;
        }
    }

    /// What stands above a message: its day, that what is new begins.
    fn separators_above(&self, index: usize) -> Vec<String> {
        let is_first = |new: &&UnreadMarker| matches!(&self.rows[index], ConversationRow::Entry(entry) if new.first_seq == Some(entry.seq));
        let new = self.unread.as_ref().filter(is_first).map(|new| format!("{} new", new.count));
        self.day_separator(index).into_iter().chain(new).collect()
    }

    /// The day of a message, if the one before it is of another.
    fn day_separator(&self, index: usize) -> Option<String> {
        let ConversationRow::Entry(entry) = &self.rows[index] else { return None };
        let before = self.rows[..index].iter().rev().find_map(|row| match row {
            ConversationRow::Entry(entry) => Some(entry.day()),
            _ => None,
        });
        let day = entry.day();
        (before.as_ref() != Some(&day)).then_some(day)
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &MessageEntry> {
        self.rows.iter().filter_map(|row| match row {
            ConversationRow::Entry(entry) => Some(entry),
            ConversationRow::Note(_) | ConversationRow::Problem(_) => None,
        })
    }
}

impl ConversationRow {
    fn lines(&self, with: &UserName, theme: TerminalTheme, columns: usize) -> Vec<TextRow> {
        let plain = |text: &str, style| {
            let wrapping = WrapOptions { columns, indent: 2, joins_words: false };
            layout_rows(vec![Span::raw("  ")], &safe_block(text).replace('\t', "    "), style, wrapping)
        };
        match self {
            Self::Entry(entry) => entry.rows(with, theme, columns, false),
            Self::Note(text) => plain(text, theme.dim()),
            Self::Problem(text) => plain(&format!("! {text}"), theme.problem()),
        }
    }
}
