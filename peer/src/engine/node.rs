//! The node: the one running process of a profile that is online.
//!
//! ```text
//!            ┌ accept loop: identifies callers and serves their links (`Node::run` itself)
//!            ├ TrackerSession: presence at the tracker, shares in its catalogue, its events
//! Node::run ─┼ LinkRevalidator: closes links whose key is no longer their user's
//!            ├ DeliveryDispatcher: delivers the messages that wait in the outbox
//!            ├ RoomOwner: owns the rooms; RoomLinks: links their members; RoomSync: fetches their records
//!            ├ SendAcceptor: fetches what is sent, for senders whom the user accepts
//!            ├ follow_worker: keeps copies of followed folders in step
//!            ├ message_hook: runs a program of the user's for every message
//!            ├ desktop_notifier: tells the desktop of messages
//!            ├ share_refresher: hashes changed shares again
//!            ├ ShareWatcher: keeps what is shared in step with the disk
//!            └ ControlServer: serves other processes of this profile over a local socket
//! ```
//!
//! Commands and views reach it through the [`NodeApi`], whose table lists its acts; [`NodeCore`] performs them.
//!
//! All but the first are tasks of one `JoinSet`; an error of any of them ends the node. Everything that can fail
//! locally (the lock, the database, the UDP socket, the local socket) is done before the tracker hears of the node. The
//! shutdown order is: take no more callers and no more control clients, leave the tracker, wait for the tasks, close the
//! links, abort what is left.

mod api;
mod caller_identity;
pub mod control;
mod delivery;
mod delivery_worker;
mod embedded_node;
mod follow_worker;
mod link_admission;
mod link_pool;
mod link_revalidation;
mod link_service;
mod node_core;
mod node_events;
mod node_handle;
mod node_values;
mod online_users;
mod optional_deadline;
mod presence_query;
mod refusal_digest;
mod revalidation_trigger;
mod room_links;
mod room_sync;
mod room_writing;
mod send_acceptor;
mod share_refresher;
mod share_registration;
mod share_watcher;
mod tracker_session;
mod user_list;
mod wish_watcher;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use parking_lot::Mutex;
use shared::limits::MIN_PEER_PORT;
use shared::peer::PeerErrorCode;
use shared::{Fingerprint, RoomId, UserName};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::api::NodeApi;
use self::caller_identity::CallerIdentifier;
use self::control::ControlServer;
use self::delivery::MessageOutbox;
use self::link_pool::{LinkPool, OutboundLink};
use self::link_revalidation::LinkRevalidator;
use self::link_service::{handle_call, run_link};
pub use self::node_core::NodeCore;
pub use self::node_events::NodeEvents;
pub use self::node_handle::{
    NodeHandle, NodeNeed, announce_follows, announce_removal, announce_shares, announce_wishes, running_status,
    stop_running,
};
pub use self::node_values::{FlushReport, NodeLifetime, NodeStatus, SendAnnouncement, UserSummary};
use self::online_users::OnlineUsers;
use self::refusal_digest::{REPORT_WINDOW, RefusalDigest, UnreportedRefusals};
use self::revalidation_trigger::RevalidationHandle;
use self::room_links::RoomLinks;
use self::room_sync::RoomSync;
use self::send_acceptor::SendAcceptor;
use self::share_watcher::{ShareWatcher, ShareWatcherHandle};
use self::tracker_session::{TrackerHandle, TrackerSession};
use self::wish_watcher::WishWatcher;
use super::event_bus::EventBus;
use super::follow_news::FollowWaker;
use super::node_event::NodeEvent;
use super::rooms::{RoomDirectory, Rooms};
use super::serve::{RoomMembership, ServeContext, ShareLibrary, StaleShares, UploadLimits};
use super::{Error, LocalUser, Notice, desktop_notifier, message_hook, run_blocking};
use crate::net::endpoint::Endpoint;
use crate::profile::{NodeLock, Profile, ProfileError};

/// Deadline for the tasks to end by themselves, the logout at the tracker included.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadline for the tasks of links to notice that they are closed, and to finish what they do with the profile.
const LINK_END_TIMEOUT: Duration = Duration::from_millis(500);

/// Attempts to take the lock: a process that only checks whether it is held has it for a moment.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);

/// Time limit of the integrity check that precedes the first write to the database.
const DATABASE_CHECK_LIMIT: Duration = Duration::from_secs(1);

/// The port that a node listens on, and the address announced instead of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenConfig {
    /// The UDP port. `None`: the last one used if it is free, else any.
    pub port: Option<u16>,
    /// A port forwarding (of a router, a container) that leads to `port`.
    pub forwarded: Option<PortForwarding>,
    /// Threads besides the node's own for the work of its connections.
    pub driver_threads: usize,
}

/// The address that others dial instead of a node's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForwarding {
    /// The forwarding host. Others also dial the address at which the tracker sees the node.
    pub ip: Option<IpAddr>,
    /// The UDP port of the forwarding.
    pub port: NonZeroU16,
}

/// The parts of a node that act on other users: links, messages, the tracker, key checks. Cheap to clone.
#[derive(Debug, Clone)]
struct NodeServices {
    link_pool: Arc<LinkPool>,
    outbox: Arc<MessageOutbox>,
    tracker: TrackerHandle,
    revalidation: RevalidationHandle,
    rooms: Rooms,
    online: OnlineUsers,
    /// Tells of each new link.
    new_links: Arc<Notify>,
    share_watcher: ShareWatcherHandle,
    follows: FollowWaker,
}

impl RoomMembership for RoomDirectory {
    fn is_member(&self, room: RoomId, user: &UserName, key: &Fingerprint) -> bool {
        Self::is_member(self, room, user, key)
    }
}

/// A node that is online, or will be as soon as the tracker can be reached.
#[derive(Debug)]
pub struct Node {
    me: LocalUser,
    endpoint: Endpoint,
    events: EventBus,
    services: NodeServices,
    caller_identifier: Arc<CallerIdentifier>,
    serve_context: ServeContext,
    tasks: JoinSet<Result<(), Error>>,
    links: JoinSet<()>,
    outbound_links: mpsc::UnboundedReceiver<OutboundLink>,
    refusal_digest: Arc<Mutex<RefusalDigest>>,
    leaving: CancellationToken,
    stop: CancellationToken,
    core: NodeCore,
    _lock: Arc<NodeLock>,
    /// Last: cancelled after everything else of the node is gone.
    _ended: DropGuard,
}

impl Node {
    /// Goes online as `listen` says; uploads stay within `limits`. Without the tracker the node starts as well: known
    /// peers reach it, and it goes online by itself when the tracker is back.
    ///
    /// # Errors
    /// [`Error`]: another node runs, the tracker rejects the account, the port is taken, the profile is damaged.
    pub async fn start(
        me: &LocalUser,
        listen: ListenConfig,
        limits: UploadLimits,
        events: EventBus,
        lifetime: NodeLifetime,
    ) -> Result<Self, Error> {
        // First: all that follows relies on no other node using the profile.
        let lock = Arc::new(lock_node(&me.profile).await?);
        let profile = me.profile.clone();
        // Before the first write: nothing is written to a damaged database.
        run_blocking(move || Ok(profile.check_integrity(DATABASE_CHECK_LIMIT)?)).await?;
        let me = with_notices_as_events(me, &events);
        let endpoint = bind(&me, listen.port, listen.driver_threads)?;
        let port = endpoint.port().map_err(|why| Error::Internal(why.to_string()))?;
        // The next start tries the same port first: others have the address on record.
        me.profile.set_last_port(port)?;

        let (stop, leaving) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let stale = Arc::new(StaleShares::default());
        let (revalidation, triggers) = RevalidationHandle::channel();
        let (rooms, room_owner, room_requests) = Rooms::new(me.clone(), events.clone());
        let (tracker_session, tracker) = TrackerSession::new(
            me.clone(),
            port,
            listen.forwarded,
            events.clone(),
            revalidation.clone(),
            rooms.clone(),
            leaving.clone(),
        );
        let (new_links, outbound_links) = mpsc::unbounded_channel();
        let caller_identifier = Arc::new(CallerIdentifier::new(me.clone(), tracker.clone()));
        let link_pool = Arc::new(LinkPool::new(me.clone(), endpoint.clone(), tracker.clone(), new_links));
        let (outbox, dispatcher) = MessageOutbox::new(me.clone(), events.clone(), link_pool.clone(), stop.clone());
        let services = NodeServices {
            link_pool,
            outbox,
            tracker: tracker.clone(),
            revalidation,
            rooms: rooms.clone(),
            online: OnlineUsers::new(),
            new_links: Arc::new(Notify::new()),
            share_watcher: ShareWatcherHandle::default(),
            follows: FollowWaker::default(),
        };
        let library = ShareLibrary::new(me.profile.clone(), Arc::new(rooms.directory().clone()), stale.clone());
        let proved_versions = library.proved().clone();
        let share_changes = tracker.subscribe_share_changes();
        let serve_context =
            ServeContext::new(me.clone(), library, share_changes, rooms.clone(), events.clone(), limits);
        let ended = CancellationToken::new();
        let core =
            NodeCore::online(me.clone(), events.clone(), services.clone(), lifetime, stop.clone(), ended.clone());
        let control = ControlServer::bind(&me.profile, lock.clone(), core.clone())?;
        // First, so that local clients are answered while the tracker is still awaited.
        tasks.spawn(control.run());
        // Before the session begins, so that no event is missed.
        let room_links = RoomLinks::new(me.profile.clone(), &services, events.subscribe(), stop.clone());
        tasks.spawn(room_owner.run(stop.clone()));
        tasks.spawn(room_links.run());
        tasks.spawn(RoomSync::new(rooms, tracker.clone(), events.clone(), room_requests, stop.clone()).run());
        let (ready, is_ready) = oneshot::channel();
        tasks.spawn(tracker_session.run(ready));
        tokio::select! {
            // The session has dropped its sender, and its own error says why.
            ready = is_ready => if ready.is_err() {
                return Err(first_error(&mut tasks).await);
            },
            // `run` then ends at once, in the usual order.
            () = stop.cancelled() => {}
        }
        let share_watcher = ShareWatcher::new(
            me.clone(),
            stale.clone(),
            tracker.clone(),
            events.clone(),
            services.share_watcher.clone(),
            stop.clone(),
        );
        tasks.spawn(share_watcher.run());
        tasks.spawn(share_refresher::run(
            me.clone(),
            stale,
            proved_versions,
            tracker.clone(),
            events.clone(),
            stop.clone(),
        ));
        let wish_watcher = WishWatcher::new(me.clone(), tracker.clone(), events.clone(), stop.clone());
        tasks.spawn(wish_watcher.run());
        let link_revalidator =
            LinkRevalidator::new(me.clone(), events.clone(), tracker, services.clone(), triggers, stop.clone());
        tasks.spawn(link_revalidator.run());
        tasks.spawn(dispatcher.run());
        let acceptor = SendAcceptor::new(me.clone(), events.clone(), services.outbox.clone(), stop.clone());
        tasks.spawn(acceptor.run());
        tasks.spawn(follow_worker::run(me.clone(), events.clone(), services.follows.clone(), stop.clone()));
        tasks.spawn(message_hook::run(me.clone(), events.subscribe(), stop.clone()));
        let conversations = events.conversations().clone();
        tasks.spawn(desktop_notifier::run(me.clone(), events.subscribe(), conversations, stop.clone()));
        Ok(Self {
            me,
            endpoint,
            events,
            services,
            caller_identifier,
            serve_context,
            tasks,
            links: JoinSet::new(),
            outbound_links,
            refusal_digest: Arc::new(Mutex::new(RefusalDigest::new(Instant::now()))),
            leaving,
            stop,
            core,
            _lock: lock,
            _ended: ended.drop_guard(),
        })
    }

    /// Returns the token whose cancellation stops the node; `peer logout` cancels it as well.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns the node's acts, for callers in this process.
    pub fn core(&self) -> NodeCore {
        self.core.clone()
    }

    /// Runs until the node is stopped or a task fails.
    ///
    /// # Errors
    /// The error of the task that failed.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut digest_tick = tokio::time::interval(REPORT_WINDOW);
        let outcome = loop {
            tokio::select! {
                _ = digest_tick.tick() => {
                    self.report_refusals();
                    self.serve_context.report_digest();
                }
                () = self.stop.cancelled() => break Ok(()),
                call = self.endpoint.accept() => {
                    let Some(call) = call else {
                        break Err(Error::Internal(tr!("the UDP socket failed")));
                    };
                    self.links.spawn(handle_call(
                        call,
                        self.caller_identifier.clone(),
                        self.services.clone(),
                        self.serve_context.clone(),
                        self.refusal_digest.clone(),
                    ));
                }
                Some(OutboundLink { link, key_epoch }) = self.outbound_links.recv() => {
                    self.links.spawn(run_link(link, key_epoch, self.services.clone(), self.serve_context.clone()));
                }
                Some(ended) = self.links.join_next() => {
                    // A panic over one link must not take the others down.
                    if let Err(failure) = ended {
                        tracing::error!("a link's task failed: {failure}");
                    }
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => break Err(error),
                    Err(failure) => break Err(Error::Internal(failure.to_string())),
                },
            }
        };
        self.shut_down().await;
        outcome
    }

    fn report_refusals(&self) {
        let unreported = self.refusal_digest.lock().take_due(Instant::now());
        for UnreportedRefusals { count, from } in unreported {
            self.events.send(NodeEvent::RefusedMore { count, from });
        }
    }

    async fn shut_down(mut self) {
        self.stop.cancel();
        // The tracker session logs out, so that nobody dials this node any more.
        self.leaving.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await;
        // Before the tasks are aborted: dropping a quinn stream finishes it, so that a broken-off upload
        // would look complete to the other side.
        self.endpoint.close(PeerErrorCode::ShuttingDown);
        let ended = async { while self.links.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LINK_END_TIMEOUT, ended).await;
        self.links.shutdown().await;
        self.tasks.shutdown().await;
        self.endpoint.drain().await;
        tracing::debug!("the node of {} has ended", self.me.user);
        drop(self.events);
    }
}

async fn lock_node(profile: &Profile) -> Result<NodeLock, Error> {
    let mut tries = 1..LOCK_ATTEMPTS;
    loop {
        match profile.lock_node() {
            Err(ProfileError::NodeRuns { .. }) if tries.next().is_some() => tokio::time::sleep(LOCK_RETRY_DELAY).await,
            locked => return Ok(locked?),
        }
    }
}

fn bind(me: &LocalUser, port: Option<u16>, driver_threads: usize) -> Result<Endpoint, Error> {
    let bind = |port| Endpoint::server(&me.identity, port, driver_threads);
    // Earlier versions used ports below MIN_PEER_PORT, which peers refuse to dial.
    let last = me.profile.last_port()?.filter(|last| *last >= MIN_PEER_PORT);
    // The last port comes first: peers that can't reach the tracker dial the address on record.
    let bound = match (port, last) {
        (Some(port), _) => bind(port),
        // The port may be somebody else's by now: another one is better than none.
        (None, Some(last)) => bind(last).or_else(|_| bind(0)),
        (None, None) => bind(0),
    };
    bound.map_err(|why| Error::link(&me.user, why))
}

fn with_notices_as_events(me: &LocalUser, events: &EventBus) -> LocalUser {
    let events = events.clone();
    LocalUser { notify: Arc::new(move |notice: Notice| events.send(NodeEvent::Notice(notice))), ..me.clone() }
}

async fn first_error(tasks: &mut JoinSet<Result<(), Error>>) -> Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(failure) => return Error::Internal(failure.to_string()),
        }
    }
    Error::Internal(tr!("`peer` ended before it was online"))
}
