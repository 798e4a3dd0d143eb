//! Notifications through the terminal: the bell, and the escape sequences of some terminals.

use std::fmt::Display;

use shared::UntrustedText;
use shared::safe_text::safe_line;

/// Characters of a notification, at most.
const MAX_TEXT_CHARS: usize = 200;

/// A terminal's notification protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationProtocol {
    /// Only the bell.
    BellOnly,
    /// OSC 9, text only.
    Osc9,
    /// OSC 777, title and text.
    Osc777,
}

impl NotificationProtocol {
    /// Returns the protocol of a terminal, given `TERM` and `TERM_PROGRAM`. Unknown terminals get the bell only, as
    /// some print unknown sequences.
    pub fn for_terminal(term: Option<&str>, program: Option<&str>) -> Self {
        match (term.unwrap_or_default(), program.unwrap_or_default()) {
            (_, "iTerm.app" | "WezTerm" | "ghostty") => Self::Osc9,
            (term, _) if term.contains("kitty") || term.contains("ghostty") => Self::Osc9,
            (term, _) if term.starts_with("foot") || term.starts_with("rxvt-unicode") => Self::Osc777,
            _ => Self::BellOnly,
        }
    }

    /// Returns the protocol of this process's terminal.
    pub fn detect() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::for_terminal(variable("TERM").as_deref(), variable("TERM_PROGRAM").as_deref())
    }

    /// Returns the bytes that announce a message.
    pub fn escape_sequence(self, from: &impl Display, text: &UntrustedText) -> String {
        let from = from.to_string();
        let from = safe_line(&from);
        // An escape character would end the notification, and the terminal would obey the rest.
        let text: String = text.safe_line().chars().take(MAX_TEXT_CHARS).collect();
        match self {
            Self::BellOnly => "\u{7}".to_owned(),
            Self::Osc9 => format!("\u{7}\u{1b}]9;{from}: {text}\u{1b}\\"),
            // User names contain no semicolon, which would end the title; those of guests may.
            Self::Osc777 => format!("\u{7}\u{1b}]777;notify;{};{text}\u{1b}\\", from.replace(';', ",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_leave_its_notification() {
        let bob = "bob";
        let call = NotificationProtocol::Osc9.escape_sequence(&bob, &"hi\u{1b}\\\u{7}\u{9c}\nrm -rf".into());
        assert_eq!(call, "\u{7}\u{1b}]9;bob: hi␛\\␇<U+009C>␊rm -rf\u{1b}\\");
        assert_eq!(
            NotificationProtocol::Osc777.escape_sequence(&bob, &"x".into()),
            "\u{7}\u{1b}]777;notify;bob;x\u{1b}\\"
        );
        let guest = NotificationProtocol::Osc777.escape_sequence(&"guest 3.1 “a;b”", &"x".into());
        assert_eq!(guest, "\u{7}\u{1b}]777;notify;guest 3.1 “a,b”;x\u{1b}\\");
        assert_eq!(NotificationProtocol::BellOnly.escape_sequence(&bob, &"x".into()), "\u{7}");
    }

    #[test]
    fn only_terminals_that_understand_are_told() {
        let of = NotificationProtocol::for_terminal;
        assert_eq!(of(Some("xterm-kitty"), None), NotificationProtocol::Osc9);
        assert_eq!(of(Some("xterm-256color"), Some("WezTerm")), NotificationProtocol::Osc9);
        assert_eq!(of(Some("foot-extra"), None), NotificationProtocol::Osc777);
        for term in ["linux", "xterm", "dumb", "screen"] {
            assert_eq!(of(Some(term), None), NotificationProtocol::BellOnly);
        }
    }
}
