//! Calling for attention: the bell, and what some terminals make a notification of.

use shared::{UntrustedText, UserName};

/// Longest text of a notification, in characters.
const MAX_TEXT_CHARS: usize = 200;

/// Which notifications a terminal understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationProtocol {
    /// None.
    BellOnly,
    /// OSC 9.
    Osc9,
    /// OSC 777.
    Osc777,
}

impl NotificationProtocol {
    /// What the terminal that is named so understands; one that isn't known to understand anything gets nothing.
    pub fn for_terminal(term: Option<&str>, program: Option<&str>) -> Self {
        match (term.unwrap_or_default(), program.unwrap_or_default()) {
            (_, "iTerm.app" | "WezTerm" | "ghostty") => Self::Osc9,
            (term, _) if term.contains("kitty") || term.contains("ghostty") => Self::Osc9,
            (term, _) if term.starts_with("foot") || term.starts_with("rxvt-unicode") => Self::Osc777,
            _ => Self::BellOnly,
        }
    }

    /// The same of the terminal of this process.
    pub fn detect() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::for_terminal(variable("TERM").as_deref(), variable("TERM_PROGRAM").as_deref())
    }

    /// The bytes that call for attention because `from` wrote `text`.
    pub fn escape_sequence(self, from: &UserName, text: &UntrustedText) -> String {
        let text: String = text.safe_line().chars().take(MAX_TEXT_CHARS).collect();
        match self {
            Self::BellOnly => "\u{7}".to_owned(),
            Self::Osc9 => format!("\u{7}\u{1b}]9;{from}: {text}\u{1b}\\"),
            // No name has a semicolon, which would end the title.
            Self::Osc777 => format!("\u{7}\u{1b}]777;notify;{from};{text}\u{1b}\\"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_leave_its_notification() {
        let bob: UserName = "bob".parse().unwrap();
        let call = NotificationProtocol::Osc9.escape_sequence(&bob, &"hi\u{1b}\\\u{7}\u{9c}\nrm -rf".into());
        assert_eq!(call, "\u{7}\u{1b}]9;bob: hi␛\\␇<U+009C>␊rm -rf\u{1b}\\");
        assert_eq!(
            NotificationProtocol::Osc777.escape_sequence(&bob, &"x".into()),
            "\u{7}\u{1b}]777;notify;bob;x\u{1b}\\"
        );
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
