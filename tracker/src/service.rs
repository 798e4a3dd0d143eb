//! The actions: what a request does, given who sent it.
//!
//! ```text
//! Parsed ──► Service::answer(&mut Client) ──► Reply (one line)
//!               │ registry: a mutex held for microseconds, never across an await
//!               │ accounts: the store's thread         passwords: one hash per core
//! ```
//!
//! Bindings are stored first and then told to the registry. A login that relied on a binding which changed in
//! between is refused by the registry (`BindingMoved`) or by the store (`Changed`), and told to try again.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | live sessions made on one connection | [`SESSIONS_PER_CONNECTION`] | the oldest is treated as if its connection dropped |
//! | attempts with a password, and REGISTER | [`crate::limits`] | `rate_limited` |
//! | a disk that takes nothing | | `busy` for changes of accounts, which did not happen; everything else goes on |
//! | pieces of FIND, and of LIST_PEERS with fields, at a time | `SEARCHES`; origins have their turns one after another | they wait |
//! | those that wait | `SEARCHES_WAITING` | the newest of the origin that has most waiting: `busy` |
//! | requests parsed on the runtime's threads | `PARSED_AT_ONCE` bytes | parsed on the thread for long work, one after another; origins have their turns |
//! | work on a list of files on the runtime's threads | `FILES_AT_ONCE` files, `BYTES_AT_ONCE` bytes gone through | on the thread for long work; the registry's lock is held only to put the new list in the old one's place |

mod account;
mod administration;
mod answer;
mod client;
mod long_work;
mod presence;
mod reason;
mod refused;
mod remembering;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shared::Fingerprint;
use shared::tracker::{Dialect, Parsed, RejectedFiles, Request, Token, UnusableName, parse_object, seeming_dialect};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::info;

use crate::accounts::{Accounts, StoreError};
use crate::limits::{LeftOut, Limits, Lines, Origin, Rates};
use crate::memory::Memory;
use crate::metrics::{Metrics, Snapshot};
use crate::passwords::{PasswordError, Passwords};
use crate::registry::{AddressBlock, Files, Parts, Registry, Rules, SessionId};
use crate::turns::{Asker, Turn, Turns};

use answer::Answer;
pub(crate) use answer::encode_reason;
use long_work::LongWork;
pub(crate) use reason::Reason;
use refused::{RETRY_AFTER_CHANGE_MS, Refused, busy, changed_meanwhile};

pub use administration::AccountError;
pub use client::{Client, SESSIONS_PER_CONNECTION, Transport};

/// Requests longer than this many bytes are parsed on the thread for long work.
const PARSED_AT_ONCE: usize = 64 * 1024;

/// Pieces of FIND, and of LIST_PEERS with fields, that are worked on at a time.
const SEARCHES: usize = 2;
/// Those that wait.
const SEARCHES_WAITING: usize = 4096;

/// When to try again after too much long work waited.
const LONG_WORK_RETRY_MS: u64 = 2000;

/// Lines longer than this are counted as long as they are on their way.
const COUNTED: usize = 16 * 1024;

/// What all connections share.
#[derive(Debug)]
pub struct Service {
    registry: Mutex<Registry>,
    accounts: Accounts,
    passwords: Passwords,
    gate: RwLock<Arc<Gate>>,
    memory: Memory,
    metrics: Arc<Metrics>,
    lines: Lines,
    started: Instant,
    first_event: u64,
    memory_fails: AtomicBool,
    /// What is made of a long request takes several times the memory of its text.
    long_work: LongWork,
    /// Turns at going through lists of files.
    searches: Arc<Turns>,
    /// Held while presence is stored.
    remembering: Arc<tokio::sync::Mutex<()>>,
    /// The number of the last event: subscribers wait for it to change.
    last_event: watch::Sender<u64>,
    /// When an event that is held back is to be told.
    due_event: watch::Sender<Option<Instant>>,
    /// Changes when somebody is expelled: connections look whether it is theirs.
    last_expulsion: watch::Sender<SessionId>,
}

/// What the service goes by.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Of presence.
    pub rules: Rules,
    /// How often somebody may try.
    pub rates: Rates,
    /// Who may make an account.
    pub registration: Registration,
    /// Keys of machines through which many people come and that tell them apart.
    pub doors: Vec<Fingerprint>,
    /// Addresses beyond the local network that may be passed on.
    pub announced: Vec<AddressBlock>,
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Everybody, with REGISTER.
    Open,
    /// The administrator, with `tracker user add`.
    Closed,
}

/// Who may try, and how often.
#[derive(Debug)]
struct Gate {
    rates: Rates,
    limits: Arc<Limits>,
    registration: Registration,
    doors: Vec<Fingerprint>,
    announced: Vec<AddressBlock>,
    legacy_lease: Duration,
}

/// Why there is no service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The account store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Passwords can't be hashed.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// There is no thread for long work.
    #[error("can't start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What goes back to the client.
#[derive(Debug)]
pub enum Reply {
    /// One line.
    Line(Vec<u8>),
    /// One line whose long middle others may get too.
    List {
        /// The line's beginning.
        head: Vec<u8>,
        /// Fields, no brace around them.
        fields: Parts,
    },
}

/// The end of a [`Reply::List`].
pub const LIST_END: &[u8] = b"}\n";

type Answered = Result<Answer, Refused>;

impl Service {
    /// Reads the bindings, and begins with those present who were so before.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(policy: Policy, accounts: Accounts, memory: Memory) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        accounts.measure_with(Arc::clone(&metrics));
        let known: HashMap<_, _> = accounts.run(Asker::Administrator, |store| store.all()).await?.into_iter().collect();
        let first_event = first_event();
        let mut registry = Registry::new(policy.rules, first_event);
        for (user, binding) in &known {
            binding.iter().for_each(|fingerprint| registry.bind(user, *fingerprint));
        }
        accounts
            .run(Asker::Administrator, |store| store.former_keys())
            .await?
            .into_iter()
            .for_each(|former| registry.remember_former(former));
        remembering::revive(&mut registry, &memory, &known);
        let first_event = registry.last_event();
        Ok(Self {
            registry: Mutex::new(registry),
            accounts,
            passwords: Passwords::new()?,
            gate: RwLock::new(Arc::new(Gate::new(policy))),
            memory,
            metrics,
            lines: Lines::new(Instant::now()),
            started: Instant::now(),
            first_event,
            memory_fails: AtomicBool::new(false),
            long_work: LongWork::start()?,
            searches: Arc::new(Turns::new(SEARCHES, SEARCHES_WAITING, 0)),
            remembering: Arc::default(),
            last_event: watch::Sender::new(first_event),
            due_event: watch::Sender::new(None),
            last_expulsion: watch::Sender::new(SessionId::default()),
        })
    }

    /// Answers one request; `object` is one object as the scanner hands it out.
    pub async fn answer(&self, client: &mut Client, object: &[u8]) -> Reply {
        let began = Instant::now();
        let (parsed, turn) = match self.parse(client, object).await {
            Ok(parsed) => parsed,
            Err(why) => {
                let dialect = seeming_dialect(object).unwrap_or(client.dialect());
                client.refused(None, why.reason.code(), began.elapsed());
                return Reply::Line(encode_reason(dialect, None, &why.reason, why.retry_after_ms));
            }
        };
        let Parsed { id, dialect, action, features, left_out, unusable_name, request } = parsed;
        let id = id.as_deref();
        client.speaks(dialect);
        if let Some(features) = features {
            client.lists(features);
        }
        let (code, line) = match request {
            Ok(request) => {
                let answered = self.act(client, id, request, left_out, turn).await;
                match answered.and_then(|answer| self.encode(dialect, id, answer, client.from())) {
                    Ok(reply) => {
                        self.touch(client);
                        client.granted(action, began.elapsed());
                        return reply;
                    }
                    Err(Refused { reason, retry_after_ms }) => {
                        (reason.code(), encode_reason(dialect, id, &reason, retry_after_ms))
                    }
                }
            }
            // The parser speaks the request's dialect.
            Err(refusal) => {
                let refusal = match unusable_name {
                    Some(name) => self.refuse_name(client, name).await.refusal(dialect),
                    None => refusal,
                };
                (refusal.code, answer::encode_own_words(dialect, id, &refusal))
            }
        };
        self.touch(client);
        client.refused(action, code, began.elapsed());
        Reply::Line(line)
    }

    /// From now on goes by this. What was used of rates that stay the same stays used.
    pub fn set_policy(&self, policy: Policy) {
        self.with_registry(|registry, _| registry.set_rules(policy.rules));
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Gate::new(policy);
        if new.rates == gate.rates {
            new.limits = Arc::clone(&gate.limits);
        }
        *gate = Arc::new(new);
    }

    /// How long a client of the exercise is present without a request, as of now.
    pub fn legacy_lease(&self) -> Duration {
        self.gate().legacy_lease
    }

    /// Ends every presence whose time has come, and tells what the log left out.
    pub fn expire(&self) {
        self.with_registry(|_, _| ());
        for LeftOut { from, kind, count } in self.lines.left_out(Instant::now()) {
            let from = from.map_or_else(|| "everywhere".to_owned(), |ip| ip.to_string());
            info!(%from, kind, count, "... and more of these");
        }
    }

    /// Whether a client of the exercise is logged in from there: then a connection of its own may bring a
    /// long list of files without a login of its own.
    pub fn has_legacy_from(&self, from: Origin) -> bool {
        self.with_registry(|registry, _| registry.has_legacy_from(from))
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What may be logged.
    pub const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// How things stand.
    pub fn snapshot(&self) -> Snapshot {
        let hashes = self.passwords.waiting();
        self.with_registry(|registry, _| Snapshot {
            sessions: registry.session_count(),
            present: registry.present_count(),
            files: registry.file_count(),
            catalogue_bytes: registry.catalogue_bytes(),
            events: registry.last_event() - self.first_event,
            hashes,
        })
    }

    /// The number of the last event, and news of the next.
    pub fn watch_events(&self) -> watch::Receiver<u64> {
        self.last_event.subscribe()
    }

    /// When [`Service::expire`] is to be called so that subscribers hear of what is held back.
    pub fn watch_due_events(&self) -> watch::Receiver<Option<Instant>> {
        self.due_event.subscribe()
    }

    /// News of somebody's being expelled, see [`Client::is_expelled`].
    pub fn watch_expulsions(&self) -> watch::Receiver<SessionId> {
        self.last_expulsion.subscribe()
    }

    /// `work` with the registry as it is now; subscribers hear of what it does.
    pub(crate) fn with_registry<T>(&self, work: impl FnOnce(&mut Registry, Instant) -> T) -> T {
        // A panic in between is a bug that the log tells; refusing everybody from then on would not mend it.
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, was_due) = (registry.last_event(), registry.next_event_due());
        let now = Instant::now();
        registry.expire(now);
        let result = work(&mut registry, now);
        let (last, last_expulsion) = (registry.last_event(), registry.last_expulsion());
        let (discarded, due) = (registry.take_discarded(), registry.next_event_due());
        drop(registry);
        discard(discarded);
        self.last_expulsion.send_if_modified(|told| {
            let newer = last_expulsion > *told;
            *told = last_expulsion.max(*told);
            newer
        });
        if due != was_due {
            self.due_event.send_replace(due);
        }
        if last != before {
            self.last_event.send_if_modified(|told| {
                let newer = last > *told;
                *told = last.max(*told);
                newer
            });
        }
        result
    }

    fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a request says; where it is long, its turn at long work goes on.
    async fn parse(&self, client: &Client, object: &[u8]) -> Result<(Parsed, Option<Turn>), Refused> {
        let usual = client.dialect();
        if object.len() <= PARSED_AT_ONCE {
            return Ok((parse_object(object, usual), None));
        }
        let turn = self.long_turn(client.from()).await?;
        // Copied only now: those who wait need no memory for it.
        let object = object.to_owned();
        let (parsed, turn) = self.long_work.run(turn, move || parse_object(&object, usual)).await?;
        Ok((parsed, Some(turn)))
    }

    /// A turn at long work, each origin in its own.
    async fn long_turn(&self, from: Origin) -> Result<Turn, Refused> {
        let turn = self.long_work.turn(from.into()).await;
        turn.ok_or_else(|| busy(Reason::ManyLongRequests, LONG_WORK_RETRY_MS))
    }

    /// A name that REGISTER can't take, offering one that is free as long as REGISTER may be tried.
    async fn refuse_name(&self, client: &Client, name: UnusableName) -> UnusableName {
        let may_try = self.gate().limits.registration(client.from(), Instant::now()).is_ok();
        if may_try { self.offering_free(client, name).await } else { name }
    }

    async fn act(
        &self,
        client: &mut Client,
        id: Option<&str>,
        request: Request,
        left_out: RejectedFiles,
        turn: Option<Turn>,
    ) -> Answered {
        match request {
            Request::ListPeers(wanted) => self.list_peers(client, id, &wanted).await,
            Request::Heartbeat { user, token } => self.heartbeat(client, user, token),
            Request::Forwarded { person } => self.forwarded(client, &person),
            Request::Whois(whois) => self.whois(client, whois).await,
            Request::Find(find) => self.find(client, &find).await,
            Request::Subscribe { since } => self.subscribe(client, since),
            // Rare and large futures, boxed so that each connection's task stays small.
            Request::Register(credentials) => Box::pin(self.register(client, credentials)).await,
            Request::Login { credentials, presence, rebind } => {
                Box::pin(self.login(client, credentials, &presence, rebind)).await
            }
            Request::Passwd { credentials, new_password } => {
                Box::pin(self.passwd(client, credentials, new_password)).await
            }
            Request::Resume(presence) => self.resume(client, &presence),
            Request::RegisterFiles(files) => Box::pin(self.register_files(client, files, left_out, turn)).await,
            Request::Logout { user, proof } => Box::pin(self.logout(client, user, proof)).await,
        }
    }

    /// Writes the answer. A long line is kept account of as long as it is on its way.
    fn encode(&self, dialect: Dialect, id: Option<&str>, answer: Answer, asker: Origin) -> Result<Reply, Refused> {
        Ok(match answer.encode(dialect, id)? {
            Reply::Line(mut line) if line.len() > COUNTED && line.ends_with(LIST_END) => {
                line.truncate(line.len() - LIST_END.len());
                let fields = [self.with_registry(|registry, _| registry.counted(line, asker))].into();
                Reply::List { head: Vec::new(), fields }
            }
            reply => reply,
        })
    }

    /// Any request on a connection is a word from those who logged in on it.
    fn touch(&self, client: &Client) {
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

impl Gate {
    fn new(policy: Policy) -> Self {
        let limits = Arc::new(Limits::new(policy.rates, Instant::now()));
        let Policy { rules, rates, registration, doors, announced } = policy;
        Self { rates, limits, registration, doors, announced, legacy_lease: rules.legacy_lease }
    }
}

/// Drops long lists where that holds up nobody.
fn discard(mut files: Vec<Files>) {
    files.retain(Files::is_long);
    if let (false, Ok(runtime)) = (files.is_empty(), Handle::try_current()) {
        drop(runtime.spawn_blocking(move || drop(files)));
    }
}

fn new_token() -> Token {
    Token::from_bytes(rand::random())
}

/// Above every number an earlier process used, unless it had a million events a second; and exact in JSON.
fn first_event() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}
