//! The pages shown over the panes: help, search results. Pure.

use ratatui_core::layout::Size;
use ratatui_core::text::Line;

use super::help_page::help_lines;
use crate::engine::chat::ConversationName;
use crate::ui::message_entry::MessageEntry;
use crate::ui::text_rows::TextRow;
use crate::ui::theme::TerminalTheme;

/// A page shown over the panes.
#[derive(Debug)]
pub(super) enum ViewOverlay {
    Help {
        /// The number of rows scrolled off at the top.
        scroll_down: usize,
    },
    Found {
        words: String,
        entries: Vec<MessageEntry>,
        /// The number of rows scrolled off at the bottom.
        scroll_back: usize,
    },
}

impl ViewOverlay {
    /// Returns all rows below the heading. The help is that of the conversation `with`.
    pub(super) fn rows(&self, columns: usize, theme: TerminalTheme, with: Option<&ConversationName>) -> Vec<TextRow> {
        match self {
            Self::Help { .. } => help_lines(columns, theme, with).into_iter().map(TextRow::from).collect(),
            Self::Found { entries, .. } => {
                let rows = entries.iter().flat_map(|entry| {
                    let mut rows = entry.rows(theme, columns, false);
                    // Results may be far apart in time, so each one shows its day.
                    rows.insert(0, Line::styled(entry.day(), theme.dim()).into());
                    rows
                });
                rows.collect()
            }
        }
    }

    /// Limits scrolling to the rows that a screen of this size doesn't show.
    pub(super) fn clamp_scroll(&mut self, size: Size, theme: TerminalTheme, with: Option<&ConversationName>) {
        // The heading and the help row take one each.
        let most = usize::from(size.height.saturating_sub(2));
        let limit = self.rows(size.width.into(), theme, with).len().saturating_sub(most);
        match self {
            Self::Help { scroll_down: scroll } | Self::Found { scroll_back: scroll, .. } => {
                *scroll = (*scroll).min(limit);
            }
        }
    }
}
