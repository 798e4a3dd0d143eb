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
use shared::limits::HEARTBEAT_EVERY;
use shared::tracker::{
    Empty, ErrorCode, EventKind, Feature, HeartbeatReply, InstanceId, ListPeers, LoginReply, Peers, Presence, Proof,
    Request, SubscribeReply, Whois, WhoisReply,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::Forwarded;
use super::catalogue::{ListRetry, is_only_the_list, register_shares, words_of};
use super::guard::{Doubt, Suspicion};
use crate::engine::contacts::AskTracker;
use crate::engine::event::{Elsewhere, Event, Events};
use crate::engine::{Error, ErrorKind, Me, now_ms};
use crate::net::TrackerError;
use crate::net::addresses::{announced, outer, ways_out};
use crate::net::tracker::TrackerLink;
use crate::sys::{self, NetworkChange, NetworkWatch};

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// For the tracker to answer when something about the network changed: a path that is gone takes everything in silence.
const PROBE: Duration = Duration::from_secs(2);
/// For the reply to a heartbeat.
const HEARTBEAT_REPLY: Duration = Duration::from_secs(10);
/// How long nobody is present as this user before a node that was displaced is so again: a node elsewhere that is
/// started anew, or loses its network for a moment, is not gone.
const GONE_FOR: Duration = Duration::from_secs(120);
/// Questions that may wait for the keeper.
const QUESTIONS: usize = 64;
/// The same of strangers: there are never more callers that are not identified yet.
const STRANGERS: usize = 256;
/// Strangers' keys that were nobody's, one after another, before something is asked that the tracker grants: to earlier
/// trackers a "no" is a refusal, and many in a row make them answer late.
const NOBODYS_IN_A_ROW: u32 = 50;

/// Puts questions to the tracker over the keeper's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct TrackerHandle {
    questions: mpsc::Sender<Question>,
    /// Those that strangers make us ask: they wait for all others.
    strangers: mpsc::Sender<Question>,
    shares_changed: Arc<Notify>,
    local: watch::Receiver<Option<SocketAddr>>,
    key_changes: Arc<AtomicU64>,
    standing: watch::Receiver<Standing>,
    go_online: Arc<Notify>,
}

/// How the node stands with the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is present there.
    Present {
        /// Where others find it.
        address: SocketAddr,
    },
    /// The account is present elsewhere.
    Displaced(Elsewhere),
    /// The tracker is away; the node tries again by itself.
    Away {
        /// Why.
        why: String,
    },
}

/// For whom the tracker is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// Somebody whose key is on record.
    KnownCaller,
    /// Anybody: there may be any number of these.
    Stranger,
}

#[derive(Debug)]
struct Question {
    request: Request,
    answer: oneshot::Sender<Result<Value, TrackerError>>,
}

/// The task that keeps the presence.
#[derive(Debug)]
pub(super) struct Keeper {
    me: Me,
    port: u16,
    forwarded: Option<Forwarded>,
    events: Events,
    leaving: CancellationToken,
    questions: mpsc::Receiver<Question>,
    strangers: mpsc::Receiver<Question>,
    /// Questions of strangers since something else was asked for certain.
    nobodys: u32,
    shares_changed: Arc<Notify>,
    /// This end of the last connection to the tracker.
    local: watch::Sender<Option<SocketAddr>>,
    key_changes: Arc<AtomicU64>,
    standing: watch::Sender<Standing>,
    suspicion: Suspicion,
    /// The addresses that the tracker was told, those apart that lead to nobody else.
    announced: BTreeSet<SocketAddr>,
    go_online: Arc<Notify>,
    /// Tells this process from another one with the same key.
    instance: InstanceId,
    /// Where and at which port the tracker saw this node last.
    seen_at: Option<(IpAddr, Option<NonZeroU16>)>,
    displaced: Option<Displacement>,
    list_retry: ListRetry,
    /// Whether the user was told that others don't hear of the address that was named.
    has_told_dropped: bool,
    /// The user wants to be online here, whatever is elsewhere: not heeded yet.
    is_told: bool,
}

/// The account is present elsewhere.
#[derive(Debug, Clone, Copy)]
struct Displacement {
    elsewhere: Elsewhere,
    /// Since when nobody is present.
    gone: Option<Instant>,
}

/// It is present.
#[derive(Debug)]
struct Appeared {
    /// Where others find it.
    address: SocketAddr,
    listing: Listing,
}

/// What became of the list of shares.
#[derive(Debug)]
enum Listing {
    /// So many are listed.
    Taken(usize),
    /// The tracker refused it and is asked again.
    Refused {
        /// Why, where that is news.
        news: Option<String>,
    },
}

/// What becomes of another instance's presence when this one asks for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    /// It ends: the user wants to be online here.
    Takes,
    /// It stays: this node only comes back.
    Yields,
}

/// Why attending ended.
enum Ended {
    Leaving,
    /// The connection or the session has to be made anew, which is nothing to tell anybody.
    Outdated,
    Lost(TrackerError),
    /// The account isn't this machine's any more.
    Final(Error),
}

impl From<TrackerError> for Ended {
    fn from(error: TrackerError) -> Self {
        Self::Lost(error)
    }
}

/// What is done next on the connection to the tracker.
enum Step {
    Answer(Question),
    AnswerStranger(Question),
    TellShares,
    LookAtNetwork,
    GoOnline,
    Beat,
    Follow(EventKind),
}

/// How a pause ended.
enum Paused {
    Over,
    NewNetwork,
    Leaving,
}

impl AskTracker for TrackerHandle {
    async fn call<T: DeserializeOwned + Send>(&mut self, request: &Request) -> Result<T, TrackerError> {
        ask(&self.questions, request).await
    }

    fn local(&self) -> Option<SocketAddr> {
        *self.local.borrow()
    }
}

/// Puts a question where the keeper takes it from, and waits for the reply.
async fn ask<T: DeserializeOwned>(questions: &mpsc::Sender<Question>, request: &Request) -> Result<T, TrackerError> {
    let gone = |why: &str| TrackerError::Unreachable { address: "the tracker".to_owned(), why: why.to_owned() };
    let (answer, answered) = oneshot::channel();
    let question = Question { request: request.clone(), answer };
    questions.send(question).await.map_err(|_| gone("the node is ending"))?;
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
        asker: Asker,
        request: &Request,
    ) -> Result<T, TrackerError> {
        let queue = match asker {
            Asker::KnownCaller => &self.questions,
            Asker::Stranger => &self.strangers,
        };
        ask(queue, request).await
    }

    /// Says that the shares in the profile are no longer those in the catalogue.
    pub(super) fn shares_changed(&self) {
        self.shares_changed.notify_one();
    }

    /// Another number whenever the tracker's earlier word on whose key is whose may no longer hold.
    pub(super) fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::Acquire)
    }

    /// Makes the node present, wherever else the account is.
    pub(super) fn go_online(&self) {
        self.go_online.notify_one();
    }

    /// Whether the account is present elsewhere.
    pub(super) fn is_displaced(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Displaced(_))
    }

    /// How the node stands with the tracker now.
    pub(super) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }
}

impl Keeper {
    /// For a node that listens on `port`, and is to be found at `forwarded` if that is given.
    pub(super) fn new(
        me: Me,
        port: u16,
        forwarded: Option<Forwarded>,
        events: Events,
        suspicion: Suspicion,
        leaving: CancellationToken,
    ) -> (Self, TrackerHandle) {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let (strangers_sender, strangers) = mpsc::channel(STRANGERS);
        let (shares_changed, go_online) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (local, has_local) = watch::channel(None);
        let key_changes = Arc::new(AtomicU64::new(0));
        let (standing, stands) = watch::channel(Standing::Away { why: "it was not asked yet".to_owned() });
        let handle = TrackerHandle {
            questions: sender,
            strangers: strangers_sender,
            shares_changed: shares_changed.clone(),
            local: has_local,
            key_changes: key_changes.clone(),
            standing: stands,
            go_online: go_online.clone(),
        };
        let keeper = Self {
            me,
            port,
            forwarded,
            events,
            leaving,
            questions,
            strangers,
            nobodys: 0,
            shares_changed,
            local,
            key_changes,
            standing,
            suspicion,
            announced: BTreeSet::new(),
            go_online,
            instance: InstanceId::from_bytes(rand::rng().random()),
            seen_at: None,
            displaced: None,
            list_retry: ListRetry::default(),
            has_told_dropped: false,
            is_told: true,
        };
        (keeper, handle)
    }

    /// Runs until the node leaves; `ready` is told when it is present for the first time, or the tracker was found to be
    /// away: what is on record is enough to begin with.
    ///
    /// # Errors
    /// When the tracker is there and doesn't want us.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>) -> Result<(), Error> {
        let ended = self.keep(ready).await;
        if let Err(Error::AccountMoved { user, since }) = &ended {
            self.events.send(Event::AccountMoved { user: user.clone(), since: *since });
        }
        ended
    }

    async fn keep(&mut self, ready: oneshot::Sender<()>) -> Result<(), Error> {
        let mut network = NetworkWatch::begin();
        let entered = loop {
            let suspicion = self.suspicion.clone();
            if let Some(entered) = unless_moved(&mut network, &suspicion, self.enter(Claim::Takes)).await {
                break entered;
            }
        };
        let mut present = match entered {
            Ok(link) => Some(link),
            Err(error) if error.kind() == ErrorKind::Network => {
                self.lost(&error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        // Nobody waits for it when the start was given up.
        let _ = ready.send(());
        let mut wait = FIRST_WAIT;
        loop {
            let mut link = match present.take() {
                Some(link) => link,
                None => match self.come_back(&mut network, wait).await? {
                    Some(link) => link,
                    None => return Ok(()),
                },
            };
            wait = FIRST_WAIT;
            match self.attend(&mut network, &mut link).await {
                // A word on the account would be one on who is present elsewhere.
                Ended::Leaving if self.displaced.is_some() => return Ok(()),
                Ended::Leaving => {
                    let logout = Request::Logout { user: self.me.user.clone(), proof: Proof::default() };
                    if let Err(error) = link.call::<Empty>(&logout).await {
                        tracing::info!("leaving the tracker failed: {error}");
                    }
                    return Ok(());
                }
                Ended::Outdated => wait = Duration::ZERO,
                Ended::Lost(error) => self.lost(&error.to_string()),
                Ended::Final(error) => return Err(error),
            }
        }
    }

    fn lost(&self, why: &str) {
        self.standing.send_replace(Standing::Away { why: why.to_owned() });
        self.events.send(Event::TrackerLost { why: why.to_owned() });
    }

    /// Connects and becomes present, unless the account is present elsewhere and that is to stay.
    async fn enter(&mut self, claim: Claim) -> Result<TrackerLink, Error> {
        let mut link = self.me.connect_tracker().await?;
        self.local.send_replace(Some(link.local()));
        let appeared = match self.displaced {
            Some(Displacement { elsewhere, .. }) if claim == Claim::Yields => {
                let _: LoginReply = self.resume(&mut link, Presence::default()).await?;
                self.displaced_by(elsewhere);
                None
            }
            _ => self.appear(&mut link, claim).await?,
        };
        let SubscribeReply { .. } = link.call(&Request::Subscribe { since: None }).await?;
        // What changed before this, nobody told us.
        self.doubt(Doubt::All);
        self.suspicion.tell(Doubt::Network);
        // Whoever hears that it is online may rely on its hearing of others.
        appeared.into_iter().for_each(|appeared| self.tell_online(appeared));
        Ok(link)
    }

    /// Becomes present on this connection, or learns that another instance is and stays so.
    async fn appear(&mut self, link: &mut TrackerLink, claim: Claim) -> Result<Option<Appeared>, Error> {
        let presence = self.presence(link.local().ip().to_canonical());
        self.announced = outer(&presence.addresses, &sys::local_addresses());
        let presence = Presence { yields: claim == Claim::Yields, ..presence };
        let port = presence.port;
        let reply = self.resume(link, presence).await?;
        if let Some(present) = reply.elsewhere {
            let since = now_ms().saturating_sub(i64::try_from(present.for_s).unwrap_or(0).saturating_mul(1000));
            self.displaced_by(Elsewhere { ip: present.ip, since: Some(since) });
            return Ok(None);
        }
        self.look_at_announcement(link, reply.observed_ip).await?;
        let listing = self.register_shares(link).await?;
        let address = match self.forwarded {
            Some(Forwarded { ip, port }) => SocketAddr::new(ip.unwrap_or(reply.observed_ip), port.get()),
            None => SocketAddr::new(reply.observed_ip, self.port),
        };
        (self.displaced, self.is_told, self.seen_at) = (None, false, Some((reply.observed_ip, port)));
        Ok(Some(Appeared { address, listing }))
    }

    /// Looks whether others are told of the address that the user named, and says so once when they are not.
    async fn look_at_announcement(&mut self, link: &mut TrackerLink, observed: IpAddr) -> Result<(), Error> {
        let Some(Forwarded { ip: Some(ip), port }) = self.forwarded.filter(|_| !self.has_told_dropped) else {
            return Ok(());
        };
        let named = SocketAddr::new(ip.to_canonical(), port.get());
        if observed.to_canonical() == named.ip() {
            return Ok(());
        }
        let only = ListPeers { user: Some(self.me.user.clone()), with_files: Some(false), ..ListPeers::default() };
        let listed: Peers = link.call(&Request::ListPeers(only)).await?;
        let is_listed = listed.peers.iter().any(|entry| entry.user == self.me.user && entry.addresses.contains(&named));
        if !is_listed {
            self.has_told_dropped = true;
            self.events.send(Event::AddressDropped { address: named });
        }
        Ok(())
    }

    /// Tells the tracker what is shared. A list that it refuses is tried again later, and is no error.
    async fn register_shares(&mut self, link: &mut TrackerLink) -> Result<Listing, Error> {
        match register_shares(&self.me, link).await {
            Ok(count) => {
                self.list_retry.taken();
                Ok(Listing::Taken(count))
            }
            Err(error) if is_only_the_list(&error) => {
                let (why, retry_after) = words_of(&error);
                tracing::info!("the tracker refused the list of shares: {why}");
                let is_news = self.list_retry.refused(retry_after, Instant::now());
                Ok(Listing::Refused { news: is_news.then_some(why) })
            }
            Err(error) => Err(error),
        }
    }

    fn tell_online(&self, Appeared { address, listing }: Appeared) {
        let now = Standing::Present { address };
        if self.standing.send_replace(now.clone()) != now {
            let shares = if let Listing::Taken(count) = listing { count } else { 0 };
            self.events.send(Event::Online { user: self.me.user.clone(), address, port: self.port, shares });
        }
        self.tell_refused(listing);
    }

    fn tell_refused(&self, listing: Listing) {
        if let Listing::Refused { news: Some(why) } = listing {
            self.events.send(Event::SharesRefused { why });
        }
    }

    async fn resume(&mut self, link: &mut TrackerLink, presence: Presence) -> Result<LoginReply, Error> {
        let reply: LoginReply = match link.call(&Request::Resume(presence)).await {
            Err(TrackerError::Refused { refusal, .. }) if refusal.code == ErrorCode::NotLoggedIn => {
                return Err(Error::signed_out(self.me.user.clone(), refusal));
            }
            reply => reply?,
        };
        self.me.demand_own(&reply.user)?;
        Ok(reply)
    }

    fn displaced_by(&mut self, elsewhere: Elsewhere) {
        (self.displaced, self.is_told) = (Some(Displacement { elsewhere, gone: None }), false);
        self.suspicion.tell(Doubt::Ourselves);
        self.standing.send_replace(Standing::Displaced(elsewhere));
        self.events.send(Event::Displaced(elsewhere));
    }

    /// Where the tracker is to say that we are; `local` is this end of the connection to it.
    fn presence(&self, local: IpAddr) -> Presence {
        let (port, addresses) = match self.forwarded {
            // Our own addresses are behind the forwarding: whoever is told of them would only wait for nothing.
            Some(Forwarded { ip, port }) => {
                (Some(port), ip.map(|ip| SocketAddr::new(ip, port.get())).into_iter().collect())
            }
            None => {
                let addresses = announced(&sys::local_addresses(), local, self.port);
                (NonZeroU16::new(self.port), addresses)
            }
        };
        Presence { port, addresses, instance: Some(self.instance), yields: false }
    }

    async fn attend(&mut self, network: &mut NetworkWatch, link: &mut TrackerLink) -> Ended {
        let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_EVERY, HEARTBEAT_EVERY);
        let suspicion = self.suspicion.clone();
        loop {
            let list_due = self.list_retry.due().filter(|_| self.displaced.is_none());
            let step = tokio::select! {
                () = self.leaving.cancelled() => return Ended::Leaving,
                Some(question) = self.questions.recv() => Step::Answer(question),
                Some(question) = self.strangers.recv(), if self.questions.is_empty() => Step::AnswerStranger(question),
                // All of them are told when it is present again.
                () = self.shares_changed.notified(), if self.displaced.is_none() => Step::TellShares,
                () = sleep_until(list_due.unwrap_or_else(Instant::now).into()), if list_due.is_some() => Step::TellShares,
                _ = network.changed() => {
                    suspicion.tell(Doubt::Network);
                    Step::LookAtNetwork
                }
                () = self.go_online.notified() => Step::GoOnline,
                _ = heartbeat.tick() => Step::Beat,
                event = link.event() => match event {
                    Ok(event) => Step::Follow(event.kind),
                    Err(error) => return Ended::Lost(error),
                },
            };
            // A reply that comes the old way may never come: what waits for one is given up with the connection.
            match unless_moved(network, &suspicion, self.take(step, link)).await {
                Some(Ok(())) => {}
                Some(Err(ended)) => return ended,
                None => return Ended::Outdated,
            }
        }
    }

    async fn take(&mut self, step: Step, link: &mut TrackerLink) -> Result<(), Ended> {
        match step {
            Step::Answer(question) => {
                if question.request.carries_secret() && self.me.is_tracker_confirmed(link).unwrap_or(false) {
                    link.confirm();
                }
                answer(question, link).await
            }
            Step::AnswerStranger(question) if question.answer.is_closed() => Ok(()),
            Step::AnswerStranger(question) => {
                answer(question, link).await?;
                self.nobodys += 1;
                if self.nobodys >= NOBODYS_IN_A_ROW {
                    self.nobodys = 0;
                    self.beat(link, HEARTBEAT_REPLY).await?;
                }
                Ok(())
            }
            Step::TellShares => match self.register_shares(link).await {
                Ok(Listing::Taken(count)) => {
                    self.events.send(Event::SharesChanged { count });
                    Ok(())
                }
                Ok(refused) => {
                    self.tell_refused(refused);
                    Ok(())
                }
                Err(Error::Tracker(error)) if error.code().is_none() => Err(Ended::Lost(error)),
                Err(error) => {
                    tracing::error!("the shares could not be registered: {error}");
                    Ok(())
                }
            },
            Step::LookAtNetwork => self.look_at_network(link).await,
            Step::GoOnline => self.reappear(link, Claim::Takes).await,
            Step::Beat => self.beat(link, HEARTBEAT_REPLY).await,
            Step::Follow(kind) => self.follow(kind, link).await,
        }
    }

    /// Looks whether this connection still is the way to the tracker, and whether others are told of the right addresses.
    async fn look_at_network(&mut self, link: &mut TrackerLink) -> Result<(), Ended> {
        let (here, local) = (link.local().ip().to_canonical(), sys::local_addresses());
        let is_ours = here.is_loopback() || local.iter().any(|one| one.ip == here);
        let source = link.remote().and_then(sys::source_of_route_to);
        if !is_ours || source.is_some_and(|source| source != here) {
            return Err(Ended::Outdated);
        }
        // A cable that was out for long: what was sent meanwhile is sent again only after as long.
        self.beat(link, PROBE).await?;
        let is_told_otherwise =
            self.displaced.is_none() && outer(&self.presence(here).addresses, &local) != self.announced;
        if is_told_otherwise { self.reappear(link, Claim::Yields).await } else { Ok(()) }
    }

    /// Renews the presence, or looks what became of it.
    async fn beat(&mut self, link: &mut TrackerLink, patience: Duration) -> Result<(), Ended> {
        if let Some(displaced) = self.displaced {
            let whois = Request::Whois(Whois::User(self.me.user.clone()));
            let WhoisReply { online, .. } = link.call_within(patience, &whois).await?;
            let gone = if online { None } else { Some(displaced.gone.unwrap_or_else(Instant::now)) };
            self.displaced = Some(Displacement { gone, ..displaced });
            return match gone {
                Some(gone) if gone.elapsed() >= GONE_FOR => self.reappear(link, Claim::Yields).await,
                _ => Ok(()),
            };
        }
        let beat = Request::Heartbeat { user: None, token: None };
        match link.call_within::<HeartbeatReply>(patience, &beat).await {
            Ok(HeartbeatReply { .. }) => Ok(()),
            Err(error) if error.code() == Some(ErrorCode::NotLoggedIn) => self.look_elsewhere(link).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The session is over: because the account is present elsewhere, or for another reason.
    async fn look_elsewhere(&mut self, link: &mut TrackerLink) -> Result<(), Ended> {
        if link.features().has(Feature::Instances) {
            return self.reappear(link, Claim::Yields).await;
        }
        let only = ListPeers { user: Some(self.me.user.clone()), with_files: Some(false), ..ListPeers::default() };
        let listed: Peers = link.call(&Request::ListPeers(only)).await?;
        let other = listed.peers.into_iter().find(|entry| {
            let seen_at = Some((entry.ip, entry.port.and_then(NonZeroU16::new)));
            entry.user == self.me.user && seen_at != self.seen_at
        });
        match other {
            Some(entry) => {
                let _: LoginReply = self.resume(link, Presence::default()).await.map_err(Ended::of)?;
                self.displaced_by(Elsewhere { ip: entry.ip, since: None });
                Ok(())
            }
            // The lease ran out while this machine slept.
            None => Err(Ended::Outdated),
        }
    }

    async fn reappear(&mut self, link: &mut TrackerLink, claim: Claim) -> Result<(), Ended> {
        let appeared = self.appear(link, claim).await.map_err(Ended::of)?;
        appeared.into_iter().for_each(|appeared| self.tell_online(appeared));
        Ok(())
    }

    async fn follow(&mut self, kind: EventKind, link: &mut TrackerLink) -> Result<(), Ended> {
        match kind {
            EventKind::Online { user, .. } if user == self.me.user => match self.displaced.as_mut() {
                Some(displaced) => displaced.gone = None,
                // It may be another one with our key.
                None => return self.beat(link, HEARTBEAT_REPLY).await,
            },
            EventKind::KeyChanged { user, fingerprint } if user == self.me.user => {
                if fingerprint != Some(self.me.identity.fingerprint()) {
                    return Err(Ended::Final(self.signed_out(fingerprint.is_some())));
                }
            }
            EventKind::Online { user, ip, addresses, .. } => {
                let now = addresses.iter().map(SocketAddr::ip).chain([ip]).map(|ip| ip.to_canonical()).collect();
                self.suspicion.tell(Doubt::Moved(user.clone(), now));
                self.tell(user, true);
            }
            EventKind::Offline { user } => self.tell(user, false),
            EventKind::KeyChanged { user, .. } => self.doubt(Doubt::Of(user)),
            // Who came meanwhile is told now; who went shows when somebody calls them.
            EventKind::Resync {} => {
                self.doubt(Doubt::All);
                let all = ListPeers { with_files: Some(false), ..ListPeers::default() };
                let all: Peers = link.call(&Request::ListPeers(all)).await?;
                all.peers.into_iter().for_each(|peer| self.tell(peer.user, true));
            }
            EventKind::Files { .. } | EventKind::Unknown => {}
        }
        Ok(())
    }

    /// What to say when the account has another key since this moment, or none.
    fn signed_out(&self, has_moved: bool) -> Error {
        let user = self.me.user.clone();
        if has_moved {
            return Error::AccountMoved { user, since: now_ms() };
        }
        Error::SignedOut { user, why: "its account was removed or released from this machine".into() }
    }

    /// What was said of keys may no longer hold. Counted before it is told: a link that begins meanwhile is either among
    /// those that are looked at, or knows that it has to be.
    fn doubt(&self, doubt: Doubt) {
        self.key_changes.fetch_add(1, Ordering::Release);
        self.suspicion.tell(doubt);
    }

    fn tell(&self, user: UserName, online: bool) {
        if user != self.me.user {
            self.events.send(Event::Presence { user, online });
        }
    }

    /// Tries until it is present again, first after `wait`; `None` when the node leaves meanwhile.
    async fn come_back(
        &mut self,
        network: &mut NetworkWatch,
        mut wait: Duration,
    ) -> Result<Option<TrackerLink>, Error> {
        loop {
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            match self.pause(network, jittered).await {
                Paused::Over => {}
                // Another network, and not the one that failed.
                Paused::NewNetwork => wait = Duration::ZERO,
                Paused::Leaving => return Ok(None),
            }
            let (leaving, claim) = (self.leaving.clone(), if self.is_told { Claim::Takes } else { Claim::Yields });
            let suspicion = self.suspicion.clone();
            let entered = tokio::select! {
                () = leaving.cancelled() => return Ok(None),
                entered = unless_moved(network, &suspicion, self.enter(claim)) => entered,
            };
            let Some(entered) = entered else {
                wait = Duration::ZERO;
                continue;
            };
            match entered {
                Ok(link) => return Ok(Some(link)),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    // Not told yet where the connection was only to be made anew.
                    if matches!(*self.standing.borrow(), Standing::Present { .. }) {
                        self.lost(&error.to_string());
                    }
                    tracing::debug!("the tracker is still gone: {error}");
                }
            }
            wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
        }
    }

    /// Waits, answering that the tracker is gone.
    async fn pause(&mut self, network: &mut NetworkWatch, time: Duration) -> Paused {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return Paused::Leaving,
                () = &mut until => return Paused::Over,
                () = self.go_online.notified() => {
                    self.is_told = true;
                    return Paused::Over;
                }
                _ = network.changed() => {
                    self.suspicion.tell(Doubt::Network);
                    return Paused::NewNetwork;
                }
                Some(question) = async {
                    tokio::select! {
                        question = self.questions.recv() => question,
                        question = self.strangers.recv() => question,
                    }
                } => {
                    let address = self.me.tracker.to_string();
                    let _ = question.answer.send(Err(TrackerError::Unreachable { address, why: "the connection was lost".to_owned() }));
                }
            }
        }
    }
}

impl Ended {
    /// What an error means for the connection on which it came.
    fn of(error: Error) -> Self {
        match error {
            Error::Tracker(error) if error.code().is_none() => Self::Lost(error),
            error if is_final(&error) => Self::Final(error),
            Error::Tracker(error) => Self::Lost(error),
            error => Self::Final(error),
        }
    }
}

/// Puts a question to the tracker, and the reply where it is waited for.
async fn answer(Question { request, answer }: Question, link: &mut TrackerLink) -> Result<(), Ended> {
    let result = link.call(&request).await;
    let lost = result.as_ref().err().filter(|error| error.ends_connection()).cloned();
    // Whoever asked may have given up.
    let _ = answer.send(result);
    lost.map_or(Ok(()), |error| Err(Ended::Lost(error)))
}

/// Does some work that waits for the tracker; gives it up, `None`, when this machine reaches others by other ways than when
/// it began, or slept.
async fn unless_moved<T>(
    network: &mut NetworkWatch,
    suspicion: &Suspicion,
    work: impl Future<Output = T>,
) -> Option<T> {
    let ways = ways_out(&sys::local_addresses());
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            change = network.changed() => {
                suspicion.tell(Doubt::Network);
                if change == NetworkChange::Slept || ways_out(&sys::local_addresses()) != ways {
                    return None;
                }
            }
        }
    }
}

/// Whether trying again can't help: the tracker is there and doesn't want us.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Tracker(TrackerError::IdentityChanged { .. }) => true,
        Error::Tracker(error) => matches!(
            error.code(),
            Some(
                ErrorCode::KeyMismatch
                    | ErrorCode::NotLoggedIn
                    | ErrorCode::AuthFailed
                    | ErrorCode::NotFound
                    | ErrorCode::Forbidden
            )
        ),
        Error::SignedOut { .. }
        | Error::OtherTrackerKey { .. }
        | Error::KeyAgainstRecord { .. }
        | Error::AccountMoved { .. }
        | Error::KeyOfAnotherAccount { .. }
        | Error::Profile(_) => true,
        _ => false,
    }
}
