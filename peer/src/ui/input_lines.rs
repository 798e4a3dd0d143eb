//! Lines of standard input, as text.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a line | [`LINE`] bytes | the rest of it is left out, up to its end |
//! | lines that nobody took yet | [`AHEAD`] | no more are read |

use std::io::{self, BufRead, IsTerminal};
use std::os::fd::AsFd;

use tokio::sync::mpsc;

use super::charset::{Charset, locale};
use crate::sys::job_control;

/// Longest line that is kept: many times what a message may have.
const MAX_LINE_BYTES: usize = 1 << 20;
const MAX_QUEUED_LINES: usize = 16;

/// A line without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLine {
    /// The text; what isn't UTF-8 is in the locale's charset.
    pub text: String,
    /// Bytes came that are no text there either; marks (U+FFFD) stand for them.
    pub has_replacements: bool,
}

/// Reads standard input on a thread of its own, where reading may block. It ends with the input or with the process.
///
/// # Errors
/// When there is no thread to be had. What reading fails with comes as a line, the last one.
pub fn spawn_line_reader() -> io::Result<mpsc::Receiver<io::Result<InputLine>>> {
    let (lines, receiver) = mpsc::channel(MAX_QUEUED_LINES);
    let input = io::stdin();
    if job_control::is_controlled_by_others(input.as_fd(), input.is_terminal()) {
        // To read would stop this process, and its node with it: there is no input.
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
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            break;
        }
        has_begun = true;
        let end = memchr::memchr(b'\n', bytes);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        line.extend_from_slice(&part[..part.len().min(MAX_LINE_BYTES - line.len())]);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        input.consume(taken);
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(has_begun.then(|| InputLine::decode(&line, charset)))
}

impl InputLine {
    fn decode(bytes: &[u8], charset: Charset) -> Self {
        let is_text = std::str::from_utf8(bytes).is_ok() || charset != Charset::Utf8;
        Self { text: charset.decode_lossy(bytes), has_replacements: !is_text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], charset: Charset) -> Vec<InputLine> {
        // Of a small buffer, lines come in several parts.
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
