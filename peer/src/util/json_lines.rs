//! JSON in lines, as the tracker and the node's socket speak it: what came, cut into lines of bounded length.
//!
//! tokio-util's codecs are not used. Their bound is fixed, while that of a reply depends on its request, and their write
//! buffers keep what was written, passwords too.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

/// Bytes of which the last line may not be whole.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Bytes known to hold no line end.
    scanned: usize,
}

/// The reason why there is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("a line without end")]
    TooLong,
    /// The stream can't be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<LineError> for io::Error {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Io(error) => error,
            LineError::TooLong => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl LineBuffer {
    /// Reads the next line with its end, of at most `limit` bytes; `None` when the stream ended. Cancel-safe: what came
    /// of a line stays here.
    pub async fn read_line(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            if let Some(line) = self.next_line(limit)? {
                return Ok(Some(line));
            }
            // `read_buf` by itself grows a full vector by 64 bytes only.
            self.bytes.reserve(READ_BYTES);
            if from.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Returns how many bytes came of lines that were not taken yet.
    pub const fn pending_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the next line with its end, if it is whole.
    fn next_line(&mut self, limit: usize) -> Result<Option<Vec<u8>>, LineError> {
        // Only what is new is searched: a long line in many pieces would cost the square of its length.
        let end = self.bytes[self.scanned..].iter().position(|byte| *byte == b'\n');
        match end.map(|end| self.scanned + end + 1) {
            Some(length) if length <= limit => {
                let rest = self.bytes.split_off(length);
                self.scanned = 0;
                Ok(Some(std::mem::replace(&mut self.bytes, rest)))
            }
            None if self.bytes.len() <= limit => {
                self.scanned = self.bytes.len();
                Ok(None)
            }
            _ => Err(LineError::TooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_wherever_they_break() {
        let (mut buffer, mut stream) = (LineBuffer::default(), io::Cursor::new(b"one\ntwo\n\nhal"));
        for expected in [Some("one\n"), Some("two\n"), Some("\n"), None] {
            let line = buffer.read_line(&mut stream, 4).await.unwrap();
            assert_eq!(line.as_deref(), expected.map(str::as_bytes));
        }
        let mut rest = io::Cursor::new(b"f\n");
        assert_eq!(buffer.read_line(&mut rest, 5).await.unwrap().unwrap(), b"half\n");
    }

    #[test]
    fn a_line_without_end_ends_at_the_limit() {
        for chunk in [&b"a"[..], &[b'a'; 16 * 1024]] {
            let (mut buffer, mut taken) = (LineBuffer::default(), 0);
            while buffer.next_line(100_000).is_ok() {
                buffer.bytes.extend_from_slice(chunk);
                taken += chunk.len();
            }
            assert!(taken <= 100_000 + chunk.len(), "{taken}");
        }
        // Nor is one taken that is whole.
        let mut buffer = LineBuffer { bytes: b"too long\n".to_vec(), scanned: 0 };
        assert!(matches!(buffer.next_line(4), Err(LineError::TooLong)));
    }
}
