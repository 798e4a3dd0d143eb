//! Messages as rows of a conversation, the same in both views. Pure.

use ratatui_core::style::Style;
use ratatui_core::text::Span;
use shared::peer::{ChatMessage, MessageId};
use shared::{UntrustedText, UserName};

use super::look::{Look, Mark};
use super::rows::{TextRow, Wrapping, rows};
use super::text::{date, hour, time};
use crate::engine::chat::{Direction, MessageState, StoredMessage};

/// From here on there is room for seconds, and for text that is set in below them.
const WIDE: usize = 40;
/// Between what was written and what came, milliseconds that nobody needs to know of.
const SAME_TIME: u64 = 2 * 60 * 1000;

/// A message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: MessageId,
    pub(super) seq: i64,
    /// When, by the clock here, milliseconds since 1970.
    pub(super) at: i64,
    /// When it was written, by its author's clock, if that is another time.
    pub(super) written: Option<i64>,
    pub(super) mine: bool,
    pub(super) text: UntrustedText,
    pub(super) mark: Mark,
}

impl Entry {
    pub(super) fn stored(stored: &StoredMessage) -> Self {
        let mine = stored.direction == Direction::Out;
        let mark = if mine { mark(stored.state) } else { Mark::None };
        Self::new(&stored.message, stored.seq, mine, mark, stored.at)
    }

    /// What somebody wrote, that was stored here at this time.
    pub(super) fn received(message: &ChatMessage, seq: i64, at: i64) -> Self {
        Self::new(message, seq, false, Mark::None, at)
    }

    pub(super) fn said(message: &ChatMessage, seq: i64) -> Self {
        Self::new(message, seq, true, Mark::Waiting, message.ts)
    }

    fn new(message: &ChatMessage, seq: i64, mine: bool, mark: Mark, at: i64) -> Self {
        let written = Some(message.ts).filter(|ts| !mine && ts.abs_diff(at) >= SAME_TIME);
        Self { id: message.id, seq, at, written, mine, text: message.text.clone(), mark }
    }

    /// Its rows: a mark, the time, who, and the text, whose further rows are set in so that none can pass for another
    /// message. `joins` is whether a long word may go from edge to edge.
    pub(super) fn rows(&self, with: &UserName, look: Look, columns: usize, joins: bool) -> Vec<TextRow> {
        let is_wide = columns >= WIDE;
        let time = if is_wide { time(self.at) } else { hour(self.at) };
        let who = if self.mine { "you" } else { with.as_str() };
        let indent = if is_wide { 4 + time.len() } else { 4 };
        let text = format!("{}{}", self.text.block().replace('\t', "    "), self.told_written());
        let head = vec![
            Span::styled(look.mark(self.mark), look.mark_style(self.mark)),
            Span::styled(format!(" {time} "), look.dim()),
            Span::styled(format!("{who}: "), if self.mine { look.dim() } else { look.bold() }),
        ];
        rows(head, &text, Style::new(), Wrapping { columns, indent, joins })
    }

    /// The day it is of, as people write it.
    pub(super) fn day(&self) -> String {
        date(self.at.div_euclid(1000))
    }

    /// When it was written, where that says more than when it came.
    fn told_written(&self) -> String {
        let Some(written) = self.written else { return String::new() };
        let day = date(written.div_euclid(1000));
        let when = if day == self.day() { hour(written) } else { format!("{day} {}", hour(written)) };
        // One that is ahead is a clock that is wrong; one that is behind may have waited.
        if written > self.at { format!(" (their clock: {when})") } else { format!(" (written {when})") }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_one_here_and_theirs_is_told_where_it_differs() {
        let (bob, look): (UserName, _) = ("bob".parse().unwrap(), Look { color: false, unicode: true });
        let noon = 1_700_000_000_000;
        let row = |ts: i64| {
            let message =
                ChatMessage { id: MessageId::from_bytes([1; 16]), ts, text: "hi".into(), offer: None, room: None };
            Entry::received(&message, 1, noon).rows(&bob, look, 70, true)[0].line.to_string()
        };
        assert!(row(noon + 60_000).ends_with("bob: hi"), "{}", row(noon + 60_000));
        assert!(row(noon).contains(&time(noon)));
        for (ts, word) in [(noon - 3_600_000, "(written "), (noon + 3_600_000, "(their clock: "), (0, "(written 19")] {
            assert!(row(ts).contains(&time(noon)) && row(ts).contains(word), "{}", row(ts));
        }
        assert!(row(i64::MIN).contains("(written "), "whatever they say");
    }
}
