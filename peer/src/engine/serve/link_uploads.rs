//! The uploads over one link, and the reports of files that were sent completely.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names of files that were described over a link | 64 | the oldest is forgotten: a file that is then asked for by its content alone is reported under any of its names |

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use shared::peer::{PeerErrorCode, PeerReply, ZEROS_CAPABILITY};
use shared::{ContentHash, FileName, UserName, ZeroRuns};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout};

use super::ServeContext;
use super::range_reader::{PieceResult, ReadFailure};
use super::read_ahead::{OpenShare, ReadAhead};
use super::share_access::FileRequester;
use super::upload_digest::UploadDigest;
use super::upload_progress::{LinkUploadProgress, SentFile, UploadStatus};
use super::upload_scheduler::{UploadScheduler, UserThrottle};
use super::upload_slots::{SendingLink, UploadSlot, UploadSlots};
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::{FileTransfer, NodeEvent, TransferDirection, TransferState};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{COPIED_BYTES, StreamSender};

/// Time in which the other side may take nothing over the whole link.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which the other side must take one piece, even while other streams move.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between checks during a write whether anything moves, and whether the slot is due to others.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between progress events of a file.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Descriptions that are remembered, to find the name of a content.
const DESCRIBED: usize = 64;

/// The uploads over one link.
#[derive(Debug)]
pub(super) struct LinkUploads {
    requester: FileRequester,
    /// True if the other side doesn't ask for groups of zeros.
    knows_zeros: bool,
    events: EventBus,
    scheduler: Arc<UploadScheduler>,
    throttle: Arc<UserThrottle>,
    link: Link,
    digest: Arc<Mutex<UploadDigest>>,
    /// Bytes written to the link so far, over all streams: shows whether anything moves.
    bytes_moved: AtomicU64,
    /// Requests for data that are answered.
    requests: AtomicUsize,
    progress: Mutex<LinkUploadProgress>,
    /// The files that were described over this link, the latest last.
    described: Mutex<VecDeque<SentFile>>,
}

/// The failure that ended an upload early.
#[derive(Debug)]
pub(super) struct UploadInterruption {
    pub(super) failure: ReadFailure,
    /// True if the header was sent, after which only a reset of the stream can report the failure.
    pub(super) is_header_sent: bool,
}

/// The time that a write has waited, without the pauses in which others had its slot. It fails when nothing moves over the
/// link for 30 s, or when it alone takes 60 s: a peer that reads next to nothing must not keep its slot and memory.
#[derive(Debug)]
struct WriteStallTimer {
    /// Since the write began.
    time: Duration,
    /// Since anything moved over the link.
    silence: Duration,
    /// Bytes that had moved over the link at the last look.
    moved: u64,
}

impl LinkUploads {
    /// Returns the uploads of `link`, which has sent nothing yet.
    pub(super) fn new(link: &Link, context: &ServeContext) -> Self {
        let (user, knows_zeros) = (link.user(), link.has_capability(ZEROS_CAPABILITY));
        let (events, scheduler, digest) = (context.events.clone(), context.scheduler.clone(), context.digest.clone());
        let (throttle, link) = (scheduler.throttle_for(user, context.events.peer_chat_activity(user)), link.clone());
        let progress = Mutex::new(LinkUploadProgress::new(link.user().clone(), context.unfinished_uploads.clone()));
        let (bytes_moved, requests, described) = (AtomicU64::new(0), AtomicUsize::new(0), Mutex::default());
        Self {
            requester: FileRequester::of(&link),
            knows_zeros,
            events,
            scheduler,
            throttle,
            link,
            digest,
            bytes_moved,
            requests,
            progress,
            described,
        }
    }

    /// Returns the user on the other side.
    pub(super) const fn user(&self) -> &UserName {
        &self.requester.user
    }

    /// Returns the peer on the other side.
    pub(super) const fn requester(&self) -> &FileRequester {
        &self.requester
    }

    /// Sends the header and the groups of a file. Returns the failure if the file can't be read to its end. Between
    /// pieces the slot may go to others.
    pub(super) async fn send(
        &self,
        sender: &mut StreamSender,
        open: OpenShare,
        slot: &mut UploadSlot<'_>,
    ) -> Result<Option<UploadInterruption>, StreamError> {
        let OpenShare { name, hash, layout, zeros, groups, bytes: total, mut pieces, .. } = open;
        let (file, zeros) = (SentFile { name, hash }, if self.knows_zeros { zeros } else { ZeroRuns::default() });
        let before = self.progress().begin(&file, &layout, &zeros);
        let header = PeerReply::Data { bytes: total };
        // What is so small goes together with its header.
        let is_tiny = total <= COPIED_BYTES as u64 && pieces.is_one_piece();
        let (mut bytes, mut failure) = (0, None);
        let mut outcome = Ok(());
        if !is_tiny {
            outcome = self.beside_others(sender.send_frame(&header), slot, &mut pieces).await;
        }
        let (mut last_report, mut stall_timer) = (Instant::now(), WriteStallTimer::new(self.moved()));
        while outcome.is_ok() {
            if slot.yield_if_due() {
                // What was read ahead must not stay in memory while others have the slot.
                pieces.pause(0).await;
            }
            slot.reacquire().await;
            if !is_tiny {
                pieces.set_piece_bytes(self.piece_bytes());
            }
            self.share_send_window();
            let Some(piece) = self.next_piece(&mut pieces, slot).await else { break };
            match piece {
                Ok(piece) if is_tiny => {
                    let len = piece.len();
                    self.scheduler.wait_to_send(&self.throttle, len, true).await;
                    let write = sender.send_frame_and_bulk(&header, piece, |count| self.note_moved(count));
                    outcome = self.beside_others(write, slot, &mut pieces).await;
                    if outcome.is_ok() {
                        slot.note_moved(len);
                        bytes += len as u64;
                    }
                }
                Ok(piece) => {
                    let len = piece.len() as u64;
                    self.scheduler.wait_to_send(&self.throttle, piece.len(), len == total).await;
                    match self.write(sender, piece, slot, &mut stall_timer).await {
                        Ok(left) => {
                            bytes += len - left;
                            if left > 0 {
                                pieces.pause(left).await;
                            }
                        }
                        Err(error) => outcome = Err(error),
                    }
                }
                Err(why) => {
                    failure = Some(UploadInterruption { failure: why, is_header_sent: !is_tiny || bytes > 0 });
                    break;
                }
            }
            if last_report.elapsed() >= PROGRESS_INTERVAL {
                last_report = Instant::now();
                // Groups that are sent again count twice, so the sum is capped.
                self.report_progress(&file.name, before.saturating_add(bytes).min(layout.size()), layout.size());
            }
        }
        // A request for nothing (an empty file) has no piece to carry the header.
        if total == 0 && outcome.is_ok() && failure.is_none() {
            outcome = self.beside_others(sender.send_frame(&header), slot, &mut pieces).await;
        }
        let complete = self.progress().finish(&file, &layout, &groups, bytes, outcome.is_ok() && failure.is_none());
        self.report_uploads(complete);
        // The reading thread died without an error: a clean end would pass for a complete file.
        let is_short = outcome.is_ok() && failure.is_none() && bytes != total;
        if !ended(pieces, slot).await || is_short {
            return Err(StreamError::Reset(PeerErrorCode::Internal));
        }
        outcome.map(|()| failure)
    }

    /// Waits for the write of a header, or of a file that goes with it. Whoever doesn't take it keeps no slot, and nothing of
    /// what is behind it in memory, once others are to have the slot.
    async fn beside_others(
        &self,
        write: impl Future<Output = Result<(), StreamError>>,
        slot: &mut UploadSlot<'_>,
        pieces: &mut ReadAhead,
    ) -> Result<(), StreamError> {
        // Pinned outside of the loop: each time-out is only a look, and the write goes on.
        let mut write = pin!(self.with_stall_timeout(write));
        loop {
            match timeout(CHECK_INTERVAL, write.as_mut()).await {
                Ok(written) => return written,
                Err(_) if slot.yield_if_due() => pieces.pause(0).await,
                Err(_) => {}
            }
        }
    }

    /// Returns the next piece. Others may have the slot while the disk takes its time.
    async fn next_piece(&self, pieces: &mut ReadAhead, slot: &mut UploadSlot<'_>) -> Option<PieceResult> {
        let piece = loop {
            match timeout(CHECK_INTERVAL, pieces.next_piece()).await {
                Ok(piece) => break piece,
                Err(_) => drop(slot.yield_if_due()),
            }
        };
        slot.reacquire().await;
        piece
    }

    /// Writes a piece for as long as it has its slot; gives back how many bytes at its end were not written.
    async fn write(
        &self,
        sender: &mut StreamSender,
        piece: Bytes,
        slot: &mut UploadSlot<'_>,
        stall_timer: &mut WriteStallTimer,
    ) -> Result<u64, StreamError> {
        let mut left = piece;
        loop {
            let (begun, before) = (Instant::now(), left.len());
            // Where many files are sent, what one reader doesn't acknowledge keeps nothing else.
            let is_copied = self.scheduler.slots().is_crowded();
            let write = async {
                while !left.is_empty() {
                    if is_copied {
                        sender.send_copied_bulk(&mut left).await?;
                    } else {
                        sender.send_shared_bulk(&mut left).await?;
                    }
                }
                Ok(())
            };
            // A time-out is no failure: what is left goes on behind it.
            let written: Result<(), StreamError> = timeout(CHECK_INTERVAL, write).await.unwrap_or(Ok(()));
            let taken = before - left.len();
            self.note_moved(taken);
            slot.note_moved(taken);
            written?;
            if left.is_empty() {
                *stall_timer = WriteStallTimer::new(self.moved());
                return Ok(0);
            }
            stall_timer.wait(begun.elapsed(), self.moved())?;
            self.share_send_window();
            if slot.yield_if_due() {
                return Ok(left.len() as u64);
            }
        }
    }

    /// Lets as much be under way over the link as is due to it.
    fn share_send_window(&self) {
        self.link.limit_send_window(self.scheduler.slots().send_window(self.moved()));
    }

    /// Bytes of the pieces that files are read and sent in.
    pub(super) fn piece_bytes(&self) -> u64 {
        self.scheduler.piece_bytes(&self.throttle)
    }

    /// Returns the bytes of small files that are read together.
    pub(super) fn batch_bytes(&self) -> u64 {
        self.scheduler.batch_bytes(&self.throttle)
    }

    /// Returns the slots of all uploads.
    pub(super) fn slots(&self) -> &UploadSlots {
        self.scheduler.slots()
    }

    /// Waits until one more request for data of this user may be answered.
    pub(super) async fn acquire_request(&self) -> (Option<SemaphorePermit<'_>>, SendingLink<'_>) {
        (self.throttle.acquire_request().await, self.scheduler.slots().sending(&self.requests))
    }

    /// Waits for a write, as patiently as for a piece of a file.
    pub(super) async fn with_stall_timeout<T>(
        &self,
        write: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let (mut write, mut stall_timer) = (pin!(write), WriteStallTimer::new(self.moved()));
        loop {
            let begun = Instant::now();
            match timeout(CHECK_INTERVAL, write.as_mut()).await {
                Ok(written) => return written,
                // The link's counter, not the stream's: this write may queue behind those of other streams.
                Err(_) => stall_timer.wait(begun.elapsed(), self.moved())?,
            }
        }
    }

    /// Counts bytes that were written to the link.
    pub(super) fn note_moved(&self, bytes: usize) {
        self.bytes_moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn moved(&self) -> u64 {
        self.bytes_moved.load(Ordering::Relaxed)
    }

    /// Remembers the name under which a file was described: a request for its content that follows means this name.
    pub(super) fn remember_name(&self, name: FileName, hash: ContentHash) {
        let mut described = self.described.lock();
        described.retain(|file| file.hash != hash);
        if described.len() >= DESCRIBED {
            described.pop_front();
        }
        described.push_back(SentFile { name, hash });
    }

    /// Returns the name under which the file with this content was described last.
    pub(super) fn described_name(&self, hash: &ContentHash) -> Option<FileName> {
        let described = self.described.lock();
        described.iter().find(|file| file.hash == *hash).map(|file| file.name.clone())
    }

    /// Reports the files that were begun over this link and not finished.
    pub(super) fn report_unfinished(&self) {
        let unfinished = self.progress().take_unfinished();
        self.report_uploads(unfinished);
    }

    /// Sends a progress event.
    fn report_progress(&self, name: &FileName, bytes: u64, size: u64) {
        let (peer, name) = (self.user().clone(), name.clone());
        let (direction, state) = (TransferDirection::Up, TransferState::Running);
        self.events.send(NodeEvent::Transfer(FileTransfer { peer, name, direction, bytes, size, state }));
    }

    fn report_uploads(&self, files: impl IntoIterator<Item = UploadStatus>) {
        for UploadStatus { name, bytes, size } in files {
            let mut digest = self.digest.lock();
            if !digest.record(self.user(), bytes, Instant::now()) {
                continue;
            }
            drop(digest);
            self.events.send(NodeEvent::Fetched { by: self.user().clone(), name, bytes, size });
        }
    }

    fn progress(&self) -> MutexGuard<'_, LinkUploadProgress> {
        self.progress.lock()
    }
}

impl WriteStallTimer {
    /// Begins a write, before which so much has moved over the link.
    const fn new(moved: u64) -> Self {
        Self { time: Duration::ZERO, silence: Duration::ZERO, moved }
    }

    /// Records that the write waited for `time` more, and that so much has moved over the link until now.
    fn wait(&mut self, time: Duration, moved: u64) -> Result<(), StreamError> {
        self.time += time;
        self.silence = if moved == self.moved { self.silence + time } else { Duration::ZERO };
        self.moved = moved;
        if self.silence >= STALL_TIMEOUT {
            return Err(StreamError::Timeout(STALL_TIMEOUT));
        }
        if self.time >= PIECE_TIMEOUT { Err(StreamError::Timeout(PIECE_TIMEOUT)) } else { Ok(()) }
    }
}

/// Waits until nothing is read any more; others have the slot if the disk takes its time. False when the reader failed.
async fn ended(pieces: ReadAhead, slot: &mut UploadSlot<'_>) -> bool {
    let mut ended = pin!(pieces.finish());
    match timeout(CHECK_INTERVAL, ended.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            slot.give_back();
            ended.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_takes_nothing_or_next_to_nothing_is_given_up() {
        let second = Duration::from_secs(1);
        let waits = |takes: u64| {
            let (mut stall_timer, mut moved) = (WriteStallTimer::new(0), 0);
            (0..).find(|_| {
                moved += takes;
                stall_timer.wait(second, moved).is_err()
            })
        };
        assert_eq!((waits(0), waits(1)), (Some(29), Some(59)));
    }
}
