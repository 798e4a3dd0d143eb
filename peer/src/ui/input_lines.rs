//! Lines of standard input, decoded.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a line | [`MAX_LINE_BYTES`] bytes | the rest is dropped, up to its end |
//! | lines not taken yet | [`MAX_QUEUED_LINES`] | no more are read |

use std::io::{self, BufRead, IsTerminal};
use std::os::fd::AsFd;

use tokio::sync::mpsc;

use super::charset::{Charset, locale};
use crate::sys::job_control;

/// The longest line that is kept; many times the size of a message.
const MAX_LINE_BYTES: usize = 1 << 20;
const MAX_QUEUED_LINES: usize = 16;

/// A line without its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLine {
    /// The text; bytes that aren't UTF-8 are decoded in the locale's charset.
    pub text: String,
    /// True if some bytes could not be decoded; replacement characters (U+FFFD) stand for them.
    pub has_replacements: bool,
}

/// Reads standard input on a thread of its own, as reading may block. The thread ends with the input or the process.
///
/// # Errors
/// If no thread can be started. A read error is delivered as the last line.
pub fn spawn_line_reader() -> io::Result<mpsc::Receiver<io::Result<InputLine>>> {
    let (lines, receiver) = mpsc::channel(MAX_QUEUED_LINES);
    let input = io::stdin();
    if job_control::is_controlled_by_others(input.as_fd(), input.is_terminal()) {
        // A read from the background would stop this process (SIGTTIN), and its node with it: treat it as no input.
        return Ok(receiver);
    }
    let charset = Charset::of_locale(&locale());
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input, charset).transpose() {
            let is_last = line.is_err();
            if lines.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// Reads the next line; `None` at the end of the input.
fn read_line(input: &mut impl BufRead, charset: Charset) -> io::Result<Option<InputLine>> {
    let mut line = Vec::new();
    let mut has_begun = false;
    loop {
        let bytes = match input.fill_buf() {
            // A signal, such as a resize or a continue, interrupts the read.
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        has_begun = true;
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        // Beyond the bound the line is read on, but dropped, so that its rest isn't taken for the next line.
        line.extend_from_slice(&part[..part.len().min(MAX_LINE_BYTES - line.len())]);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        input.consume(taken);
        if end.is_some() {
            break;
        }
    }
    // Text from Windows ends its lines with CR LF.
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(has_begun.then(|| InputLine::decode(&line, charset)))
}

impl InputLine {
    fn decode(bytes: &[u8], charset: Charset) -> Self {
        // In a single-byte charset every byte is a letter.
        let is_text = std::str::from_utf8(bytes).is_ok() || charset != Charset::Utf8;
        Self { text: charset.decode_lossy(bytes), has_replacements: !is_text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], charset: Charset) -> Vec<InputLine> {
        // A small buffer delivers lines in several parts.
        let mut input = io::BufReader::with_capacity(3, bytes);
        std::iter::from_fn(|| read_line(&mut input, charset).unwrap()).collect()
    }

    fn line(text: &str) -> InputLine {
        InputLine { text: text.to_owned(), has_replacements: false }
    }

    #[test]
    fn lines_end_in_every_usual_way() {
        let read = lines(b"one\n\ntwo\r\nlast", Charset::Utf8);
        assert_eq!(read, ["one", "", "two", "last"].map(line));
        assert_eq!(lines(b"", Charset::Utf8), []);
        assert_eq!(lines(b"\n", Charset::Utf8), [line("")]);
    }

    #[test]
    fn bytes_that_are_no_text_cost_nothing_but_themselves() {
        let marked = |text: &str| InputLine { text: text.to_owned(), has_replacements: true };
        let read = lines(b"caf\xe9 cr\xe8me\nol\xc3\xa1\n", Charset::Utf8);
        assert_eq!(read, [marked("caf\u{fffd} cr\u{fffd}me"), line("olá")]);
        assert_eq!(lines(b"caf\xe9\nol\xc3\xa1\n", Charset::Latin1), [line("café"), line("olá")]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory_without_end() {
        let mut bytes = vec![b'a'; 3 * MAX_LINE_BYTES];
        bytes.extend_from_slice(b"\nnext\n");
        let read = lines(&bytes, Charset::Utf8);
        assert_eq!(read[0].text.len(), MAX_LINE_BYTES);
        assert_eq!(read[1..], [line("next")]);
    }
}
