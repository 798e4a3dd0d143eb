//! The node: the one running process of a profile that is online.
//!
//! ```text
//!            ┌ keeper: presence at the tracker, shares in its catalogue, its events
//! Node::run ─┼ acceptor: callers are identified, then served
//!            ├ guard: links to keys that are no longer their users' end
//!            ├ post office: what waits for somebody goes to them
//!            ├ hook: a program of the user's is run for every message
//!            ├ refresher: shares that changed are hashed again
//!            └ control: other processes of this profile, over a local socket
//! ```
//!
//! All of them are tasks of one set. Everything that can fail here stands before the tracker hears of the node: the
//! lock, the database, the UDP socket, the local socket. The end comes in this order: no more callers and no more
//! control, leave the tracker, close the links, wait for the tasks.

mod catalogue;
pub mod control;
mod courier;
mod directory;
mod guard;
mod keeper;
mod link_admission;
mod people;
mod post;
mod refresher;
mod refusal_digest;
mod switchboard;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::limits::FIRST_USER_PORT;
use shared::peer::Code;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::control::Lifetime;
use self::directory::{Directory, KnownCaller, Rejection};
use self::guard::{Doubt, Guard, Suspicion};
use self::keeper::{Keeper, TrackerHandle};
use self::post::PostOffice;
pub use self::post::{expire, expired_words};
use self::refusal_digest::{RefusalDigest, UntoldCallers, WINDOW};
use self::switchboard::{Dialled, Switchboard};
use super::event::{Event, Events};
use super::serve::{Library, Limits, Serving, StaleShares, serve_link};
use super::{Error, Me, Notice, blocking, hook};
use crate::net::endpoint::{Call, Endpoint};
use crate::net::link::{self, IdentifiedCaller, Link};
use crate::profile::{NodeLock, Profile, ProfileError};

/// How long leaving the tracker may take.
const LEAVE: Duration = Duration::from_secs(2);

/// Times that the lock is tried: somebody who only looks whether it is held has it for a moment.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How long the database may be looked through for damage before anything is written to it.
const LOOK_THROUGH: Duration = Duration::from_secs(1);

/// Where a node listens, and where it is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The UDP port; without one that of last time if it is free, else any.
    pub port: Option<u16>,
    /// A port forwarding (a router, a container) that leads to that port.
    pub forwarded: Option<Forwarded>,
}

/// What others dial in place of a node's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// Where; in any case also where the tracker sees the node come from.
    pub ip: Option<IpAddr>,
    /// The UDP port there.
    pub port: NonZeroU16,
}

/// What goes out: links, and messages over them. Cheap to clone.
#[derive(Debug, Clone)]
struct Exchange {
    switchboard: Arc<Switchboard>,
    post: Arc<PostOffice>,
    tracker: TrackerHandle,
    suspicion: Suspicion,
}

/// A node that is online, or will be as soon as the tracker can be reached.
#[derive(Debug)]
pub struct Node {
    me: Me,
    endpoint: Endpoint,
    events: Events,
    exchange: Exchange,
    directory: Arc<Directory>,
    serving: Serving,
    tasks: JoinSet<Result<(), Error>>,
    links: JoinSet<()>,
    dialled: mpsc::UnboundedReceiver<Dialled>,
    refusals: Arc<Mutex<RefusalDigest>>,
    leaving: CancellationToken,
    stop: CancellationToken,
    _lock: Arc<NodeLock>,
}

impl Node {
    /// Goes online at `place`; sends no more than `limits`. With the tracker away it begins all the same: friends reach it,
    /// and it goes online by itself when the tracker is back.
    ///
    /// # Errors
    /// [`Error`]: another node runs, the tracker doesn't want us, the port is taken.
    pub async fn start(
        me: &Me,
        place: Place,
        limits: Limits,
        events: Events,
        lifetime: Lifetime,
    ) -> Result<Self, Error> {
        let lock = Arc::new(lock_node(&me.profile).await?);
        let profile = me.profile.clone();
        blocking(move || Ok(profile.check(LOOK_THROUGH)?)).await?;
        let me = with_notices_as_events(me, &events);
        let endpoint = bind(&me, place.port)?;
        let port = endpoint.port().map_err(|why| Error::Internal(why.to_string()))?;
        me.profile.set_last_port(port)?;

        let (stop, leaving) = (CancellationToken::new(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let stale = Arc::new(StaleShares::default());
        let (suspicion, doubts) = Suspicion::channel();
        let (keeper, tracker) =
            Keeper::new(me.clone(), port, place.forwarded, events.clone(), suspicion.clone(), leaving.clone());
        let (new_links, dialled) = mpsc::unbounded_channel();
        let directory = Arc::new(Directory::new(me.clone(), tracker.clone()));
        let switchboard = Arc::new(Switchboard::new(me.clone(), endpoint.clone(), tracker.clone(), new_links));
        let (post, dispatcher) = PostOffice::new(me.clone(), events.clone(), switchboard.clone(), stop.clone());
        let exchange = Exchange { switchboard, post, tracker: tracker.clone(), suspicion };
        let library = Library::new(me.profile.clone(), stale.clone());
        let proved = library.proved().clone();
        let serving = Serving::new(me.clone(), library, events.clone(), limits);
        let control =
            control::Server::bind(me.clone(), lock.clone(), exchange.clone(), events.clone(), stop.clone(), lifetime)?;
        // Whoever comes while the tracker is still awaited is answered.
        tasks.spawn(control.run());
        let (ready, is_ready) = oneshot::channel();
        tasks.spawn(keeper.run(ready));
        tokio::select! {
            ready = is_ready => if ready.is_err() {
                return Err(first_error(&mut tasks).await);
            },
            // It ends as soon as it runs.
            () = stop.cancelled() => {}
        }
        tasks.spawn(refresher::run(me.clone(), stale, proved, tracker.clone(), events.clone(), stop.clone()));
        let guard = Guard::new(me.clone(), events.clone(), tracker, exchange.clone(), doubts, stop.clone());
        tasks.spawn(guard.run());
        tasks.spawn(dispatcher.run());
        tasks.spawn(hook::run(me.clone(), events.subscribe(), stop.clone()));
        Ok(Self {
            me,
            endpoint,
            events,
            exchange,
            directory,
            serving,
            tasks,
            links: JoinSet::new(),
            dialled,
            refusals: Arc::new(Mutex::new(RefusalDigest::new(Instant::now()))),
            leaving,
            stop,
            _lock: lock,
        })
    }

    /// Cancelling it stops the node, as does `peer logout`.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs until it is stopped or can't go on.
    ///
    /// # Errors
    /// What it could not go on for.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut look = tokio::time::interval(WINDOW);
        let outcome = loop {
            tokio::select! {
                _ = look.tick() => {
                    self.tell_untold_callers();
                    self.serving.tell_untold();
                }
                () = self.stop.cancelled() => break Ok(()),
                call = self.endpoint.accept() => {
                    let Some(call) = call else {
                        break Err(Error::Internal("the UDP socket failed".to_owned()));
                    };
                    self.links.spawn(take_call(
                        call,
                        self.directory.clone(),
                        self.exchange.clone(),
                        self.serving.clone(),
                        self.refusals.clone(),
                    ));
                }
                Some(Dialled { link, changes }) = self.dialled.recv() => {
                    self.links.spawn(attend(link, changes, self.exchange.clone(), self.serving.clone()));
                }
                Some(ended) = self.links.join_next() => {
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

    fn tell_untold_callers(&self) {
        let untold = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take_due(Instant::now());
        for UntoldCallers { count, from } in untold {
            self.events.send(Event::RefusedMore { count, from });
        }
    }

    async fn shut_down(mut self) {
        self.stop.cancel();
        // The keeper says LOGOUT, so that nobody dials us any more.
        self.leaving.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LEAVE, ended).await;
        self.endpoint.close(Code::ShuttingDown);
        self.links.shutdown().await;
        self.tasks.shutdown().await;
        self.endpoint.drain().await;
        tracing::debug!("the node of {} has ended", self.me.user);
        drop(self.events);
    }
}

async fn take_call(
    call: Call,
    directory: Arc<Directory>,
    exchange: Exchange,
    serving: Serving,
    refusals: Arc<Mutex<RefusalDigest>>,
) {
    let caller = match link::receive(call).await {
        Ok(caller) => caller,
        Err(error) => {
            tracing::debug!("a call came to nothing: {error}");
            return;
        }
    };
    let changes = exchange.tracker.key_changes();
    match caller.identified(directory.identify(&caller)).await {
        Ok(Ok(KnownCaller { user, is_written_to })) => {
            let caller = caller.identified_as(user);
            if let Some(link) = let_in(caller, is_written_to, &exchange, &serving.me).await {
                attend(link, changes, exchange, serving).await;
            }
        }
        Ok(Err(Rejection { code, to_caller, here })) => {
            let address = caller.address();
            if refusals.lock().unwrap_or_else(PoisonError::into_inner).note(address.ip()) {
                serving.events.send(Event::Refused { address, why: here });
            }
            caller.refuse(code, &to_caller).await;
        }
        Err(error) => {
            tracing::debug!("a caller was not identified: {error}");
            let message = format!("{} is busy: try again later", serving.me.user);
            caller.refuse(Code::Busy, &message).await;
        }
    }
}

/// Welcomes a caller, if there is room for its link.
async fn let_in(caller: IdentifiedCaller, is_written_to: bool, exchange: &Exchange, me: &Me) -> Option<Link> {
    let link = caller.link().clone();
    if !exchange.switchboard.admit(&link, is_written_to) {
        tracing::debug!("{} has too many links", link.user());
        let message = format!("there are too many links to {}: try again later", me.user);
        caller.refuse(Code::Busy, &message).await;
        return None;
    }
    let is_crowded = exchange.switchboard.is_crowded();
    match caller.welcome(me.user.clone(), is_crowded).await {
        Ok(link) => Some(link),
        Err(error) => {
            tracing::debug!("a caller is gone: {error}");
            exchange.switchboard.remove(&link);
            None
        }
    }
}

/// Serves a link for as long as it lasts; so many changes of keys there had been when its key was looked at.
async fn attend(link: Link, changes: u64, exchange: Exchange, serving: Serving) {
    let Exchange { switchboard, post, tracker, suspicion } = exchange;
    if tracker.key_changes() != changes {
        suspicion.tell(Doubt::Of(link.user().clone()));
    }
    if link.answers() {
        // Who calls is there.
        post.wake_if_open(link.user());
    }
    let ended = serve_link(link.clone(), serving).await;
    tracing::debug!("the link to {} ended: {ended}", link.user());
    switchboard.remove(&link);
}

async fn lock_node(profile: &Profile) -> Result<NodeLock, Error> {
    let mut tries = 1..LOCK_TRIES;
    loop {
        match profile.lock_node() {
            Err(ProfileError::NodeRuns { .. }) if tries.next().is_some() => tokio::time::sleep(LOCK_PAUSE).await,
            locked => return Ok(locked?),
        }
    }
}

fn bind(me: &Me, port: Option<u16>) -> Result<Endpoint, Error> {
    let own = |why| Error::link(&me.user, why);
    // Earlier versions took ports at which nobody dials any more.
    let last = me.profile.last_port()?.filter(|last| *last >= FIRST_USER_PORT);
    match (port, last) {
        (Some(port), _) => Endpoint::accepting(&me.identity, port).map_err(own),
        (None, Some(last)) => {
            Endpoint::accepting(&me.identity, last).or_else(|_| Endpoint::accepting(&me.identity, 0)).map_err(own)
        }
        (None, None) => Endpoint::accepting(&me.identity, 0).map_err(own),
    }
}

fn with_notices_as_events(me: &Me, events: &Events) -> Me {
    let events = events.clone();
    Me { notify: Arc::new(move |notice: Notice| events.send(Event::Notice(notice))), ..me.clone() }
}

async fn first_error(tasks: &mut JoinSet<Result<(), Error>>) -> Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(failure) => return Error::Internal(failure.to_string()),
        }
    }
    Error::Internal("the node ended before it was online".to_owned())
}
