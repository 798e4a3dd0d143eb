//! Writer of styled text to a terminal.

use std::io::{self, Write};

use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::text::Line;
use shared::safe_text::{is_bidi_control, safe_line};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Writes a line at the cursor, truncated to `columns`, so that the terminal never wraps it.
pub(super) fn write_line(out: &mut impl Write, line: &Line<'_>, columns: usize) -> io::Result<()> {
    let mut left = columns;
    for span in &line.spans {
        let end = span
            .content
            // By clusters, as one cut in half would be drawn as something else.
            .grapheme_indices(true)
            .scan(0, |used, (at, cluster)| {
                *used += cluster.width();
                (*used <= left).then_some((at + cluster.len(), *used))
            })
            .last();
        let Some((end, used)) = end else { continue };
        write_styled(out, &span.content[..end], line.style.patch(span.style))?;
        left -= used;
        if end < span.content.len() {
            break;
        }
    }
    Ok(())
}

/// Writes text in its style and resets the style; control characters in it are made visible.
pub(super) fn write_styled(out: &mut impl Write, text: &str, style: Style) -> io::Result<()> {
    // Checks for controls only: parts of a word may begin or end with a joiner, which `safe_line` would replace.
    let moves = |c: char| c.is_control() || is_bidi_control(c);
    let text = if text.contains(moves) { safe_line(text) } else { text.into() };
    let codes = sgr_codes(style);
    if codes.is_empty() {
        return out.write_all(text.as_bytes());
    }
    write!(out, "\u{1b}[{codes}m{text}\u{1b}[0m")
}

/// Returns the SGR codes for a style; covers exactly the colours and modifiers that `TerminalTheme` uses.
fn sgr_codes(style: Style) -> String {
    let color = match style.fg {
        Some(Color::Red) => Some("31".to_owned()),
        Some(Color::Green) => Some("32".to_owned()),
        Some(Color::Yellow) => Some("33".to_owned()),
        Some(Color::Indexed(index)) => Some(format!("38;5;{index}")),
        _ => None,
    };
    let modifiers = [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::REVERSED, "7")];
    let set = modifiers.into_iter().filter(|(modifier, _)| style.add_modifier.contains(*modifier));
    let codes: Vec<&str> = set.map(|(_, code)| code).chain(color.as_deref()).collect();
    codes.join(";")
}

#[cfg(test)]
mod tests {
    use ratatui_core::text::Span;

    use super::*;

    #[test]
    fn what_comes_here_unsafe_moves_nothing() {
        let mut out = Vec::new();
        write_styled(&mut out, "a\u{1b}[2Jb\r\u{202e}", Style::new()).unwrap();
        write_styled(&mut out, "\u{6cc}\u{200c}", Style::new()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a␛[2Jb␍<U+202E>\u{6cc}\u{200c}");
    }

    #[test]
    fn lines_are_cut_between_letters() {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let text = Line::from(vec![Span::styled("ab", bold), Span::raw("日本"), Span::raw("x")]);
        let put = |columns| {
            let mut out = Vec::new();
            write_line(&mut out, &text, columns).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(put(80), "\u{1b}[1mab\u{1b}[0m日本x");
        assert_eq!(put(5), "\u{1b}[1mab\u{1b}[0m日");
        assert_eq!(put(1), "\u{1b}[1ma\u{1b}[0m");
        assert_eq!(put(0), "");
    }
}
