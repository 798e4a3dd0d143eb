//! Keeping the node present at the tracker, whatever becomes of the connection.
//!
//! ```text
//! (begins) ─ the tracker is away ───────────────────────────────────────────► waiting
//! connect ─ RESUME ─ REGISTER_FILES ─ SUBSCRIBE ─► attending ──lost──► waiting (1 s, 2 s … 30 s, jittered) ─┐
//!    ▲                                               │ leaving: LOGOUT, end                                 │
//!    ├────────────── at once ◄─── addresses changed ───┤                                                      │
//!    └──────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::Rng;
use serde::de::DeserializeOwned;
use serde_json::Value;
use shared::UserName;
use shared::limits::HEARTBEAT_EVERY;
use shared::tracker::{
    CountReply, Empty, ErrorCode, EventKind, FilesMode, HeartbeatReply, ListPeers, LoginReply, Peers, Presence, Proof,
    RegisterFiles, Request, SharedFile, SubscribeReply,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Forwarded;
use super::guard::{Doubt, Suspicion};
use crate::engine::contacts::AskTracker;
use crate::engine::event::{Event, Events};
use crate::engine::private_data::PrivateData;
use crate::engine::share::{Freshness, for_each_share, freshness};
use crate::engine::{Error, ErrorKind, Me, blocking};
use crate::net::TrackerError;
use crate::net::addresses::announced;
use crate::net::tracker::TrackerLink;
use crate::profile::Profile;
use crate::sys::{self, NetworkWatch};

/// Files in one REGISTER_FILES: far below the tracker's limit of 16 MiB, whatever their names.
const FILES_PER_REQUEST: usize = 4000;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// For the tracker to answer when something about the network changed: a path that is gone takes everything in silence.
const PROBE: Duration = Duration::from_secs(2);
/// For the reply to a heartbeat.
const HEARTBEAT_REPLY: Duration = Duration::from_secs(10);
/// Questions that may wait for the keeper.
const QUESTIONS: usize = 64;

/// Puts questions to the tracker over the keeper's connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct TrackerHandle {
    questions: mpsc::Sender<Question>,
    shares_changed: Arc<Notify>,
    local: watch::Receiver<Option<SocketAddr>>,
    key_changes: Arc<AtomicU64>,
    standing: watch::Receiver<Standing>,
}

/// How the node stands with the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is present there.
    Present {
        /// Where others find it.
        address: SocketAddr,
    },
    /// The tracker is away; the node tries again by itself.
    Away {
        /// Why.
        why: String,
    },
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
    shares_changed: Arc<Notify>,
    /// This end of the last connection to the tracker.
    local: watch::Sender<Option<SocketAddr>>,
    key_changes: Arc<AtomicU64>,
    standing: watch::Sender<Standing>,
    suspicion: Suspicion,
    network: NetworkWatch,
    /// What the tracker was told of our addresses.
    announced: Vec<SocketAddr>,
}

/// Why attending ended.
enum Ended {
    Leaving,
    /// The connection or the session has to be made anew, which is nothing to tell anybody.
    Outdated,
    Lost(TrackerError),
}

/// How a pause ended.
enum Paused {
    Over,
    NewNetwork,
    Leaving,
}

impl AskTracker for TrackerHandle {
    async fn call<T: DeserializeOwned + Send>(&mut self, request: &Request) -> Result<T, TrackerError> {
        let gone =
            || TrackerError::Unreachable { address: "the tracker".to_owned(), why: "the node is ending".to_owned() };
        let (answer, answered) = oneshot::channel();
        let question = Question { request: request.clone(), answer };
        self.questions.send(question).await.map_err(|_| gone())?;
        let value = answered.await.map_err(|_| gone())??;
        let malformed = |why: serde_json::Error| TrackerError::NotATracker {
            address: "the tracker".to_owned(),
            why: why.to_string(),
        };
        serde_json::from_value(value).map_err(malformed)
    }

    fn local(&self) -> Option<SocketAddr> {
        *self.local.borrow()
    }
}

impl TrackerHandle {
    /// Says that the shares in the profile are no longer those in the catalogue.
    pub(super) fn shares_changed(&self) {
        self.shares_changed.notify_one();
    }

    /// Another number whenever the tracker's earlier word on whose key is whose may no longer hold.
    pub(super) fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::Acquire)
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
        let shares_changed = Arc::new(Notify::new());
        let (local, has_local) = watch::channel(None);
        let key_changes = Arc::new(AtomicU64::new(0));
        let (standing, stands) = watch::channel(Standing::Away { why: "it was not asked yet".to_owned() });
        let handle = TrackerHandle {
            questions: sender,
            shares_changed: shares_changed.clone(),
            local: has_local,
            key_changes: key_changes.clone(),
            standing: stands,
        };
        let keeper = Self {
            me,
            port,
            forwarded,
            events,
            leaving,
            questions,
            shares_changed,
            local,
            key_changes,
            standing,
            suspicion,
            network: NetworkWatch::begin(),
            announced: Vec::new(),
        };
        (keeper, handle)
    }

    /// Runs until the node leaves; `ready` is told when it is present for the first time, or the tracker was found to be
    /// away: what is on record is enough to begin with.
    ///
    /// # Errors
    /// When the tracker is there and doesn't want us.
    pub(super) async fn run(mut self, ready: oneshot::Sender<()>) -> Result<(), Error> {
        let mut present = match self.enter().await {
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
                None => match self.come_back(wait).await? {
                    Some(link) => link,
                    None => return Ok(()),
                },
            };
            wait = FIRST_WAIT;
            match self.attend(&mut link).await {
                Ended::Leaving => {
                    let logout = Request::Logout { user: self.me.user.clone(), proof: Proof::default() };
                    if let Err(error) = link.call::<Empty>(&logout).await {
                        tracing::info!("leaving the tracker failed: {error}");
                    }
                    return Ok(());
                }
                Ended::Outdated => wait = Duration::ZERO,
                Ended::Lost(error) => self.lost(&error.to_string()),
            }
        }
    }

    fn lost(&self, why: &str) {
        self.standing.send_replace(Standing::Away { why: why.to_owned() });
        self.events.send(Event::TrackerLost { why: why.to_owned() });
    }

    /// Connects and becomes present.
    async fn enter(&mut self) -> Result<TrackerLink, Error> {
        let mut link = self.me.connect_tracker().await?;
        self.local.send_replace(Some(link.local()));
        let presence = self.presence(link.local().ip().to_canonical());
        self.announced.clone_from(&presence.addresses);
        let reply: LoginReply = link.call(&Request::Resume(presence)).await?;
        if reply.user != self.me.user {
            let why = format!("it takes our key for {}'s", reply.user);
            return Err(TrackerError::NotATracker { address: self.me.tracker.to_string(), why }.into());
        }
        let shares = register_shares(&self.me, &mut link).await?;
        let SubscribeReply { .. } = link.call(&Request::Subscribe { since: None }).await?;
        // What changed before this, nobody told us.
        self.doubt(Doubt::All);
        self.suspicion.tell(Doubt::Network);
        let address = match self.forwarded {
            Some(Forwarded { ip, port }) => SocketAddr::new(ip.unwrap_or(reply.observed_ip), port.get()),
            None => SocketAddr::new(reply.observed_ip, self.port),
        };
        self.standing.send_replace(Standing::Present { address });
        self.events.send(Event::Online { user: self.me.user.clone(), address, port: self.port, shares });
        Ok(link)
    }

    /// Where the tracker is to say that we are; `local` is this end of the connection to it.
    fn presence(&self, local: IpAddr) -> Presence {
        match self.forwarded {
            // Our own addresses are behind the forwarding: whoever is told of them would only wait for nothing.
            Some(Forwarded { ip, port }) => {
                let addresses = ip.map(|ip| SocketAddr::new(ip, port.get())).into_iter().collect();
                Presence { port: Some(port), addresses }
            }
            None => {
                let addresses = announced(&sys::local_addresses(), local, self.port);
                Presence { port: NonZeroU16::new(self.port), addresses }
            }
        }
    }

    async fn attend(&mut self, link: &mut TrackerLink) -> Ended {
        let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT_EVERY, HEARTBEAT_EVERY);
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return Ended::Leaving,
                Some(Question { request, answer }) = self.questions.recv() => {
                    let result = link.call(&request).await;
                    let lost = result.as_ref().err().filter(|error| error.code().is_none()).cloned();
                    // Whoever asked may have given up.
                    let _ = answer.send(result);
                    if let Some(error) = lost {
                        return Ended::Lost(error);
                    }
                }
                () = self.shares_changed.notified() => match register_shares(&self.me, link).await {
                    Ok(count) => self.events.send(Event::SharesChanged { count }),
                    Err(Error::Tracker(error)) if error.code().is_none() => return Ended::Lost(error),
                    Err(error) => tracing::error!("the shares could not be registered: {error}"),
                },
                () = self.network.changed() => if let Err(ended) = self.look_at_network(link).await {
                    return ended;
                },
                _ = heartbeat.tick() => if let Err(ended) = self.beat(link, HEARTBEAT_REPLY).await {
                    return ended;
                },
                event = link.event() => match event {
                    Ok(event) => if let Err(error) = self.follow(event.kind, link).await {
                        return Ended::Lost(error);
                    },
                    Err(error) => return Ended::Lost(error),
                },
            }
        }
    }

    /// Looks whether this connection still is the way to the tracker, and whether others are told of the right addresses.
    async fn look_at_network(&self, link: &mut TrackerLink) -> Result<(), Ended> {
        self.suspicion.tell(Doubt::Network);
        let (here, local) = (link.local().ip().to_canonical(), sys::local_addresses());
        let is_ours = here.is_loopback() || local.iter().any(|one| one.ip == here);
        let source = link.remote().and_then(sys::source_of_route_to);
        if !is_ours || source.is_some_and(|source| source != here) || self.presence(here).addresses != self.announced {
            return Err(Ended::Outdated);
        }
        // A cable that was out for long: what was sent meanwhile is sent again only after as long.
        self.beat(link, PROBE).await
    }

    /// Renews the presence.
    async fn beat(&self, link: &mut TrackerLink, patience: Duration) -> Result<(), Ended> {
        let beat = Request::Heartbeat { user: None, token: None };
        match link.call_within::<HeartbeatReply>(patience, &beat).await {
            Ok(HeartbeatReply { .. }) => Ok(()),
            // The lease ran out while this machine slept.
            Err(error) if error.code() == Some(ErrorCode::NotLoggedIn) => Err(Ended::Outdated),
            Err(error) => Err(Ended::Lost(error)),
        }
    }

    async fn follow(&self, kind: EventKind, link: &mut TrackerLink) -> Result<(), TrackerError> {
        match kind {
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
    async fn come_back(&mut self, mut wait: Duration) -> Result<Option<TrackerLink>, Error> {
        loop {
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            match self.pause(jittered).await {
                Paused::Over => {}
                // Another network, and not the one that failed.
                Paused::NewNetwork => wait = Duration::ZERO,
                Paused::Leaving => return Ok(None),
            }
            let leaving = self.leaving.clone();
            let entered = tokio::select! {
                () = leaving.cancelled() => return Ok(None),
                entered = self.enter() => entered,
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
    async fn pause(&mut self, time: Duration) -> Paused {
        let until = tokio::time::sleep(time);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = self.leaving.cancelled() => return Paused::Leaving,
                () = &mut until => return Paused::Over,
                () = self.network.changed() => {
                    self.suspicion.tell(Doubt::Network);
                    return Paused::NewNetwork;
                }
                Some(question) = self.questions.recv() => {
                    let address = self.me.tracker.to_string();
                    let _ = question.answer.send(Err(TrackerError::Unreachable { address, why: "the connection was lost".to_owned() }));
                }
            }
        }
    }
}

/// Puts the shares that are on the disk as they were hashed into the tracker's catalogue; tells how many.
async fn register_shares(me: &Me, link: &mut TrackerLink) -> Result<usize, Error> {
    let profile = me.profile.clone();
    let files = blocking(move || {
        let (mut files, private) = (Vec::new(), PrivateData::of(&profile));
        for_each_share(&profile, "", |share| {
            // One that changed is being hashed again; until then it has at least its name.
            if freshness(&share) != Freshness::Missing && !private.covers(&share) {
                files.push(SharedFile { name: share.name, size: share.id.size, hash: share.hash.into() });
            }
        })?;
        files.extend(offered_parts(&profile)?);
        Ok(files)
    })
    .await?;
    let total = files.len();
    let mut mode = FilesMode::Replace;
    let mut files = files.into_iter();
    loop {
        let some: Vec<SharedFile> = files.by_ref().take(FILES_PER_REQUEST).collect();
        if some.is_empty() && mode == FilesMode::Add {
            return Ok(total);
        }
        let request = RegisterFiles { user: me.user.clone(), files: some, mode, proof: Proof::default() };
        let CountReply { .. } = link.call(&Request::RegisterFiles(request)).await?;
        mode = FilesMode::Add;
    }
}

/// Parts of files that are still being fetched; those that were given up since are forgotten.
fn offered_parts(profile: &Profile) -> Result<Vec<SharedFile>, Error> {
    let mut files: Vec<SharedFile> = Vec::new();
    for part in profile.partials()? {
        if !part.part.exists() {
            profile.remove_partial(&part.part)?;
        } else if profile.share(&part.name)?.is_none() && files.last().is_none_or(|last| last.name != part.name) {
            files.push(SharedFile { name: part.name, size: part.layout.size(), hash: part.hash.into() });
        }
    }
    Ok(files)
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
        Error::Profile(_) => true,
        _ => false,
    }
}
