//! The receiver of streams that the other side opened: frames, with bounded memory per user.
//!
//! Unread data stays with its sender by QUIC's flow control. The bounds on reading therefore bound the memory that a
//! user can occupy here:
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a frame begun, and a stream's first frame | 10 s, not counting the wait for memory | the stream is given up |
//! | memory of a stream between its frames | 1 KiB | read after the current frame was handled |
//! | short frames of a stream handled together | 16 KiB, on 4 streams of a user at a time | handled one by one |
//! | long frames in memory | 2 per user | the next one waits |

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

/// The time limit for a frame that has begun.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that every stream may hold; almost every request fits.
const SMALL_BYTES: usize = 1024;
/// Bytes of frames that are handled together.
const BATCH_BYTES: usize = 16 * 1024;
const BATCHES_PER_USER: usize = 4;
const LONG_FRAMES_PER_USER: usize = 2;

/// The memory quota of one user's frames, over all streams and links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameQuota {
    batches: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The receiving direction of a stream opened by the other side. Dropping it before the end asks the other side to
/// stop.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: quinn::RecvStream,
    decoder: FrameDecoder,
    quota: FrameQuota,
    memory: FrameMemory,
    /// Bytes of the frames returned since the last call of [`FrameReceiver::next_frame`].
    bytes_decoded: usize,
    is_first: bool,
}

/// The memory that a stream has reserved.
#[derive(Debug)]
enum FrameMemory {
    Small,
    Batch(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
    /// For the current frame only, not for anything behind it.
    Long(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
}

impl FrameQuota {
    /// Creates the quota of a user.
    pub fn for_user() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { batches: permits(BATCHES_PER_USER), long: permits(LONG_FRAMES_PER_USER) }
    }

    /// Creates the quota of an unidentified caller: short frames only.
    pub(super) fn for_stranger() -> Self {
        let permits = || Arc::new(Semaphore::new(0));
        let none = Self { batches: permits(), long: permits() };
        // Closed, not merely empty: a long frame then fails at once instead of waiting for a permit.
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

    /// Reads the next frame; `None` if the other side has finished its direction. The caller has handled all earlier
    /// frames, so their memory is released. Fails with [`StreamError`]; [`StreamError::Timeout`] if a frame takes too
    /// long.
    pub async fn next_frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        self.release_memory();
        let mut begun: Option<Instant> = None;
        loop {
            if let Some(message) = self.decode_frame()? {
                return Ok(Some(message));
            }
            // A wait for memory is not the sender's fault, so the time limit starts anew.
            if self.reserve_memory().await? {
                begun = None;
            }
            // A stream may be silent between its frames, but a new one has to begin.
            if self.is_first || !self.decoder.is_empty() {
                begun = begun.or_else(|| Some(Instant::now()));
            }
            // Never more than the reserved memory: the rest stays with the sender.
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

    /// Returns the next frame, if it has been received completely and may be handled together with the one before.
    /// Fails with [`StreamError::Frame`] for a malformed frame; [`FrameReceiver::next_frame`] returns the same error.
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
                // Without a batch permit, another frame in memory would be outside the quota.
                FrameMemory::Small | FrameMemory::Long(_) => 0,
            };
            match self.read_buffered(room) {
                Some(bytes) => self.decoder.extend(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Asks the other side to stop sending.
    pub fn stop(mut self, code: PeerErrorCode) {
        // Fails only if the stream has ended already: then there is nothing to stop.
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
        // With more of the next frame in memory already, the permit has to stay.
        if self.decoder.len() <= SMALL_BYTES {
            self.memory = FrameMemory::Small;
        }
    }

    /// Reserves memory for the frame that has begun; true if it had to wait.
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
        // Not awaited: if all batch permits are in use, a long permit serves as well.
        if needed <= BATCH_BYTES
            && let Ok(permit) = self.quota.batches.clone().try_acquire_owned()
        {
            self.memory = FrameMemory::Batch(permit);
            return Ok(false);
        }
        let permit = self.quota.long.clone().acquire_owned().await;
        // The semaphore is closed for unidentified callers.
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

    /// Returns up to `max` bytes, if any have arrived.
    fn read_buffered(&mut self, max: usize) -> Option<Bytes> {
        if max == 0 {
            return None;
        }
        let read = pin!(self.stream.read_chunk(max, true));
        // The no-op waker is safe: the next awaited read registers its own waker and sees any error.
        match read.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Some(chunk))) => Some(chunk.bytes),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }
}
