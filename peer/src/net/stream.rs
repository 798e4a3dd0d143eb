//! Bidirectional streams of a link: frames and bulk data, per direction.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::VarInt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::frame::{self, FrameDecoder, FrameError};
use shared::peer::{PeerErrorCode, PeerReply};

use super::StreamError;

/// Chunks taken from the connection per read; each is at most one packet's data.
const CHUNKS: usize = 32;
/// Raw bytes so few are sent in one piece with their frame.
pub const COPIED_BYTES: usize = 4096;

/// The sending direction of a stream.
///
/// Dropping it without [`StreamSender::finish`] resets the stream, so that a cancelled sender never looks like a
/// complete one.
#[derive(Debug)]
pub struct StreamSender {
    stream: quinn::SendStream,
    buffer: Vec<u8>,
    is_open: bool,
}

/// The receiving direction of a stream. Dropping it before the end asks the other side to stop.
#[derive(Debug)]
pub struct StreamReceiver {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
    /// Chunks not consumed yet. One lock of the connection fetches many of them.
    buffered: VecDeque<Bytes>,
}

/// The priority of a stream's data within its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamPriority {
    Bulk,
    Request,
    Chat,
}

impl StreamSender {
    pub(super) const fn new(stream: quinn::SendStream) -> Self {
        Self { stream, buffer: Vec::new(), is_open: true }
    }

    /// Sends a frame. Fails with [`StreamError::Frame`] if it is too large, otherwise the failure of the stream.
    pub async fn send_frame<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        self.buffer.clear();
        frame::encode(message, &mut self.buffer)?;
        Ok(self.stream.write_all(&self.buffer).await?)
    }

    /// Sends several frames with one write. Fails with [`StreamError::Frame`] if one is too large, otherwise the
    /// failure of the stream.
    pub async fn send_frames<T: Serialize>(&mut self, messages: &[T]) -> Result<(), StreamError> {
        self.buffer.clear();
        // One write for all of them: each write locks the connection.
        for message in messages {
            frame::encode(message, &mut self.buffer)?;
        }
        Ok(self.stream.write_all(&self.buffer).await?)
    }

    /// Sends a frame and the bulk data it announces; `moved` as in [`StreamSender::send_bulk`]. Fails with
    /// [`StreamError::Frame`] if the frame is too large, otherwise the failure of the stream.
    pub async fn send_frame_and_bulk<T: Serialize>(
        &mut self,
        message: &T,
        bytes: Bytes,
        moved: impl Fn(usize),
    ) -> Result<(), StreamError> {
        self.buffer.clear();
        frame::encode(message, &mut self.buffer)?;
        if bytes.len() <= COPIED_BYTES {
            // A second lock of the connection costs more than copying a few bytes.
            self.buffer.extend_from_slice(&bytes);
            self.stream.write_all(&self.buffer).await?;
            moved(bytes.len());
            return Ok(());
        }
        self.stream.write_all(&self.buffer).await?;
        self.send_bulk(bytes, moved).await
    }

    /// Sends bulk data that a frame announced. `moved` is called with the number of bytes after each part, as the
    /// whole may take long on a slow network.
    pub async fn send_bulk(&mut self, bytes: Bytes, moved: impl Fn(usize)) -> Result<(), StreamError> {
        let mut left = [bytes];
        while !left[0].is_empty() {
            moved(self.stream.write_chunks(&mut left).await?.bytes);
        }
        Ok(())
    }

    /// Sends some of the raw bytes that a frame announced, and takes them out of `left`; all that `left` is a part of stays
    /// in memory until they are acknowledged. May be cancelled and called again.
    pub async fn send_shared_bulk(&mut self, left: &mut Bytes) -> Result<(), StreamError> {
        self.stream.write_chunks(std::slice::from_mut(left)).await?;
        Ok(())
    }

    /// As [`StreamSender::send_shared_bulk`], but with a copy, so that only what isn't acknowledged yet stays in memory.
    pub async fn send_copied_bulk(&mut self, left: &mut Bytes) -> Result<(), StreamError> {
        let count = self.stream.write(left).await?;
        left.advance(count);
        Ok(())
    }

    /// Says how urgent what is sent from here on is.
    pub fn set_priority(&self, priority: StreamPriority) {
        // quinn sends higher levels first, across all streams of the connection.
        let level = match priority {
            StreamPriority::Bulk => -1,
            StreamPriority::Request => 0,
            StreamPriority::Chat => 1,
        };
        // Fails only on a closed stream, which needs no priority.
        let _ = self.stream.set_priority(level);
    }

    /// Ends this direction: all data was sent.
    pub fn finish(mut self) {
        self.is_open = false;
        // Fails only on a stream that was finished or reset: nothing is left to end.
        let _ = self.stream.finish();
    }

    /// Resets this direction with a reason.
    pub fn reset(mut self, code: PeerErrorCode) {
        self.is_open = false;
        let _ = self.stream.reset(VarInt::from_u32(code.into()));
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        // quinn finishes a stream that is merely dropped; a partial transfer would look complete.
        if self.is_open {
            let _ = self.stream.reset(VarInt::from_u32(PeerErrorCode::Cancelled.into()));
        }
    }
}

impl StreamReceiver {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, decoder: FrameDecoder::default(), buffered: VecDeque::new() }
    }

    /// Reads the next frame; `None` if the other side has finished its direction. Cancel-safe. Fails with
    /// [`StreamError`], also if the stream ends inside a frame.
    pub async fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(Some(message));
            }
            // At most the frame's bytes go into the decoder: bulk data behind it is never copied.
            if let Some(bytes) = self.take_buffered(self.decoder.bytes_needed()) {
                self.decoder.extend(&bytes);
            } else if !self.fill_buffer().await? {
                // An end inside a frame is an interrupted sender, not a clean end.
                return if self.decoder.is_empty() { Ok(None) } else { Err(StreamError::Truncated) };
            }
        }
    }

    /// Returns the next frame, if it has been received completely. Fails with [`StreamError::Frame`] for a malformed
    /// frame; [`StreamReceiver::next_frame`] returns the same error.
    pub fn buffered_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(Some(message));
            }
            match self.take_buffered(self.decoder.bytes_needed()) {
                Some(bytes) => self.decoder.extend(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Reads the reply to a request; an `error` frame becomes an error. Fails with [`StreamError::Refused`] for an
    /// `error` frame, [`StreamError::Truncated`] without a reply.
    pub async fn next_answer(&mut self) -> Result<PeerReply, StreamError> {
        match self.next_frame().await?.ok_or(StreamError::Truncated)? {
            PeerReply::Error { code, message } => Err(StreamError::Refused { code, message }),
            answer => Ok(answer),
        }
    }

    /// Reads 1 to `max` bytes of bulk data that a frame announced. Cancel-safe. Fails with [`StreamError::Truncated`]
    /// at the end of the stream.
    pub async fn next_bulk(&mut self, max: usize) -> Result<Bytes, StreamError> {
        loop {
            if let Some(bytes) = self.take_buffered(max) {
                return Ok(bytes);
            }
            if !self.fill_buffer().await? {
                return Err(StreamError::Truncated);
            }
        }
    }

    /// Returns up to `max` bytes of bulk data received already.
    pub fn take_buffered(&mut self, max: usize) -> Option<Bytes> {
        let front = self.buffered.front_mut()?;
        if front.len() > max {
            // With a `max` of 0 nothing is returned: callers take an empty chunk for progress.
            return Some(front.split_to(max)).filter(|bytes| !bytes.is_empty());
        }
        self.buffered.pop_front()
    }

    /// Reads exactly `len` bytes of bulk data. Fails with [`StreamError::Truncated`] if the stream ends before.
    pub async fn read_bulk_exact(&mut self, len: usize) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let chunk = self.next_bulk(len - bytes.len()).await?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads what has arrived, or waits for data; false at the end of the stream.
    async fn fill_buffer(&mut self) -> Result<bool, StreamError> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let Some(count) = self.stream.read_chunks(&mut chunks).await? else { return Ok(false) };
        self.buffered.extend(chunks.into_iter().take(count).filter(|chunk| !chunk.is_empty()));
        Ok(true)
    }

    /// Asks the other side to stop sending.
    pub fn stop(mut self, code: PeerErrorCode) {
        let _ = self.stream.stop(VarInt::from_u32(code.into()));
    }
}

/// Runs `future` for at most `limit`. Fails with [`StreamError::Timeout`], or the future's error.
pub async fn with_timeout<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    tokio::time::timeout(limit, future).await.unwrap_or(Err(StreamError::Timeout(limit)))
}

/// True if the other side violated the protocol, which is answered by [`PeerErrorCode::Protocol`].
pub const fn is_protocol_violation(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::Frame(FrameError::Malformed(_) | FrameError::TooLarge(_))
            | StreamError::Truncated
            | StreamError::Unexpected(_)
    )
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::sync::Arc;

    use certs::{Identity, ServerPin};

    use super::*;
    use crate::net::endpoint::Endpoint;

    #[tokio::test]
    async fn bulk_data_of_any_size_has_moved_once_it_is_written() {
        let [here, there] = [(); 2].map(|()| Arc::new(Identity::generate().unwrap()));
        let (client, server) = (Endpoint::client(&here, None).unwrap(), Endpoint::server(&there, 0, 0).unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], server.port().unwrap()));
        let connecting = client.connect(address, &ServerPin::expecting(there.fingerprint())).unwrap();
        let (connection, _accepted) = tokio::join!(async { connecting.await.unwrap() }, async {
            server.accept().await.unwrap().connecting.await
        });
        let mut sender = StreamSender::new(connection.open_bi().await.unwrap().0);
        let moved = Cell::new(0);
        for len in [0, 1, COPIED_BYTES / 2, COPIED_BYTES + 1] {
            moved.set(0);
            let (header, bytes) = (PeerReply::Data { bytes: len as u64 }, Bytes::from(vec![0; len]));
            sender.send_frame_and_bulk(&header, bytes, |count| moved.set(moved.get() + count)).await.unwrap();
            assert_eq!(moved.get(), len);
        }
        connection.close(VarInt::from_u32(PeerErrorCode::Done.into()), b"");
        let header = PeerReply::Data { bytes: 1 };
        let failed = sender.send_frame_and_bulk(&header, Bytes::from_static(b"x"), |_| panic!("nothing moved")).await;
        assert!(failed.is_err());
    }
}
