//! A scanner that finds JSON objects in a stream of bytes, one after another, with or without white space between them.
//!
//! ```text
//! bytes ──► JsonScanner::extend ──► JsonScanner::next_object ──► Some(bytes of one object) | None: more bytes needed
//! ```
//!
//! The scan is O(n) and resumable: its state is the depth, "in a string" and "after a backslash", and it looks at each
//! byte once, however the stream was cut. An object that it returns is balanced, but not checked to be UTF-8 or valid
//! JSON: the parser does that.
//!
//! NUL (which C programs send after their strings) and the bytes of a byte-order mark count as white space between
//! objects. A binary length before an object is an error. It is detected by a byte that can't stand between objects or,
//! if the length's own byte is `{`, by its neighbours: a NUL before it and a second brace behind it (big-endian), or a
//! control character behind it (little-endian).

use std::fmt;

/// Capacity above which an empty buffer releases its memory.
const IDLE_CAPACITY: usize = 4 * 1024;

/// A buffer of stream bytes and the state of the scan over them.
#[derive(Debug)]
pub struct JsonScanner {
    buffer: Vec<u8>,
    /// Bytes before this index were returned.
    start: usize,
    /// Bytes before this index were scanned.
    scanned: usize,
    state: ScanState,
    /// Number of bytes of the skipped object that were already discarded; `None` while no object is skipped.
    skipped: Option<usize>,
    limit: usize,
    max_depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    Between {
        /// True if the last byte was NUL.
        after_nul: bool,
    },
    /// Only white space has followed the first brace.
    Opened {
        /// True if the byte before the brace was NUL.
        after_nul: bool,
    },
    Inside {
        depth: usize,
        string: StringState,
    },
}

const BETWEEN: ScanState = ScanState::Between { after_nul: false };
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringState {
    Outside,
    Inside,
    AfterBackslash,
}

/// A reason why the scan can't go on. The start of the next object is unknown then, so the connection must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// A byte between objects that is neither white space nor `{`, or that shows the `{` before it to be part of a
    /// length.
    NotAnObject(u8),
    /// An object longer than the limit.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Objects and arrays nested deeper than the limit.
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
}

impl JsonScanner {
    /// Makes an empty scanner for objects of up to `limit` bytes and `max_depth` levels.
    pub const fn new(limit: usize, max_depth: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, scanned: 0, state: BETWEEN, skipped: None, limit, max_depth }
    }

    /// Replaces the limit on an object's bytes, from the next byte scanned.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds bytes from the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.discard_consumed();
        } else if self.start > self.buffer.len() / 2 {
            // Draining only when more than half was returned keeps the cost of moving bytes linear.
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the number of bytes held.
    pub const fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Returns true if no bytes are held.
    pub const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns true if an object has begun and not ended: the stream is incomplete if it ends here.
    pub const fn is_inside_object(&self) -> bool {
        !matches!(self.state, ScanState::Between { .. })
    }

    /// Returns the held bytes of the object that has begun, or of the bytes found in place of one.
    pub fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// Skips the object that has begun: its bytes are dropped as they come, and the scan continues behind its end. The
    /// limit still applies.
    pub fn skip_object(&mut self) {
        if self.is_inside_object() && self.skipped.is_none() {
            self.skipped = Some(0);
            // At once, and not with the next bytes: an object is skipped because its memory is needed elsewhere.
            self.discard_skipped();
        }
    }

    /// Returns the next complete object, or `None` until its last byte has been added.
    ///
    /// # Errors
    /// Returns [`ScanError`] if the stream holds something else or passes a limit. The scanner can't be used
    /// afterwards.
    pub fn next_object(&mut self) -> Result<Option<&[u8]>, ScanError> {
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if let ScanState::Between { after_nul } = self.state {
                match byte {
                    b'{' => {
                        self.start = self.scanned;
                        self.state = ScanState::Opened { after_nul };
                    }
                    _ if is_between(byte) => {
                        self.start = self.scanned + 1;
                        self.state = ScanState::Between { after_nul: byte == 0 };
                    }
                    other => return Err(ScanError::NotAnObject(other)),
                }
                self.scanned += 1;
                continue;
            }
            if let ScanState::Inside { string: StringState::Inside, .. } = self.state {
                // Most bytes of a long request are inside strings, where only these two bytes matter.
                let rest = self.buffer.get(self.scanned..).unwrap_or_default();
                let plain = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(rest.len());
                self.scanned += plain;
                self.check_length()?;
                // The byte read above was passed over: the loop takes the one at which the search ended.
                if plain > 0 {
                    continue;
                }
            }
            self.scanned += 1;
            self.check_length()?;
            let next = match self.state {
                ScanState::Inside { depth, string } => self.step(byte, depth, string)?,
                ScanState::Opened { after_nul } if is_space(byte) => Some(ScanState::Opened { after_nul }),
                // `00 00 00 7b` is a big-endian length of 123; the object begins with the second brace.
                ScanState::Opened { after_nul: true } if byte == b'{' => return Err(ScanError::NotAnObject(byte)),
                // `7b 00 00 00` is a little-endian length of 123. In JSON, white space is the only control
                // character that may follow a brace.
                ScanState::Opened { .. } if byte.is_ascii_control() => return Err(ScanError::NotAnObject(byte)),
                // `Between` was handled above. The first brace was level 1.
                ScanState::Opened { .. } | ScanState::Between { .. } => self.step(byte, 1, StringState::Outside)?,
            };
            match next {
                Some(next) => self.state = next,
                // The end of a skipped object: continue the scan behind it.
                None if self.skipped.take().is_some() => (self.start, self.state) = (self.scanned, BETWEEN),
                None => return Ok(Some(self.take_object())),
            }
        }
        // No limit applies between objects, so white space alone must not fill the buffer.
        if !self.is_inside_object() {
            self.discard_consumed();
        }
        self.discard_skipped();
        Ok(None)
    }

    fn check_length(&self) -> Result<(), ScanError> {
        // Checked at every step, so that an endless object fails while it arrives.
        let length = self.skipped.unwrap_or_default() + self.scanned - self.start;
        if length > self.limit { Err(ScanError::TooLarge { limit: self.limit }) } else { Ok(()) }
    }

    /// Returns the state after `byte`, or `None` if `byte` ended the object.
    fn step(&self, byte: u8, depth: usize, string: StringState) -> Result<Option<ScanState>, ScanError> {
        let (depth, string) = match (string, byte) {
            // The digits of `\u` are no quotes and no backslashes, so they need no state of their own.
            (StringState::AfterBackslash, _) | (StringState::Outside, b'"') => (depth, StringState::Inside),
            (StringState::Inside, b'\\') => (depth, StringState::AfterBackslash),
            (StringState::Inside, b'"') => (depth, StringState::Outside),
            (StringState::Outside, b'{' | b'[') if depth == self.max_depth => {
                return Err(ScanError::TooDeep { limit: self.max_depth });
            }
            (StringState::Outside, b'{' | b'[') => (depth + 1, string),
            // Kinds of brackets aren't matched: the parser rejects a wrong one, and the object's end is the same.
            (StringState::Outside, b'}' | b']') if depth == 1 => return Ok(None),
            (StringState::Outside, b'}' | b']') => (depth - 1, string),
            (StringState::Outside | StringState::Inside, _) => (depth, string),
        };
        Ok(Some(ScanState::Inside { depth, string }))
    }

    /// Drops all bytes, which were returned before. An idle connection keeps [`IDLE_CAPACITY`] at most.
    fn discard_consumed(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(IDLE_CAPACITY);
        (self.start, self.scanned) = (0, 0);
    }

    /// Drops the scanned bytes of a skipped object.
    fn discard_skipped(&mut self) {
        if let Some(skipped) = &mut self.skipped {
            *skipped += self.scanned - self.start;
            self.start = self.scanned;
            if self.scanned == self.buffer.len() {
                self.discard_consumed();
            }
        }
    }

    fn take_object(&mut self) -> &[u8] {
        let object = self.start..self.scanned;
        self.start = self.scanned;
        self.state = BETWEEN;
        self.buffer.get(object).unwrap_or_default()
    }
}

/// Returns true if `byte` may stand between objects.
fn is_between(byte: u8) -> bool {
    // Each byte of the mark by itself: a read may end in the middle of it.
    is_space(byte) || byte == 0 || BYTE_ORDER_MARK.contains(&byte)
}

const fn is_space(byte: u8) -> bool {
    // RFC 8259, section 2. `is_ascii_whitespace` would add the form feed, which is no white space in JSON.
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject(byte) => {
                write!(
                    f,
                    "expected a JSON object that starts with '{{', found the byte 0x{byte:02x}: \
                     send bare JSON, without a length or a header before it, in UTF-8"
                )
            }
            Self::TooLarge { limit } => write!(f, "the JSON object is larger than {limit} bytes"),
            Self::TooDeep { limit } => write!(f, "the JSON object is nested deeper than {limit} levels"),
        }
    }
}

impl std::error::Error for ScanError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(limit: usize, pieces: &[&[u8]]) -> Result<Vec<String>, ScanError> {
        let mut objects = JsonScanner::new(limit, 16);
        let mut found = Vec::new();
        for piece in pieces {
            objects.extend(piece);
            while let Some(object) = objects.next_object()? {
                found.push(String::from_utf8(object.to_owned()).unwrap());
            }
        }
        Ok(found)
    }

    #[test]
    fn objects_with_and_without_white_space_between() {
        let stream = b" \r\n{\"a\":1}{\"b\":{\"c\":[1,{}]}}\n\t{\"s\":\"}\\\"{\\\\\"}";
        let found = all(64, &[stream]).unwrap();
        assert_eq!(found, ["{\"a\":1}", "{\"b\":{\"c\":[1,{}]}}", "{\"s\":\"}\\\"{\\\\\"}"]);
    }

    #[test]
    fn limits_are_exact() {
        assert_eq!(all(7, &[b"{\"a\":1}"]).unwrap().len(), 1);
        assert_eq!(all(6, &[b"{\"a\":1}"]), Err(ScanError::TooLarge { limit: 6 }));
        let nested = |depth: usize| format!("{}{}{}", "{\"a\":".repeat(depth - 1), "{}", "}".repeat(depth - 1));
        assert!(all(1000, &[nested(16).as_bytes()]).is_ok());
        assert_eq!(all(1000, &[nested(17).as_bytes()]), Err(ScanError::TooDeep { limit: 16 }));
    }

    #[test]
    fn an_endless_object_ends_at_the_limit() {
        let mut objects = JsonScanner::new(1000, 16);
        objects.extend(b"{\"a\":\"");
        let error = (0..100).find_map(|_| {
            objects.extend(&[b'x'; 100]);
            objects.next_object().err()
        });
        assert_eq!(error, Some(ScanError::TooLarge { limit: 1000 }));
    }

    #[test]
    fn what_begins_can_be_looked_at() {
        let pending = |bytes: &[u8]| {
            let mut objects = JsonScanner::new(64, 2);
            objects.extend(bytes);
            while let Ok(Some(_)) = objects.next_object() {}
            String::from_utf8_lossy(objects.pending()).into_owned()
        };
        assert_eq!(pending(b"{\"a\":1} {\"b\":"), "{\"b\":");
        assert_eq!(pending(b"{\"a\":1}\0\0\0\x14{\"b\":1}"), "\u{14}{\"b\":1}");
        assert_eq!(pending(b"{\"b\":[{}]}"), "{\"b\":[{}]}");
        assert_eq!(pending(b" {\"a\":1}\n"), "");
    }

    #[test]
    fn garbage_and_wrong_encodings() {
        assert_eq!(all(64, &[b"[1]"]), Err(ScanError::NotAnObject(b'[')));
        assert_eq!(all(64, &[b"{} GET / HTTP/1.1"]), Err(ScanError::NotAnObject(b'G')));
        let mut objects = JsonScanner::new(64, 16);
        objects.extend(b"{\"a\":\"\xff\"}");
        assert_eq!(objects.next_object(), Ok(Some(&b"{\"a\":\"\xff\"}"[..])));
    }

    #[test]
    fn nul_and_byte_order_marks_are_white_space() {
        let mark = "\u{feff}";
        let stream = format!("{mark}{{\"a\":1}}\0\0 \n{mark}{{}}\0{{ \n}}{mark}\0");
        for piece in 1..=stream.len() {
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(piece).collect();
            assert_eq!(all(64, &pieces).unwrap(), ["{\"a\":1}", "{}", "{ \n}"]);
        }
        // Inside of an object they are not.
        assert_eq!(all(64, &[b"{\0}"]), Err(ScanError::NotAnObject(0)));
    }

    #[test]
    fn a_length_before_an_object_is_none() {
        let object = |bytes: u32| {
            let padding = " ".repeat(bytes as usize - r#"{"cmd":""}"#.len());
            format!(r#"{{"cmd":"{padding}"}}"#)
        };
        for bytes in 20..400_u32 {
            let text = object(bytes);
            let short = u16::try_from(bytes).unwrap();
            for (width, length) in [
                (4, bytes.to_be_bytes().to_vec()),
                (4, bytes.to_le_bytes().to_vec()),
                (2, short.to_be_bytes().to_vec()),
                (2, short.to_le_bytes().to_vec()),
                (8, u64::from(bytes).to_be_bytes().to_vec()),
                (8, u64::from(bytes).to_le_bytes().to_vec()),
                (0, bytes.to_string().into_bytes()),
                (0, format!("{bytes}\n").into_bytes()),
            ] {
                let stream = [&length, text.as_bytes()].concat();
                let found = all(1024, &[&stream]);
                // A length that is white space all over is none that anybody could see, and harms nobody.
                let is_white = length.iter().all(|byte| is_between(*byte));
                match found {
                    Err(ScanError::NotAnObject(_)) => assert!(!is_white),
                    found => assert!(is_white && found == Ok(vec![text.clone()]), "{width} {bytes}: {found:?}"),
                }
            }
        }
        // Doubled braces without a length are a mistake inside of one request.
        assert_eq!(all(64, &[b"{{\"a\":1}}{}"]).unwrap(), ["{{\"a\":1}}", "{}"]);
    }

    #[test]
    fn memory_is_given_back_after_a_large_object() {
        let mut objects = JsonScanner::new(1 << 20, 16);
        objects.extend(format!("{{\"a\":\"{}\"}}", "x".repeat(500_000)).as_bytes());
        assert!(objects.next_object().unwrap().is_some());
        objects.extend(b"{}");
        assert!(objects.next_object().unwrap().is_some());
        assert!(objects.buffer.capacity() <= IDLE_CAPACITY);
        objects.extend(format!("{{\"a\":\"{}\"}} ", "x".repeat(500_000)).as_bytes());
        assert!(objects.next_object().unwrap().is_some() && objects.len() > 500_000);
        assert_eq!(objects.next_object(), Ok(None));
        assert!(objects.is_empty() && objects.buffer.capacity() <= IDLE_CAPACITY);
    }

    #[test]
    fn what_is_skipped_takes_no_memory_and_what_follows_is_found() {
        for piece in [1, 7, 1000, 100_000] {
            let mut objects = JsonScanner::new(60_000, 16);
            objects.extend(b"{\"a\":1}{\"b\":[\"}");
            assert_eq!(objects.next_object(), Ok(Some(&b"{\"a\":1}"[..])));
            assert_eq!(objects.next_object(), Ok(None));
            objects.skip_object();
            assert!(objects.is_inside_object());
            let rest = format!("{}\\\"\"]}} {{\"c\":3}}{{", "x{".repeat(20_000));
            let mut found = Vec::new();
            for piece in rest.as_bytes().chunks(piece) {
                objects.extend(piece);
                while let Some(object) = objects.next_object().unwrap() {
                    found.push(String::from_utf8(object.to_owned()).unwrap());
                }
                assert!(objects.len() <= piece.len() + 9);
            }
            assert_eq!(found, ["{\"c\":3}"]);
            objects.skip_object();
            let error = (0..100).find_map(|_| {
                objects.extend(&[b' '; 1000]);
                objects.next_object().err()
            });
            assert_eq!(error, Some(ScanError::TooLarge { limit: 60_000 }));
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_objects(
            values in proptest::collection::vec("[a-z{}\\[\\]\"\\\\ é]{0,20}", 0..6),
            gaps in proptest::collection::vec("[ \n\r\t\0\u{feff}]{0,3}", 6),
            cuts in proptest::collection::vec(0_usize..400, 0..20),
        ) {
            let objects: Vec<String> =
                values.iter().map(|v| serde_json::json!({ "v": v, "n": [{ "d": v }] }).to_string()).collect();
            let stream: String = objects.iter().zip(&gaps).map(|(o, g)| format!("{g}{o}")).collect();
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(all(1024, &pieces), Ok(objects));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, piece in 1_usize..9) {
            let mut objects = JsonScanner::new(32, 4);
            'stream: for piece in bytes.chunks(piece) {
                objects.extend(piece);
                loop {
                    match objects.next_object() {
                        Ok(Some(text)) => prop_assert!(text.len() <= 32),
                        Ok(None) => break,
                        Err(_) => break 'stream,
                    }
                }
            }
        }
    }
}
