//! QR codes on the terminal.

use std::io::IsTerminal;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use super::terminal_size::terminal_size;

/// Black on white, whatever the terminal's colours: many cameras can't read inverted codes.
const BLACK_ON_WHITE: &str = "\u{1b}[30;107m";
const USUAL_COLORS: &str = "\u{1b}[0m";

/// Returns the width of the terminal on standard output, if it is one that shows colours.
pub fn qr_code_columns() -> Option<usize> {
    let draws = !arguments::is_color_forbidden() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    if !draws || !std::io::stdout().is_terminal() {
        return None;
    }
    Some(terminal_size().width.into())
}

/// Draws a QR code of the text; `None` if it is wider than the terminal.
pub fn qr_code(text: &str, columns: usize) -> Option<String> {
    // The lowest correction makes the smallest code, which has to fit the terminal.
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let drawn = code.render::<Dense1x2>().build();
    let is_whole = drawn.lines().all(|line| line.chars().count() <= columns);
    let colored = |line: &str| format!("{BLACK_ON_WHITE}{line}{USUAL_COLORS}\n");
    is_whole.then(|| drawn.lines().map(colored).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_whole_or_not_at_all() {
        let link = "https://192.168.100.100:8444/l/abcdefgh/#abcdefghijklmnopqrstuvwxyz";
        assert_eq!(qr_code(link, 30), None);
        let drawn = qr_code(link, 45).unwrap();
        assert!(drawn.lines().all(|line| line.starts_with(BLACK_ON_WHITE) && line.ends_with(USUAL_COLORS)), "{drawn}");
    }
}
