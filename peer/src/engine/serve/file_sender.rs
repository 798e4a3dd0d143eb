//! Sender of the files that a stream asks for.

use std::collections::VecDeque;

use shared::peer::PeerRequest;

use super::ServeContext;
use super::library::ShareLibrary;
use super::link_uploads::{LinkUploads, UploadInterruption};
use super::range_reader::ReadFailure;
use super::read_ahead::OpenShare;
use super::request_refusal::{RequestRefusal, send_refusal};
use super::share_opener::GroupRequest;
use super::upload_slots::UploadSlot;
use crate::net::StreamError;
use crate::net::stream::{StreamPriority, StreamSender};

/// Takes the requests for data from the front.
pub(super) fn take_leading_gets(asks: &mut VecDeque<PeerRequest>, uploads: &LinkUploads) -> VecDeque<GroupRequest> {
    let mut gets = VecDeque::new();
    while matches!(asks.front(), Some(PeerRequest::Get { .. })) {
        if let Some(PeerRequest::Get { hash, ranges, name }) = asks.pop_front() {
            // Older peers ask by content alone: they mean the name that they were told last.
            let name = name.or_else(|| uploads.described_name(&hash));
            gets.push_back(GroupRequest { hash, name, groups: ranges });
        }
    }
    gets
}

/// Sends the files that are asked for, each when it has a slot.
pub(super) async fn send_files(
    context: &ServeContext,
    uploads: &LinkUploads,
    sender: &mut StreamSender,
    mut gets: VecDeque<GroupRequest>,
) -> Result<(), StreamError> {
    // Held for all rounds: a peer with many streams has a bounded number of requests handled.
    let _request = uploads.acquire_request().await;
    while !gets.is_empty() {
        // Without a slot: a disk that hangs keeps none.
        let (opened, rest) = open_files(context, uploads, gets).await?;
        gets = rest;
        let mut opened: VecDeque<_> = opened.into();
        let mut slot = None;
        while let Some(next) = opened.pop_front() {
            match next {
                Ok(mut open) => {
                    let mut its_slot = acquire_slot(uploads, slot.take(), &mut open, &mut opened).await;
                    send_file(&context.library, uploads, sender, open, &mut its_slot).await?;
                    slot = Some(its_slot);
                }
                // Nor may one that reads no answer keep a slot.
                Err(refusal) => {
                    slot = None;
                    uploads.with_stall_timeout(send_refusal(sender, refusal)).await?;
                }
            }
        }
    }
    Ok(())
}

/// Returns a slot for an opened file, the one before it if that will do. Files that are read in one piece don't wait behind
/// large ones; those that wait keep nothing in memory.
async fn acquire_slot<'a>(
    uploads: &'a LinkUploads,
    before: Option<UploadSlot<'a>>,
    open: &mut OpenShare,
    behind: &mut VecDeque<Result<OpenShare, RequestRefusal>>,
) -> UploadSlot<'a> {
    let is_small = open.pieces.is_one_piece();
    if let Some(slot) = before.filter(|slot| is_small || !slot.is_for_small()) {
        return slot;
    }
    let (slots, user) = (uploads.slots(), uploads.user());
    // At once if it can be: a pause throws away what was read ahead.
    if let Some(slot) = slots.try_acquire_large(user) {
        return slot;
    }
    open.pieces.pause(0).await;
    for behind in behind.iter_mut().flatten() {
        behind.pieces.pause(0).await;
    }
    if is_small { slots.acquire_small(user).await } else { slots.acquire_large(user).await }
}

async fn open_files(
    context: &ServeContext,
    uploads: &LinkUploads,
    gets: VecDeque<GroupRequest>,
) -> Result<(Vec<Result<OpenShare, RequestRefusal>>, VecDeque<GroupRequest>), StreamError> {
    let (piece_bytes, batch_bytes) = (uploads.piece_bytes(), uploads.batch_bytes());
    context.library.open(uploads.requester(), gets, piece_bytes, batch_bytes).await.map_err(StreamError::Reset)
}

async fn send_file(
    library: &ShareLibrary,
    uploads: &LinkUploads,
    sender: &mut StreamSender,
    open: OpenShare,
    slot: &mut UploadSlot<'_>,
) -> Result<(), StreamError> {
    sender.set_priority(StreamPriority::Bulk);
    // Only complete files are on record as shares that can be hashed again.
    let share = open.is_whole.then(|| open.name.clone());
    let sent = uploads.send(sender, open, slot).await?;
    let Some(UploadInterruption { failure, is_header_sent: answered }) = sent else { return Ok(()) };
    if let (Some(name), ReadFailure::Changed) = (share, &failure) {
        library.report_changed(name);
    }
    if answered {
        // A header promised bytes: after it, only a reset says that they won't come.
        Err(StreamError::Reset(failure.code()))
    } else {
        uploads.with_stall_timeout(send_refusal(sender, (failure.code(), failure.message()))).await
    }
}
