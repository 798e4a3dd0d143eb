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
use shared::frame::{Decoder, FrameError};
use shared::peer::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::StreamError;

/// How long a frame may take that has begun.
const FRAME_TIME: Duration = Duration::from_secs(10);
/// Bytes that each stream may hold: more than almost every request has.
const SMALL_BYTES: usize = 1024;
/// Bytes of frames that are dealt with together.
const BATCH_BYTES: usize = 16 * 1024;
const BATCHES_PER_USER: usize = 4;
const LONG_FRAMES_PER_USER: usize = 2;

/// What the frames of one user may hold in memory, over all streams and links. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameAllowance {
    batches: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The receiving direction of a stream that the other side opened. Dropped before its end it tells the other side to stop.
#[derive(Debug)]
pub struct FrameReceiver {
    stream: quinn::RecvStream,
    decoder: Decoder,
    allowance: FrameAllowance,
    room: Room,
    /// Bytes of the frames that were taken since the last wait.
    taken: usize,
    is_first: bool,
}

/// How much a stream may hold now.
#[derive(Debug)]
enum Room {
    Small,
    Batch(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
    /// The frame that has begun, and nothing behind it.
    Long(#[expect(dead_code, reason = "held, not looked at")] OwnedSemaphorePermit),
}

impl FrameAllowance {
    /// The allowance of one user.
    pub fn of_user() -> Self {
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { batches: permits(BATCHES_PER_USER), long: permits(LONG_FRAMES_PER_USER) }
    }

    /// That of somebody who is not identified yet: nothing but short frames.
    pub(super) fn of_stranger() -> Self {
        let permits = || Arc::new(Semaphore::new(0));
        let none = Self { batches: permits(), long: permits() };
        none.long.close();
        none
    }
}

impl FrameReceiver {
    pub(super) fn new(stream: quinn::RecvStream, allowance: FrameAllowance) -> Self {
        Self { stream, decoder: Decoder::default(), allowance, room: Room::Small, taken: 0, is_first: true }
    }

    /// The next frame; `None` when the other side ended its direction cleanly. All frames before it were dealt with: their
    /// memory counts no longer.
    ///
    /// # Errors
    /// [`StreamError`], a time-out of a frame that has begun included.
    pub async fn frame<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        self.give_back();
        let mut begun: Option<Instant> = None;
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if self.make_room().await? {
                begun = None;
            }
            if self.is_first || !self.decoder.is_empty() {
                begun = begun.or_else(|| Some(Instant::now()));
            }
            let read = self.stream.read_chunk(self.room_bytes(), true);
            let chunk = match begun {
                Some(begun) => {
                    let late = |_| StreamError::Timeout(FRAME_TIME);
                    timeout_at(begun + FRAME_TIME, read).await.map_err(late)??
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
    /// [`StreamError`] for one that can't be read; [`FrameReceiver::frame`] then says so as well.
    pub fn frame_here<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if matches!(self.room, Room::Small)
                && let Ok(permit) = self.allowance.batches.clone().try_acquire_owned()
            {
                self.room = Room::Batch(permit);
            }
            let room = match self.room {
                Room::Batch(_) => self.room_bytes(),
                // One more short frame would be one more of which nobody knows.
                Room::Small | Room::Long(_) => 0,
            };
            match self.read_here(room) {
                Some(bytes) => self.decoder.extend(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Tells the other side that no more is wanted.
    pub fn stop(mut self, code: Code) {
        let _ = self.stream.stop(VarInt::from_u32(code.into()));
    }

    fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        let before = self.decoder.len();
        let message = self.decoder.next_frame()?;
        if message.is_some() {
            self.taken += before - self.decoder.len();
            self.is_first = false;
        }
        Ok(message)
    }

    fn give_back(&mut self) {
        self.taken = 0;
        if self.decoder.len() <= SMALL_BYTES {
            self.room = Room::Small;
        }
    }

    /// Sees to it that the frame that has begun fits; true if that was waited for.
    async fn make_room(&mut self) -> Result<bool, StreamError> {
        let needed = self.decoder.frame_len().unwrap_or(0);
        let fits = match self.room {
            Room::Small => needed <= SMALL_BYTES,
            Room::Batch(_) => needed <= BATCH_BYTES,
            Room::Long(_) => true,
        };
        if fits {
            return Ok(false);
        }
        if needed <= BATCH_BYTES
            && let Ok(permit) = self.allowance.batches.clone().try_acquire_owned()
        {
            self.room = Room::Batch(permit);
            return Ok(false);
        }
        let permit = self.allowance.long.clone().acquire_owned().await;
        // Closed for those who may not have any.
        self.room = Room::Long(permit.map_err(|_| FrameError::TooLarge(needed))?);
        Ok(true)
    }

    fn room_bytes(&self) -> usize {
        let used = self.taken + self.decoder.len();
        match self.room {
            Room::Small => SMALL_BYTES.saturating_sub(used),
            Room::Batch(_) => BATCH_BYTES.saturating_sub(used),
            Room::Long(_) => self.decoder.missing(),
        }
    }

    /// Up to `max` bytes if some are here.
    fn read_here(&mut self, max: usize) -> Option<Bytes> {
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
