//! The uploads over one link, and the reports of files that were sent completely.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | names of files that were described over a link | 64 | the oldest is forgotten: a file that is then asked for by its content alone is reported under any of its names |

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::peer::{PeerErrorCode, PeerReply, ZEROS_CAPABILITY};
use shared::{ContentHash, FileName, UserName, ZeroRuns};
use tokio::sync::SemaphorePermit;

use super::ServeContext;
use super::range_reader::{OpenShare, ReadAhead, ReadFailure};
use super::upload_digest::UploadDigest;
use super::upload_progress::{LinkUploadProgress, SentFile, UploadStatus};
use super::upload_scheduler::{UploadScheduler, UserThrottle};
use super::upload_slots::{UploadSlot, UploadSlots};
use crate::engine::node_event::{EventBus, FileTransfer, NodeEvent, TransferDirection, TransferState};
use crate::net::StreamError;
use crate::net::link::Link;
use crate::net::stream::{StreamSender, with_timeout};

/// Time in which the other side may take nothing over the whole link.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which the other side must take one piece, even while other streams move.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval between checks during a write whether the slot is due to others.
const YIELD_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between progress events of a file.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Descriptions that are remembered, to find the name of a content.
const DESCRIBED: usize = 64;

/// The uploads over one link.
#[derive(Debug)]
pub(super) struct LinkUploads {
    user: UserName,
    /// True if the other side doesn't ask for groups of zeros.
    knows_zeros: bool,
    events: EventBus,
    scheduler: Arc<UploadScheduler>,
    throttle: Arc<UserThrottle>,
    link: Link,
    digest: Arc<Mutex<UploadDigest>>,
    /// Bytes written to the link so far, over all streams: shows whether anything moves.
    bytes_moved: AtomicU64,
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

impl LinkUploads {
    /// Returns the uploads of `link`, which has sent nothing yet.
    pub(super) fn new(link: &Link, context: &ServeContext) -> Self {
        let (user, knows_zeros) = (link.user().clone(), link.has_capability(ZEROS_CAPABILITY));
        let (events, scheduler, digest) = (context.events.clone(), context.scheduler.clone(), context.digest.clone());
        let (throttle, link) = (scheduler.throttle_for(&user, context.events.peer_chat_activity(&user)), link.clone());
        let progress = Mutex::new(LinkUploadProgress::new(user.clone(), context.unfinished_uploads.clone()));
        let (bytes_moved, described) = (AtomicU64::new(0), Mutex::default());
        Self { user, knows_zeros, events, scheduler, throttle, link, digest, bytes_moved, progress, described }
    }

    /// Returns the user on the other side.
    pub(super) const fn user(&self) -> &UserName {
        &self.user
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
        let (mut outcome, mut bytes, mut failure) = (Ok(()), 0, None);
        let mut last_report = Instant::now();
        loop {
            if slot.yield_if_due() {
                pieces.pause().await;
            }
            slot.reacquire().await;
            // For each piece: the share of a link depends on how many files are sent now.
            self.link.limit_send_window(self.scheduler.slots().send_window(u64::MAX));
            let Some(piece) = pieces.next_piece().await else { break };
            match piece {
                Ok(piece) => {
                    let begins = bytes == 0;
                    bytes += piece.len() as u64;
                    self.scheduler.wait_to_send(&self.throttle, piece.len(), piece.len() as u64 == total).await;
                    // The header travels with the first piece, so that a failure before it can still be an
                    // error reply.
                    let header = begins.then_some(&header);
                    outcome = self.write(sender, header, piece, slot, &mut pieces).await;
                }
                Err(why) => failure = Some(UploadInterruption { failure: why, is_header_sent: bytes > 0 }),
            }
            if outcome.is_err() || failure.is_some() {
                break;
            }
            if last_report.elapsed() >= PROGRESS_INTERVAL {
                last_report = Instant::now();
                // Groups that are sent again count twice, so the sum is capped.
                self.report_progress(&file.name, before.saturating_add(bytes).min(layout.size()), layout.size());
            }
        }
        // A request for nothing (an empty file) has no piece to carry the header.
        if total == 0 && outcome.is_ok() && failure.is_none() {
            outcome = self.with_stall_timeout(sender.send_frame(&header)).await;
        }
        let complete = self.progress().finish(&file, &layout, &groups, bytes);
        self.report_uploads(complete);
        // The reading thread died without an error: a clean end would pass for a complete file.
        let is_short = outcome.is_ok() && failure.is_none() && bytes != total;
        if !pieces.finish().await || is_short {
            return Err(StreamError::Reset(PeerErrorCode::Internal));
        }
        outcome.map(|()| failure)
    }

    /// Writes one piece, behind the header if there is one. While it waits the slot may go to others, and nothing more
    /// is read.
    async fn write(
        &self,
        sender: &mut StreamSender,
        header: Option<&PeerReply>,
        piece: Bytes,
        slot: &mut UploadSlot<'_>,
        pieces: &mut ReadAhead,
    ) -> Result<(), StreamError> {
        // Counted while the write goes on: a slow reader must be noticed before its write ends.
        let taken = AtomicUsize::new(0);
        let moved = |bytes: usize| {
            self.bytes_moved.fetch_add(bytes as u64, Ordering::Relaxed);
            taken.fetch_add(bytes, Ordering::Relaxed);
        };
        let write = async {
            match header {
                Some(header) => sender.send_frame_and_bulk(header, piece, moved).await,
                None => sender.send_bulk(piece, moved).await,
            }
        };
        let mut write = pin!(self.with_stall_timeout(write));
        loop {
            let written = tokio::time::timeout(YIELD_CHECK_INTERVAL, write.as_mut()).await;
            slot.note_moved(taken.swap(0, Ordering::Relaxed));
            if let Ok(written) = written {
                return written;
            }
            if slot.yield_if_due() {
                pieces.pause().await;
            }
        }
    }

    /// Returns the size of the pieces in which files are read and sent.
    pub(super) fn piece_bytes(&self) -> u64 {
        self.scheduler.piece_bytes(&self.throttle)
    }

    /// Returns the slots of all uploads.
    pub(super) fn slots(&self) -> &UploadSlots {
        self.scheduler.slots()
    }

    /// Waits until one more request of this user for data may be handled.
    pub(super) async fn acquire_request(&self) -> Option<SemaphorePermit<'_>> {
        self.throttle.acquire_request().await
    }

    /// Waits for a write while anything moves over the link, whose streams wait for each other on a slow network. The
    /// write fails when nothing moves for 30 s, or when it alone takes 60 s: a peer that reads next to nothing must not
    /// keep its slot and memory.
    pub(super) async fn with_stall_timeout<T>(
        &self,
        write: impl Future<Output = Result<T, StreamError>>,
    ) -> Result<T, StreamError> {
        let mut write = pin!(write);
        let begun = Instant::now();
        loop {
            let before = self.bytes_moved.load(Ordering::Relaxed);
            // The link's counter, not the stream's: this write may queue behind those of other streams.
            match with_timeout(STALL_TIMEOUT, async { Ok(write.as_mut().await) }).await {
                Err(StreamError::Timeout(_))
                    if self.bytes_moved.load(Ordering::Relaxed) != before && begun.elapsed() < PIECE_TIMEOUT => {}
                written => return written?,
            }
        }
    }

    /// Counts bytes that were written to the link.
    pub(super) fn note_moved(&self, bytes: usize) {
        self.bytes_moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Remembers the name under which a file was described: a request for its content that follows means this name.
    pub(super) fn remember_name(&self, name: FileName, hash: ContentHash) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.retain(|file| file.hash != hash);
        if described.len() >= DESCRIBED {
            described.pop_front();
        }
        described.push_back(SentFile { name, hash });
    }

    /// Returns the name under which the file with this content was described last.
    pub(super) fn described_name(&self, hash: &ContentHash) -> Option<FileName> {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.iter().find(|file| file.hash == *hash).map(|file| file.name.clone())
    }

    /// Reports the files that were begun over this link and not finished.
    pub(super) fn report_unfinished(&self) {
        let unfinished = self.progress().take_unfinished();
        self.report_uploads(unfinished);
    }

    /// Sends a progress event.
    fn report_progress(&self, name: &FileName, bytes: u64, size: u64) {
        let (peer, name) = (self.user.clone(), name.clone());
        let (direction, state) = (TransferDirection::Up, TransferState::Running);
        self.events.send(NodeEvent::Transfer(FileTransfer { peer, name, direction, bytes, size, state }));
    }

    fn report_uploads(&self, files: impl IntoIterator<Item = UploadStatus>) {
        for UploadStatus { name, bytes, size } in files {
            let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
            if !digest.record(&self.user, bytes, Instant::now().into()) {
                continue;
            }
            drop(digest);
            self.events.send(NodeEvent::Fetched { by: self.user.clone(), name, bytes, size });
        }
    }

    fn progress(&self) -> MutexGuard<'_, LinkUploadProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
