//! A line that isn't shown: a password.

use std::io::{self, ErrorKind, Write};

use zeroize::Zeroizing;

use super::charset::{Charset, locale};
use super::key_decoder::KeyDecoder;
use super::keys::{Press, SOON, press};
use super::line_editor::LineEditor;
use crate::sys::Keyboard;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A line.
    Line(Zeroizing<String>),
    /// A line with bytes in it that are no text.
    Unreadable,
    /// Nothing: the end of the input.
    Nothing,
    /// Ctrl-C.
    Interrupted,
}

/// Puts a prompt on the terminal itself: it is seen even where standard error goes elsewhere.
///
/// # Errors
/// As the terminal says.
pub fn prompt(text: &str) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).open("/dev/tty") {
        Ok(mut terminal) => terminal.write_all(text.as_bytes()),
        Err(_) => io::stderr().lock().write_all(text.as_bytes()),
    }
}

/// Reads a line of a terminal that shows nothing; blocks until it is there.
///
/// # Errors
/// As the terminal says.
pub fn read_secret() -> io::Result<Secret> {
    let mut keyboard = Keyboard::open()?;
    let mut reading = Reading::new(Charset::of_locale(&locale()));
    // Byte by byte: what comes behind the line is for whoever reads next.
    let mut byte = [0; 1];
    loop {
        let at_most = reading.decoder.is_waiting().then_some(SOON);
        let looked = match keyboard.look(&mut byte, at_most) {
            Ok(looked) => looked,
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => return Ok(Secret::Nothing),
            Err(why) => return Err(why),
        };
        if let Some(secret) = reading.take(&byte[..looked.read]) {
            return Ok(secret);
        }
    }
}

struct Reading {
    decoder: KeyDecoder,
    line: LineEditor,
    unreadable: bool,
}

impl Reading {
    fn new(charset: Charset) -> Self {
        Self { decoder: KeyDecoder::new(charset), line: LineEditor::default(), unreadable: false }
    }

    /// Takes bytes, or that none came for a while.
    fn take(&mut self, bytes: &[u8]) -> Option<Secret> {
        let typed = if bytes.is_empty() { self.decoder.give_up() } else { self.decoder.feed(bytes) };
        for press in typed.into_iter().filter_map(press) {
            match press {
                Press::Edit(edit) => self.line.apply(&edit),
                Press::Submit if self.unreadable => return Some(Secret::Unreadable),
                Press::Submit => return Some(Secret::Line(Zeroizing::new(self.line.take()))),
                Press::EndOfInput if self.line.is_empty() => return Some(Secret::Nothing),
                Press::Interrupt => return Some(Secret::Interrupted),
                Press::Unreadable => self.unreadable = true,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Option<Secret> {
        let mut reading = Reading::new(Charset::Utf8);
        bytes.iter().find_map(|byte| reading.take(&[*byte]))
    }

    #[test]
    fn a_line_ends_whatever_is_in_it() {
        let line = |text: &str| Some(Secret::Line(Zeroizing::new(text.to_owned())));
        assert_eq!(typed(b"s3cret\n"), line("s3cret"));
        assert_eq!(typed("sénha\r".as_bytes()), line("sénha"));
        assert_eq!(typed(b"wrong\x15right\x1b[Dx\x7f\n"), line("right"));
        assert_eq!(typed(b"caf\xe9\r"), Some(Secret::Unreadable));
        assert_eq!(typed(b"\xe9t\r"), Some(Secret::Unreadable));
        assert_eq!(typed(b"\x04"), Some(Secret::Nothing));
        assert_eq!(typed(b"half\x03"), Some(Secret::Interrupted));
        assert_eq!(typed(b"half"), None);
    }
}
