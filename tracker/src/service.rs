//! The actions: each request is answered here, given its sender.
//!
//! ```text
//! ParsedRequest ──► TrackerService::answer(&mut ClientState) ──► EncodedReply (one line)
//!                      │ registry: a mutex held for microseconds, never across an await
//!                      │ accounts: the store's thread         passwords: one hash per core
//! ```
//!
//! Bindings are stored first and then told to the registry. A login that relied on a binding which changed in
//! between is refused by the registry (`BindingChanged`) or by the store (`Changed`), and told to try again.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | live sessions made on one connection | [`SESSIONS_PER_CONNECTION`] | the oldest is treated as if its connection dropped |
//! | attempts with a password, and REGISTER | [`crate::rate_limits`] | `rate_limited` |
//! | rooms, their members and their changes | [`crate::membership`] | refused |
//! | space on the accounts' disk | | `busy` for changes of accounts, which are not made; everything else goes on |
//! | pieces of FIND, and of LIST_PEERS with fields, and lists of rooms and of their records, at a time | `MAX_SEARCHES`; origins take turns | they wait |
//! | waiting pieces | `MAX_WAITING_SEARCHES` | the newest of the origin that has most waiting: `busy` |
//! | changes of rooms at a time | one; origins take turns | they wait, `MAX_WAITING_ROOM_CHANGES` of them, then the newest of the origin that has most waiting: `busy` |
//! | requests parsed on the runtime's threads | `MAX_INLINE_PARSE_BYTES` | parsed on the worker thread, one after another; origins take turns |
//! | work on a list of files on the runtime's threads | `MAX_INLINE_FILES` files, `MAX_INLINE_BYTES` bytes gone through | done on the worker thread; the registry's lock is held only to replace the old list |

mod access_policy;
mod account_actions;
mod account_administration;
mod account_lifetime;
mod action_reply;
mod change_queue;
mod client_state;
mod file_actions;
mod presence_actions;
mod presence_writer;
mod refusal_reason;
mod refusal_text;
mod registration;
mod replication;
mod replicator;
mod request_error;
mod room_actions;
mod room_refusal_text;
mod shared_registry;
mod speaker_check;
mod worker_thread;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use shared::UserName;
use shared::tracker::{
    Dialect, ParsedRequest, RejectedFiles, TrackerRequest, UnusableName, guess_dialect, parse_object,
};
use tokio::sync::watch;
use tracing::info;

use crate::fair_semaphore::{FairPermit, FairSemaphore, Requester};
use crate::metrics::{MetricsSnapshot, TrackerMetrics};
use crate::passwords::{PasswordError, PasswordHashPool};
use crate::rate_limits::{ClientOrigin, LogThrottle, SuppressedLines};
use crate::registry::{PresenceRegistry, SessionId};
use crate::store::{AccountStore, AccountStoreError, InitialState, PresenceStore, SharedState};

use access_policy::AccessPolicy;
use action_reply::ActionReply;
pub(crate) use action_reply::encode_reason;
pub use action_reply::{EncodedReply, LIST_END};
pub(crate) use refusal_reason::RefusalReason;
use replication::{ReplicationLink, restore_shared};
use request_error::{RETRY_AFTER_CHANGE_MS, RequestError, busy, changed_meanwhile};
use shared_registry::{SharedRegistry, first_event};
use worker_thread::WorkerThread;

pub use access_policy::{RegistrationMode, ServicePolicy};
pub use account_administration::AccountAdminError;
pub use client_state::{ClientState, SESSIONS_PER_CONNECTION, TransportSecurity};

/// Requests longer than this many bytes are parsed on the worker thread.
const MAX_INLINE_PARSE_BYTES: usize = 64 * 1024;

/// Pieces of FIND, and of LIST_PEERS with fields, and lists of rooms and of their records, that run at a time.
const MAX_SEARCHES: usize = 2;
/// Bounds the pieces that wait for one of [`MAX_SEARCHES`] permits.
const MAX_WAITING_SEARCHES: usize = 4096;
/// Bounds the changes of rooms that wait for the one before.
const MAX_WAITING_ROOM_CHANGES: usize = 1024;

/// Advice to clients after too much long work waited.
const LONG_WORK_RETRY_MS: u64 = 2000;

/// Reply lines longer than this count towards the memory of replies until they are sent.
const COUNTED_LINE_BYTES: usize = 16 * 1024;

/// The tracker's state, shared by all connections.
#[derive(Debug)]
pub struct TrackerService {
    registry: SharedRegistry,
    accounts: AccountStore,
    /// The log that several trackers share; `None`: this is the only one.
    replication: Option<ReplicationLink>,
    /// The accounts whose first login has to be recorded.
    unused_accounts: Mutex<HashSet<UserName>>,
    /// Lapsed accounts were removed, and nobody has got their claims yet.
    has_free_claims: AtomicBool,
    passwords: PasswordHashPool,
    access_policy: RwLock<Arc<AccessPolicy>>,
    presence_store: PresenceStore,
    metrics: Arc<TrackerMetrics>,
    log_throttle: LogThrottle,
    started: Instant,
    first_event: u64,
    is_presence_failing: AtomicBool,
    /// Parses long requests and merges long lists, one at a time: each takes several times the memory of its text.
    long_work: WorkerThread,
    /// Permits to go through lists of files.
    search_permits: Arc<FairSemaphore>,
    /// The permit to change rooms: it is held while a change is stored and told to the registry, which thereby hears of
    /// changes in order.
    room_permit: Arc<FairSemaphore>,
}

/// A reason why the service can't start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum ServiceStartError {
    /// The account store can't be read.
    #[error(transparent)]
    Store(#[from] AccountStoreError),
    /// Passwords can't be hashed.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

type ActionResult = Result<ActionReply, RequestError>;

impl TrackerService {
    /// Starts the service: reads the bindings, and restores the stored presences. Fails with [`ServiceStartError`] when
    /// the account store can't be read or a thread can't be started.
    pub async fn start(
        policy: ServicePolicy,
        accounts: AccountStore,
        memory: PresenceStore,
    ) -> Result<Self, ServiceStartError> {
        let metrics = Arc::new(TrackerMetrics::new());
        accounts.set_metrics(Arc::clone(&metrics));
        memory.set_metrics(Arc::clone(&metrics));
        // Before rooms are read: a restore or another key changes their records.
        accounts.prepare_rooms(Requester::Administrator).await?;
        let state = accounts.initial_state(Requester::Administrator).await?;
        let InitialState { bindings, former_keys, unused, rooms, shared } = state;
        let known: HashMap<_, _> = bindings.into_iter().collect();
        let first_event = shared.as_ref().map_or_else(first_event, SharedState::event_before_kept);
        let mut registry = PresenceRegistry::new(policy.rules, first_event);
        // Bindings come first: a presence is restored only if its account is still bound as it was stored.
        for (user, binding) in &known {
            binding.iter().for_each(|fingerprint| registry.bind(user, *fingerprint));
        }
        former_keys.into_iter().for_each(|former| registry.record_former_key(former));
        let unused_accounts = unused.into_iter().collect();
        let now = Instant::now();
        rooms.into_iter().for_each(|room| registry.update_room(room, now));
        let log = accounts.replicated_log();
        let mut begun_at = 0;
        match (shared, &log) {
            (Some(shared), Some(log)) => begun_at = restore_shared(&mut registry, shared, log.node(), now),
            _ => presence_writer::restore_all(&mut registry, &memory, &known).await,
        }
        // Restored presences made events, which are none of this process's figures.
        let first_event = registry.last_event();
        let registry = SharedRegistry::new(registry);
        let replication = log.map(|log| ReplicationLink::new(log, registry.log_wake(), begun_at));
        Ok(Self {
            registry,
            accounts,
            replication,
            unused_accounts: Mutex::new(unused_accounts),
            has_free_claims: AtomicBool::new(false),
            passwords: PasswordHashPool::new()?,
            access_policy: RwLock::new(Arc::new(AccessPolicy::new(policy))),
            presence_store: memory,
            metrics,
            log_throttle: LogThrottle::new(Instant::now()),
            started: Instant::now(),
            first_event,
            is_presence_failing: AtomicBool::new(false),
            long_work: WorkerThread::start()?,
            search_permits: Arc::new(FairSemaphore::new(MAX_SEARCHES, MAX_WAITING_SEARCHES, 0)),
            room_permit: Arc::new(FairSemaphore::new(1, MAX_WAITING_ROOM_CHANGES, MAX_WAITING_ROOM_CHANGES)),
        })
    }

    /// Answers one request; `object` is one JSON object as the scanner hands it out.
    pub async fn answer(&self, client: &mut ClientState, object: &[u8]) -> EncodedReply {
        let began = Instant::now();
        let (parsed, permit) = match self.parse(client, object).await {
            Ok(parsed) => parsed,
            Err(why) => {
                // It was not parsed, so that only its beginning tells the dialect.
                let dialect = guess_dialect(object).unwrap_or(client.dialect());
                client.record_refused(None, why.reason.code(), began.elapsed());
                return EncodedReply::Line(encode_reason(dialect, None, &why.reason, why.retry_after_ms));
            }
        };
        let ParsedRequest { id, dialect, action, features, left_out, unusable_name, request } = parsed;
        let id = id.as_deref();
        // Kept on the connection: errors outside any request are written in it as well.
        client.set_dialect(dialect);
        if let Some(features) = features {
            client.set_features(features);
        }
        let (code, line) = match request {
            Ok(request) => {
                let is_about_presence = replication::is_about_presence(&request);
                let mut answered = self.dispatch(client, id, request, left_out, permit).await;
                // A tracker that was frozen says nothing of users whom others may have taken over meanwhile.
                if is_about_presence && let Err(refused) = self.ensure_lease() {
                    // `and`: a refusal of the action itself says more.
                    answered = answered.and(Err(refused));
                }
                match answered.and_then(|answer| self.encode(dialect, id, answer, client.from())) {
                    Ok(reply) => {
                        // Renewed after the action, so that the session of a login is included.
                        self.renew_leases(client);
                        client.record_granted(action, began.elapsed());
                        return reply;
                    }
                    Err(RequestError { reason, retry_after_ms }) => {
                        (reason.code(), encode_reason(dialect, id, &reason, retry_after_ms))
                    }
                }
            }
            // The parser speaks the request's dialect.
            Err(refusal) => {
                let refusal = match unusable_name {
                    Some(name) => self.with_suggested_name(client, name).await.refusal(dialect),
                    None => refusal,
                };
                (refusal.code, action_reply::encode_refusal(dialect, id, &refusal))
            }
        };
        self.renew_leases(client);
        client.record_refused(action, code, began.elapsed());
        EncodedReply::Line(line)
    }

    /// Replaces the policy. Limits whose rates stay the same keep their buckets, so that a reload refills nothing else.
    pub fn set_policy(&self, policy: ServicePolicy) {
        self.with_registry(|registry, _| registry.set_rules(policy.rules));
        let mut in_force = self.access_policy.write();
        // Requests under way keep the policy with which they began.
        *in_force = Arc::new(in_force.replaced_by(policy));
    }

    /// Returns how long a client of the exercise stays present without a request.
    pub fn legacy_lease(&self) -> Duration {
        self.access_policy().legacy_lease
    }

    /// Ends the presences whose leases ran out, and logs how many lines were suppressed.
    pub fn expire(&self) {
        // `with_registry` expires leases before it runs its closure.
        self.with_registry(|_, _| ());
        for SuppressedLines { from, kind, count } in self.log_throttle.take_suppressed(Instant::now()) {
            let from = from.map_or_else(|| "everywhere".to_owned(), |ip| ip.to_string());
            info!(%from, kind, count, "... and more of these");
        }
    }

    /// True if a client of the exercise is logged in from this origin. A second connection of that client may then
    /// send a long list of files without a login of its own.
    pub fn has_legacy_from(&self, from: ClientOrigin) -> bool {
        self.with_registry(|registry, _| registry.has_legacy_from(from))
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &TrackerMetrics {
        &self.metrics
    }

    /// Returns the throttle of the log's lines.
    pub const fn log_throttle(&self) -> &LogThrottle {
        &self.log_throttle
    }

    /// Returns the current figures of the registry and of the password pool.
    pub fn snapshot(&self) -> MetricsSnapshot {
        // Read first: the pool's lock is not taken under the registry's.
        let hashes = self.passwords.pending_count();
        let replication = self.replication.as_ref().map(ReplicationLink::snapshot).unwrap_or_default();
        self.with_registry(|registry, _| MetricsSnapshot {
            sessions: registry.session_count(),
            present: registry.present_count(),
            files: registry.file_count(),
            catalogue_bytes: registry.catalogue_bytes(),
            events: registry.last_event() - self.first_event,
            hashes,
            rooms: registry.room_count(),
            replication,
        })
    }

    /// Watches the number of the last event.
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.registry.watch_events()
    }

    /// Watches the time at which [`TrackerService::expire`] must be called so that held-back events are sent.
    pub fn watch_due_events(&self) -> watch::Receiver<Option<Instant>> {
        self.registry.watch_due_events()
    }

    /// Watches revocations of sessions; see [`ClientState::is_revoked`].
    pub fn watch_revocations(&self) -> watch::Receiver<SessionId> {
        self.registry.watch_revocations()
    }

    /// Runs `work` with the registry after expiring leases, and wakes subscribers if it made events.
    pub(crate) fn with_registry<T>(&self, work: impl FnOnce(&mut PresenceRegistry, Instant) -> T) -> T {
        self.registry.with(work)
    }

    fn access_policy(&self) -> Arc<AccessPolicy> {
        Arc::clone(&self.access_policy.read())
    }

    /// Parses a request. A long one is parsed on the worker thread, and its permit is returned for later work.
    async fn parse(
        &self,
        client: &ClientState,
        object: &[u8],
    ) -> Result<(ParsedRequest, Option<FairPermit>), RequestError> {
        let usual = client.dialect();
        if object.len() <= MAX_INLINE_PARSE_BYTES {
            return Ok((parse_object(object, usual), None));
        }
        let permit = self.long_work_permit(client.from()).await?;
        // Copied only now, so that requests that wait take no memory for the copy.
        let object = object.to_owned();
        let (parsed, permit) = self.long_work.run(permit, move || parse_object(&object, usual)).await?;
        // With the permit: a list of files is indexed next, and would wait for another turn.
        Ok((parsed, Some(permit)))
    }

    /// Waits for a permit to use the worker thread; origins take turns.
    async fn long_work_permit(&self, from: ClientOrigin) -> Result<FairPermit, RequestError> {
        let permit = self.long_work.acquire_permit(from.into()).await;
        permit.ok_or_else(|| busy(RefusalReason::TooManyLongRequests, LONG_WORK_RETRY_MS))
    }

    /// Adds a free name to the refusal of an unusable one, as long as this origin may try REGISTER.
    async fn with_suggested_name(&self, client: &ClientState, name: UnusableName) -> UnusableName {
        // Charged like a REGISTER: the suggestions would otherwise list the names that are taken, without a limit.
        let may_try = self.access_policy().limits.charge_registration(client.from(), Instant::now()).is_ok();
        if may_try { self.with_free_alternative(client, name).await } else { name }
    }

    async fn dispatch(
        &self,
        client: &mut ClientState,
        id: Option<&str>,
        request: TrackerRequest,
        left_out: RejectedFiles,
        permit: Option<FairPermit>,
    ) -> ActionResult {
        match request {
            TrackerRequest::ListPeers(wanted) => self.list_peers(client, id, &wanted).await,
            TrackerRequest::Heartbeat { user, token } => self.heartbeat(client, user, token).await,
            TrackerRequest::Forwarded { person, proof } => self.forward(client, &person, proof),
            TrackerRequest::Whois(whois) => self.whois(client, whois).await,
            TrackerRequest::Find(find) => self.find(client, &find).await,
            TrackerRequest::Subscribe { since } => self.subscribe(client, since).await,
            // Rare and large futures, boxed so that each connection's task stays small.
            TrackerRequest::Register { credentials, key } => Box::pin(self.register(client, credentials, key)).await,
            TrackerRequest::Login { credentials, presence, rebind } => {
                Box::pin(self.login(client, credentials, &presence, rebind)).await
            }
            TrackerRequest::Passwd { credentials, new_password, key } => {
                Box::pin(self.passwd(client, credentials, new_password, key)).await
            }
            TrackerRequest::Resume(presence) => self.resume(client, &presence).await,
            TrackerRequest::RegisterFiles(files) => {
                Box::pin(self.register_files(client, files, left_out, permit)).await
            }
            TrackerRequest::Logout { user, proof } => Box::pin(self.logout(client, user, proof)).await,
            TrackerRequest::Room(room) => Box::pin(self.room(client, room)).await,
            TrackerRequest::ExerciseRoom(room) => Box::pin(self.exercise_room(client, room)).await,
        }
    }

    /// Encodes the reply. A long line counts towards the memory of replies until it is sent.
    fn encode(
        &self,
        dialect: Dialect,
        id: Option<&str>,
        answer: ActionReply,
        requester: ClientOrigin,
    ) -> Result<EncodedReply, RequestError> {
        Ok(match answer.encode(dialect, id)? {
            // A long page of FIND stays in memory until the client has read it, as a list does.
            EncodedReply::Line(mut line) if line.len() > COUNTED_LINE_BYTES && line.ends_with(LIST_END) => {
                line.truncate(line.len() - LIST_END.len());
                let fields = [self.with_registry(|registry, _| registry.counted_text(line, requester))].into();
                EncodedReply::List { head: Vec::new(), fields }
            }
            reply => reply,
        })
    }

    /// Renews the leases of all sessions of this connection: any request is a sign of life.
    fn renew_leases(&self, client: &ClientState) {
        // Many connections never log in: they spare the registry's lock.
        if client.sessions().is_empty() {
            return;
        }
        self.with_registry(|registry, now| {
            for (_, session) in client.sessions() {
                // Attached and ended sessions have no lease to renew.
                let _ = registry.renew(*session, now);
            }
        });
    }
}
