//! The glyphs and styles of the views, with and without colour and Unicode.

use ratatui_core::style::{Color, Modifier, Style};

use super::charset::locale;

/// The capabilities of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalTheme {
    pub color: bool,
    /// False restricts the glyphs to ASCII.
    pub unicode: bool,
}

/// The delivery state of a message, shown as one glyph that is legible without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryMark {
    /// In the outbox.
    Waiting,
    /// Sent and not yet acked.
    Sent,
    /// Acked: stored by the receiver.
    Stored,
    /// Given up.
    Failed,
    /// A received message, which has no mark.
    NotOurs,
}

impl TerminalTheme {
    /// Reads the locale from the environment: Unicode is used if its charset is UTF-8.
    pub fn new(color: bool) -> Self {
        Self { color, unicode: is_utf8(&locale()) }
    }

    pub(super) const fn mark(self, mark: DeliveryMark) -> &'static str {
        match (mark, self.unicode) {
            (DeliveryMark::Waiting, true) => "…",
            (DeliveryMark::Sent, true) => "→",
            (DeliveryMark::Stored, true) => "✓",
            (DeliveryMark::Waiting, false) => ".",
            (DeliveryMark::Sent, false) => ">",
            (DeliveryMark::Stored, false) => "+",
            (DeliveryMark::Failed, _) => "!",
            (DeliveryMark::NotOurs, _) => " ",
        }
    }

    /// Returns the glyph of a user's presence.
    pub(super) const fn presence(self, online: bool) -> &'static str {
        match (online, self.unicode) {
            (true, true) => "●",
            (false, true) => "○",
            (true, false) => "*",
            (false, false) => "-",
        }
    }

    /// Returns the filled and the empty glyph of a bar.
    pub(super) const fn bar(self) -> (&'static str, &'static str) {
        if self.unicode { ("━", "─") } else { ("#", "-") }
    }

    /// Returns the glyph for further rows below.
    pub(super) const fn more_below(self) -> &'static str {
        if self.unicode { "↓" } else { "v" }
    }

    pub(super) const fn separator(self) -> &'static str {
        if self.unicode { " · " } else { " | " }
    }

    /// Returns the glyph for omitted text.
    pub(super) const fn ellipsis(self) -> &'static str {
        if self.unicode { "…" } else { "~" }
    }

    pub(super) fn mark_style(self, mark: DeliveryMark) -> Style {
        match mark {
            DeliveryMark::Waiting => self.colored(Color::Yellow),
            DeliveryMark::Sent | DeliveryMark::NotOurs => self.dim(),
            DeliveryMark::Stored => self.colored(Color::Green),
            DeliveryMark::Failed => self.problem(),
        }
    }

    pub(super) fn dim(self) -> Style {
        self.with(Modifier::DIM)
    }

    pub(super) fn bold(self) -> Style {
        self.with(Modifier::BOLD)
    }

    pub(super) fn problem(self) -> Style {
        self.colored(Color::Red)
    }

    pub(super) fn good(self) -> Style {
        self.colored(Color::Green)
    }

    /// Returns the style of the selected row; the `>` in front of it marks it without colour.
    pub(super) fn selected(self) -> Style {
        self.with(Modifier::REVERSED)
    }

    fn colored(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn with(self, modifier: Modifier) -> Style {
        if self.color { Style::new().add_modifier(modifier) } else { Style::new() }
    }
}

fn is_utf8(locale: &str) -> bool {
    let locale = locale.to_ascii_lowercase();
    // glibc allows a modifier behind the charset, as in `ca_ES.UTF-8@valencia`.
    locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@") || locale.contains("utf8@")
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn locales() {
        for (locale, unicode) in [
            ("pt_BR.UTF-8", true),
            ("C.utf8", true),
            ("de_DE.UTF-8@euro", true),
            ("C", false),
            ("", false),
            ("pt_BR.ISO-8859-1", false),
        ] {
            assert_eq!(is_utf8(locale), unicode, "{locale}");
        }
    }

    #[test]
    fn every_sign_is_one_cell_and_tells_itself_from_the_others() {
        for unicode in [true, false] {
            let theme = TerminalTheme { color: false, unicode };
            let marks = [
                DeliveryMark::Waiting,
                DeliveryMark::Sent,
                DeliveryMark::Stored,
                DeliveryMark::Failed,
                DeliveryMark::NotOurs,
            ]
            .map(|mark| theme.mark(mark));
            for (number, mark) in marks.iter().enumerate() {
                assert_eq!(mark.width(), 1, "{mark}");
                assert!(unicode || mark.is_ascii());
                assert!(!marks[number + 1..].contains(mark), "{mark}");
            }
            assert_ne!(theme.presence(true), theme.presence(false));
        }
    }
}
