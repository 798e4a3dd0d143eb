//! The serving side of a link: answers the other peer's requests, each stream in a task of its own that ends with the
//! link.

mod buffer_pool;
mod change_stream;
mod copy_search;
mod descriptor_wait;
mod disk_slots;
mod file_sender;
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
mod request_answers;
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

use parking_lot::Mutex;
use shared::peer::{PeerErrorCode, PeerRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use change_stream::serve_changes;
use file_sender::{send_files, take_leading_gets};
pub use guest_file_reader::{GuestFileFault, GuestFileOpener, GuestFileReader};
pub use library::ShareLibrary;
use link_uploads::LinkUploads;
use port_prober::PortProber;
use request_answers::answer;
pub use served_versions::{ProvedVersion, ProvedVersions};
pub use share_access::{FileRequester, RoomMembership};
pub use stale_shares::{StaleReason, StaleShares};
use upload_digest::{UnreportedUploads, UploadDigest};
use upload_progress::UnfinishedUploads;
pub use upload_scheduler::UploadLimits;
use upload_scheduler::UploadScheduler;
use user_quota::{StreamPermit, UserQuota, UserQuotas};

use super::bulk_rate::BULK_WINDOW_INTERVAL;
use super::chat::ChatRateLimiter;
use super::event_bus::EventBus;
use super::node_event::NodeEvent;
use super::rooms::{Rooms, serve_room};
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
    // Those of hours without a chat must not all come when it begins.
    window_ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
