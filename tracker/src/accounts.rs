//! Accounts that survive the process: names, password hashes, bound certificates.
//!
//! [`AccountStore`] is the interface of a store. [`AccountStoreHandle`] gives a store a thread of its own, so that
//! commits, which wait for the disk, never hold up the runtime. A write that returned `Ok` is on the disk.
//!
//! A change that failed because the disk is full or broken is remembered until one succeeds:
//! [`AccountStoreHandle::last_write_error`].
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | jobs waiting for the store's thread | `QUEUE_CAPACITY` | `busy` |
//! | of those, for one origin | an eighth; three quarters for one IPv6 network (/64) | `busy` |
//! | accounts on the disk | [`MAX_ACCOUNTS`], each at most 3 KiB with its claims | REGISTER is refused; `tracker user add` makes more |
//! | replaced keys | [`crate::registry::FORMER_KEYS`] | the oldest is forgotten, and its owner is told less |

mod claim_key;
mod sqlite_store;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::account_name::{NewUserName, suggest_alternatives};
use shared::safe_text::safe_path;
use shared::{Fingerprint, UserName};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::fair_semaphore::Requester;
use crate::metrics::{StoreKind, TrackerMetrics};
use crate::rate_limits::ClientOrigin;
use crate::registry::FormerKey;
use shared::Ipv6Network;

pub use sqlite_store::{AccountDatabaseError, SqliteAccountStore};

/// Jobs that may wait for the store's thread.
const QUEUE_CAPACITY: usize = 1024;
/// Jobs of one origin that may wait.
const ORIGIN_QUEUE_CAPACITY: usize = QUEUE_CAPACITY / 8;
/// Jobs of one IPv6 network that may wait: a quarter is left to others, whatever one network does.
const NETWORK_QUEUE_CAPACITY: usize = QUEUE_CAPACITY - QUEUE_CAPACITY / 4;

/// Most accounts that `REGISTER` makes; an administrator may add more.
pub const MAX_ACCOUNTS: usize = 30_000;

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name, unique in this spelling and against similar ones.
    pub user: UserName,
    /// The password's hash, a PHC string.
    pub password_hash: String,
    /// The key that the account is bound to; `None` for clients of the exercise.
    pub binding: Option<Fingerprint>,
}

/// A store of accounts. Each write is atomic, and durable when it returns.
pub trait AccountStore: Send {
    /// Returns the account of this name.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be read.
    fn find(&mut self, user: &UserName) -> Result<Option<Account>, AccountStoreError>;

    /// Returns the names of all accounts in order, with their bindings.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be read.
    fn bindings(&mut self) -> Result<Vec<(UserName, Option<Fingerprint>)>, AccountStoreError>;

    /// Returns the number of accounts.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`].
    fn count(&mut self) -> Result<usize, AccountStoreError>;

    /// Refuses a name that an account has, or that looks like one, as [`shared::account_name`] defines.
    ///
    /// # Errors
    /// [`AccountStoreError::NameTaken`], [`AccountStoreError::NameLike`], [`AccountStoreError::Failed`].
    fn ensure_name_free(&mut self, user: &UserName) -> Result<(), AccountStoreError>;

    /// Returns all names that equal this one apart from letter case.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be read.
    fn names_ignoring_case(&mut self, user: &UserName) -> Result<Vec<UserName>, AccountStoreError>;

    /// Makes an account, which claims its name and all names that look like it.
    ///
    /// # Errors
    /// As [`AccountStore::ensure_name_free`]; [`AccountStoreError::KeyTaken`].
    fn create(&mut self, account: &Account) -> Result<(), AccountStoreError>;

    /// Replaces the hash `old` by `new`.
    ///
    /// # Errors
    /// [`AccountStoreError::Changed`] when the hash is not `old` any more, [`AccountStoreError::Failed`].
    fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> Result<(), AccountStoreError>;

    /// Replaces the binding `old` by `new`.
    ///
    /// # Errors
    /// [`AccountStoreError::Changed`] when the binding is not `old` any more; [`AccountStoreError::KeyTaken`] when
    /// another account has `new`; [`AccountStoreError::Failed`].
    fn bind(&mut self, user: &UserName, old: Option<Fingerprint>, new: Fingerprint) -> Result<(), AccountStoreError>;

    /// Records a replaced key; only the latest [`crate::registry::FORMER_KEYS`] are kept.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be written.
    fn record_former_key(&mut self, former: &FormerKey) -> Result<(), AccountStoreError>;

    /// Returns all recorded replaced keys, the latest last.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be read.
    fn former_keys(&mut self) -> Result<Vec<FormerKey>, AccountStoreError>;

    /// Replaces the account's hash, whatever it was.
    ///
    /// # Errors
    /// [`AccountStoreError::NoAccount`], [`AccountStoreError::Failed`].
    fn reset_password(&mut self, user: &UserName, new: &str) -> Result<(), AccountStoreError>;

    /// Removes the account's binding.
    ///
    /// # Errors
    /// [`AccountStoreError::NoAccount`], [`AccountStoreError::Failed`].
    fn unbind(&mut self, user: &UserName) -> Result<(), AccountStoreError>;

    /// Removes the account. Its claims become free unless another account's name looks like it as well.
    ///
    /// # Errors
    /// [`AccountStoreError::NoAccount`], [`AccountStoreError::Failed`].
    fn remove(&mut self, user: &UserName) -> Result<(), AccountStoreError>;

    /// Returns all accounts' names in order, with their hashes.
    ///
    /// # Errors
    /// [`AccountStoreError::Failed`] when the store can't be read.
    fn password_hashes(&mut self) -> Result<Vec<(UserName, String)>, AccountStoreError>;

    /// Commits a write without effect, to find out whether the store can be written.
    ///
    /// # Errors
    /// [`AccountStoreError::Busy`], [`AccountStoreError::Failed`].
    fn probe(&mut self) -> Result<(), AccountStoreError>;

    /// Returns whether there is no room for anything more where the store keeps its data; a quota shows in no error of
    /// the database.
    fn is_out_of_room(&self) -> bool;
}

/// The reason why a store refused or failed; then it changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum AccountStoreError {
    /// An account has this name.
    #[error("the name {0} is taken: choose another, or log in as {0} if it is yours")]
    NameTaken(UserName),
    /// The name looks like that of another account.
    #[error(
        "the name {wanted} can be taken for {taken}, which is somebody's: choose another, or log in as {taken} if it is yours"
    )]
    NameLike {
        /// The requested name.
        wanted: UserName,
        /// The account's name.
        taken: UserName,
    },
    /// Another account is bound to the key.
    #[error("another account is bound to that key")]
    KeyTaken,
    /// No account has this name.
    #[error("there is no account of that name")]
    NoAccount,
    /// The value was changed in the meantime.
    #[error("it was changed in the meantime")]
    Changed,
    /// Too many jobs wait.
    #[error("too much work is waiting for the account store")]
    Busy,
    /// There is no room for it on the disk.
    #[error("the tracker's disk is full, or its quota is used up")]
    Full,
    /// The file was removed or replaced while it was open: writes to it would be lost at the next start.
    #[error("the account database {} was removed or replaced while the tracker ran", safe_path(.0))]
    Lost(PathBuf),
    /// The store failed; the text is for the log.
    #[error("the account store failed: {0}")]
    Failed(String),
}

/// Returns a free name for a user who wants this one: itself or a similar one. `None` if no suggestion is free.
///
/// # Errors
/// As [`AccountStore::ensure_name_free`], except for names that aren't free.
pub fn find_free_name(
    store: &mut dyn AccountStore,
    wanted: &UserName,
) -> Result<Option<NewUserName>, AccountStoreError> {
    for name in suggest_alternatives(wanted) {
        match store.ensure_name_free(name.as_user_name()) {
            Ok(()) => return Ok(Some(name)),
            Err(AccountStoreError::NameTaken(_) | AccountStoreError::NameLike { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// A store behind a thread that owns it. Dropping this waits for the jobs in the queue.
#[derive(Debug)]
pub struct AccountStoreHandle {
    jobs: Option<mpsc::Sender<StoreJob>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<StoreHealth>,
    queue_usage: Arc<QueueUsage>,
}

/// The waiting jobs, counted by origin and network.
#[derive(Debug, Default)]
struct QueueUsage(Mutex<QueueCounts>);

#[derive(Debug, Default)]
struct QueueCounts {
    by_origin: HashMap<ClientOrigin, usize>,
    by_network: HashMap<Ipv6Network, usize>,
}

/// A place in the queue for one job, free again when this is dropped.
#[derive(Debug)]
struct QueueSlot {
    queue_usage: Arc<QueueUsage>,
    from: ClientOrigin,
}

/// The store's condition, updated by its thread.
#[derive(Debug, Default)]
struct StoreHealth {
    metrics: OnceLock<Arc<TrackerMetrics>>,
    /// The reason why the last change failed; `None` after a success.
    last_write_error: Mutex<Option<String>>,
}

type StoreJob = Box<dyn FnOnce(&mut dyn AccountStore) + Send>;

impl AccountStoreHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's error when it has no thread left.
    pub fn start(mut store: impl AccountStore + 'static) -> std::io::Result<Self> {
        let (work, mut waiting) = mpsc::channel::<StoreJob>(QUEUE_CAPACITY);
        let thread = std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
            while let Some(work) = waiting.blocking_recv() {
                work(&mut store);
            }
        })?;
        Ok(Self { jobs: Some(work), thread: Some(thread), health: Arc::default(), queue_usage: Arc::default() })
    }

    /// Records the duration of each job in `metrics` from now on.
    pub fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        let _ = self.health.metrics.set(metrics);
    }

    /// Runs a `job` that only reads on the thread.
    ///
    /// # Errors
    /// `job`'s own, [`AccountStoreError::Busy`], or [`AccountStoreError::Failed`] when the thread is gone.
    pub async fn read<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, AccountStoreError> + Send + 'static,
    ) -> Result<T, AccountStoreError> {
        self.queue(requester, job, |watch, _, took| watch.record_read(took)).await
    }

    /// Runs a `job` that changes something on the thread. From the queue on it is done, even if the caller goes away.
    ///
    /// # Errors
    /// `job`'s own, [`AccountStoreError::Busy`], or [`AccountStoreError::Failed`] when the thread is gone.
    pub async fn commit<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, AccountStoreError> + Send + 'static,
    ) -> Result<T, AccountStoreError> {
        self.queue(requester, job, |watch, done, took| watch.record_commit(done.as_ref().err(), took)).await
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub fn last_write_error(&self) -> Option<String> {
        self.health.last_write_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if the thread works through its queue. Waits as long as that takes, even for a place in the queue.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let work: StoreJob = Box::new(move |_| {
            // The caller may have given up.
            let _ = answer.send(());
        });
        match &self.jobs {
            Some(queue) => queue.send(work).await.is_ok() && answered.await.is_ok(),
            None => false,
        }
    }

    async fn queue<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, AccountStoreError> + Send + 'static,
        note: impl FnOnce(&StoreHealth, &Result<T, AccountStoreError>, Duration) + Send + 'static,
    ) -> Result<T, AccountStoreError> {
        let gone = || AccountStoreError::Failed("its thread is gone".to_owned());
        let (answer, answered) = oneshot::channel();
        // The administrator's few jobs need no quota: clients can't keep them out.
        let place = match requester {
            Requester::Administrator => None,
            Requester::Client(from) => {
                Some(QueueUsage::try_reserve(&self.queue_usage, from).ok_or(AccountStoreError::Busy)?)
            }
        };
        let watch = Arc::clone(&self.health);
        let work: StoreJob = Box::new(move |store| {
            // Freed when the job starts: the quota is for waiting jobs.
            drop(place);
            let began = Instant::now();
            let done = match job(store) {
                Err(AccountStoreError::Failed(why)) if store.is_out_of_room() => {
                    tracing::warn!("no room for the account store: {why}");
                    Err(AccountStoreError::Full)
                }
                done => done,
            };
            note(&watch, &done, began.elapsed());
            // The caller may have given up; the change is made nevertheless.
            let _ = answer.send(done);
        });
        // `try_send`: a full queue is answered at once, since the client can come back.
        match self.jobs.as_ref().ok_or_else(gone)?.try_send(work) {
            Ok(()) => answered.await.map_err(|_| gone())?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(AccountStoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone()),
        }
    }
}

impl QueueUsage {
    fn try_reserve(waiting: &Arc<Self>, from: ClientOrigin) -> Option<QueueSlot> {
        let mut work = waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = work.by_origin.get(&from).copied().unwrap_or_default();
        let network = from.network().map(|it| (it, work.by_network.get(&it).copied().unwrap_or_default()));
        // Proxies and forwarders connect from this machine.
        let most = if from.is_loopback() { QUEUE_CAPACITY } else { ORIGIN_QUEUE_CAPACITY };
        if of_origin >= most || network.is_some_and(|(_, count)| count >= NETWORK_QUEUE_CAPACITY) {
            return None;
        }
        work.by_origin.insert(from, of_origin + 1);
        if let Some((network, count)) = network {
            work.by_network.insert(network, count + 1);
        }
        drop(work);
        Some(QueueSlot { queue_usage: Arc::clone(waiting), from })
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        let mut work = self.queue_usage.0.lock().unwrap_or_else(PoisonError::into_inner);
        decrement(&mut work.by_origin, self.from);
        if let Some(network) = self.from.network() {
            decrement(&mut work.by_network, network);
        }
    }
}

fn decrement<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl StoreHealth {
    fn record_read(&self, took: Duration) {
        if let Some(metrics) = self.metrics.get() {
            metrics.record_read(StoreKind::Accounts, took);
        }
    }

    /// Records a commit. A refusal for the change's content says nothing about the disk.
    fn record_commit(&self, why: Option<&AccountStoreError>, took: Duration) {
        let trouble = match why {
            None => None,
            Some(why @ (AccountStoreError::Full | AccountStoreError::Lost(_) | AccountStoreError::Failed(_))) => {
                Some(why.to_string())
            }
            Some(_) => return,
        };
        if let Some(metrics) = self.metrics.get() {
            metrics.record_commit(StoreKind::Accounts, took, trouble.is_none());
        }
        let mut known = self.last_write_error.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() && trouble.is_none() {
            info!("accounts can be changed again");
        }
        *known = trouble;
    }
}

impl Drop for AccountStoreHandle {
    fn drop(&mut self) {
        // The channel must close first: the thread ends when the queue is empty and has no sender left.
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the account store's thread panicked");
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the hash, which must not reach a log.
        f.debug_struct("Account").field("user", &self.user).field("binding", &self.binding).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(user: &str) -> Account {
        Account { user: user.parse().unwrap(), password_hash: "hash".to_owned(), binding: None }
    }

    #[tokio::test]
    async fn of_many_who_register_one_name_exactly_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountStoreHandle::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let attempts =
            (0..20).map(|_| accounts.commit(Requester::Administrator, |store| store.create(&account("bob"))));
        let mut won = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await {
                Ok(()) => won += 1,
                Err(error) => assert!(matches!(error, AccountStoreError::NameTaken(_))),
            }
        }
        assert_eq!(won, 1);
    }

    /// Occupies the store's thread with a job that ends when something is sent. Returns that sender and the job.
    async fn occupied(
        accounts: &AccountStoreHandle,
    ) -> (std::sync::mpsc::Sender<()>, std::pin::Pin<Box<impl Future<Output = Result<(), AccountStoreError>>>>) {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(
            accounts.read(Requester::Administrator, move |_| held.recv().map_err(|_| AccountStoreError::Changed)),
        );
        assert!(poll_once(first.as_mut()).await.is_none());
        (hold, first)
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_what_waits_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountStoreHandle::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let mut jobs = Vec::new();
        let busy = loop {
            let mut job = Box::pin(accounts.read(Requester::Administrator, |_| Ok(())));
            match poll_once(job.as_mut()).await {
                Some(answer) => break answer,
                None => jobs.push(job),
            }
            assert!(jobs.len() <= QUEUE_CAPACITY + 1);
        };
        assert!(matches!(busy, Err(AccountStoreError::Busy)));
        hold.send(()).unwrap();
        assert!(first.as_mut().await.is_ok());
        for job in jobs {
            assert!(job.await.is_ok());
        }
    }

    #[tokio::test]
    async fn whoever_fills_the_queue_fills_their_own_part() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountStoreHandle::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let from = |n: u16| Requester::Client(ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into()));
        let mut jobs = Vec::new();
        for n in 0..QUEUE_CAPACITY {
            let mut job = Box::pin(accounts.read(from(1 + n as u16 / 256), |_| Ok(())));
            if poll_once(job.as_mut()).await.is_none() {
                jobs.push(job);
            }
        }
        assert_eq!(jobs.len(), 4 * ORIGIN_QUEUE_CAPACITY);
        let mut elsewhere =
            Box::pin(accounts.read(Requester::Client(ClientOrigin::of([10, 0, 0, 1].into())), |_| Ok(())));
        assert!(poll_once(elsewhere.as_mut()).await.is_none());
        assert!(hold.send(()).is_ok() && first.as_mut().await.is_ok() && elsewhere.as_mut().await.is_ok());
        for job in jobs {
            assert!(job.await.is_ok());
        }
        assert!(accounts.read(from(1), |_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn trouble_lasts_until_something_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountStoreHandle::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        assert_eq!(accounts.last_write_error(), None);
        let full = accounts.commit(Requester::Administrator, |_| Err::<(), _>(AccountStoreError::Full)).await;
        assert!(matches!(full, Err(AccountStoreError::Full)));
        // A refusal for the request's content, and a read, say nothing about the disk.
        assert!(
            accounts
                .commit(Requester::Administrator, |_| Err::<(), _>(AccountStoreError::NameTaken(account("bob").user)))
                .await
                .is_err()
        );
        assert!(accounts.read(Requester::Administrator, |store| store.bindings()).await.is_ok());
        assert!(accounts.last_write_error().unwrap().contains("disk is full"));
        accounts.commit(Requester::Administrator, |store| store.probe()).await.unwrap();
        assert_eq!(accounts.last_write_error(), None);
        assert!(accounts.is_alive().await);
        let panicked = accounts.read(Requester::Administrator, |_| -> Result<(), _> { panic!("as a bug would") }).await;
        assert!(matches!(panicked, Err(AccountStoreError::Failed(_))));
        assert!(!accounts.is_alive().await);
    }

    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
