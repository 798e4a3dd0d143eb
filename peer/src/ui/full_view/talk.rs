//! The conversation with one person, as far as it was looked back at. Pure.

use std::time::Instant;

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::peer::{FileStat, MessageId};
use shared::safe_text::safe_block;

use crate::engine::chat::StoredMessage;
use crate::ui::composer::Composer;
use crate::ui::entry::Entry;
use crate::ui::look::{Look, Mark};
use crate::ui::rows::{TextRow, Wrapping, rows};

/// Rows that are kept of what was said while nobody looked back.
const KEPT: usize = 2000;

/// A conversation.
#[derive(Debug, Default)]
pub(super) struct Talk {
    rows: Vec<Row>,
    /// The place of the earliest message that is here.
    first: Option<i64>,
    loaded: Loaded,
    pub(super) composer: Composer,
    /// Rows of the screen between the end and what is shown.
    pub(super) back: usize,
    pub(super) typing: Option<Instant>,
    pub(super) files: Files,
    new: Option<New>,
}

/// What was unread when the conversation was entered.
#[derive(Debug)]
struct New {
    count: usize,
    /// The place of the first of it, when that is here.
    from: Option<i64>,
}

/// How much of the past is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Loaded {
    #[default]
    Nothing,
    /// It was asked for.
    Asked,
    Some,
    Everything,
}

/// What the other one shares.
#[derive(Debug, Default)]
pub(super) enum Files {
    #[default]
    Unknown,
    Asked,
    /// Those whose names start so.
    Known {
        start: String,
        files: Vec<FileStat>,
    },
    /// They could not be had.
    Failed,
}

#[derive(Debug)]
enum Row {
    Entry(Entry),
    Note(String),
    Problem(String),
}

impl Talk {
    /// Whether the past is to be asked for, and before which place; from then on it is on its way.
    pub(super) fn ask(&mut self, further: bool) -> Option<Option<i64>> {
        let is_due = match self.loaded {
            Loaded::Nothing => true,
            Loaded::Some => further,
            Loaded::Asked | Loaded::Everything => false,
        };
        if !is_due {
            return None;
        }
        self.loaded = Loaded::Asked;
        Some(self.first)
    }

    /// Takes a page of the past; `limit` were asked for.
    pub(super) fn take_page(&mut self, messages: &[StoredMessage], limit: usize) {
        self.loaded = if messages.len() < limit { Loaded::Everything } else { Loaded::Some };
        if let Some(first) = messages.first() {
            self.first = Some(first.seq);
        }
        for stored in messages {
            self.learn_offer(stored);
        }
        if let (Some(first), Some(last)) = (messages.first(), messages.last()) {
            // Of what came meanwhile, the page has all that is in between, and in order.
            let is_in = |row: &Row| matches!(row, Row::Entry(entry) if (first.seq..=last.seq).contains(&entry.seq));
            let (known, rest) = std::mem::take(&mut self.rows).into_iter().partition::<Vec<_>, _>(is_in);
            let page = messages.iter().map(|stored| {
                let entry = Entry::stored(stored);
                let known = known.iter().find_map(|row| match row {
                    Row::Entry(known) if known.seq == entry.seq => Some(known.clone()),
                    _ => None,
                });
                Row::Entry(known.unwrap_or(entry))
            });
            self.rows = page.chain(rest).collect();
        }
        self.place_new();
    }

    /// So much was unread when it was entered: a rule shows where that begins.
    pub(super) fn enter(&mut self, unread: usize) {
        self.new = (unread > 0).then_some(New { count: unread, from: None });
        self.place_new();
    }

    /// Whether so many messages of the other one are here, or all there are.
    pub(super) fn has_theirs(&self, count: usize) -> bool {
        self.loaded == Loaded::Everything || self.entries().filter(|entry| !entry.mine).count() >= count
    }

    /// The place of the last message, when none before it is still to come.
    pub(super) fn last(&self) -> Option<i64> {
        let is_here = matches!(self.loaded, Loaded::Some | Loaded::Everything);
        self.entries().next_back().filter(|_| is_here).map(|entry| entry.seq)
    }

    /// Forgets what was said: it has to be asked for again.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        (self.first, self.loaded) = (None, Loaded::Nothing);
    }

    pub(super) fn add(&mut self, entry: Entry) {
        if self.entries().rev().any(|known| known.seq == entry.seq) {
            return;
        }
        if let Some(New { count, from: None }) = self.new.as_mut().filter(|_| !entry.mine) {
            *count += 1;
        }
        self.push(Row::Entry(entry));
    }

    pub(super) fn note(&mut self, text: &str) {
        self.push(Row::Note(text.to_owned()));
    }

    pub(super) fn problem(&mut self, text: &str) {
        self.push(Row::Problem(text.to_owned()));
    }

    pub(super) fn mark(&mut self, id: MessageId, mark: Mark) {
        let entry = self.rows.iter_mut().rev().find_map(|row| match row {
            Row::Entry(entry) if entry.mine && entry.id == id => Some(entry),
            _ => None,
        });
        if let Some(entry) = entry {
            entry.mark = mark;
        }
    }

    /// The last rows, as many as fit, as far back as is wished.
    pub(super) fn rows(&self, with: &UserName, look: Look, columns: usize, most: usize) -> Vec<TextRow> {
        let wanted = self.back + most;
        let mut blocks = Vec::new();
        let mut count = 0;
        let mut rest = self.rows.iter().enumerate().rev();
        while count < wanted
            && let Some((place, row)) = rest.next()
        {
            let mut block = row.lines(with, look, columns);
            for rule in self.rules(place).into_iter().rev() {
                let dash = if look.unicode { "──" } else { "--" };
                block.insert(0, Line::styled(format!("{dash} {rule} {dash}"), look.dim()).into());
            }
            count += block.len();
            blocks.push(block);
        }
        let back = self.back.min(count.saturating_sub(most));
        let all: Vec<TextRow> = blocks.into_iter().rev().flatten().collect();
        let end = all.len() - back;
        all[end.saturating_sub(most)..end].to_vec()
    }

    /// Looks no further back than there is something; true when that is where the past ends that is here.
    pub(super) fn clamp(&mut self, with: &UserName, look: Look, columns: usize, most: usize) -> bool {
        let mut count = 0;
        for (place, row) in self.rows.iter().enumerate().rev() {
            if count >= self.back + most {
                return false;
            }
            count += row.lines(with, look, columns).len() + self.rules(place).len();
        }
        self.back = self.back.min(count.saturating_sub(most));
        true
    }

    fn learn_offer(&mut self, stored: &StoredMessage) {
        if let Some(offer) = &stored.message.offer {
            self.composer.catalogue_mut().add(offer.name.as_str(), offer.size, true);
        }
    }

    fn push(&mut self, row: Row) {
        self.rows.push(row);
        // Whoever looks back goes on seeing the same.
        self.back += usize::from(self.back > 0);
        if self.rows.len() > KEPT && self.back == 0 {
            let gone = self.rows.len() - KEPT / 2;
            self.rows.drain(..gone);
            let first = self.entries().next().map(|entry| entry.seq);
            self.first = first;
            if self.loaded == Loaded::Everything {
                self.loaded = Loaded::Some;
            }
        }
    }

    fn place_new(&mut self) {
        let Some(New { count, from: None }) = &self.new else { return };
        let from = self.entries().rev().filter(|entry| !entry.mine).nth(count - 1).map(|entry| entry.seq);
        if let Some(new) = &mut self.new {
            new.from = from;
        }
    }

    /// What stands above a message: its day, that what is new begins.
    fn rules(&self, place: usize) -> Vec<String> {
        let is_first = |new: &&New| matches!(&self.rows[place], Row::Entry(entry) if new.from == Some(entry.seq));
        let new = self.new.as_ref().filter(is_first).map(|new| format!("{} new", new.count));
        self.new_day(place).into_iter().chain(new).collect()
    }

    /// The day of a message, if the one before it is of another.
    fn new_day(&self, place: usize) -> Option<String> {
        let Row::Entry(entry) = &self.rows[place] else { return None };
        let before = self.rows[..place].iter().rev().find_map(|row| match row {
            Row::Entry(entry) => Some(entry.day()),
            _ => None,
        });
        let day = entry.day();
        (before.as_ref() != Some(&day)).then_some(day)
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.rows.iter().filter_map(|row| match row {
            Row::Entry(entry) => Some(entry),
            Row::Note(_) | Row::Problem(_) => None,
        })
    }
}

impl Row {
    fn lines(&self, with: &UserName, look: Look, columns: usize) -> Vec<TextRow> {
        let plain = |text: &str, style| {
            let wrapping = Wrapping { columns, indent: 2, joins: false };
            rows(vec![Span::raw("  ")], &safe_block(text).replace('\t', "    "), style, wrapping)
        };
        match self {
            Self::Entry(entry) => entry.rows(with, look, columns, false),
            Self::Note(text) => plain(text, look.dim()),
            Self::Problem(text) => plain(&format!("! {text}"), look.problem()),
        }
    }
}
