//! The place of a loaded page among the rows of a conversation. Pure.

use std::collections::{HashMap, HashSet};

use crate::ui::conversation_item::ConversationItem;
use crate::ui::message_entry::MessageEntry;

/// The rows of a conversation with its newest page.
#[derive(Debug)]
pub(super) struct MergedRows {
    pub(super) rows: Vec<ConversationItem>,
    /// True if rows from before the page are among them.
    pub(super) has_older: bool,
}

/// The place of a row of before, by the last message above it.
#[derive(Debug, Clone, Copy)]
enum RowPlace {
    BeforeThePage,
    /// Below the message of the page that has this index.
    Below(usize),
    BehindThePage,
}

/// Puts the newest page in the place of the rows that it brings again. Notes keep their places, and so do messages that
/// came after the page was read. Rows from before the page are kept only if `keeps_older`, and if nothing is missing
/// between them and the page.
pub(super) fn merge_newest_page(
    page: Vec<MessageEntry>,
    shown: Vec<ConversationItem>,
    keeps_older: bool,
) -> MergedRows {
    let places: HashMap<i64, usize> = page.iter().enumerate().map(|(place, entry)| (entry.seq, place)).collect();
    let newest = page.iter().map(|entry| entry.seq).max();
    let mut below: Vec<Vec<ConversationItem>> = page.iter().map(|_| Vec::new()).collect();
    let (mut older, mut behind) = (Vec::new(), Vec::new());
    let (mut place, mut is_joined) = (RowPlace::BeforeThePage, false);
    // Notes before the first message came while nothing was loaded, shortly before that message.
    let first = shown.iter().position(|row| matches!(row, ConversationItem::Entry(_))).unwrap_or(shown.len());
    let mut leading = shown;
    let rest = leading.split_off(first);
    if rest.is_empty() {
        behind.append(&mut leading);
    }
    for row in rest {
        if let ConversationItem::Entry(entry) = &row {
            place = match places.get(&entry.seq) {
                Some(index) => RowPlace::Below(*index),
                None if newest.is_none_or(|newest| entry.seq > newest) => RowPlace::BehindThePage,
                None => RowPlace::BeforeThePage,
            };
            match place {
                RowPlace::BehindThePage => behind.append(&mut leading),
                RowPlace::Below(index) if index > 0 => below[index - 1].append(&mut leading),
                RowPlace::Below(_) | RowPlace::BeforeThePage => {}
            }
            is_joined |= matches!(place, RowPlace::Below(0));
            if matches!(place, RowPlace::Below(_)) {
                continue;
            }
        }
        match place {
            RowPlace::BeforeThePage => older.push(row),
            RowPlace::Below(index) => below[index].push(row),
            RowPlace::BehindThePage => behind.push(row),
        }
    }
    // Notes after the last message tell of now.
    if matches!(place, RowPlace::BeforeThePage) {
        let end = older.iter().rposition(|row| matches!(row, ConversationItem::Entry(_))).map_or(0, |last| last + 1);
        behind.splice(0..0, older.drain(end..));
    }
    let has_older = keeps_older && is_joined;
    if !has_older {
        older.clear();
    }
    let paged = page.into_iter().zip(below);
    let paged = paged.flat_map(|(entry, below)| std::iter::once(ConversationItem::Entry(entry)).chain(below));
    MergedRows { rows: leading.into_iter().chain(older).chain(paged).chain(behind).collect(), has_older }
}

/// Puts a page of older messages before the rows.
pub(super) fn merge_older_page(page: Vec<MessageEntry>, shown: Vec<ConversationItem>) -> Vec<ConversationItem> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return shown };
    let (range, seqs) = (first.seq..=last.seq, page.iter().map(|entry| entry.seq).collect::<HashSet<_>>());
    // Rows inside the page's range came as events meanwhile. The page holds all of them in order, but
    // their marks are newer. In a room the order isn't that of the arrival.
    let is_in = |row: &ConversationItem| match row {
        ConversationItem::Entry(entry) => seqs.contains(&entry.seq) || range.contains(&entry.seq),
        ConversationItem::Note(_) | ConversationItem::Members(_) | ConversationItem::Problem(_) => false,
    };
    let (known, rest) = shown.into_iter().partition::<Vec<_>, _>(is_in);
    let newest = |entry: MessageEntry| {
        let known = known.iter().find_map(|row| match row {
            ConversationItem::Entry(known) if known.seq == entry.seq => Some(known.clone()),
            _ => None,
        });
        ConversationItem::Entry(known.unwrap_or(entry))
    };
    page.into_iter().map(newest).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use shared::peer::{ChatMessage, MessageId};

    use super::*;

    fn entry(seq: i64) -> MessageEntry {
        let id = MessageId::from_bytes(i128::from(seq).to_be_bytes());
        let message = ChatMessage { id, ts: 0, text: seq.to_string().into(), offer: None, send: None };
        MessageEntry::from_sent(&message, seq)
    }

    fn rows(words: &str) -> Vec<ConversationItem> {
        let row = |word: &str| match word.parse() {
            Ok(seq) => ConversationItem::Entry(entry(seq)),
            Err(_) => ConversationItem::Note(word.to_owned()),
        };
        words.split_whitespace().map(row).collect()
    }

    fn merged(page: &[i64], shown: &str, keeps_older: bool) -> String {
        let merged = merge_newest_page(page.iter().map(|seq| entry(*seq)).collect(), rows(shown), keeps_older);
        let words = merged.rows.iter().map(|row| match row {
            ConversationItem::Entry(entry) => entry.seq.to_string(),
            ConversationItem::Note(text) => text.clone(),
            ConversationItem::Members(_) | ConversationItem::Problem(_) => "?".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn notes_keep_their_places_and_what_is_late_gets_its_own() {
        assert_eq!(merged(&[3, 7, 4], "1 a 3 b 4 c 7 d", true), "1 a 3 b 7 d 4 c");
        assert_eq!(merged(&[3, 4], "1 a 3 b 4 c 9 d", false), "3 b 4 c 9 d");
        assert_eq!(merged(&[], "a 9 b", false), "a 9 b");
        assert_eq!(merged(&[1, 2], "a b", false), "1 2 a b");
        assert_eq!(merged(&[1, 2, 3], "a 3 b", false), "1 2 a 3 b");
    }

    #[test]
    fn rows_from_before_a_gap_are_dropped_apart_from_the_last_notes() {
        assert_eq!(merged(&[8, 9], "1 a 2 b", true), "8 9 b");
        assert_eq!(merged(&[8, 9], "1 a 2 b 9 c", true), "8 9 c");
    }
}
