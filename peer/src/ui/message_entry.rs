//! Messages as rows of a conversation, the same in both views. Pure.

use ratatui_core::style::Style;
use ratatui_core::text::Span;
use shared::account_name::speaker_label;
use shared::peer::{ChatMessage, MessageId};
use shared::{UntrustedText, UserName};

use super::human_format::{date, hour_and_minute, time_of_day};
use super::text_rows::{TextRow, WrapOptions, layout_rows};
use super::theme::{DeliveryMark, TerminalTheme};
use crate::engine::chat::{MessageDirection, MessageState, StoredMessage};

/// The width from which rows have seconds, and text indented behind the head.
const WIDE_COLUMNS: usize = 40;
/// The difference in milliseconds up to which writing and arrival count as the same time.
const CLOCK_TOLERANCE_MS: u64 = 2 * 60 * 1000;

/// A message for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageEntry {
    pub(super) id: MessageId,
    pub(super) seq: i64,
    /// Unix time in milliseconds by the local clock: of storage for received messages, of writing for own ones.
    pub(super) at: i64,
    /// Time of writing by the author's clock, if it differs from `at`.
    pub(super) written_at: Option<i64>,
    /// `None` for this profile's user.
    pub(super) author: Option<UserName>,
    pub(super) text: UntrustedText,
    pub(super) mark: DeliveryMark,
}

impl MessageEntry {
    pub(super) fn from_stored(stored: &StoredMessage) -> Self {
        match stored.direction {
            MessageDirection::In => Self::from_received(&stored.peer, &stored.message, stored.seq, stored.at),
            MessageDirection::Out => {
                Self::new(&stored.message, stored.seq, None, delivery_mark(stored.state), stored.at)
            }
        }
    }

    /// Creates the entry of a message received and stored at `at`.
    pub(super) fn from_received(author: &UserName, message: &ChatMessage, seq: i64, at: i64) -> Self {
        Self::new(message, seq, Some(author.clone()), DeliveryMark::NotOurs, at)
    }

    pub(super) fn from_sent(message: &ChatMessage, seq: i64) -> Self {
        Self::new(message, seq, None, DeliveryMark::Waiting, message.ts)
    }

    fn new(message: &ChatMessage, seq: i64, author: Option<UserName>, mark: DeliveryMark, at: i64) -> Self {
        // Own messages show the time of writing already.
        let written_at = Some(message.ts).filter(|ts| author.is_some() && ts.abs_diff(at) >= CLOCK_TOLERANCE_MS);
        Self { id: message.id, seq, at, written_at, author, text: message.text.clone(), mark }
    }

    /// Returns true if this profile's user wrote the message.
    pub(super) const fn is_mine(&self) -> bool {
        self.author.is_none()
    }

    /// Returns the message as rows: mark, time, sender, text. Further rows are indented so that none can pass for
    /// another message. If `joins`, a long word may use the full width.
    pub(super) fn rows(&self, theme: TerminalTheme, columns: usize, joins: bool) -> Vec<TextRow> {
        let is_wide = columns >= WIDE_COLUMNS;
        let time = if is_wide { time_of_day(self.at) } else { hour_and_minute(self.at) };
        let who = self.author.as_ref().map_or_else(|| "you".into(), speaker_label);
        let indent = if is_wide { 4 + time.len() } else { 4 };
        // The terminal's tab stops would break the indentation.
        let text = format!("{}{}", self.text.safe_block().replace('\t', "    "), self.written_note());
        let head = vec![
            Span::styled(theme.mark(self.mark), theme.mark_style(self.mark)),
            Span::styled(format!(" {time} "), theme.dim()),
            Span::styled(format!("{who}: "), if self.is_mine() { theme.dim() } else { theme.bold() }),
        ];
        layout_rows(head, &text, Style::new(), WrapOptions { columns, indent, joins_words: joins })
    }

    /// Returns the local date of the message.
    pub(super) fn day(&self) -> String {
        date(self.at.div_euclid(1000))
    }

    /// Returns the note with the time of writing, if it differs from the time shown.
    fn written_note(&self) -> String {
        let Some(written) = self.written_at else { return String::new() };
        let day = date(written.div_euclid(1000));
        let when =
            if day == self.day() { hour_and_minute(written) } else { format!("{day} {}", hour_and_minute(written)) };
        // A time in the future means a wrong clock; one in the past may mean a delayed delivery.
        if written > self.at { format!(" (their clock: {when})") } else { format!(" (written {when})") }
    }
}

/// Returns the mark of a delivery state.
pub(super) const fn delivery_mark(state: MessageState) -> DeliveryMark {
    match state {
        MessageState::Waiting => DeliveryMark::Waiting,
        MessageState::Sent => DeliveryMark::Sent,
        MessageState::Stored => DeliveryMark::Stored,
        MessageState::Received => DeliveryMark::NotOurs,
        MessageState::Failed | MessageState::Expired | MessageState::Dropped => DeliveryMark::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_the_one_here_and_theirs_is_told_where_it_differs() {
        let (bob, look): (UserName, _) = ("bob".parse().unwrap(), TerminalTheme { color: false, unicode: true });
        let noon = 1_700_000_000_000;
        let row = |ts: i64| {
            let message = ChatMessage { id: MessageId::from_bytes([1; 16]), ts, text: "hi".into(), offer: None };
            MessageEntry::from_received(&bob, &message, 1, noon).rows(look, 70, true)[0].line.to_string()
        };
        assert!(row(noon + 60_000).ends_with("bob: hi"), "{}", row(noon + 60_000));
        assert!(row(noon).contains(&time_of_day(noon)));
        for (ts, word) in [(noon - 3_600_000, "(written "), (noon + 3_600_000, "(their clock: "), (0, "(written 19")] {
            assert!(row(ts).contains(&time_of_day(noon)) && row(ts).contains(word), "{}", row(ts));
        }
        assert!(row(i64::MIN).contains("(written "), "whatever they say");
    }

    #[test]
    fn somebody_who_is_called_you_is_not_the_user() {
        let (you, look): (UserName, _) = ("you".parse().unwrap(), TerminalTheme { color: false, unicode: true });
        let message = ChatMessage { id: MessageId::from_bytes([1; 16]), ts: 0, text: "hi".into(), offer: None };
        let row = |entry: MessageEntry| entry.rows(look, 70, true)[0].line.to_string();
        assert!(row(MessageEntry::from_received(&you, &message, 1, 0)).ends_with("<you>: hi"));
        assert!(row(MessageEntry::from_sent(&message, 1)).ends_with(" you: hi"));
    }
}
