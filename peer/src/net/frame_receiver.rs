//! The receiving direction of a stream that somebody else opened: frames, and no more of them in memory than they may have.
//!
//! What is not read stays with its sender, by QUIC's flow control. So what a user can make this side hold depends on what is
//! read, and that is:
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a frame that has begun | 10 s, the time apart that it waits for memory; the same for the first one of a stream | the stream is given up |
//! | memory of a stream between its frames | 1 KiB | read when that was dealt with |
//! | short frames of a stream that are dealt with together | 16 KiB, on 4 streams of a user at once | one after another |
//! | long frames in memory | 2 of a user | the next waits for one of them |

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;
use serde::de::DeserializeOwned;
use shared::frame::{FrameDecoder, FrameError};
use shared::peer::PeerErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::StreamError;

/// How long a frame may take that has begun.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that each stream may hold: more than almost every request has.
const SMALL_BYTES: usize = 1024;
/// Bytes of frames that are dealt with together.
const BATCH_BYTES: usize = 16 * 1024;
const BATCHES_PER_USER: usize = 4;
const LONG_FRAMES_PER_USER: usize = 2;

/// What the frames of one user may hold in memory, over all streams and links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameQuota {
    batches: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The receiving direction of a stream that the other side opened. Dropped before its end it tells the other side to stop.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
    quota: FrameQuota,
    memory: FrameMemory,
    /// Bytes of the frames that were taken since the last wait.
    bytes_decoded: usize,
    is_first: bool,
}

/// How much a stream may hold now.
#[derive(Debug)]
enum FrameMemory {
    Small,
    Batch(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
    /// The frame that has begun, and nothing behind it.
    Long(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
}

impl FrameQuota {
    /// The allowance of one user.
    pub fn for_user() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { batches: permits(BATCHES_PER_USER), long: permits(LONG_FRAMES_PER_USER) }
    }

    /// That of somebody who is not identified yet: nothing but short frames.
    pub(super) fn for_stranger() -> Self {
        let permits = || Arc::new(Semaphore::new(0));
        let none = Self { batches: permits(), long: permits() };
        none.long.close();
        none
    }
}

impl FrameReceiver {
    pub(super) fn new(stream: quinn::RecvStream, quota: FrameQuota) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::default(),
            quota,
            memory: FrameMemory::Small,
            bytes_decoded: 0,
            is_first: true,
        }
    }

    /// The next frame; `None` when the other side ended its direction cleanly. All frames before it were dealt with: their
    /// memory counts no longer.
    ///
    /// # Errors
    /// [`StreamError`], a time-out of a frame that has begun included.
    pub async fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        self.release_memory();
        let mut begun: Option<Instant> = None;
        loop {
            if let Some(message) = self.decode_frame()? {
                return Ok(Some(message));
            }
            if self.reserve_memory().await? {
                begun = None;
            }
            if self.is_first || !self.decoder.is_empty() {
                begun = begun.or_else(|| Some(Instant::now()));
            }
            let read = self.stream.read_chunk(self.free_bytes(), true);
            let chunk = match begun {
                Some(begun) => {
                    let late = |_| StreamError::Timeout(FRAME_TIMEOUT);
                    timeout_at(begun + FRAME_TIMEOUT, read).await.map_err(late)??
                }
                None => read.await?,
            };
            match chunk {
                Some(chunk) => self.decoder.extend(&chunk.bytes),
                None if self.decoder.is_empty() => return Ok(None),
                None => return Err(StreamError::Truncated),
            }
        }
    }

    /// The next frame if all of it is here already, and may be dealt with together with the one before.
    ///
    /// # Errors
    /// [`StreamError`] for one that can't be read; [`FrameReceiver::next_frame`] then says so as well.
    pub fn buffered_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.decode_frame()? {
                return Ok(Some(message));
            }
            if matches!(self.memory, FrameMemory::Small)
                && let Ok(permit) = self.quota.batches.clone().try_acquire_owned()
            {
                self.memory = FrameMemory::Batch(permit);
            }
            let room = match self.memory {
                FrameMemory::Batch(_) => self.free_bytes(),
                // One more short frame would be one more of which nobody knows.
                FrameMemory::Small | FrameMemory::Long(_) => 0,
            };
            match self.read_buffered(room) {
                Some(bytes) => self.decoder.extend(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Tells the other side that no more is wanted.
    pub fn stop(mut self, code: PeerErrorCode) {
        let _ = self.stream.stop(VarInt::from_u32(code.into()));
    }

    fn decode_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        let before = self.decoder.len();
        let message = self.decoder.next_frame()?;
        if message.is_some() {
            self.bytes_decoded += before - self.decoder.len();
            self.is_first = false;
        }
        Ok(message)
    }

    fn release_memory(&mut self) {
        self.bytes_decoded = 0;
        if self.decoder.len() <= SMALL_BYTES {
            self.memory = FrameMemory::Small;
        }
    }

    /// Sees to it that the frame that has begun fits; true if that was waited for.
    async fn reserve_memory(&mut self) -> Result<bool, StreamError> {
        let needed = self.decoder.frame_len().unwrap_or(0);
        let fits = match self.memory {
            FrameMemory::Small => needed <= SMALL_BYTES,
            FrameMemory::Batch(_) => needed <= BATCH_BYTES,
            FrameMemory::Long(_) => true,
        };
        if fits {
            return Ok(false);
        }
        if needed <= BATCH_BYTES
            && let Ok(permit) = self.quota.batches.clone().try_acquire_owned()
        {
            self.memory = FrameMemory::Batch(permit);
            return Ok(false);
        }
        let permit = self.quota.long.clone().acquire_owned().await;
        // Closed for those who may not have any.
        self.memory = FrameMemory::Long(permit.map_err(|_| FrameError::TooLarge(needed))?);
        Ok(true)
    }

    fn free_bytes(&self) -> usize {
        let used = self.bytes_decoded + self.decoder.len();
        match self.memory {
            FrameMemory::Small => SMALL_BYTES.saturating_sub(used),
            FrameMemory::Batch(_) => BATCH_BYTES.saturating_sub(used),
            FrameMemory::Long(_) => self.decoder.bytes_needed(),
        }
    }

    /// Up to `max` bytes if some are here.
    fn read_buffered(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 {
            return None;
        }
        let read = pin!(self.stream.read_chunk(max, true));
        // Whoever waits next leaves a waker of its own; an error comes then as well.
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(chunk))) => Some(chunk.bytes),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }
}
