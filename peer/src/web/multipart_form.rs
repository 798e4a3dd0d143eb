//! Forms with files (RFC 7578), as browsers send them without a script. No I/O: bytes in as they come, events out.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a boundary | 70 bytes (RFC 2046) | refused |
//! | the head of a part | 8 KiB | refused |
//! | bytes held back | one boundary | |

use bytes::Bytes;
use memchr::memmem::Finder;

// The longest that RFC 2046 allows (5.1.1).
const MAX_BOUNDARY_BYTES: usize = 70;
const MAX_HEAD_BYTES: usize = 8 << 10;

/// An event of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FormEvent {
    /// A file of this name begins.
    File(Vec<u8>),
    /// Further bytes of it.
    Bytes(Bytes),
    /// It ends.
    FileEnd,
}

/// The text is no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidForm;

/// A parser of forms with files.
#[derive(Debug)]
pub(super) struct MultipartForm {
    /// The end of a line and the boundary.
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    place: FormPlace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormPlace {
    Preamble,
    /// Behind a boundary.
    Boundary,
    Head,
    File,
    /// The value of a field without a file.
    Field,
    End,
}

impl MultipartForm {
    /// Returns a parser for a form of this `Content-Type`; `None` if it is none.
    pub(super) fn new(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parts.find_map(|part| part.strip_prefix("boundary="))?.trim_matches('"');
        if boundary.is_empty() || boundary.len() > MAX_BOUNDARY_BYTES {
            return None;
        }
        // The first boundary has no line before it.
        let (delimiter, buffer) = (format!("\r\n--{boundary}").into_bytes(), b"\r\n".to_vec());
        Some(Self { delimiter, buffer, place: FormPlace::Preamble })
    }

    /// Takes bytes, and returns what they tell.
    ///
    /// # Errors
    /// [`InvalidForm`].
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<FormEvent>, InvalidForm> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.step(&mut events)? {}
        Ok(events)
    }

    /// Returns whether the form has ended.
    pub(super) fn is_complete(&self) -> bool {
        self.place == FormPlace::End
    }

    /// Goes on by one place; false if further bytes are needed for that.
    fn step(&mut self, events: &mut Vec<FormEvent>) -> Result<bool, InvalidForm> {
        match self.place {
            FormPlace::Preamble | FormPlace::File | FormPlace::Field => Ok(self.read_content(events)),
            FormPlace::Boundary => {
                let Some(after) = self.buffer.get(..2) else { return Ok(false) };
                self.place = match after {
                    b"\r\n" => FormPlace::Head,
                    b"--" => FormPlace::End,
                    _ => return Err(InvalidForm),
                };
                // The line's end stays, so that a head without fields ends as any other.
                if self.place == FormPlace::End {
                    self.buffer.clear();
                }
                Ok(true)
            }
            FormPlace::Head => {
                let Some(end) = Finder::new("\r\n\r\n").find(&self.buffer) else {
                    return if self.buffer.len() > MAX_HEAD_BYTES { Err(InvalidForm) } else { Ok(false) };
                };
                let name = file_name(&self.buffer[..end]);
                self.buffer.drain(..end + 4);
                self.place = if name.is_some() { FormPlace::File } else { FormPlace::Field };
                events.extend(name.map(FormEvent::File));
                Ok(true)
            }
            FormPlace::End => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// Reads up to the next boundary, or all that can't belong to it; true at a boundary.
    fn read_content(&mut self, events: &mut Vec<FormEvent>) -> bool {
        let found = Finder::new(&self.delimiter).find(&self.buffer);
        // The last bytes may be the beginning of a boundary.
        let end = found.unwrap_or_else(|| self.buffer.len().saturating_sub(self.delimiter.len() - 1));
        if self.place == FormPlace::File && end > 0 {
            events.push(FormEvent::Bytes(Bytes::copy_from_slice(&self.buffer[..end])));
        }
        self.buffer.drain(..end);
        if found.is_none() {
            return false;
        }
        if self.place == FormPlace::File {
            events.push(FormEvent::FileEnd);
        }
        self.buffer.drain(..self.delimiter.len());
        self.place = FormPlace::Boundary;
        true
    }
}

/// Returns the name of the file that a part has; `None` for a field, and where nobody chose a file.
fn file_name(head: &[u8]) -> Option<Vec<u8>> {
    let head = String::from_utf8_lossy(head);
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (_, quoted) = disposition.split_once("filename=\"")?;
    let (name, _) = quoted.split_once('"')?;
    // Browsers write a quotation mark and the ends of lines so (HTML, section 4.10.21.8).
    let name = name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
    (!name.is_empty()).then(|| name.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=----x";

    fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut text = b"------x\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n".to_vec();
        for (name, content) in files {
            text.extend(b"------x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"");
            text.extend(name.as_bytes());
            text.extend(b"\"\r\nContent-Type: text/plain\r\n\r\n");
            text.extend(*content);
            text.extend(b"\r\n");
        }
        text.extend(b"------x--\r\n");
        text
    }

    /// The files of a form that comes in pieces of this size.
    fn files(text: &[u8], piece: usize) -> Result<Vec<(String, Vec<u8>, bool)>, InvalidForm> {
        let mut parser = MultipartForm::new(TYPE).unwrap();
        let mut files: Vec<(String, Vec<u8>, bool)> = Vec::new();
        for piece in text.chunks(piece) {
            for event in parser.feed(piece)? {
                match event {
                    FormEvent::File(name) => files.push((String::from_utf8(name).unwrap(), Vec::new(), false)),
                    FormEvent::Bytes(bytes) => files.last_mut().unwrap().1.extend(bytes),
                    FormEvent::FileEnd => files.last_mut().unwrap().2 = true,
                }
            }
        }
        assert!(parser.is_complete());
        Ok(files)
    }

    proptest! {
        #[test]
        fn files_come_out_however_they_come_in(
            one in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..200),
            two in proptest::collection::vec(any::<u8>(), 0..50),
            piece in 1_usize..40,
        ) {
            let text = form(&[("a.txt", &one), ("", b"nobody"), ("ç %22b%22", &two)]);
            let whole = |name: &str, content: &Vec<u8>| (name.to_owned(), content.clone(), true);
            prop_assert_eq!(files(&text, piece).unwrap(), [whole("a.txt", &one), whole("ç \"b\"", &two)]);
        }

        #[test]
        fn nothing_panics(text: Vec<u8>, piece in 1_usize..40) {
            let mut parser = MultipartForm::new(TYPE).unwrap();
            for piece in [&b"------x"[..], &text].concat().chunks(piece) {
                if parser.feed(piece).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for wrong in [
            "",
            "text/plain; boundary=x",
            "multipart/form-data",
            "multipart/form-data; boundary=",
            &format!("multipart/form-data; boundary={}", "x".repeat(71)),
        ] {
            assert!(MultipartForm::new(wrong).is_none(), "{wrong}");
        }
        let mut parser = MultipartForm::new(TYPE).unwrap();
        assert_eq!(parser.feed(b"------xy"), Ok(Vec::new()), "one byte decides nothing");
        assert_eq!(parser.feed(b"z"), Err(InvalidForm));
        let mut parser = MultipartForm::new(TYPE).unwrap();
        parser.feed(b"------x\r\n").unwrap();
        assert_eq!(parser.feed(&[b'a'; MAX_HEAD_BYTES + 1]), Err(InvalidForm));
    }
}
