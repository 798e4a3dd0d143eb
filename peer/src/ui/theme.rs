//! The glyphs and styles of the views, with and without colour and Unicode.

use ratatui_core::style::{Color, Modifier, Style};

use super::charset::locale;

/// Colours of the 256-colour palette for authors: each has a contrast of at least 3.4 to black and to white, so that it
/// is readable on dark and on light backgrounds.
const AUTHOR_COLORS: [u8; 12] = [28, 30, 32, 64, 68, 98, 127, 130, 133, 161, 166, 167];

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
    /// In a room: stored by some of the other members.
    Partly { count: usize, of: usize },
    /// Acked: stored by the receiver, or by all other members of a room.
    Stored,
    /// Given up.
    Failed,
    /// A received message, which has no mark.
    NotOurs,
}

impl DeliveryMark {
    /// Returns the mark of a room's message that `count` of `of` other members have.
    pub(super) const fn of_counts(count: usize, of: usize) -> Self {
        match count {
            // Alone in the room, nobody is left who could have it.
            _ if count >= of => Self::Stored,
            0 => Self::Waiting,
            _ => Self::Partly { count, of },
        }
    }

    /// True if the mark changes no more.
    pub(super) const fn is_settled(self) -> bool {
        matches!(self, Self::Stored | Self::Failed | Self::NotOurs)
    }
}

impl TerminalTheme {
    /// Reads the locale from the environment: Unicode is used if its charset is UTF-8.
    pub fn new(color: bool) -> Self {
        Self { color, unicode: is_utf8(&locale()) }
    }

    pub(super) const fn mark(self, mark: DeliveryMark) -> &'static str {
        match (mark, self.unicode) {
            (DeliveryMark::Waiting, true) => "…",
            (DeliveryMark::Sent | DeliveryMark::Partly { .. }, true) => "→",
            (DeliveryMark::Stored, true) => "✓",
            (DeliveryMark::Waiting, false) => ".",
            (DeliveryMark::Sent | DeliveryMark::Partly { .. }, false) => ">",
            (DeliveryMark::Stored, false) => "+",
            (DeliveryMark::Failed, _) => "!",
            (DeliveryMark::NotOurs, _) => " ",
        }
    }

    /// Returns a mark that fills `cells`: that of a room's message says how many members have it, where that fits.
    pub(super) fn wide_mark(self, mark: DeliveryMark, cells: usize) -> String {
        let counted = match mark {
            DeliveryMark::Partly { count, of } => Some(format!("{count}/{of}")).filter(|text| text.len() <= cells),
            _ => None,
        };
        format!("{:<cells$}", counted.as_deref().unwrap_or_else(|| self.mark(mark)))
    }

    /// Returns the glyph of a message that calls the user by name.
    pub(super) const fn mention() -> &'static str {
        "@"
    }

    /// Returns the style of an author's name in a room.
    pub(super) fn author(self, name: &str) -> Style {
        // FNV-1a: a person has the same colour on every machine and in every version.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193)
        });
        let index = usize::try_from(hash).unwrap_or(0) % AUTHOR_COLORS.len();
        self.colored(Color::Indexed(AUTHOR_COLORS[index])).patch(self.bold())
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
            DeliveryMark::Sent | DeliveryMark::Partly { .. } | DeliveryMark::NotOurs => self.dim(),
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

    #[test]
    fn authors_are_readable_on_dark_and_on_light_and_keep_their_colour() {
        let channel = |level: u8| {
            let value = if level == 0 { 0.0 } else { f64::from(55 + 40 * u32::from(level)) / 255.0 };
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055_f64).powf(2.4) }
        };
        for index in AUTHOR_COLORS {
            let cube = index - 16;
            let luminance = 0.2126 * channel(cube / 36) + 0.7152 * channel(cube / 6 % 6) + 0.0722 * channel(cube % 6);
            let (to_black, to_white) = ((luminance + 0.05) / 0.05, 1.05 / (luminance + 0.05));
            assert!(to_black >= 3.4 && to_white >= 3.4, "{index}: {to_black:.2} {to_white:.2}");
        }
        let theme = TerminalTheme { color: true, unicode: true };
        assert_eq!(theme.author("bob"), theme.author("BOB"));
        assert_eq!(theme.author("bob").fg, Some(Color::Indexed(AUTHOR_COLORS[8])));
        assert_eq!(TerminalTheme { color: false, unicode: true }.author("bob"), Style::new());
    }

    #[test]
    fn a_mark_keeps_its_width() {
        let theme = TerminalTheme { color: false, unicode: true };
        let partly = DeliveryMark::of_counts(3, 5);
        assert_eq!(theme.wide_mark(partly, 3), "3/5");
        assert_eq!(theme.wide_mark(partly, 5), "3/5  ");
        assert_eq!(theme.wide_mark(DeliveryMark::of_counts(10, 12), 3), "→  ", "the room grew");
        assert_eq!(theme.wide_mark(DeliveryMark::of_counts(5, 5), 3), "✓  ");
        assert_eq!(theme.wide_mark(DeliveryMark::of_counts(0, 5), 3), "…  ");
        assert_eq!(DeliveryMark::of_counts(0, 0), DeliveryMark::Stored);
    }
}
