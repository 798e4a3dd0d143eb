//! The serving side of a link: answers the other peer's requests, each stream in a task of its own that ends with the
//! link.

mod buffer_pool;
mod change_stream;
mod copy_search;
mod descriptor_wait;
mod disk_slots;
mod gone_paths;
mod guest_file_reader;
mod library;
mod link_uploads;
mod offered_partial;
mod port_prober;
mod range_reader;
mod read_ahead;
mod read_faults;
mod receipt_intake;
mod request_refusal;
mod served_versions;
mod share_access;
mod share_opener;
mod stale_shares;
mod upload_digest;
mod upload_progress;
mod upload_scheduler;
mod upload_slots;
mod user_quota;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use shared::RoomId;
use shared::peer::{
    EMPTY_PAGES_CAPABILITY, OWNER_ONLY_CAPABILITY, PeerErrorCode, PeerReply, PeerRequest, ROOM_FILES_CAPABILITY,
    ZEROS_CAPABILITY,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use change_stream::serve_changes;
pub use guest_file_reader::{GuestFileFault, GuestFileOpener, GuestFileReader};
pub use library::ShareLibrary;
use link_uploads::{LinkUploads, UploadInterruption};
use port_prober::PortProber;
use range_reader::ReadFailure;
use read_ahead::OpenShare;
use receipt_intake::take_receipt;
use request_refusal::{RequestRefusal, internal_refusal, unauthorised_refusal};
pub use served_versions::{ProvedVersion, ProvedVersions};
pub use share_access::{FileRequester, RoomMembership};
use share_opener::GroupRequest;
pub use stale_shares::{StaleReason, StaleShares};
use upload_digest::{UnreportedUploads, UploadDigest};
use upload_progress::UnfinishedUploads;
pub use upload_scheduler::UploadLimits;
use upload_scheduler::UploadScheduler;
use upload_slots::UploadSlot;
use user_quota::{StreamPermit, UserQuota, UserQuotas};

use super::bulk_rate::BULK_WINDOW_INTERVAL;
use super::chat::ChatRateLimiter;
use super::node_event::{EventBus, NodeEvent};
use super::rooms::{Rooms, check_file_requester, serve_room};
use super::{LocalUser, chat};
use crate::net::frame_receiver::FrameReceiver;
use crate::net::link::Link;
use crate::net::stream::{StreamPriority, StreamSender, is_protocol_violation};
use crate::net::{LinkError, StreamError};

/// Requests of one stream that are handled together.
const MAX_BATCHED_REQUESTS: usize = 32;

/// The state that all served links share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServeContext {
    /// The serving user.
    pub me: LocalUser,
    /// The shares.
    pub library: Arc<ShareLibrary>,
    /// Gets the events of transfers and messages.
    pub events: EventBus,
    /// Tells when what is shared may have changed.
    share_changes: watch::Receiver<()>,
    rooms: Rooms,
    chat_rate_limiter: Arc<ChatRateLimiter>,
    scheduler: Arc<UploadScheduler>,
    unfinished_uploads: Arc<UnfinishedUploads>,
    digest: Arc<Mutex<UploadDigest>>,
    user_quotas: Arc<UserQuotas>,
    port_prober: Arc<PortProber>,
}

impl ServeContext {
    /// Returns a context that serves the files of `library` within `limits`; `share_changes` tells of their changes.
    pub fn new(
        me: LocalUser,
        library: ShareLibrary,
        share_changes: watch::Receiver<()>,
        rooms: Rooms,
        events: EventBus,
        limits: UploadLimits,
    ) -> Self {
        let scheduler = Arc::new(UploadScheduler::new(limits));
        let (chat_rate_limiter, unfinished_uploads) = (Arc::default(), Arc::default());
        let (digest, user_quotas, port_prober) = (Arc::default(), Arc::default(), Arc::new(PortProber::new()));
        let library = Arc::new(library);
        Self {
            me,
            library,
            events,
            share_changes,
            rooms,
            chat_rate_limiter,
            scheduler,
            unfinished_uploads,
            digest,
            user_quotas,
            port_prober,
        }
    }

    /// Reports the uploads that were counted instead of reported. To be called periodically.
    pub fn report_digest(&self) {
        let unreported = self.digest.lock().take_unreported();
        for UnreportedUploads { by, count, bytes } in unreported {
            self.events.send(NodeEvent::FetchedMore { by, count, bytes });
        }
    }
}

/// Serves a link until it ends; returns the reason.
pub async fn serve_link(link: Link, context: ServeContext) -> LinkError {
    let uploads = Arc::new(LinkUploads::new(&link, &context));
    let quota = context.user_quotas.for_user(link.user());
    let mut streams = JoinSet::new();
    let chat_activity = context.events.peer_chat_activity(link.user());
    let mut is_chat_active = false;
    let mut window_ticks = interval(BULK_WINDOW_INTERVAL);
    let ended = loop {
        tokio::select! {
            // Messages of this peer must not queue behind bulk data on its own links.
            () = chat_activity.wait_for(!is_chat_active) => {
                is_chat_active = !is_chat_active;
                link.throttle_bulk(is_chat_active.then(|| context.scheduler.window_during_chat()));
            }
            // The window follows the rate.
            _ = window_ticks.tick(), if is_chat_active => {
                link.throttle_bulk(Some(context.scheduler.window_during_chat()));
            }
            // May be cancelled by the other branches: a permit without a stream is given back.
            (permit, accepted) = accept_stream(&link, &quota) => match accepted {
                Ok((sender, receiver)) => {
                    let (link, context, uploads) = (link.clone(), context.clone(), uploads.clone());
                    let quota = quota.clone();
                    link.note_served_streams(true);
                    streams.spawn(async move {
                        // Held until the task ends, however it does.
                        let _permit = permit;
                        serve_stream(&link, &context, &uploads, &quota, sender, receiver).await
                    });
                }
                Err(ended) => break ended,
            },
            Some(finished) = streams.join_next() => {
                link.note_served_streams(!streams.is_empty());
                match finished {
                    // A violation ends the link, and the other side learns the reason from the code.
                    Ok(Err(error)) if is_protocol_violation(&error) => {
                        tracing::info!("{}: {error}", link.user());
                        link.close(PeerErrorCode::Protocol);
                    }
                    Ok(Err(error)) => tracing::debug!("{}: a stream ended: {error}", link.user()),
                    Ok(Ok(())) => {}
                    Err(failure) => tracing::error!("{}: a stream's task failed: {failure}", link.user()),
                }
            }
        }
    };
    // First, so that no stream adds to the record of uploads after its report.
    streams.shutdown().await;
    uploads.report_unfinished();
    ended
}

async fn accept_stream(
    link: &Link,
    quota: &UserQuota,
) -> (StreamPermit, Result<(StreamSender, FrameReceiver), LinkError>) {
    // Without a free permit, nothing is accepted: the end of the link is noticed here.
    let permit = tokio::select! {
        permit = quota.acquire_stream() => permit,
        ended = link.closed() => return (StreamPermit::placeholder(), Err(ended)),
    };
    (permit, link.accept_stream(&quota.frames).await)
}

async fn serve_stream(
    link: &Link,
    context: &ServeContext,
    uploads: &LinkUploads,
    quota: &UserQuota,
    mut sender: StreamSender,
    mut receiver: FrameReceiver,
) -> Result<(), StreamError> {
    let Some(first) = receiver.next_frame().await? else { return Ok(()) };
    if matches!(first, PeerRequest::Chat {}) {
        link.note_chat();
        // Messages go before bulk data that waits on the same link.
        sender.set_priority(StreamPriority::Chat);
        let receive = chat::receive_messages(
            link.user(),
            &context.me,
            &context.chat_rate_limiter,
            &context.events,
            sender,
            receiver,
        );
        return Box::pin(receive).await;
    }
    if let PeerRequest::Room { id } = first {
        sender.set_priority(StreamPriority::Chat);
        // In doubt nothing of a room goes to somebody who may be blocked.
        if context.me.profile.is_blocked(link.user()).unwrap_or(true) {
            sender.reset(PeerErrorCode::Unauthorised);
            return Ok(());
        }
        return Box::pin(serve_room(link, &context.rooms, id, sender, receiver)).await;
    }
    if matches!(first, PeerRequest::Changes {}) {
        let changes = context.share_changes.clone();
        return Box::pin(serve_changes(&context.library, uploads.requester(), changes, sender, receiver)).await;
    }
    let mut asks = VecDeque::from([first]);
    loop {
        // Buffered requests are handled together: many small files then take few trips to the blocking
        // threads.
        while asks.len() < MAX_BATCHED_REQUESTS
            // An error comes again from `next_frame`, behind the answers to what came before it.
            && let Ok(Some(ask)) = receiver.buffered_frame()
        {
            asks.push_back(ask);
        }
        // Boxed: a stream that waits for its first request is to take little memory.
        let result = match take_leading_gets(&mut asks, uploads) {
            gets if gets.is_empty() => match asks.pop_front() {
                Some(ask) => Box::pin(answer(context, link, uploads, quota, &mut sender, ask)).await,
                None => break,
            },
            gets => Box::pin(send_files(context, uploads, &mut sender, gets)).await,
        };
        match result {
            // The reset's code tells the other side the reason; the link goes on.
            Err(StreamError::Reset(code)) => {
                sender.reset(code);
                return Ok(());
            }
            answered => answered?,
        }
        if asks.is_empty() {
            asks.extend(receiver.next_frame().await?);
        }
    }
    sender.finish();
    Ok(())
}

/// Takes the requests for data from the front.
fn take_leading_gets(asks: &mut VecDeque<PeerRequest>, uploads: &LinkUploads) -> VecDeque<GroupRequest> {
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

async fn send_files(
    context: &ServeContext,
    uploads: &LinkUploads,
    sender: &mut StreamSender,
    mut gets: VecDeque<GroupRequest>,
) -> Result<(), StreamError> {
    // Held for all rounds: a peer with many streams has a bounded number of requests handled.
    let _request = uploads.acquire_request().await;
    while !gets.is_empty() {
        // Without a place: a disk that hangs keeps none.
        let (opened, rest) = open_files(context, uploads, gets).await?;
        gets = rest;
        let mut opened: VecDeque<_> = opened.into();
        let mut slot = None;
        while let Some(next) = opened.pop_front() {
            match next {
                Ok(mut open) => {
                    let mut has_turn = take_turn(uploads, slot.take(), &mut open, &mut opened).await;
                    send_file(&context.library, uploads, sender, open, &mut has_turn).await?;
                    slot = Some(has_turn);
                }
                // Nor may one that reads no answer keep a place.
                Err(refusal) => {
                    slot = None;
                    uploads.with_stall_timeout(send_refusal(sender, refusal)).await?;
                }
            }
        }
    }
    Ok(())
}

/// The turn that an opened file has, the one before it if that will do. Files that are read in one piece don't wait behind
/// large ones; those that wait keep nothing in memory.
async fn take_turn<'a>(
    uploads: &'a LinkUploads,
    before: Option<UploadSlot<'a>>,
    open: &mut OpenShare,
    behind: &mut VecDeque<Result<OpenShare, RequestRefusal>>,
) -> UploadSlot<'a> {
    let is_small = open.pieces.is_one_piece();
    if let Some(turn) = before.filter(|turn| is_small || !turn.is_for_small()) {
        return turn;
    }
    let (places, user) = (uploads.slots(), uploads.user());
    if let Some(turn) = places.now(user) {
        return turn;
    }
    open.pieces.pause(0).await;
    for behind in behind.iter_mut().flatten() {
        behind.pieces.pause(0).await;
    }
    if is_small { places.acquire_small(user).await } else { places.acquire_large(user).await }
}

async fn open_files(
    context: &ServeContext,
    uploads: &LinkUploads,
    gets: VecDeque<GroupRequest>,
) -> Result<(Vec<Result<OpenShare, RequestRefusal>>, VecDeque<GroupRequest>), StreamError> {
    context.library.open(uploads.requester(), gets, uploads.piece_bytes()).await.map_err(StreamError::Reset)
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
        send_refusal(sender, (failure.code(), failure.message())).await
    }
}

async fn send_refusal(sender: &mut StreamSender, (code, message): RequestRefusal) -> Result<(), StreamError> {
    sender.send_frame(&PeerReply::Error { code, message: message.into() }).await
}

/// Answers a request that isn't for a file's groups.
async fn answer(
    context: &ServeContext,
    link: &Link,
    uploads: &LinkUploads,
    quota: &UserQuota,
    sender: &mut StreamSender,
    ask: PeerRequest,
) -> Result<(), StreamError> {
    let for_peer = |answer: PeerReply| {
        // A peer gets only the fields whose capability it announced.
        let answer = if link.has_capability(ZEROS_CAPABILITY) { answer } else { answer.without_zeros() };
        let answer = if link.has_capability(ROOM_FILES_CAPABILITY) { answer } else { answer.without_restricted() };
        if link.has_capability(OWNER_ONLY_CAPABILITY) { answer } else { answer.without_owner_only() }
    };
    // Held until the answer is read: a peer that reads none has few of them in memory here.
    let _answer = quota.acquire_answer(is_list_request(&ask)).await;
    match answer_request(context, link, uploads, ask).await? {
        Ok((answer, bytes)) if bytes.is_empty() => {
            uploads.with_stall_timeout(sender.send_frame(&for_peer(answer))).await
        }
        Ok((answer, bytes)) => {
            uploads
                .with_stall_timeout(
                    sender.send_frame_and_bulk(&for_peer(answer), bytes, |count| uploads.note_moved(count)),
                )
                .await
        }
        Err(refusal) => uploads.with_stall_timeout(send_refusal(sender, refusal)).await,
    }
}

/// Returns the room that a request is about.
const fn requested_room(ask: &PeerRequest) -> Option<RoomId> {
    match ask {
        PeerRequest::Files { room, .. }
        | PeerRequest::Folders { room, .. }
        | PeerRequest::FolderTimes { room, .. }
        | PeerRequest::Stat { room, .. } => *room,
        _ => None,
    }
}

/// True if the answer takes a walk through many shares.
const fn is_list_request(ask: &PeerRequest) -> bool {
    matches!(
        ask,
        PeerRequest::Files { .. }
            | PeerRequest::Folders { .. }
            | PeerRequest::FolderTimes { .. }
            | PeerRequest::Removed { .. }
    )
}

/// Returns the answer to a request, and the bytes that follow it.
async fn answer_request(
    context: &ServeContext,
    link: &Link,
    uploads: &LinkUploads,
    ask: PeerRequest,
) -> Result<Result<(PeerReply, Bytes), RequestRefusal>, StreamError> {
    let (user, by, library) = (link.user(), uploads.requester(), &context.library);
    // Checked for each request: a blocked user may have an outbound link, or one from before the block.
    match context.me.profile.is_blocked(user) {
        Ok(false) => {}
        Ok(true) => return Ok(Err(unauthorised_refusal())),
        Err(error) => return Ok(Err(internal_refusal(error.into()))),
    }
    if let Some(room) = requested_room(&ask)
        && let Err((code, message)) = check_file_requester(link, &context.rooms, room).await
    {
        return Ok(Err((code, message.to_owned())));
    }
    let without_bytes = |answer: Result<PeerReply, RequestRefusal>| answer.map(|answer| (answer, Bytes::new()));
    Ok(match ask {
        PeerRequest::Files { prefix, cursor, room } => {
            let reads_empty_pages = link.has_capability(EMPTY_PAGES_CAPABILITY);
            let (prefix, cursor) = (prefix.unwrap_or_default(), cursor.unwrap_or_default());
            without_bytes(library.list(by, room, prefix, cursor, reads_empty_pages).await)
        }
        PeerRequest::Folders { prefix, cursor, room } => {
            without_bytes(library.folders(by, room, prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        PeerRequest::FolderTimes { prefix, cursor, room } => {
            without_bytes(library.folder_times(by, room, prefix.unwrap_or_default(), cursor.unwrap_or_default()).await)
        }
        PeerRequest::Removed { names } => without_bytes(library.removed(by, names).await),
        PeerRequest::Stat { name, room } => {
            let answer = library.stat(by, room, name).await;
            if let Ok(PeerReply::Stat(stat)) = &answer {
                // Manifests are asked for by the hash alone: the name last described says which file is meant.
                uploads.remember_name(stat.name.clone(), stat.hash);
            }
            without_bytes(answer)
        }
        PeerRequest::Manifest { hash } => library.manifest(by, hash, uploads.described_name(&hash)).await,
        PeerRequest::Have { hash } => library.have(by, hash, uploads.described_name(&hash)).await,
        PeerRequest::Probe { port } => without_bytes(context.port_prober.probe(&context.me.identity, link, port).await),
        PeerRequest::Receipt(receipt) => {
            without_bytes(take_receipt(&context.me, &context.rooms, &context.events, user, by, receipt).await)
        }
        PeerRequest::Hello(_)
        | PeerRequest::Chat {}
        | PeerRequest::Room { .. }
        | PeerRequest::Changes {}
        | PeerRequest::Get { .. } => {
            return Err(StreamError::Unexpected("a request was due"));
        }
        PeerRequest::Unknown => {
            Err((PeerErrorCode::Protocol, format!("{} doesn't know that request", context.me.user)))
        }
    })
}
