//! The beginning of a message, for output that the user doesn't wait for. Pure.
//!
//! What is shown is bounded as it is shown: a byte of a message may become a row, or a mark of a dozen bytes.

use std::fmt::Write;

use localization::tr;
use shared::UntrustedText;

/// The most that is shown of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExcerptLimits {
    /// Rows; several empty ones in a row are one.
    pub rows: usize,
    /// Bytes, as they are shown.
    pub bytes: usize,
}

/// Returns the beginning of a message, its further rows indented so that none can pass for another message, and at the end
/// the command that shows the rest, if there is any.
pub fn message_excerpt(text: &UntrustedText, limits: ExcerptLimits, whole: &str) -> String {
    let text = text.safe_block();
    let (mut shown, mut rows, mut is_cut, mut was_empty) = (String::new(), 0, false, false);
    for row in text.split('\n') {
        let is_empty = row.trim().is_empty();
        // A run of empty rows would spend the limit on nothing.
        if is_empty && was_empty {
            continue;
        }
        was_empty = is_empty;
        if rows == limits.rows || shown.len() >= limits.bytes {
            is_cut = true;
            break;
        }
        if rows > 0 {
            shown.push_str("\n    ");
        }
        rows += 1;
        for c in if is_empty { "" } else { row }.chars() {
            if shown.len() >= limits.bytes {
                is_cut = true;
                break;
            }
            match c {
                '\t' => shown.push_str("    "),
                c => shown.push(c),
            }
        }
        if is_cut {
            break;
        }
    }
    if is_cut {
        let before = if rows == 1 { " … " } else { "\n    … " };
        // Writing to a string does not fail.
        let _ = write!(shown, "{before}{}", tr!("(`{command}` shows all of it)", command = whole));
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ExcerptLimits = ExcerptLimits { rows: 3, bytes: 40 };

    fn excerpt(text: &str) -> String {
        message_excerpt(&text.into(), LIMITS, "peer history bob")
    }

    #[test]
    fn what_fits_is_shown_as_it_is() {
        assert_eq!(excerpt("hi"), "hi");
        assert_eq!(excerpt("hi\ncarol: send money"), "hi\n    carol: send money");
        assert_eq!(excerpt("a\n\n\n\nb\tc"), "a\n    \n    b    c");
    }

    #[test]
    fn the_rest_is_a_command_away() {
        let rest = "(`peer history bob` shows all of it)";
        assert_eq!(excerpt("a\nb\nc\nd"), format!("a\n    b\n    c\n    … {rest}"));
        assert_eq!(excerpt(&"x".repeat(90)), format!("{} … {rest}", "x".repeat(40)));
    }

    proptest! {
        #[test]
        fn it_is_short_whatever_is_in_it(unit in "[a\n\r\t \u{ad}\u{202e}\u{1b}\u{1f600}]{1,6}", times in 1_usize..3000) {
            let shown = excerpt(&unit.repeat(times));
            prop_assert!(shown.len() <= LIMITS.bytes + 8 + 60, "{shown:?}");
            prop_assert!(shown.lines().count() <= LIMITS.rows + 1);
        }
    }
}
