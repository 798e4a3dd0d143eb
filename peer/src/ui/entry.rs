//! Messages as rows of a conversation, the same in both views. Pure.

use ratatui_core::text::{Line, Span};
use shared::UserName;
use shared::peer::{ChatMessage, MessageId};
use shared::safe_text::safe_block;

use super::look::{Look, Mark};
use super::text::{date, hour, time};
use super::wrap::wrap;
use crate::engine::chat::{Direction, MessageState, StoredMessage};

/// From here on there is room for seconds, and for text that is set in below them.
const WIDE: usize = 40;

/// A message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    pub(super) seq: i64,
    /// When, by its author's clock, milliseconds since 1970.
    pub(super) ts: i64,
    pub(super) mine: bool,
    pub(super) text: String,
    pub(super) mark: Mark,
}

impl Entry {
    pub(super) fn stored(stored: &StoredMessage) -> Self {
        let mine = stored.direction == Direction::Out;
        let mark = if mine { mark(stored.state) } else { Mark::None };
        Self::new(&stored.message, stored.seq, mine, mark)
    }

    pub(super) fn received(message: &ChatMessage, seq: i64) -> Self {
        Self::new(message, seq, false, Mark::None)
    }

    pub(super) fn said(message: &ChatMessage, seq: i64) -> Self {
        Self::new(message, seq, true, Mark::Waiting)
    }

    fn new(message: &ChatMessage, seq: i64, mine: bool, mark: Mark) -> Self {
        Self { id: message.id, seq, ts: message.ts, mine, text: message.text.clone(), mark }
    }

    /// Its rows: a mark, the time, who, and the text, whose further rows are set in so that none can pass for another
    /// message.
    pub(super) fn rows(&self, with: &UserName, look: Look, columns: usize) -> Vec<Line<'static>> {
        let is_wide = columns >= WIDE;
        let time = if is_wide { time(self.ts) } else { hour(self.ts) };
        let who = if self.mine { "you" } else { with.as_str() };
        let indent = if is_wide { 4 + time.len() } else { 4 };
        let text = safe_block(&self.text).replace('\t', "    ");
        // The first row begins where the others do not; wrapped as if its head were text.
        let head = format!("{} {time} {who}: ", look.mark(self.mark));
        let mut lines = text.split('\n');
        let first = lines.next().unwrap_or_default();
        let mut rows = Vec::new();
        let room = columns.saturating_sub(indent).max(2);
        let head_room = columns.saturating_sub(unicode_width::UnicodeWidthStr::width(head.as_str()));
        let (begin, rest) = split_first(first, head_room);
        rows.push(Line::from(vec![
            Span::styled(look.mark(self.mark), look.mark_style(self.mark)),
            Span::styled(format!(" {time} "), look.dim()),
            Span::styled(format!("{who}: "), if self.mine { look.dim() } else { look.bold() }),
            Span::raw(begin),
        ]));
        let further = rest.into_iter().chain(lines.map(str::to_owned));
        for line in further {
            rows.extend(wrap(&line, room).into_iter().map(|row| Line::raw(format!("{}{row}", " ".repeat(indent)))));
        }
        rows
    }

    /// The day it is of, as people write it.
    pub(super) fn day(&self) -> String {
        date(self.ts.div_euclid(1000))
    }
}

/// What a state looks like.
pub(super) const fn mark(state: MessageState) -> Mark {
    match state {
        MessageState::Waiting => Mark::Waiting,
        MessageState::Sent => Mark::Sent,
        MessageState::Stored => Mark::Stored,
        MessageState::Received => Mark::None,
        MessageState::Failed | MessageState::Expired | MessageState::Dropped => Mark::Failed,
    }
}

/// As much of a line as fits beside the head, and what is left of it.
fn split_first(line: &str, room: usize) -> (String, Option<String>) {
    if room < 4 && !line.is_empty() {
        return (String::new(), Some(line.to_owned()));
    }
    let mut rows = wrap(line, room).into_iter();
    let first = rows.next().unwrap_or_default();
    let rest = line.get(first.len()..).map(str::trim_start).unwrap_or_default().to_owned();
    (first, Some(rest).filter(|rest| !rest.is_empty()))
}
