//! One bidirectional stream: frames and bulk data, each direction by itself.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::VarInt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::frame::{self, Decoder, FrameError};
use shared::peer::{Answer, Code};

use super::StreamError;

/// Packets' data taken from a connection at once.
const CHUNKS: usize = 32;
/// Raw bytes so few are sent in one piece with their frame.
pub const COPIED_BYTES: usize = 4096;

/// The sending direction.
///
/// Dropped without [`Sender::finish`] it resets the stream, so that a sender that was cancelled never looks like one
/// that was done.
#[derive(Debug)]
pub struct Sender {
    stream: quinn::SendStream,
    buffer: Vec<u8>,
    open: bool,
}

/// The receiving direction. Dropped before its end it tells the other side to stop.
#[derive(Debug)]
pub struct Receiver {
    stream: quinn::RecvStream,
    decoder: Decoder,
    /// Taken from the connection and not yet asked for: one visit there brings many packets' data.
    ready: VecDeque<Bytes>,
}

/// How urgent a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Bulk data.
    Bulk,
    /// Questions and answers.
    Request,
    /// Conversations.
    Chat,
}

impl Sender {
    pub(super) const fn new(stream: quinn::SendStream) -> Self {
        Self { stream, buffer: Vec::new(), open: true }
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// [`StreamError`] when it is too large or the stream is gone.
    pub async fn frame<T: Serialize>(&mut self, message: &T) -> Result<(), StreamError> {
        self.buffer.clear();
        frame::encode(message, &mut self.buffer)?;
        Ok(self.stream.write_all(&self.buffer).await?)
    }

    /// Sends frames with one write.
    ///
    /// # Errors
    /// [`StreamError`] when one is too large or the stream is gone.
    pub async fn frames<T: Serialize>(&mut self, messages: &[T]) -> Result<(), StreamError> {
        self.buffer.clear();
        for message in messages {
            frame::encode(message, &mut self.buffer)?;
        }
        Ok(self.stream.write_all(&self.buffer).await?)
    }

    /// Sends one frame and the raw bytes that it announces; `moved` as with [`Sender::bulk`].
    ///
    /// # Errors
    /// [`StreamError`] when the frame is too large or the stream is gone.
    pub async fn frame_and_bulk<T: Serialize>(
        &mut self,
        message: &T,
        bytes: Bytes,
        moved: impl Fn(usize),
    ) -> Result<(), StreamError> {
        self.buffer.clear();
        frame::encode(message, &mut self.buffer)?;
        if bytes.len() <= COPIED_BYTES {
            // One visit to the connection costs more than copying little.
            self.buffer.extend_from_slice(&bytes);
            return Ok(self.stream.write_all(&self.buffer).await?);
        }
        self.stream.write_all(&self.buffer).await?;
        self.bulk(bytes, moved).await
    }

    /// Sends raw bytes that a frame announced. `moved` hears of every part of them that is on its way, in bytes: on a slow
    /// network the whole takes its time.
    ///
    /// # Errors
    /// [`StreamError`] when the stream is gone.
    pub async fn bulk(&mut self, bytes: Bytes, moved: impl Fn(usize)) -> Result<(), StreamError> {
        let mut left = [bytes];
        while !left[0].is_empty() {
            moved(self.stream.write_chunks(&mut left).await?.bytes);
        }
        Ok(())
    }

    /// Sends some of the raw bytes that a frame announced, and takes them out of `left`. May be cancelled and called again.
    /// What is `copied` keeps no more in memory than what is not acknowledged yet; else all that `left` is a part of stays.
    ///
    /// # Errors
    /// [`StreamError`] when the stream is gone.
    pub async fn some_bulk(&mut self, left: &mut Bytes, copied: bool) -> Result<(), StreamError> {
        if copied {
            let count = self.stream.write(left).await?;
            left.advance(count);
        } else {
            self.stream.write_chunks(std::slice::from_mut(left)).await?;
        }
        Ok(())
    }

    /// Says how urgent what is sent from here on is.
    pub fn set_priority(&self, priority: Priority) {
        let level = match priority {
            Priority::Bulk => -1,
            Priority::Request => 0,
            Priority::Chat => 1,
        };
        // Fails only on a stream that is closed, where it doesn't matter.
        let _ = self.stream.set_priority(level);
    }

    /// Ends this direction: everything was said.
    pub fn finish(mut self) {
        self.open = false;
        let _ = self.stream.finish();
    }

    /// Gives up with a reason.
    pub fn reset(mut self, code: Code) {
        self.open = false;
        let _ = self.stream.reset(VarInt::from_u32(code.into()));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.open {
            let _ = self.stream.reset(VarInt::from_u32(Code::Cancelled.into()));
        }
    }
}

impl Receiver {
    pub(super) fn new(stream: quinn::RecvStream) -> Self {
        Self { stream, decoder: Decoder::default(), ready: VecDeque::new() }
    }

    /// The next frame; `None` when the other side ended its direction cleanly. May be cancelled and called again.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(Some(message));
            }
            // No more than the frame: bulk data behind it is never copied here.
            if let Some(bytes) = self.take_ready(self.decoder.missing()) {
                self.decoder.extend(&bytes);
            } else if !self.fill().await? {
                return if self.decoder.is_empty() { Ok(None) } else { Err(StreamError::Truncated) };
            }
        }
    }

    /// The next frame if all of it was taken from the connection already.
    ///
    /// # Errors
    /// [`StreamError`] for one that can't be read; [`Receiver::frame`] then says so as well.
    pub fn frame_here<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.decoder.next_frame()? {
                return Ok(Some(message));
            }
            match self.take_ready(self.decoder.missing()) {
                Some(bytes) => self.decoder.extend(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// The answer to a request that was sent: a frame must come, and an `error` frame is an error.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn answer(&mut self) -> Result<Answer, StreamError> {
        match self.frame().await?.ok_or(StreamError::Truncated)? {
            Answer::Error { code, message } => Err(StreamError::Answered { code, message }),
            answer => Ok(answer),
        }
    }

    /// 1 to `max` of the raw bytes that a frame announced. May be cancelled and called again.
    ///
    /// # Errors
    /// [`StreamError`]; the stream must not end here.
    pub async fn bulk(&mut self, max: usize) -> Result<Bytes, StreamError> {
        loop {
            if let Some(bytes) = self.take_ready(max) {
                return Ok(bytes);
            }
            if !self.fill().await? {
                return Err(StreamError::Truncated);
            }
        }
    }

    /// Up to `max` of the raw bytes that are here already.
    pub fn take_ready(&mut self, max: usize) -> Option<Bytes> {
        let front = self.ready.front_mut()?;
        if front.len() > max {
            return Some(front.split_to(max)).filter(|bytes| !bytes.is_empty());
        }
        self.ready.pop_front()
    }

    /// Exactly `len` raw bytes that a frame announced, in one piece.
    ///
    /// # Errors
    /// [`StreamError`].
    pub async fn bulk_exact(&mut self, len: usize) -> Result<Vec<u8>, StreamError> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let chunk = self.bulk(len - bytes.len()).await?;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Fetches what the connection has, or waits for something; false at the stream's clean end.
    async fn fill(&mut self) -> Result<bool, StreamError> {
        let mut chunks = [const { Bytes::new() }; CHUNKS];
        let Some(count) = self.stream.read_chunks(&mut chunks).await? else { return Ok(false) };
        self.ready.extend(chunks.into_iter().take(count).filter(|chunk| !chunk.is_empty()));
        Ok(true)
    }

    /// Tells the other side that no more is wanted.
    pub fn stop(mut self, code: Code) {
        let _ = self.stream.stop(VarInt::from_u32(code.into()));
    }
}

/// `future`, but no longer than `within`.
///
/// # Errors
/// [`StreamError::Timeout`], or what the future says.
pub async fn within<T>(
    within: Duration,
    future: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    tokio::time::timeout(within, future).await.unwrap_or(Err(StreamError::Timeout(within)))
}

/// Whether an error is the other side's breach of the protocol, to be answered by [`Code::Protocol`].
pub const fn is_breach(error: &StreamError) -> bool {
    matches!(
        error,
        StreamError::Frame(FrameError::Malformed(_) | FrameError::TooLarge(_))
            | StreamError::Truncated
            | StreamError::Unexpected(_)
    )
}
