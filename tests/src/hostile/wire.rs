//! The peer protocol, byte by byte, so that it can be got wrong.

use quinn::{Connection, ReadError, RecvStream, SendStream};
use serde_json::Value;
use shared::frame::FrameDecoder;
use tokio::time::timeout;

use crate::PATIENCE;

/// A frame with whatever is in `value`.
pub(super) fn frame(value: &Value) -> Vec<u8> {
    let text = value.to_string().into_bytes();
    let len = u32::try_from(text.len()).expect("a frame has a length");
    [&len.to_be_bytes(), text.as_slice()].concat()
}

/// Bytes that are no frame.
pub(super) fn rubbish() -> Vec<u8> {
    // A length that is allowed, and then no JSON: not even a decoder that gives up early is let off lightly.
    let mut bytes = vec![0, 0, 0, 32];
    bytes.extend_from_slice(&[0xff; 32]);
    bytes
}

/// The first `bytes` bytes of the longest frame that is allowed.
pub(super) fn begun_frame(bytes: usize) -> Vec<u8> {
    let mut begun = 65_536_u32.to_be_bytes().to_vec();
    begun.resize(bytes, b' ');
    begun
}

/// The head of a frame that would have 4 GiB.
pub(super) const HUGE_HEAD: [u8; 8] = [0xff, 0xff, 0xff, 0xff, b'{', b'"', b't', b'"'];

/// Reads frames as they come.
#[derive(Default)]
pub(super) struct Frames(FrameDecoder);

impl Frames {
    /// The next one, `None` when the stream ended or the other side gave up on it.
    pub(super) async fn next(&mut self, stream: &mut RecvStream) -> Option<Value> {
        timeout(PATIENCE, self.next_unhurried(stream)).await.expect("an answer in time").ok()?
    }

    /// The same, however long it takes; the error is why the stream broke.
    pub(super) async fn next_unhurried(&mut self, stream: &mut RecvStream) -> Result<Option<Value>, ReadError> {
        loop {
            if let Some(value) = self.0.next_frame().expect("the product sends proper frames") {
                return Ok(Some(value));
            }
            let Some(chunk) = stream.read_chunk(self.0.bytes_needed(), true).await? else { return Ok(None) };
            self.0.extend(&chunk.bytes);
        }
    }
}

/// A new stream with these bytes already sent.
pub(super) async fn open(connection: &Connection, bytes: &[u8]) -> Option<(SendStream, RecvStream)> {
    let (mut send, receive) = connection.open_bi().await.ok()?;
    send.write_all(bytes).await.ok()?;
    Some((send, receive))
}
