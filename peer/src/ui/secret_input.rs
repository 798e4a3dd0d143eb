//! Input of a secret, without echo.

use std::io::{self, ErrorKind, Write};

use zeroize::Zeroizing;

use super::charset::{Charset, locale};
use super::key_decoder::KeyDecoder;
use super::line_editor::LineEditor;
use super::view_input::{ESCAPE_TIMEOUT, InputAction, input_action};
use crate::sys::KeyboardReader;

/// The result of reading a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretInput {
    /// A line, without its line end.
    Line(Zeroizing<String>),
    /// A line with bytes that can't be decoded.
    Unreadable,
    /// The end of the input, before any text.
    EndOfInput,
    /// Ctrl-C.
    Interrupted,
}

/// Writes a prompt to the controlling terminal, so that it is seen even if standard error is redirected.
pub fn write_prompt(text: &str) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).open("/dev/tty") {
        Ok(mut terminal) => terminal.write_all(text.as_bytes()),
        Err(_) => io::stderr().lock().write_all(text.as_bytes()),
    }
}

/// Reads a line from the terminal without echo; blocks until it is complete.
pub fn read_secret() -> io::Result<SecretInput> {
    let mut keyboard = KeyboardReader::open()?;
    let mut reading = SecretReader::new(Charset::of_locale(&locale()));
    // Byte by byte: input behind the line belongs to the next reader.
    let mut byte = [0; 1];
    loop {
        let at_most = reading.decoder.has_pending().then_some(ESCAPE_TIMEOUT);
        let looked = match keyboard.poll_input(&mut byte, at_most) {
            Ok(looked) => looked,
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => return Ok(SecretInput::EndOfInput),
            Err(why) => return Err(why),
        };
        if let Some(secret) = reading.handle_bytes(&byte[..looked.read]) {
            return Ok(secret);
        }
    }
}

struct SecretReader {
    decoder: KeyDecoder,
    line: LineEditor,
    unreadable: bool,
}

impl SecretReader {
    fn new(charset: Charset) -> Self {
        Self { decoder: KeyDecoder::new(charset), line: LineEditor::default(), unreadable: false }
    }

    /// Handles bytes; an empty slice is a pause.
    fn handle_bytes(&mut self, bytes: &[u8]) -> Option<SecretInput> {
        let typed = if bytes.is_empty() { self.decoder.flush_pending() } else { self.decoder.feed(bytes) };
        for press in typed.into_iter().filter_map(input_action) {
            match press {
                InputAction::Edit(edit) => self.line.apply(&edit),
                InputAction::Submit if self.unreadable => return Some(SecretInput::Unreadable),
                InputAction::Submit => return Some(SecretInput::Line(Zeroizing::new(self.line.take_line()))),
                InputAction::EndOfInput if self.line.is_empty() => return Some(SecretInput::EndOfInput),
                InputAction::Interrupt => return Some(SecretInput::Interrupted),
                // Reported at Enter: until then the rest of the line would go to the next reader, the shell.
                InputAction::Unreadable => self.unreadable = true,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> Option<SecretInput> {
        let mut reading = SecretReader::new(Charset::Utf8);
        bytes.iter().find_map(|byte| reading.handle_bytes(&[*byte]))
    }

    #[test]
    fn a_line_ends_whatever_is_in_it() {
        let line = |text: &str| Some(SecretInput::Line(Zeroizing::new(text.to_owned())));
        assert_eq!(typed(b"s3cret\n"), line("s3cret"));
        assert_eq!(typed("sénha\r".as_bytes()), line("sénha"));
        assert_eq!(typed(b"wrong\x15right\x1b[Dx\x7f\n"), line("right"));
        assert_eq!(typed(b"caf\xe9\r"), Some(SecretInput::Unreadable));
        assert_eq!(typed(b"\xe9t\r"), Some(SecretInput::Unreadable));
        assert_eq!(typed(b"\x04"), Some(SecretInput::EndOfInput));
        assert_eq!(typed(b"half\x03"), Some(SecretInput::Interrupted));
        assert_eq!(typed(b"half"), None);
    }
}
