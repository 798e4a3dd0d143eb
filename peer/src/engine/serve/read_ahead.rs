//! Pieces of a file that are read ahead of the network, on a thread of its own.

use shared::{ContentHash, FileName, GroupLayout, UserName, ZeroRuns};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::range_reader::{PieceResult, RangeReader};
use crate::engine::fair_slots::{FairSlot, FairSlotBounds, FairSlots};

/// Pieces that are read ahead of the network.
const READ_AHEAD: usize = 3;
/// Threads that read from one disk.
pub(super) const READERS: FairSlotBounds = FairSlotBounds { total: 96, per_key: 16 };

/// An open file of which some groups are sent, in the order of the request.
#[derive(Debug)]
pub(super) struct OpenShare {
    /// The name under which it is shared or offered.
    pub(super) name: FileName,
    pub(super) hash: ContentHash,
    /// True for a complete file, false for a partial one.
    pub(super) is_whole: bool,
    pub(super) layout: GroupLayout,
    /// Its groups of zeros, as far as they are known.
    pub(super) zeros: ZeroRuns,
    /// The requested groups, as half-open ranges.
    pub(super) groups: Vec<(u32, u32)>,
    /// Bytes of the requested groups.
    pub(super) bytes: u64,
    pub(super) pieces: ReadAhead,
}

/// The pieces of an [`OpenShare`], read ahead of the network.
#[derive(Debug)]
pub(super) struct ReadAhead {
    /// The first piece, which was read while the file was opened: a small file has no other.
    first: Option<PieceResult>,
    state: ReadAheadState,
    /// Whether the first piece was all there is.
    is_one_piece: bool,
    /// Bytes of the pieces that were taken.
    bytes_taken: u64,
    readers: FairSlots<UserName>,
    to: UserName,
}

/// The source of the pieces behind the first.
#[derive(Debug)]
enum ReadAheadState {
    /// The first piece could not be read.
    Finished,
    /// Nothing that was not read.
    AllRead(Box<RangeReader>),
    Unread(Box<RangeReader>),
    /// The reading thread has panicked.
    Failed,
    /// A thread reads ahead into a channel, and returns its reader at the end.
    Reading(mpsc::Receiver<PieceResult>, JoinHandle<Box<RangeReader>>),
}

impl ReadAhead {
    /// `first` and then what is left of `rest`; a thread reads only while it has one of `readers`, where `to` has a part.
    pub(super) fn new(
        first: Option<PieceResult>,
        rest: RangeReader,
        readers: FairSlots<UserName>,
        to: UserName,
    ) -> Self {
        let is_readable = !matches!(first, Some(Err(_)));
        let is_one_piece = rest.is_at_end();
        let state = if is_readable { ReadAheadState::of(Box::new(rest)) } else { ReadAheadState::Finished };
        Self { first, state, is_one_piece, bytes_taken: 0, readers, to }
    }

    /// Takes back the last `bytes` of what was taken, and keeps neither a thread nor memory until the next piece is asked for.
    pub(super) async fn pause(&mut self, bytes: u64) {
        // Read again later: a paused upload keeps nothing in memory.
        self.first = None;
        self.bytes_taken -= bytes;
        let ranges = match std::mem::replace(&mut self.state, ReadAheadState::Failed) {
            ReadAheadState::Reading(ready, reader) => {
                // Its reader ends with the piece that nobody takes any more.
                drop(ready);
                reader.await.ok()
            }
            ReadAheadState::AllRead(ranges) | ReadAheadState::Unread(ranges) => Some(ranges),
            ReadAheadState::Finished | ReadAheadState::Failed => None,
        };
        if let Some(mut ranges) = ranges {
            ranges.rewind(self.bytes_taken);
            self.state = ReadAheadState::of(ranges);
        }
    }

    /// From here on, reads in pieces of this size, unless a thread reads already.
    pub(super) fn set_piece_bytes(&mut self, bytes: u64) {
        if let ReadAheadState::Unread(ranges) = &mut self.state {
            ranges.set_piece_bytes(bytes);
        }
    }

    /// Whether the first piece was all there is.
    pub(super) const fn is_one_piece(&self) -> bool {
        self.is_one_piece
    }

    /// Returns the next piece; `None` behind the last. From the first call on, a thread reads ahead.
    pub(super) async fn next_piece(&mut self) -> Option<PieceResult> {
        if matches!(self.state, ReadAheadState::Unread(_)) {
            // Before the state is taken out: a caller may give up this wait, and call again.
            let slot = self.readers.acquire(&self.to).await;
            self.state = match std::mem::replace(&mut self.state, ReadAheadState::Failed) {
                ReadAheadState::Unread(ranges) => spawn_reader(*ranges, slot),
                other => other,
            };
        }
        let piece = match (self.first.take(), &mut self.state) {
            (None, ReadAheadState::Reading(ready, _)) => ready.recv().await,
            (first, _) => first,
        };
        if let Some(Ok(piece)) = &piece {
            self.bytes_taken += piece.len() as u64;
        }
        piece
    }

    /// Waits until the reading thread has ended; returns false if it panicked.
    pub(super) async fn finish(self) -> bool {
        match self.state {
            ReadAheadState::Reading(ready, reader) => {
                drop(ready);
                reader.await.is_ok()
            }
            ReadAheadState::Finished | ReadAheadState::AllRead(_) | ReadAheadState::Unread(_) => true,
            ReadAheadState::Failed => false,
        }
    }
}

impl ReadAheadState {
    fn of(ranges: Box<RangeReader>) -> Self {
        if ranges.is_at_end() { Self::AllRead(ranges) } else { Self::Unread(ranges) }
    }
}

fn spawn_reader(mut ranges: RangeReader, slot: FairSlot<UserName>) -> ReadAheadState {
    let (pieces, ready) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || {
        // Held for as long as the disk takes, whoever still waits for it.
        let _slot = slot;
        while let Some(piece) = ranges.next_piece() {
            let last = piece.is_err();
            // Sending fails when the receiver was dropped: the upload is paused or over.
            if pieces.blocking_send(piece).is_err() || last {
                break;
            }
        }
        Box::new(ranges)
    });
    ReadAheadState::Reading(ready, reader)
}
