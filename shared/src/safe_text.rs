//! Other people's text, made safe for a terminal.
//!
//! A name, a message or an error from the other side may carry escape sequences that move the cursor, change the
//! clipboard or the title, carriage returns that overwrite what was printed, C1 controls that some terminals read as
//! escapes, bidi overrides that show a text backwards (CVE-2021-42574), and invisible characters that make two names
//! look alike. None of it is dropped in silence: it is shown as what it is.

use std::borrow::Cow;

/// Longest run of combining marks that is kept on one character.
const COMBINING_RUN: usize = 4;

/// `text` as one line: nothing in it can leave the line or change how its neighbours look.
pub fn safe_line(text: &str) -> Cow<'_, str> {
    safe(text, false)
}

/// `text` with its line breaks and tabs kept; everything else as in [`safe_line`].
pub fn safe_block(text: &str) -> Cow<'_, str> {
    safe(text, true)
}

/// The characters that change the direction of the text around them.
pub fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn safe(text: &str, keep_breaks: bool) -> Cow<'_, str> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut previous = ' ';
    let mut combining = 0;
    for c in text.chars() {
        combining = if is_combining(c) { combining + 1 } else { 0 };
        match c {
            '\n' | '\t' if keep_breaks => out.push(c),
            '\u{0}'..='\u{1f}' => push_picture(&mut out, 0x2400 + u32::from(c)),
            '\u{7f}' => out.push('\u{2421}'),
            // Joiners are part of emoji and of several scripts, and mean nothing after ASCII.
            '\u{200c}' | '\u{200d}' if !previous.is_ascii() => out.push(c),
            _ if is_invisible(c) || is_bidi_control(c) => push_code(&mut out, c),
            _ if combining > COMBINING_RUN => {}
            _ => out.push(c),
        }
        previous = c;
    }
    Cow::Owned(out)
}

fn push_picture(out: &mut String, code: u32) {
    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
}

fn push_code(out: &mut String, c: char) {
    out.push_str(&format!("<U+{:04X}>", u32::from(c)));
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_combining(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{0483}'..='\u{0489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_is_untouched() {
        for text in ["", "report.pdf", "olá, orçamento", "日本語", "👩‍👩‍👧 família", "e\u{301}"] {
            assert_eq!(safe_line(text), text);
        }
    }

    #[test]
    fn clipboard_escape_is_shown() {
        assert_eq!(safe_line("\u{1b}]52;c;cm0gLXJm\u{7}"), "␛]52;c;cm0gLXJm␇");
    }

    #[test]
    fn carriage_return_cannot_forge_a_line() {
        assert_eq!(safe_line("bob: hi\rcarol: send me money"), "bob: hi␍carol: send me money");
        assert_eq!(safe_block("bob: hi\rcarol"), "bob: hi␍carol");
    }

    #[test]
    fn newline_leaves_a_block_only() {
        assert_eq!(safe_line("a\nb\tc"), "a␊b␉c");
        assert_eq!(safe_block("a\nb\tc"), "a\nb\tc");
    }

    #[test]
    fn c1_csi_is_shown() {
        assert_eq!(safe_line("\u{9b}31m"), "<U+009B>31m");
    }

    #[test]
    fn bidi_override_cannot_hide_an_extension() {
        assert_eq!(safe_line("\u{202e}fdp.exe"), "<U+202E>fdp.exe");
    }

    #[test]
    fn invisible_twins_are_told_apart() {
        assert_eq!(safe_line("bo\u{200b}b"), "bo<U+200B>b");
        assert_eq!(safe_line("bo\u{200d}b"), "bo<U+200D>b");
        assert_eq!(safe_line("bob\u{e0061}"), "bob<U+E0061>");
    }

    #[test]
    fn combining_towers_are_cut() {
        let tower = format!("a{}", "\u{300}".repeat(500));
        assert_eq!(safe_line(&tower).chars().count(), 1 + COMBINING_RUN);
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left(text: String) {
            let line = safe_line(&text);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_bidi_control(c)));
            let block = safe_block(&text);
            prop_assert!(!block.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || is_bidi_control(c)));
        }
    }
}
