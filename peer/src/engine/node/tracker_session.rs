//! Keeping the node present at the tracker, whatever becomes of the connection.
//!
//! ```text
//! (begins) ─ the tracker is away ───────────────────────────────────────────► waiting
//! connect ─ RESUME ─ REGISTER_FILES ─ SUBSCRIBE ─► attending ──lost──► waiting (1 s, 2 s … 30 s, jittered) ─┐
//!    ▲                                               │ leaving: LOGOUT, end                                 │
//!    ├────────────── at once ◄─── addresses changed ───┤                                                      │
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A list of shares that the tracker refuses is tried again while the node attends, see [`super::catalogue`].
//!
//! A copy of the profile that runs elsewhere has the same key, and the newest login counts. The node that was replaced
//! is *displaced*: it stays connected, for what its user asks of it, and is not present. It doesn't take the presence
//! back, however often its connection is lost, unless it is told to ([`TrackerHandle::go_online`]) or nobody was
//! present for [`GONE_FOR`].

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::UserName;
use shared::limits::HEARTBEAT_INTERVAL;
use shared::tracker::{
    AnnouncedPresence, EmptyReply, Feature, HeartbeatReply, InstanceId, ListPeersReply, ListPeersRequest, LoginReply,
    SpeakerProof, SubscribeReply, TrackerErrorCode, TrackerEventKind, TrackerRequest, WhoisReply, WhoisRequest,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::PortForwarding;
use super::link_revalidation::{RevalidationHandle, RevalidationTrigger};
use super::share_registration::{RegistrationRetry, is_list_refusal, refusal_of, register_shares};
use crate::engine::node_event::{EventBus, NodeEvent, OtherSession};
use crate::engine::peer_lookup::TrackerClient;
use crate::engine::{Error, ErrorKind, LocalUser, now_ms};
use crate::net::TrackerError;
use crate::net::addresses::{announced_addresses, outbound_interfaces, reachable_addresses};
use crate::net::tracker::TrackerConnection;
use crate::sys::{self, NetworkChange, NetworkMonitor};

const MIN_RECONNECT_DELAY: Duration = Duration::from_secs(1);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(10);
/// For the tracker to answer when something about the network changed: a path that is gone takes everything in silence.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the reply to a heartbeat.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nobody is present as this user before a node that was displaced is so again: a node elsewhere that is
/// started anew, or loses its network for a moment, is not gone.
const TAKEOVER_DELAY: Duration = Duration::from_secs(120);
/// Questions that may wait for the keeper.
const QUERY_QUEUE: usize = 64;
/// The same of strangers: there are never more callers that are not identified yet.
const STRANGER_QUERY_QUEUE: usize = 256;
/// Strangers' keys that were nobody's, one after another, before something is asked that the tracker grants: to earlier
/// trackers a "no" is a refusal, and many in a row make them answer late.
const MAX_STRANGER_STREAK: u32 = 50;

/// Puts questions to the tracker over the keeper's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct TrackerHandle {
    queries: mpsc::Sender<TrackerQuery>,
    /// Those that strangers make us ask: they wait for all others.
    stranger_queries: mpsc::Sender<TrackerQuery>,
    shares_changed: Arc<Notify>,
    local: watch::Receiver<Option<SocketAddr>>,
    key_epoch: Arc<AtomicU64>,
    presence_state: watch::Receiver<PresenceState>,
    go_online: Arc<Notify>,
}

/// How the node stands with the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PresenceState {
    /// It is present there.
    Present {
        /// Where others find it.
        address: SocketAddr,
    },
    /// The account is present elsewhere.
    Displaced(OtherSession),
    /// The tracker is away; the node tries again by itself.
    Offline {
        /// Why.
        why: String,
    },
}

/// For whom the tracker is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryOrigin {
    /// Somebody whose key is on record.
    KnownKey,
    /// Anybody: there may be any number of these.
    UnknownKey,
}

#[derive(Debug)]
struct TrackerQuery {
    request: TrackerRequest,
    reply: oneshot::Sender<Result<Value, TrackerError>>,
}

/// The task that keeps the presence.
#[derive(Debug)]
pub(super) struct TrackerSession {
    me: LocalUser,
    port: u16,
    forwarded: Option<PortForwarding>,
    events: EventBus,
    leaving: CancellationToken,
    queries: mpsc::Receiver<TrackerQuery>,
    stranger_queries: mpsc::Receiver<TrackerQuery>,
    /// Questions of strangers since something else was asked for certain.
    stranger_streak: u32,
    shares_changed: Arc<Notify>,
    /// This end of the last connection to the tracker.
    local: watch::Sender<Option<SocketAddr>>,
    key_epoch: Arc<AtomicU64>,
    presence_state: watch::Sender<PresenceState>,
    revalidation: RevalidationHandle,
    /// The addresses that the tracker was told, those apart that lead to nobody else.
    announced: BTreeSet<SocketAddr>,
    go_online: Arc<Notify>,
    /// Tells this process from another one with the same key.
    instance: InstanceId,
    /// Where and at which port the tracker saw this node last.
    observed_at: Option<(IpAddr, Option<NonZeroU16>)>,
    displaced: Option<PresenceDisplacement>,
    list_retry: RegistrationRetry,
    /// Whether the user was told that others don't hear of the address that was named.
    has_reported_dropped_address: bool,
    /// The user wants to be online here, whatever is elsewhere: not heeded yet.
    is_takeover_requested: bool,
}

/// The account is present elsewhere.
#[derive(Debug, Clone, Copy)]
struct PresenceDisplacement {
    elsewhere: OtherSession,
    /// Since when nobody is present.
    absent_since: Option<Instant>,
}

/// It is present.
#[derive(Debug)]
struct GainedPresence {
    /// Where others find it.
    address: SocketAddr,
    registration: RegistrationOutcome,
}

/// What became of the list of shares.
#[derive(Debug)]
enum RegistrationOutcome {
    /// So many are listed.
    Accepted(usize),
    /// The tracker refused it and is asked again.
    Refused {
        /// Why, where that is news.
        news: Option<String>,
    },
}

/// What becomes of another instance's presence when this one asks for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PresenceClaim {
    /// It ends: the user wants to be online here.
    TakeOver,
    /// It stays: this node only comes back.
    Yield,
}

/// Why attending ended.
enum SessionEnd {
    Leaving,
    /// The connection or the session has to be made anew, which is nothing to tell anybody.
    Reconnect,
    Lost(TrackerError),
    /// The account isn't this machine's any more.
    Fatal(Error),
}

impl From<TrackerError> for SessionEnd {
    fn from(error: TrackerError) -> Self {
        Self::Lost(error)
    }
}

/// What is done next on the connection to the tracker.
enum SessionStep {
    AnswerQuery(TrackerQuery),
    AnswerStrangerQuery(TrackerQuery),
    RegisterShares,
    CheckNetwork,
    GoOnline,
    RenewPresence,
    HandleEvent(TrackerEventKind),
}

/// How a pause ended.
enum ReconnectPauseEnd {
    Elapsed,
    NetworkChanged,
    Leaving,
}

impl TrackerClient for TrackerHandle {
    async fn call<T: DeserializeOwned + Send>(&mut self, request: &TrackerRequest) -> Result<T, TrackerError> {
        send_query(&self.queries, request).await
    }

    fn local_address(&self) -> Option<SocketAddr> {
        *self.local.borrow()
    }
}

/// Puts a question where the keeper takes it from, and waits for the reply.
async fn send_query<T: DeserializeOwned>(
    queries: &mpsc::Sender<TrackerQuery>,
    request: &TrackerRequest,
) -> Result<T, TrackerError> {
    let gone = |why: &str| TrackerError::Unreachable { address: "the tracker".to_owned(), why: why.to_owned() };
    let (reply, answered) = oneshot::channel();
    let query = TrackerQuery { request: request.clone(), reply };
    queries.send(query).await.map_err(|_| gone("the node is ending"))?;
    let value = answered.await.map_err(|_| gone("the connection to it was given up"))??;
    let malformed =
        |why: serde_json::Error| TrackerError::NotATracker { address: "the tracker".to_owned(), why: why.to_string() };
    serde_json::from_value(value).map_err(malformed)
}

impl TrackerHandle {
    /// Asks something for somebody who calls.
    ///
    /// # Errors
    /// As [`AskTracker::call`].
    pub(super) async fn call_for<T: DeserializeOwned>(
        &self,
        origin: QueryOrigin,
        request: &TrackerRequest,
    ) -> Result<T, TrackerError> {
        let queue = match origin {
            QueryOrigin::KnownKey => &self.queries,
            QueryOrigin::UnknownKey => &self.stranger_queries,
        };
        send_query(queue, request).await
    }

    /// Says that the shares in the profile are no longer those in the catalogue.
    pub(super) fn shares_changed(&self) {
        self.shares_changed.notify_one();
    }

    /// Another number whenever the tracker's earlier word on whose key is whose may no longer hold.
    pub(super) fn key_epoch(&self) -> u64 {
        self.key_epoch.load(Ordering::Acquire)
    }

    /// Makes the node present, wherever else the account is.
    pub(super) fn go_online(&self) {
        self.go_online.notify_one();
    }

    /// Whether the account is present elsewhere.
    pub(super) fn is_displaced(&self) -> bool {
        matches!(*self.presence_state.borrow(), PresenceState::Displaced(_))
    }

    /// How the node stands with the tracker now.
    pub(super) fn presence_state(&self) -> PresenceState {
        self.presence_state.borrow().clone()
    }
}

impl TrackerSession {
    /// For a node that listens on `port`, and is to be found at `forwarded` if that is given.
    pub(super) fn new(
        me: LocalUser,
        port: u16,
        forwarded: Option<PortForwarding>,
        events: EventBus,
        revalidation: RevalidationHandle,
        leaving: CancellationToken,
    ) -> (Self, TrackerHandle) {
        let (sender, queries) = mpsc::channel(QUERY_QUEUE);
        let (stranger_sender, stranger_queries) = mpsc::channel(STRANGER_QUERY_QUEUE);
        let (shares_changed, go_online) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (local, local_receiver) = watch::channel(None);
        let key_epoch = Arc::new(AtomicU64::new(0));
        let (presence_state, presence_receiver) =
            watch::channel(PresenceState::Offline { why: "it was not asked yet".to_owned() });
        let handle = TrackerHandle {
            queries: sender,
            stranger_queries: stranger_sender,
            shares_changed: shares_changed.clone(),
            local: local_receiver,
            key_epoch: key_epoch.clone(),
            presence_state: presence_receiver,
            go_online: go_online.clone(),
        };
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
            local,
            key_epoch,
            presence_state,
            revalidation,
            announced: BTreeSet::new(),
            go_online,
            instance: InstanceId::from_bytes(rand::rng().random()),
            observed_at: None,
            displaced: None,
            list_retry: RegistrationRetry::default(),
            has_reported_dropped_address: false,
            is_takeover_requested: true,
        };
        (session, handle)
    }

    /// Runs until the node leaves; `ready` is told when it is present for the first time, or the tracker was found to be
    /// away: what is on record is enough to begin with.
    ///
    /// # Errors
    /// When the tracker is there and doesn't want us.
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
            Err(error) if error.kind() == ErrorKind::Network => {
                self.report_lost(&error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        // Nobody waits for it when the start was given up.
        let _ = ready.send(());
        let mut wait = MIN_RECONNECT_DELAY;
        loop {
            let mut link = match open_link.take() {
                Some(link) => link,
                None => match self.reconnect(&mut network, wait).await? {
                    Some(link) => link,
                    None => return Ok(()),
                },
            };
            wait = MIN_RECONNECT_DELAY;
            match self.run_connection(&mut network, &mut link).await {
                // A word on the account would be one on who is present elsewhere.
                SessionEnd::Leaving if self.displaced.is_some() => return Ok(()),
                SessionEnd::Leaving => {
                    let logout = TrackerRequest::Logout { user: self.me.user.clone(), proof: SpeakerProof::default() };
                    if let Err(error) = link.call::<EmptyReply>(&logout).await {
                        tracing::info!("leaving the tracker failed: {error}");
                    }
                    return Ok(());
                }
                SessionEnd::Reconnect => wait = Duration::ZERO,
                SessionEnd::Lost(error) => self.report_lost(&error.to_string()),
                SessionEnd::Fatal(error) => return Err(error),
            }
        }
    }

    fn report_lost(&self, why: &str) {
        self.presence_state.send_replace(PresenceState::Offline { why: why.to_owned() });
        self.events.send(NodeEvent::TrackerLost { why: why.to_owned() });
    }

    /// Connects and becomes present, unless the account is present elsewhere and that is to stay.
    async fn establish(&mut self, claim: PresenceClaim) -> Result<TrackerConnection, Error> {
        let mut link = self.me.connect_tracker().await?;
        self.local.send_replace(Some(link.local()));
        let gained = match self.displaced {
            Some(PresenceDisplacement { elsewhere, .. }) if claim == PresenceClaim::Yield => {
                let _: LoginReply = self.resume(&mut link, AnnouncedPresence::default()).await?;
                self.mark_displaced(elsewhere);
                None
            }
            _ => self.become_present(&mut link, claim).await?,
        };
        let SubscribeReply { .. } = link.call(&TrackerRequest::Subscribe { since: None }).await?;
        // What changed before this, nobody told us.
        self.invalidate_keys(RevalidationTrigger::AllKeys);
        self.revalidation.request(RevalidationTrigger::LocalNetwork);
        // Whoever hears that it is online may rely on its hearing of others.
        gained.into_iter().for_each(|appeared| self.emit_online(appeared));
        Ok(link)
    }

    /// Becomes present on this connection, or learns that another instance is and stays so.
    async fn become_present(
        &mut self,
        link: &mut TrackerConnection,
        claim: PresenceClaim,
    ) -> Result<Option<GainedPresence>, Error> {
        let presence = self.presence(link.local().ip().to_canonical());
        self.announced = reachable_addresses(&presence.addresses, &sys::local_addresses());
        let presence = AnnouncedPresence { yields: claim == PresenceClaim::Yield, ..presence };
        let port = presence.port;
        let reply = self.resume(link, presence).await?;
        if let Some(present) = reply.elsewhere {
            let since = now_ms().saturating_sub(i64::try_from(present.for_s).unwrap_or(0).saturating_mul(1000));
            self.mark_displaced(OtherSession { ip: present.ip, since: Some(since) });
            return Ok(None);
        }
        self.check_announcement(link, reply.observed_ip).await?;
        let listing = self.register_shares(link).await?;
        let address = match self.forwarded {
            Some(PortForwarding { ip, port }) => SocketAddr::new(ip.unwrap_or(reply.observed_ip), port.get()),
            None => SocketAddr::new(reply.observed_ip, self.port),
        };
        (self.displaced, self.is_takeover_requested, self.observed_at) = (None, false, Some((reply.observed_ip, port)));
        Ok(Some(GainedPresence { address, registration: listing }))
    }

    /// Looks whether others are told of the address that the user named, and says so once when they are not.
    async fn check_announcement(&mut self, link: &mut TrackerConnection, observed: IpAddr) -> Result<(), Error> {
        let Some(PortForwarding { ip: Some(ip), port }) = self.forwarded.filter(|_| !self.has_reported_dropped_address)
        else {
            return Ok(());
        };
        let named = SocketAddr::new(ip.to_canonical(), port.get());
        if observed.to_canonical() == named.ip() {
            return Ok(());
        }
        let only = ListPeersRequest {
            user: Some(self.me.user.clone()),
            with_files: Some(false),
            ..ListPeersRequest::default()
        };
        let listed: ListPeersReply = link.call(&TrackerRequest::ListPeers(only)).await?;
        let is_listed = listed.peers.iter().any(|entry| entry.user == self.me.user && entry.addresses.contains(&named));
        if !is_listed {
            self.has_reported_dropped_address = true;
            self.events.send(NodeEvent::AddressDropped { address: named });
        }
        Ok(())
    }

    /// Tells the tracker what is shared. A list that it refuses is tried again later, and is no error.
    async fn register_shares(&mut self, link: &mut TrackerConnection) -> Result<RegistrationOutcome, Error> {
        match register_shares(&self.me, link).await {
            Ok(count) => {
                self.list_retry.note_accepted();
                Ok(RegistrationOutcome::Accepted(count))
            }
            Err(error) if is_list_refusal(&error) => {
                let (why, retry_after) = refusal_of(&error);
                tracing::info!("the tracker refused the list of shares: {why}");
                let is_news = self.list_retry.note_refused(retry_after, Instant::now());
                Ok(RegistrationOutcome::Refused { news: is_news.then_some(why) })
            }
            Err(error) => Err(error),
        }
    }

    fn emit_online(&self, GainedPresence { address, registration: listing }: GainedPresence) {
        let now = PresenceState::Present { address };
        if self.presence_state.send_replace(now.clone()) != now {
            let shares = if let RegistrationOutcome::Accepted(count) = listing { count } else { 0 };
            self.events.send(NodeEvent::Online { user: self.me.user.clone(), address, port: self.port, shares });
        }
        self.emit_list_refused(listing);
    }

    fn emit_list_refused(&self, listing: RegistrationOutcome) {
        if let RegistrationOutcome::Refused { news: Some(why) } = listing {
            self.events.send(NodeEvent::SharesRefused { why });
        }
    }

    async fn resume(&mut self, link: &mut TrackerConnection, presence: AnnouncedPresence) -> Result<LoginReply, Error> {
        let reply: LoginReply = match link.call(&TrackerRequest::Resume(presence)).await {
            Err(TrackerError::Refused { refusal, .. }) if refusal.code == TrackerErrorCode::NotLoggedIn => {
                return Err(Error::signed_out(self.me.user.clone(), refusal));
            }
            reply => reply?,
        };
        self.me.check_key_owner(&reply.user)?;
        Ok(reply)
    }

    fn mark_displaced(&mut self, elsewhere: OtherSession) {
        (self.displaced, self.is_takeover_requested) =
            (Some(PresenceDisplacement { elsewhere, absent_since: None }), false);
        self.revalidation.request(RevalidationTrigger::OwnDisplacement);
        self.presence_state.send_replace(PresenceState::Displaced(elsewhere));
        self.events.send(NodeEvent::Displaced(elsewhere));
    }

    /// Where the tracker is to say that we are; `local` is this end of the connection to it.
    fn presence(&self, local: IpAddr) -> AnnouncedPresence {
        let (port, addresses) = match self.forwarded {
            // Our own addresses are behind the forwarding: whoever is told of them would only wait for nothing.
            Some(PortForwarding { ip, port }) => {
                (Some(port), ip.map(|ip| SocketAddr::new(ip, port.get())).into_iter().collect())
            }
            None => {
                let addresses = announced_addresses(&sys::local_addresses(), local, self.port);
                (NonZeroU16::new(self.port), addresses)
            }
        };
        AnnouncedPresence { port, addresses, instance: Some(self.instance), yields: false }
    }

    async fn run_connection(&mut self, network: &mut NetworkMonitor, link: &mut TrackerConnection) -> SessionEnd {
        let mut heartbeat =
            tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
        let revalidation = self.revalidation.clone();
        loop {
            let list_due = self.list_retry.retry_at().filter(|_| self.displaced.is_none());
            let step = tokio::select! {
                () = self.leaving.cancelled() => return SessionEnd::Leaving,
                Some(question) = self.queries.recv() => SessionStep::AnswerQuery(question),
                Some(question) = self.stranger_queries.recv(), if self.queries.is_empty() => SessionStep::AnswerStrangerQuery(question),
                // All of them are told when it is present again.
                () = self.shares_changed.notified(), if self.displaced.is_none() => SessionStep::RegisterShares,
                () = sleep_until(list_due.unwrap_or_else(Instant::now).into()), if list_due.is_some() => SessionStep::RegisterShares,
                _ = network.changed() => {
                    revalidation.request(RevalidationTrigger::LocalNetwork);
                    SessionStep::CheckNetwork
                }
                () = self.go_online.notified() => SessionStep::GoOnline,
                _ = heartbeat.tick() => SessionStep::RenewPresence,
                event = link.next_event() => match event {
                    Ok(event) => SessionStep::HandleEvent(event.kind),
                    Err(error) => return SessionEnd::Lost(error),
                },
            };
            // A reply that comes the old way may never come: what waits for one is given up with the connection.
            match cancel_on_network_change(network, &revalidation, self.handle_step(step, link)).await {
                Some(Ok(())) => {}
                Some(Err(ended)) => return ended,
                None => return SessionEnd::Reconnect,
            }
        }
    }

    async fn handle_step(&mut self, step: SessionStep, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        match step {
            SessionStep::AnswerQuery(question) => {
                if question.request.carries_secret() && self.me.is_tracker_confirmed(link).unwrap_or(false) {
                    link.confirm();
                }
                answer_query(question, link).await
            }
            SessionStep::AnswerStrangerQuery(question) if question.reply.is_closed() => Ok(()),
            SessionStep::AnswerStrangerQuery(question) => {
                answer_query(question, link).await?;
                self.stranger_streak += 1;
                if self.stranger_streak >= MAX_STRANGER_STREAK {
                    self.stranger_streak = 0;
                    self.renew_presence(link, HEARTBEAT_TIMEOUT).await?;
                }
                Ok(())
            }
            SessionStep::RegisterShares => match self.register_shares(link).await {
                Ok(RegistrationOutcome::Accepted(count)) => {
                    self.events.send(NodeEvent::SharesChanged { count });
                    Ok(())
                }
                Ok(refused) => {
                    self.emit_list_refused(refused);
                    Ok(())
                }
                Err(Error::Tracker(error)) if error.code().is_none() => Err(SessionEnd::Lost(error)),
                Err(error) => {
                    tracing::error!("the shares could not be registered: {error}");
                    Ok(())
                }
            },
            SessionStep::CheckNetwork => self.check_network(link).await,
            SessionStep::GoOnline => self.restore_presence(link, PresenceClaim::TakeOver).await,
            SessionStep::RenewPresence => self.renew_presence(link, HEARTBEAT_TIMEOUT).await,
            SessionStep::HandleEvent(kind) => self.handle_event(kind, link).await,
        }
    }

    /// Looks whether this connection still is the way to the tracker, and whether others are told of the right addresses.
    async fn check_network(&mut self, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        let (here, local) = (link.local().ip().to_canonical(), sys::local_addresses());
        let is_ours = here.is_loopback() || local.iter().any(|one| one.ip == here);
        let source = link.remote().and_then(sys::route_source);
        if !is_ours || source.is_some_and(|source| source != here) {
            return Err(SessionEnd::Reconnect);
        }
        // A cable that was out for long: what was sent meanwhile is sent again only after as long.
        self.renew_presence(link, PROBE_TIMEOUT).await?;
        let is_told_otherwise =
            self.displaced.is_none() && reachable_addresses(&self.presence(here).addresses, &local) != self.announced;
        if is_told_otherwise { self.restore_presence(link, PresenceClaim::Yield).await } else { Ok(()) }
    }

    /// Renews the presence, or looks what became of it.
    async fn renew_presence(&mut self, link: &mut TrackerConnection, limit: Duration) -> Result<(), SessionEnd> {
        if let Some(displaced) = self.displaced {
            let whois = TrackerRequest::Whois(WhoisRequest::User(self.me.user.clone()));
            let WhoisReply { online, .. } = link.call_within(limit, &whois).await?;
            let gone = if online { None } else { Some(displaced.absent_since.unwrap_or_else(Instant::now)) };
            self.displaced = Some(PresenceDisplacement { absent_since: gone, ..displaced });
            return match gone {
                Some(gone) if gone.elapsed() >= TAKEOVER_DELAY => {
                    self.restore_presence(link, PresenceClaim::Yield).await
                }
                _ => Ok(()),
            };
        }
        let heartbeat = TrackerRequest::Heartbeat { user: None, token: None };
        match link.call_within::<HeartbeatReply>(limit, &heartbeat).await {
            Ok(HeartbeatReply { .. }) => Ok(()),
            Err(error) if error.code() == Some(TrackerErrorCode::NotLoggedIn) => self.check_elsewhere(link).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The session is over: because the account is present elsewhere, or for another reason.
    async fn check_elsewhere(&mut self, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        if link.features().has(Feature::Instances) {
            return self.restore_presence(link, PresenceClaim::Yield).await;
        }
        let only = ListPeersRequest {
            user: Some(self.me.user.clone()),
            with_files: Some(false),
            ..ListPeersRequest::default()
        };
        let listed: ListPeersReply = link.call(&TrackerRequest::ListPeers(only)).await?;
        let other = listed.peers.into_iter().find(|entry| {
            let seen_at = Some((entry.ip, entry.port.and_then(NonZeroU16::new)));
            entry.user == self.me.user && seen_at != self.observed_at
        });
        match other {
            Some(entry) => {
                let _: LoginReply =
                    self.resume(link, AnnouncedPresence::default()).await.map_err(SessionEnd::from_error)?;
                self.mark_displaced(OtherSession { ip: entry.ip, since: None });
                Ok(())
            }
            // The lease ran out while this machine slept.
            None => Err(SessionEnd::Reconnect),
        }
    }

    async fn restore_presence(&mut self, link: &mut TrackerConnection, claim: PresenceClaim) -> Result<(), SessionEnd> {
        let gained = self.become_present(link, claim).await.map_err(SessionEnd::from_error)?;
        gained.into_iter().for_each(|appeared| self.emit_online(appeared));
        Ok(())
    }

    async fn handle_event(&mut self, kind: TrackerEventKind, link: &mut TrackerConnection) -> Result<(), SessionEnd> {
        match kind {
            TrackerEventKind::Online { user, .. } if user == self.me.user => match self.displaced.as_mut() {
                Some(displaced) => displaced.absent_since = None,
                // It may be another one with our key.
                None => return self.renew_presence(link, HEARTBEAT_TIMEOUT).await,
            },
            TrackerEventKind::KeyChanged { user, fingerprint } if user == self.me.user => {
                if fingerprint != Some(self.me.identity.fingerprint()) {
                    return Err(SessionEnd::Fatal(self.key_change_error(fingerprint.is_some())));
                }
            }
            TrackerEventKind::Online { user, ip, addresses, .. } => {
                let now = addresses.iter().map(SocketAddr::ip).chain([ip]).map(|ip| ip.to_canonical()).collect();
                self.revalidation.request(RevalidationTrigger::UserMoved(user.clone(), now));
                self.emit_presence(user, true);
            }
            TrackerEventKind::Offline { user } => self.emit_presence(user, false),
            TrackerEventKind::KeyChanged { user, .. } => self.invalidate_keys(RevalidationTrigger::UserKey(user)),
            // Who came meanwhile is told now; who went shows when somebody calls them.
            TrackerEventKind::Resync {} => {
                self.invalidate_keys(RevalidationTrigger::AllKeys);
                let all = ListPeersRequest { with_files: Some(false), ..ListPeersRequest::default() };
                let all: ListPeersReply = link.call(&TrackerRequest::ListPeers(all)).await?;
                all.peers.into_iter().for_each(|peer| self.emit_presence(peer.user, true));
            }
            TrackerEventKind::Files { .. } | TrackerEventKind::Unknown => {}
        }
        Ok(())
    }

    /// What to say when the account has another key since this moment, or none.
    fn key_change_error(&self, has_moved: bool) -> Error {
        let user = self.me.user.clone();
        if has_moved {
            return Error::AccountMoved { user, since: now_ms() };
        }
        Error::SignedOut { user, why: "its account was removed or released from this machine".into() }
    }

    /// What was said of keys may no longer hold. Counted before it is told: a link that begins meanwhile is either among
    /// those that are looked at, or knows that it has to be.
    fn invalidate_keys(&self, trigger: RevalidationTrigger) {
        self.key_epoch.fetch_add(1, Ordering::Release);
        self.revalidation.request(trigger);
    }

    fn emit_presence(&self, user: UserName, online: bool) {
        if user != self.me.user {
            self.events.send(NodeEvent::Presence { user, online });
        }
    }

    /// Tries until it is present again, first after `wait`; `None` when the node leaves meanwhile.
    async fn reconnect(
        &mut self,
        network: &mut NetworkMonitor,
        mut wait: Duration,
    ) -> Result<Option<TrackerConnection>, Error> {
        loop {
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            match self.wait_before_reconnect(network, jittered).await {
                ReconnectPauseEnd::Elapsed => {}
                // Another network, and not the one that failed.
                ReconnectPauseEnd::NetworkChanged => wait = Duration::ZERO,
                ReconnectPauseEnd::Leaving => return Ok(None),
            }
            let (leaving, claim) = (
                self.leaving.clone(),
                if self.is_takeover_requested { PresenceClaim::TakeOver } else { PresenceClaim::Yield },
            );
            let revalidation = self.revalidation.clone();
            let entered = tokio::select! {
                () = leaving.cancelled() => return Ok(None),
                entered = cancel_on_network_change(network, &revalidation, self.establish(claim)) => entered,
            };
            let Some(entered) = entered else {
                wait = Duration::ZERO;
                continue;
            };
            match entered {
                Ok(link) => return Ok(Some(link)),
                Err(error) if is_fatal(&error) => return Err(error),
                Err(error) => {
                    // Not told yet where the connection was only to be made anew.
                    if matches!(*self.presence_state.borrow(), PresenceState::Present { .. }) {
                        self.report_lost(&error.to_string());
                    }
                    tracing::debug!("the tracker is still gone: {error}");
                }
            }
            wait = (wait * 2).clamp(MIN_RECONNECT_DELAY, MAX_RECONNECT_DELAY);
        }
    }

    /// Waits, answering that the tracker is gone.
    async fn wait_before_reconnect(&mut self, network: &mut NetworkMonitor, time: Duration) -> ReconnectPauseEnd {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return ReconnectPauseEnd::Leaving,
                () = &mut until => return ReconnectPauseEnd::Elapsed,
                () = self.go_online.notified() => {
                    self.is_takeover_requested = true;
                    return ReconnectPauseEnd::Elapsed;
                }
                _ = network.changed() => {
                    self.revalidation.request(RevalidationTrigger::LocalNetwork);
                    return ReconnectPauseEnd::NetworkChanged;
                }
                Some(question) = async {
                    tokio::select! {
                        question = self.queries.recv() => question,
                        question = self.stranger_queries.recv() => question,
                    }
                } => {
                    let address = self.me.tracker.to_string();
                    let _ = question.reply.send(Err(TrackerError::Unreachable { address, why: "the connection was lost".to_owned() }));
                }
            }
        }
    }
}

impl SessionEnd {
    /// What an error means for the connection on which it came.
    fn from_error(error: Error) -> Self {
        match error {
            Error::Tracker(error) if error.code().is_none() => Self::Lost(error),
            error if is_fatal(&error) => Self::Fatal(error),
            Error::Tracker(error) => Self::Lost(error),
            error => Self::Fatal(error),
        }
    }
}

/// Puts a question to the tracker, and the reply where it is waited for.
async fn answer_query(
    TrackerQuery { request, reply: answer }: TrackerQuery,
    link: &mut TrackerConnection,
) -> Result<(), SessionEnd> {
    let result = link.call(&request).await;
    let lost = result.as_ref().err().filter(|error| error.ends_connection()).cloned();
    // Whoever asked may have given up.
    let _ = answer.send(result);
    lost.map_or(Ok(()), |error| Err(SessionEnd::Lost(error)))
}

/// Does some work that waits for the tracker; gives it up, `None`, when this machine reaches others by other ways than when
/// it began, or slept.
async fn cancel_on_network_change<T>(
    network: &mut NetworkMonitor,
    revalidation: &RevalidationHandle,
    work: impl Future<Output = T>,
) -> Option<T> {
    let interfaces = outbound_interfaces(&sys::local_addresses());
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            change = network.changed() => {
                revalidation.request(RevalidationTrigger::LocalNetwork);
                if change == NetworkChange::Resumed || outbound_interfaces(&sys::local_addresses()) != interfaces {
                    return None;
                }
            }
        }
    }
}

/// Whether trying again can't help: the tracker is there and doesn't want us.
fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Tracker(TrackerError::IdentityChanged { .. }) => true,
        Error::Tracker(error) => matches!(
            error.code(),
            Some(
                TrackerErrorCode::KeyMismatch
                    | TrackerErrorCode::NotLoggedIn
                    | TrackerErrorCode::AuthFailed
                    | TrackerErrorCode::NotFound
                    | TrackerErrorCode::Forbidden
            )
        ),
        Error::SignedOut { .. }
        | Error::TrackerKeyMismatch { .. }
        | Error::TrackerKeyConflict { .. }
        | Error::AccountMoved { .. }
        | Error::KeyOfAnotherAccount { .. }
        | Error::Profile(_) => true,
        _ => false,
    }
}
