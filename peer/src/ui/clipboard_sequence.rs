//! The escape sequence that puts a text into the clipboard of the terminal's machine (OSC 52), and which texts may go there.

use shared::safe_text::is_bidi_control;

/// Bytes of a text that terminals take; xterm and tmux take about 74,000 encoded ones.
pub const MAX_SEQUENCE_BYTES: usize = 48 << 10;

/// Returns a text as it may be pasted: lines end with a line feed, and a line feed at the end is cut. `None` if it has
/// control characters, which could run something where it is pasted, or characters that show it in another order.
pub fn pasteable_text(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n");
    // At its end it would run the text when that is pasted into a shell.
    let text = text.trim_end_matches('\n');
    let is_dangerous = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_bidi_control(c);
    (!text.contains(is_dangerous)).then(|| text.to_owned())
}

/// Returns the sequence for a text.
pub fn clipboard_sequence(text: &str) -> String {
    // `c` is the clipboard alone: without a letter xterm sets its selection as well.
    format!("\u{1b}]52;c;{}\u{1b}\\", base64(text.as_bytes()))
}

/// Encodes bytes as RFC 4648 says, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let number = piece.iter().enumerate().fold(0_u32, |sum, (at, byte)| sum | u32::from(*byte) << (16 - 8 * at));
        for place in 0..4 {
            let digit = usize::try_from(number >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if place > piece.len() { '=' } else { char::from(ALPHABET[digit]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (text, encoded) in vectors {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
        assert_eq!(clipboard_sequence("ol\u{e1}"), "\u{1b}]52;c;b2zDoQ==\u{1b}\\");
    }

    #[test]
    fn nothing_is_pasted_that_a_shell_could_run_or_that_looks_otherwise() {
        assert_eq!(pasteable_text("a\tb\r\nc\n\n").unwrap(), "a\tb\nc");
        for hostile in ["\u{1b}[201~rm", "a\u{7}", "a\rb", "\u{9b}31m", "a\u{0}", "\u{7f}", "a\u{202e}b"] {
            assert_eq!(pasteable_text(hostile), None, "{hostile:?}");
        }
    }
}
