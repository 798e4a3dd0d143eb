//! The node's tracker session: keeps the node present, across lost connections and network changes.
//!
//! ```text
//! (start) ─ tracker unreachable ────────────────────────────────────────────► waiting
//! connect ─ RESUME ─ REGISTER_FILES ─ SUBSCRIBE ─► connected ──lost──► waiting (1 s, 2 s … 10 s, jittered) ─┐
//!    ▲                                               │ leaving: LOGOUT, end                                 │
//!    ├────────────── at once ◄─── network changed ─────┤                                                      │
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Where several trackers share their users, the node moves to another one when its own fails: when the connection is lost;
//! when a heartbeat has no answer, which is sent when nothing was heard for [`heartbeat_schedule::QUIET_LIMIT`]; and when the
//! tracker can't speak of presence itself, as its database is away ([`busy_tracker`]). In the last case the node stays until
//! another tracker has taken it. Events go on from the number of the last one, at whichever tracker.
//!
//! A list of shares that the tracker refuses is registered again while connected, see [`super::share_registration`].
//!
//! A copy of the profile that runs elsewhere has the same key, and the newest login wins. The node that lost its
//! presence is *displaced*: it stays connected, so that its user's requests work, but is not present. However often it
//! reconnects, it doesn't take the presence back unless it is told to ([`TrackerHandle::go_online`]) or the user was
//! not present anywhere for `TAKEOVER_DELAY`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use localization::tr;
use rand::Rng;
use rooms::VerifyingKey;
use shared::tracker::{
    AnnouncedPresence, EmptyReply, InstanceId, LoginReply, SpeakerProof, SubscribeReply, TrackerEvent, TrackerRequest,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use self::busy_tracker::BusyTracker;
use self::heartbeat_schedule::HeartbeatSchedule;
use self::place_search::PlaceSearch;
use super::PortForwarding;
use super::revalidation_trigger::{RevalidationHandle, RevalidationTrigger};
use super::share_registration::{RegisteredCount, RegistrationRetry, RegistrationState};
use crate::engine::event_bus::EventBus;
use crate::engine::node_event::NodeEvent;
use crate::engine::rooms::Rooms;
use crate::engine::{Error, ErrorKind, LocalUser};
use crate::net::AvoidedAddresses;
use crate::net::addresses::reachable_addresses;
use crate::net::tracker::TrackerConnection;
use crate::sys::{self, NetworkMonitor};
use crate::util::TranslatedText;

mod busy_tracker;
mod event_handling;
mod heartbeat_schedule;
mod place_search;
mod presence;
mod reconnection;
mod session_end;
mod tracker_handle;

pub(super) use presence::PresenceState;
use presence::{PresenceClaim, PresenceDisplacement, RegistrationOutcome};
use reconnection::cancel_on_network_change;
use session_end::{SessionEnd, is_fatal, is_outage};
use tracker_handle::TrackerQuery;
pub(super) use tracker_handle::{QueryOrigin, TrackerHandle};

/// Deadline for the tracker's reply after a network change: a dead path drops packets silently.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Deadline for another tracker to take the node over from a busy one, whose queries wait meanwhile.
const MOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before another list is sent after a refused one, though the tracker asked for a longer one.
const REFUSED_LIST_PAUSE: Duration = Duration::from_secs(5);
/// Queries of this node, and about known keys, that may wait for the session.
const QUERY_QUEUE: usize = 64;
/// Queries about strangers' keys that may wait: as many as there may be unidentified callers.
const STRANGER_QUERY_QUEUE: usize = 256;
/// Queries about strangers in a row before a heartbeat is sent in between: earlier trackers count each "not found" as a
/// refusal, and slow down a client that has many in a row.
const MAX_STRANGER_STREAK: u32 = 50;

/// The task that keeps the node present at the tracker.
#[derive(Debug)]
pub(super) struct TrackerSession {
    me: LocalUser,
    port: u16,
    forwarded: Option<PortForwarding>,
    events: EventBus,
    leaving: CancellationToken,
    queries: mpsc::Receiver<TrackerQuery>,
    stranger_queries: mpsc::Receiver<TrackerQuery>,
    /// Strangers' queries since the last heartbeat that was sent to end the row.
    stranger_streak: u32,
    shares_changed: Arc<Notify>,
    /// Tells that files of others changed, or may have.
    files_changed: Arc<Notify>,
    /// The local address of the last connection to the tracker.
    local: watch::Sender<Option<SocketAddr>>,
    key_epoch: Arc<AtomicU64>,
    /// The key with which the tracker signs records of rooms.
    verifying_key: watch::Sender<Option<VerifyingKey>>,
    presence_state: watch::Sender<PresenceState>,
    revalidation: RevalidationHandle,
    rooms: Rooms,
    /// The addresses announced to the tracker, without those that no other machine can reach.
    announced: BTreeSet<SocketAddr>,
    go_online: Arc<Notify>,
    /// Random for each process: tells it from another one with the same key.
    instance: InstanceId,
    /// The IP address and port under which the tracker listed this node last.
    observed_at: Option<(IpAddr, Option<NonZeroU16>)>,
    displaced: Option<PresenceDisplacement>,
    list_retry: RegistrationRetry,
    registration: RegistrationState,
    /// True if the shares changed since the last list, which is sent when its pause is over.
    is_list_outdated: bool,
    /// True once the user was told that the tracker doesn't pass on the address given by `--announce`.
    has_reported_dropped_address: bool,
    /// The user asked to be online here, and the session hasn't done it yet.
    is_takeover_requested: bool,
    /// The number of the last event that was handled.
    last_event: Option<u64>,
    /// True if the next `resync` only says that events were missed while the node was not present.
    is_resync_expected: bool,
    /// The trackers that failed of late.
    avoided: AvoidedAddresses,
    busy: BusyTracker,
    place_search: PlaceSearch,
}

/// The next action on the connection to the tracker.
enum SessionStep {
    AnswerQuery(TrackerQuery),
    AnswerStrangerQuery(TrackerQuery),
    RegisterShares,
    CheckNetwork,
    GoOnline,
    RenewPresence,
    HandleEvent(TrackerEvent),
    AdoptPlaces(Vec<SocketAddr>),
}

impl TrackerSession {
    /// Returns the session of a node that listens on `port` and is announced at `forwarded` if given, and its handle.
    pub(super) fn new(
        me: LocalUser,
        port: u16,
        forwarded: Option<PortForwarding>,
        events: EventBus,
        revalidation: RevalidationHandle,
        rooms: Rooms,
        leaving: CancellationToken,
    ) -> (Self, TrackerHandle) {
        let (sender, queries) = mpsc::channel(QUERY_QUEUE);
        let (stranger_sender, stranger_queries) = mpsc::channel(STRANGER_QUERY_QUEUE);
        let (shares_changed, go_online) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (local, local_receiver) = watch::channel(None);
        let (verifying_key, verifying_key_receiver) = watch::channel(None);
        let (key_epoch, files_changed) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let why = TranslatedText::new(|| tr!("it was not asked yet"));
        let (presence_state, presence_receiver) = watch::channel(PresenceState::Offline { why });
        let handle = TrackerHandle {
            queries: sender,
            stranger_queries: stranger_sender,
            shares_changed: shares_changed.clone(),
            share_changes: watch::Sender::new(()),
            local: local_receiver,
            key_epoch: key_epoch.clone(),
            verifying_key: verifying_key_receiver,
            presence_state: presence_receiver,
            go_online: go_online.clone(),
            files_changed: files_changed.clone(),
        };
        let place_search = PlaceSearch::new(&me, Instant::now());
        let session = Self {
            me,
            port,
            forwarded,
            events,
            leaving,
            queries,
            stranger_queries,
            stranger_streak: 0,
            shares_changed,
            files_changed,
            local,
            key_epoch,
            presence_state,
            revalidation,
            rooms,
            verifying_key,
            announced: BTreeSet::new(),
            go_online,
            instance: InstanceId::from_bytes(rand::rng().random()),
            observed_at: None,
            displaced: None,
            list_retry: RegistrationRetry::default(),
            registration: RegistrationState::new(Instant::now()),
            is_list_outdated: false,
            has_reported_dropped_address: false,
            // A start is the user's wish to be online here.
            is_takeover_requested: true,
            last_event: None,
            is_resync_expected: false,
            avoided: AvoidedAddresses::default(),
            busy: BusyTracker::default(),
            place_search,
        };
        (session, handle)
    }

    /// Runs until the node leaves. `ready` fires when the node is present for the first time, or the tracker can't be
    /// reached: the node can start from its records.
    ///
    /// # Errors
    /// The tracker was reached and rejects the account, its key or its own identity changed.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>) -> Result<(), Error> {
        let ended = self.maintain(ready).await;
        if let Err(Error::AccountMoved { user, since }) = &ended {
            self.events.send(NodeEvent::AccountMoved { user: user.clone(), since: *since });
        }
        ended
    }

    async fn maintain(&mut self, ready: oneshot::Sender<()>) -> Result<(), Error> {
        let mut network = NetworkMonitor::start();
        let established = loop {
            let revalidation = self.revalidation.clone();
            if let Some(entered) =
                cancel_on_network_change(&mut network, &revalidation, self.establish(PresenceClaim::TakeOver)).await
            {
                break entered;
            }
        };
        let mut open_link = match established {
            Ok(link) => Some(link),
            Err(error) if error.kind() == ErrorKind::Network || is_outage(&error) => {
                self.report_lost(&TranslatedText::of(&error));
                None
            }
            Err(error) => return Err(error),
        };
        // The receiver is gone when the start was cancelled.
        let _ = ready.send(());
        let mut is_at_once = false;
        loop {
            let mut link = match open_link.take() {
                Some(link) => link,
                None => match self.reconnect(&mut network, std::mem::take(&mut is_at_once)).await? {
                    Some(link) => link,
                    None => return Ok(()),
                },
            };
            match self.run_connection(&mut network, &mut link).await {
                // A LOGOUT would end the presence of the other node, which has the same account.
                SessionEnd::Leaving if self.displaced.is_some() => return Ok(()),
                SessionEnd::Leaving => {
                    let logout = TrackerRequest::Logout { user: self.me.user.clone(), proof: SpeakerProof::default() };
                    if let Err(error) = link.call::<EmptyReply>(&logout).await {
                        // Without it, the tracker forgets the presence when the lease runs out.
                        tracing::info!("leaving the tracker failed: {error}");
                    }
                    return Ok(());
                }
                SessionEnd::Reconnect => is_at_once = true,
                SessionEnd::Lost(error) => {
                    self.avoid(&link);
                    self.report_lost(&TranslatedText::of(&error));
                }
                SessionEnd::Fatal(error) => return Err(error),
            }
        }
    }

    fn report_lost(&self, why: &TranslatedText) {
        self.presence_state.send_replace(PresenceState::Offline { why: why.clone() });
        self.events.send(NodeEvent::TrackerLost { why: why.clone() });
    }

    /// Connects to the first tracker that takes the node, and becomes present, unless the node is displaced and `claim`
    /// yields.
    async fn establish(&mut self, claim: PresenceClaim) -> Result<TrackerConnection, Error> {
        loop {
            let mut link = self.me.connect_tracker_avoiding(&self.avoided).await?;
            match self.enter(&mut link, claim).await {
                Err(error) if is_outage(&error) => {
                    // One that was avoided already was dialled as the last resort: no other is left.
                    let was_last = self.avoided.contains(link.remote(), Instant::now());
                    self.avoid(&link);
                    if was_last || !link.has_alternative(&self.avoided) {
                        return Err(error);
                    }
                    tracing::info!("the tracker at {} does not take this node: {error}", link.remote());
                }
                entered => return entered.map(|()| link),
            }
        }
    }

    /// Becomes present over a new connection, and subscribes to the events after the last one.
    async fn enter(&mut self, link: &mut TrackerConnection, claim: PresenceClaim) -> Result<(), Error> {
        let was_present = matches!(*self.presence_state.borrow(), PresenceState::Present { .. });
        self.local.send_replace(Some(link.local()));
        self.verifying_key.send_replace(link.verifying_key());
        let gained = match self.displaced {
            Some(PresenceDisplacement { elsewhere, .. }) if claim == PresenceClaim::Yield => {
                // Without a port, RESUME only authenticates.
                let _: LoginReply = self.resume(link, AnnouncedPresence::default()).await?;
                self.mark_displaced(elsewhere);
                None
            }
            _ => self.become_present(link, claim).await?,
        };
        let since = self.last_event;
        let SubscribeReply { seq, .. } = link.call(&TrackerRequest::Subscribe { since }).await?;
        // A tracker that can't go on there sends a `resync` first.
        self.is_resync_expected = since.is_some_and(|since| since != seq) && !was_present;
        self.last_event = Some(seq);
        self.place_search.set_key(link.fingerprint());
        // Links may have been made by answers that are wrong by now: every key and every local address is checked.
        self.invalidate_keys(RevalidationTrigger::AllKeys);
        self.revalidation.request(RevalidationTrigger::LocalNetwork);
        // After the subscription: a user who hears that the node is online may rely on its receiving events.
        gained.into_iter().for_each(|appeared| self.emit_online(appeared));
        Ok(())
    }

    /// Tries the other trackers first for a while.
    fn avoid(&mut self, link: &TrackerConnection) {
        self.avoided.note_failure(link.remote(), rand::rng().random(), Instant::now());
    }

    async fn run_connection(&mut self, network: &mut NetworkMonitor, link: &mut TrackerConnection) -> SessionEnd {
        let mut heartbeat = HeartbeatSchedule::new(link.is_of_several(), rand::rng().random(), Instant::now());
        let revalidation = self.revalidation.clone();
        loop {
            // A displaced node registers all its shares when it is present again.
            let list_due = self.list_due().filter(|_| self.displaced.is_none());
            let heartbeat_due = self.busy.retry_at().unwrap_or_else(|| heartbeat.due(link.last_heard()));
            let search_due = self.place_search.due();
            let step = tokio::select! {
                () = self.leaving.cancelled() => return SessionEnd::Leaving,
                Some(question) = self.queries.recv() => SessionStep::AnswerQuery(question),
                // Strangers' queries come last: anybody can cause any number of them by calling.
                Some(question) = self.stranger_queries.recv(), if self.queries.is_empty() => SessionStep::AnswerStrangerQuery(question),
                () = self.shares_changed.notified() => {
                    self.is_list_outdated = true;
                    continue;
                }
                () = sleep_until(list_due.unwrap_or_else(Instant::now).into()), if list_due.is_some() => SessionStep::RegisterShares,
                _ = network.changed() => {
                    revalidation.request(RevalidationTrigger::LocalNetwork);
                    SessionStep::CheckNetwork
                }
                () = self.go_online.notified() => {
                    // Before the step, which may be given up: then the reconnection takes over.
                    self.is_takeover_requested = true;
                    SessionStep::GoOnline
                }
                () = sleep_until(heartbeat_due.into()) => SessionStep::RenewPresence,
                () = sleep_until(search_due.unwrap_or_else(Instant::now).into()), if search_due.is_some() => {
                    self.place_search.start(Instant::now());
                    continue;
                }
                Some(found) = self.place_search.next_result() => SessionStep::AdoptPlaces(found),
                event = link.next_event() => match event {
                    Ok(event) => SessionStep::HandleEvent(event),
                    Err(error) => return SessionEnd::Lost(error),
                },
            };
            let is_renewal = matches!(step, SessionStep::RenewPresence);
            // After a network change the reply may never arrive: the step is given up with the connection.
            match cancel_on_network_change(network, &revalidation, self.handle_step(step, link)).await {
                Some(Ok(())) if is_renewal => heartbeat.note_renewed(Instant::now()),
                Some(Ok(())) => {}
                Some(Err(ended)) => return ended,
                None => return SessionEnd::Reconnect,
            }
        }
    }

    /// Returns the time at which the list of shares is to be sent; `None` if the tracker has it.
    fn list_due(&self) -> Option<Instant> {
        let outdated = self.is_list_outdated.then(|| self.registration.next_at());
        match self.list_retry.retry_at() {
            // What was refused may be accepted now, but files that change all the time must not make a request each.
            Some(retry_at) => Some(outdated.map_or(retry_at, |at| retry_at.min(at + REFUSED_LIST_PAUSE))),
            None => outdated,
        }
    }

    async fn handle_step(&mut self, step: SessionStep, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        match step {
            SessionStep::AnswerQuery(question) => {
                // A connection refuses to write a secret until its tracker's key is confirmed, which may have
                // happened in another process since this connection was made.
                if question.request.carries_secret() && self.me.is_tracker_confirmed(link).unwrap_or(false) {
                    link.confirm();
                }
                answer_query(question, link).await
            }
            // Its caller has given up: the answer would only delay others.
            SessionStep::AnswerStrangerQuery(question) if question.reply.is_closed() => Ok(()),
            SessionStep::AnswerStrangerQuery(question) => {
                answer_query(question, link).await?;
                self.stranger_streak += 1;
                if self.stranger_streak >= MAX_STRANGER_STREAK {
                    // A heartbeat is granted, which ends the row of refusals that earlier trackers count.
                    self.stranger_streak = 0;
                    self.renew_presence(link, heartbeat_schedule::reply_timeout(link)).await?;
                }
                Ok(())
            }
            SessionStep::RegisterShares => match self.register_shares(link).await {
                Ok(RegistrationOutcome::Accepted(RegisteredCount { count, is_new })) => {
                    if is_new {
                        self.events.send(NodeEvent::SharesChanged { count });
                    }
                    Ok(())
                }
                Ok(refused) => {
                    self.emit_list_refused(refused);
                    Ok(())
                }
                // Without a code it is no answer of the tracker: the connection is gone.
                Err(Error::Tracker(error)) if error.code().is_none() => Err(SessionEnd::Lost(error)),
                Err(error) => {
                    tracing::error!("the shares could not be registered: {error}");
                    Ok(())
                }
            },
            SessionStep::CheckNetwork => self.check_network(link).await,
            SessionStep::GoOnline => self.restore_presence(link, PresenceClaim::TakeOver).await,
            SessionStep::RenewPresence => {
                self.renew_presence(link, heartbeat_schedule::reply_timeout(link)).await?;
                if self.busy.is_move_due(Instant::now()) { self.leave_busy_tracker(link).await } else { Ok(()) }
            }
            SessionStep::HandleEvent(event) => self.handle_numbered_event(event, link).await,
            SessionStep::AdoptPlaces(found) => {
                self.adopt_places(&found);
                Ok(())
            }
        }
    }

    /// Checks that this connection still uses the right route to the tracker, and that the announced addresses are
    /// current.
    async fn check_network(&mut self, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        let (here, local) = (link.local().ip().to_canonical(), sys::local_addresses());
        let is_ours = here.is_loopback() || local.iter().any(|one| one.ip == here);
        let source = sys::route_source(link.remote());
        if !is_ours || source.is_some_and(|source| source != here) {
            return Err(SessionEnd::Reconnect);
        }
        // The route may be right and dead: after an unplugged cable TCP retransmits only as late as the
        // outage was long, so a short probe decides.
        self.renew_presence(link, PROBE_TIMEOUT).await?;
        let is_told_otherwise =
            self.displaced.is_none() && reachable_addresses(&self.presence(here).addresses, &local) != self.announced;
        if is_told_otherwise { self.restore_presence(link, PresenceClaim::Yield).await } else { Ok(()) }
    }
}

/// Sends a query to the tracker and passes on the reply.
async fn answer_query(
    TrackerQuery { request, reply: answer }: TrackerQuery,
    link: &mut TrackerConnection,
) -> Result<(), SessionEnd> {
    let result = link.call(&request).await;
    let lost = result.as_ref().err().filter(|error| error.ends_connection()).cloned();
    // The receiver may have given up.
    let _ = answer.send(result);
    lost.map_or(Ok(()), |error| Err(SessionEnd::Lost(error)))
}
