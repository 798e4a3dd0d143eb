//! Items of a conversation as rows, the same in both views. Pure.

use localization::tr;
use ratatui_core::text::{Line, Span};
use shared::safe_text::safe_block;

use super::member_changes::MemberChanges;
use super::message_entry::MessageEntry;
use super::text_rows::{TextRow, WrapOptions, layout_rows};
use super::text_wrap::truncate;
use super::theme::TerminalTheme;

/// An item of a conversation.
#[derive(Debug, Clone)]
pub(super) enum ConversationItem {
    Entry(MessageEntry),
    Note(String),
    /// Joins and leaves of a room.
    Members(MemberChanges),
    Problem(String),
}

impl ConversationItem {
    /// Lays the item out as rows. If `joins`, a long word may use the full width.
    pub(super) fn rows(&self, theme: TerminalTheme, columns: usize, joins: bool) -> Vec<TextRow> {
        // Further rows are indented, so that no line of a note can pass for a message.
        let plain = |text: &str, style| {
            let wrapping = WrapOptions { columns, indent: 2, joins_words: joins };
            layout_rows(vec![Span::raw("  ")], &safe_block(text).replace('\t', "    "), style, wrapping)
        };
        match self {
            Self::Entry(entry) => entry.rows(theme, columns, joins),
            Self::Note(text) => plain(text, theme.dim()),
            Self::Members(changes) => plain(&changes.words(), theme.dim()),
            Self::Problem(text) => plain(&format!("! {text}"), theme.problem()),
        }
    }
}

/// Returns the words above the first unread message.
pub(super) fn unread_heading(unread: usize) -> String {
    tr!("{n} new" | "{n} new" % unread)
}

/// Returns a separator: a new day, or the first unread message.
pub(super) fn rule_row(text: &str, theme: TerminalTheme, columns: usize) -> TextRow {
    let dash = if theme.unicode { "──" } else { "--" };
    Line::styled(truncate(&format!("{dash} {text} {dash}"), columns, ""), theme.dim()).into()
}
