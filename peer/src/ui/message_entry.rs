//! Messages as rows of a conversation, the same in both views. Pure.

use localization::tr;
use ratatui_core::style::Style;
use ratatui_core::text::Span;
use shared::account_name::speaker_label;
use shared::peer::{ChatMessage, FileSend, MessageId};
use shared::room::MessageHash;
use shared::{UntrustedText, UserName};

use super::event_text::send_words;
use super::human_format::{date, hour_and_minute, time_of_day};
use super::text_rows::{TextRow, WrapOptions, layout_rows};
use super::theme::{DeliveryMark, TerminalTheme};
use crate::engine::chat::{DeliveryCount, MessageDirection, MessageState, RoomMessageDetails, StoredMessage};
use crate::engine::room_values::RoomPost;
use crate::engine::rooms::is_mentioned;

/// The width from which rows have seconds, and text indented behind the head.
const WIDE_COLUMNS: usize = 40;
/// The difference in milliseconds up to which writing and arrival count as the same time.
const CLOCK_TOLERANCE_MS: u64 = 2 * 60 * 1000;
/// The difference in milliseconds up to which a message of a room can have been passed on late.
const PLAUSIBLE_DELAY_MS: u64 = 24 * 60 * 60 * 1000;

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
    /// What its author sends with it, if that is another user.
    pub(super) send: Option<FileSend>,
    /// `None` in a conversation with one user.
    pub(super) room: Option<RoomEntryDetails>,
}

/// The details of an entry in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoomEntryDetails {
    /// The cells of the mark, enough for all other members.
    pub(super) mark_cells: usize,
    pub(super) mentions_me: bool,
    /// True if it belongs before messages that are shown above it.
    pub(super) is_late: bool,
}

impl MessageEntry {
    /// Creates the entry of a message between two users.
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
        let send = message.send.clone().filter(|_| author.is_some());
        let (id, text) = (message.id, message.text.clone());
        let entry = Self { id, seq, at, written_at, author, text, mark, send, room: None };
        entry.with_send_number(None)
    }

    /// Says what is sent, in our words and with its number in the view: the author's words are for older peers.
    pub(super) fn with_send_number(mut self, number: Option<usize>) -> Self {
        if let (Some(send), Some(author)) = (&self.send, &self.author) {
            self.text = send_words(author, send, number).into();
        }
        self
    }

    /// Creates the entry of a room's message; `others` is the number of other members.
    pub(super) fn from_post(post: &RoomPost, me: &UserName, others: usize) -> Self {
        let author = Some(&post.from).filter(|from| *from != me).cloned();
        let mark = if author.is_none() { DeliveryMark::of_counts(0, others) } else { DeliveryMark::NotOurs };
        let details = RoomEntryDetails {
            mark_cells: counted_mark_cells(others),
            mentions_me: post.mentions_me && author.is_some(),
            is_late: post.late,
        };
        Self::in_room((post_id(&post.id), post.seq), author, &post.text, mark, details).at_times(post.ts, post.at)
    }

    /// Creates the entry of a room's message in the history.
    pub(super) fn from_stored_post(
        stored: &StoredMessage,
        room: &RoomMessageDetails,
        me: &UserName,
        others: usize,
    ) -> Self {
        let StoredMessage { seq, message, at, .. } = stored;
        let author = (stored.direction == MessageDirection::In).then(|| stored.peer.clone());
        let mark = room
            .delivery
            .map_or(DeliveryMark::NotOurs, |DeliveryCount { count, of }| DeliveryMark::of_counts(count, of));
        let details = RoomEntryDetails {
            mark_cells: counted_mark_cells(others),
            mentions_me: author.is_some() && is_mentioned(message.text.as_received(), me),
            // It stands in its place.
            is_late: false,
        };
        Self::in_room((message.id, *seq), author, &message.text, mark, details).at_times(message.ts, *at)
    }

    fn in_room(
        (id, seq): (MessageId, i64),
        author: Option<UserName>,
        text: &UntrustedText,
        mark: DeliveryMark,
        room: RoomEntryDetails,
    ) -> Self {
        Self { id, seq, at: 0, written_at: None, author, text: text.clone(), mark, send: None, room: Some(room) }
    }

    /// Sets the times of a room's message. What was passed on later is shown with the time of writing, unless that can't
    /// be right.
    fn at_times(self, written: i64, stored: i64) -> Self {
        // Nothing arrives before it is written: beyond the tolerance such a time is that of a wrong clock.
        let limit = if written > stored { CLOCK_TOLERANCE_MS } else { PLAUSIBLE_DELAY_MS };
        if self.is_mine() || written.abs_diff(stored) < limit {
            return Self { at: written, ..self };
        }
        Self { at: stored, written_at: Some(written), ..self }
    }

    /// Returns true if this profile's user wrote the message.
    pub(super) const fn is_mine(&self) -> bool {
        self.author.is_none()
    }

    /// Returns the message as rows: mark, time, sender, text. Further rows are indented so that none can pass for
    /// another message. If `joins`, a long word may use the full width.
    pub(super) fn rows(&self, theme: TerminalTheme, columns: usize, joins: bool) -> Vec<TextRow> {
        let is_wide = is_wide(columns);
        let time = if is_wide { time_of_day(self.at) } else { hour_and_minute(self.at) };
        let who = self.author.as_ref().map_or_else(|| tr!("author" => "you").into(), speaker_label);
        let mark = match self.room {
            Some(RoomEntryDetails { mentions_me: true, .. }) => {
                Span::styled(format!("{:<1$}", TerminalTheme::mention(), self.mark_cells(columns)), theme.bold())
            }
            _ => mark_span(self.mark, self.mark_cells(columns), theme),
        };
        let mark_cells = mark.width();
        let indent = if is_wide { mark_cells + 3 + time.len() } else { mark_cells + 3 };
        // The terminal's tab stops would break the indentation.
        let text = format!("{}{}", self.text.safe_block().replace('\t', "    "), self.written_note());
        let who_style = match (&self.author, self.room) {
            (None, _) => theme.dim(),
            (Some(author), Some(_)) => theme.author(author.as_str()),
            (Some(_), None) => theme.bold(),
        };
        let late = self.room.is_some_and(|room| room.is_late);
        let time = if late { tr!("{time} late,", time) } else { time };
        let head =
            vec![mark, Span::styled(format!(" {time} "), theme.dim()), Span::styled(format!("{who}: "), who_style)];
        layout_rows(head, &text, Style::new(), WrapOptions { columns, indent, joins_words: joins })
    }

    /// Returns the cells of the mark on a screen of this width.
    pub(super) fn mark_cells(&self, columns: usize) -> usize {
        self.room.filter(|_| is_wide(columns)).map_or(1, |room| room.mark_cells)
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
        let note = match written > self.at {
            true => tr!("(their clock: {time})", time = when),
            false => tr!("(written {time})", time = when),
        };
        format!(" {note}")
    }
}

/// Returns the id of a room's message among entries: the first half of its hash, as in the history.
pub(super) fn post_id(hash: &MessageHash) -> MessageId {
    MessageId::from_bytes(*hash.short().as_bytes())
}

/// True if rows of this width have seconds, and counts in their marks.
pub(super) const fn is_wide(columns: usize) -> bool {
    columns >= WIDE_COLUMNS
}

/// Returns a mark in its style that fills `cells`.
pub(super) fn mark_span(mark: DeliveryMark, cells: usize, theme: TerminalTheme) -> Span<'static> {
    Span::styled(theme.wide_mark(mark, cells), theme.mark_style(mark))
}

/// Returns the cells that the mark of a room's message takes, from `1/N` to `N/N`.
fn counted_mark_cells(others: usize) -> usize {
    2 * others.max(1).to_string().len() + 1
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
            let message =
                ChatMessage { id: MessageId::from_bytes([1; 16]), ts, text: "hi".into(), offer: None, send: None };
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
        let message =
            ChatMessage { id: MessageId::from_bytes([1; 16]), ts: 0, text: "hi".into(), offer: None, send: None };
        let row = |entry: MessageEntry| entry.rows(look, 70, true)[0].line.to_string();
        assert!(row(MessageEntry::from_received(&you, &message, 1, 0)).ends_with("<you>: hi"));
        assert!(row(MessageEntry::from_sent(&message, 1)).ends_with(" you: hi"));
    }

    #[test]
    fn a_room_s_messages_say_who_wrote_them_and_how_many_have_them() {
        let (me, look): (UserName, _) = ("alice".parse().unwrap(), TerminalTheme { color: false, unicode: true });
        let noon = 1_700_000_000_000;
        let post = |from: &str, ts: i64| RoomPost {
            room: "lab".parse().unwrap(),
            room_id: shared::RoomId::from_bytes([1; 16]),
            from: from.parse().unwrap(),
            id: MessageHash::from_bytes([7; 32]),
            seq: 1,
            ts,
            at: noon,
            text: "hi".into(),
            late: false,
            mentions_me: false,
        };
        let row = |post: RoomPost, mark: Option<DeliveryMark>| {
            let entry = MessageEntry::from_post(&post, &me, 12);
            let mark = mark.unwrap_or(entry.mark);
            MessageEntry { mark, ..entry }.rows(look, 70, true)[0].line.to_string()
        };
        assert!(
            row(post("bob", noon), None).starts_with("      ") && row(post("bob", noon), None).ends_with("bob: hi")
        );
        let mine = row(post("alice", noon), Some(DeliveryMark::of_counts(3, 12)));
        assert!(mine.starts_with("3/12  ") && mine.ends_with(" you: hi"), "{mine}");
        let called = row(RoomPost { mentions_me: true, late: true, ..post("bob", noon) }, None);
        assert!(called.starts_with("@ ") && called.ends_with(" late, bob: hi"), "{called}");
        // Written before and passed on now; or by a clock that is wrong.
        let hour = 3_600_000;
        assert!(row(post("bob", noon - hour), None).contains(&time_of_day(noon - hour)));
        assert!(row(post("bob", noon + hour), None).contains("(their clock: "));
        assert!(row(post("bob", 0), None).contains("(written 1970"));
    }
}
