//! Frames of the protocol between peers: a length as big-endian u32, then as many bytes of JSON, at most
//! [`MAX_FRAME_BYTES`].
//!
//! A frame may announce raw bytes that follow it. [`FrameDecoder::bytes_needed`] tells how much to read without
//! consuming any of them.

use std::fmt;

use localization::tr;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::UntrustedText;
use crate::limits::MAX_FRAME_BYTES;

const LENGTH_BYTES: usize = 4;
/// Capacity that an empty decoder keeps.
const IDLE_CAPACITY: usize = 4096;

/// A reason why bytes are not a frame, or why a value can't be sent as one. The stream can't be used afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The length in bytes, which is above [`MAX_FRAME_BYTES`].
    TooLarge(usize),
    /// The parser's message, which quotes the other side's JSON.
    Malformed(UntrustedText),
}

/// Appends `message` to `out` as a frame.
///
/// # Errors
/// Returns [`FrameError::TooLarge`] if the JSON is longer than [`MAX_FRAME_BYTES`], and [`FrameError::Malformed`] if
/// `message` can't be written as JSON. `out` is unchanged then.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    // The length is filled in afterwards, so the JSON is written to `out` without a second buffer.
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = serde_json::to_writer(&mut *out, message);
    let len = out.len() - start - LENGTH_BYTES;
    let error = match (written, u32::try_from(len)) {
        (Ok(()), Ok(prefix)) if len <= MAX_FRAME_BYTES => {
            out[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_be_bytes());
            return Ok(());
        }
        (Err(error), _) => FrameError::Malformed(error.to_string().into()),
        (Ok(()), _) => FrameError::TooLarge(len),
    };
    // `out` may hold earlier frames, which must still be sent whole.
    out.truncate(start);
    Err(error)
}

/// A decoder that splits a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    /// Index of the first byte that belongs to no frame returned so far.
    start: usize,
}

impl FrameDecoder {
    /// Adds bytes from the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        // Returned frames are dropped here and not in `next_frame`: one move per read instead of one per frame.
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next frame, or `None` until its last byte has been added.
    ///
    /// # Errors
    /// Returns [`FrameError::TooLarge`] as soon as the prefix announces too much, and [`FrameError::Malformed`] if the
    /// frame isn't a `T`. The stream can't be used afterwards.
    pub fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(([a, b, c, d], rest)) = self.pending().split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        // Checked before the body arrives, so a hostile prefix can't make the reader buffer more than a frame.
        if len > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(len));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string().into()))?;
        // A frame that could not be parsed stays, so a second call gives the same error.
        self.start += LENGTH_BYTES + len;
        if self.is_empty() {
            // Streams live long, and most carry one long frame at most: don't keep its memory.
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_CAPACITY);
            self.start = 0;
        }
        Ok(Some(message))
    }

    /// Returns the number of bytes that belong to no frame returned so far.
    pub const fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Returns the length of the next frame with its prefix, or `None` until the prefix is complete.
    pub fn frame_len(&self) -> Option<usize> {
        let (prefix, _) = self.pending().split_first_chunk::<LENGTH_BYTES>()?;
        // A hostile prefix may be the greatest there is: on a 32-bit machine the sum would overflow.
        Some(usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX).saturating_add(LENGTH_BYTES))
    }

    /// Returns the number of further bytes that the next frame needs, as far as its prefix is known. It is 0 only when
    /// a frame is complete.
    ///
    /// A caller that reads no more than this leaves the raw bytes behind the frame in the stream.
    pub fn bytes_needed(&self) -> usize {
        let pending = self.pending();
        match pending.split_first_chunk::<LENGTH_BYTES>() {
            None => LENGTH_BYTES - pending.len(),
            Some((prefix, rest)) => {
                usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX).saturating_sub(rest.len())
            }
        }
    }

    /// Returns true if no bytes of an incomplete frame are held: the stream may end here.
    pub const fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    fn pending(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(len) => {
                f.write_str(&tr!("a frame of {len} bytes is over the limit of {limit}", len, limit = MAX_FRAME_BYTES))
            }
            Self::Malformed(why) => f.write_str(&tr!("a frame is not what was expected here: {why}", why)),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn golden() {
        let mut bytes = Vec::new();
        encode(&json!({"t": "typing"}), &mut bytes).unwrap();
        assert_eq!(bytes, b"\0\0\0\x0e{\"t\":\"typing\"}");
    }

    #[test]
    fn memory_of_a_long_frame_is_given_back() {
        let mut bytes = Vec::new();
        encode(&json!({ "text": "x".repeat(60_000) }), &mut bytes).unwrap();
        let mut decoder = FrameDecoder::default();
        decoder.extend(&bytes[..5]);
        assert_eq!((decoder.len(), decoder.frame_len()), (5, Some(bytes.len())));
        decoder.extend(&bytes[5..]);
        decoder.next_frame::<Value>().unwrap().unwrap();
        assert!(decoder.is_empty() && decoder.frame_len().is_none());
        assert!(decoder.buffer.capacity() <= IDLE_CAPACITY);
    }

    #[test]
    fn too_large_both_ways() {
        let mut bytes = vec![1];
        assert_eq!(encode(&"x".repeat(MAX_FRAME_BYTES), &mut bytes), Err(FrameError::TooLarge(MAX_FRAME_BYTES + 2)));
        assert_eq!(bytes, [1]);
        let mut decoder = FrameDecoder::default();
        decoder.extend(&[0xff; 4]);
        assert!(matches!(decoder.next_frame::<Value>(), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn raw_bytes_behind_a_frame_are_left_alone() {
        let mut bytes = Vec::new();
        encode(&json!({"bytes": 8}), &mut bytes).unwrap();
        bytes.extend_from_slice(b"rawbytes");
        let mut rest = bytes.as_slice();
        let mut decoder = FrameDecoder::default();
        loop {
            if let Some(frame) = decoder.next_frame::<Value>().unwrap() {
                assert_eq!(frame["bytes"], 8);
                break;
            }
            let (now, later) = rest.split_at(decoder.bytes_needed());
            assert!(!now.is_empty());
            decoder.extend(now);
            rest = later;
        }
        assert_eq!(rest, b"rawbytes");
        assert!(decoder.is_empty());
    }

    proptest! {
        #[test]
        fn round_trip_in_any_split(messages in proptest::collection::vec(".{0,40}", 0..8), piece in 1_usize..16) {
            let mut bytes = Vec::new();
            for message in &messages {
                encode(message, &mut bytes).unwrap();
            }
            let mut decoder = FrameDecoder::default();
            let mut found: Vec<String> = Vec::new();
            for piece in bytes.chunks(piece) {
                decoder.extend(piece);
                while let Some(message) = decoder.next_frame().unwrap() {
                    found.push(message);
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let mut decoder = FrameDecoder::default();
            decoder.extend(&bytes);
            while let Ok(Some(_)) = decoder.next_frame::<Value>() {}
            let _ = decoder.bytes_needed();
        }
    }
}
