//! Accounts that survive the process: who exists, the password's hash, the bound certificate.
//!
//! [`AccountStore`] is what the rest needs of a store; [`Accounts`] gives one store a thread of its own, so that a
//! commit, which waits for the disk, never holds up the runtime. What a write answered with `Ok` is on the disk.
//!
//! A change that failed for want of room or of a working disk is remembered until one succeeds: [`Accounts::trouble`].
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | work waiting for the store's thread | `QUEUE` | `busy` |
//! | of that, for one origin | an eighth; three quarters for one IPv6 network (/64) | `busy` |
//! | keys whose place others took | [`crate::registry::FORMER_KEYS`] | the oldest is forgotten, and its owner told less |

mod sqlite;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::account_name::{NewUserName, alternatives};
use shared::safe_text::safe_path;
use shared::{Fingerprint, UserName};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use crate::limits::{Network, Origin};
use crate::metrics::{Metrics, Store};
use crate::registry::FormerKey;
use crate::turns::Asker;

pub use sqlite::{OpenError, SqliteStore};

/// Work that may wait for the store's thread.
const QUEUE: usize = 1024;
/// Work of one origin that may wait.
const OF_ORIGIN: usize = QUEUE / 8;
/// Work of one IPv6 network that may wait: whatever it does, others have a quarter.
const OF_NETWORK: usize = QUEUE - QUEUE / 4;

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub user: UserName,
    /// The password's hash, as a PHC string.
    pub password_hash: String,
    /// The key it is bound to.
    pub binding: Option<Fingerprint>,
}

/// What is asked of a store. Each write is durable when it returns, and happens whole or not at all.
pub trait AccountStore: Send {
    /// The account of this name.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn find(&mut self, user: &UserName) -> Result<Option<Account>, StoreError>;

    /// All accounts, by name, and what they are bound to.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn all(&mut self) -> Result<Vec<(UserName, Option<Fingerprint>)>, StoreError>;

    /// Refuses a name that an account has, or that can be taken for one's, as [`shared::account_name`] says.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`], [`StoreError::NameLike`], [`StoreError::Failed`].
    fn demand_free(&mut self, user: &UserName) -> Result<(), StoreError>;

    /// Returns all names that differ from this one in the case of their letters at most.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn named_like(&mut self, user: &UserName) -> Result<Vec<UserName>, StoreError>;

    /// Makes an account, which claims its name and what can be taken for it.
    ///
    /// # Errors
    /// As [`AccountStore::demand_free`]; [`StoreError::KeyTaken`].
    fn create(&mut self, account: &Account) -> Result<(), StoreError>;

    /// Puts `new` in the place of the hash `old`.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when it isn't `old` any more, [`StoreError::Failed`].
    fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> Result<(), StoreError>;

    /// Puts `new` in the place of the binding `old`.
    ///
    /// # Errors
    /// [`StoreError::Changed`] when it isn't `old` any more, [`StoreError::KeyTaken`], [`StoreError::Failed`].
    fn bind(&mut self, user: &UserName, old: Option<Fingerprint>, new: Fingerprint) -> Result<(), StoreError>;

    /// Remembers a key whose place another one took; of more than [`crate::registry::FORMER_KEYS`] the latest.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn remember_former(&mut self, former: &FormerKey) -> Result<(), StoreError>;

    /// All keys whose place others took, the latest last.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn former_keys(&mut self) -> Result<Vec<FormerKey>, StoreError>;

    /// Makes the account's hash this one, whatever it was.
    ///
    /// # Errors
    /// [`StoreError::NoAccount`], [`StoreError::Failed`].
    fn reset_password(&mut self, user: &UserName, new: &str) -> Result<(), StoreError>;

    /// Forgets what the account is bound to.
    ///
    /// # Errors
    /// [`StoreError::NoAccount`], [`StoreError::Failed`].
    fn unbind(&mut self, user: &UserName) -> Result<(), StoreError>;

    /// Forgets the account. What it claimed is free, unless another account's name is like that, too.
    ///
    /// # Errors
    /// [`StoreError::NoAccount`], [`StoreError::Failed`].
    fn remove(&mut self, user: &UserName) -> Result<(), StoreError>;

    /// All accounts with their hashes, by name.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    fn hashes(&mut self) -> Result<Vec<(UserName, String)>, StoreError>;

    /// Commits something that changes nothing: whether the store can be written.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Failed`].
    fn probe(&mut self) -> Result<(), StoreError>;

    /// Returns whether there is no room for anything more where the store keeps its data; a quota shows in no error of
    /// the database.
    fn is_out_of_room(&self) -> bool;
}

/// Why a store didn't do it; then it did nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is an account of that name.
    #[error("the name {0} is taken: choose another, or log in as {0} if it is yours")]
    NameTaken(UserName),
    /// The name can be taken for that of another account.
    #[error(
        "the name {wanted} can be taken for {taken}, which is somebody's: choose another, or log in as {taken} if it is yours"
    )]
    NameLike {
        /// The name that was asked for.
        wanted: UserName,
        /// The name of the account there is.
        taken: UserName,
    },
    /// Another account is bound to that key.
    #[error("another account is bound to that key")]
    KeyTaken,
    /// There is no account of that name.
    #[error("there is no account of that name")]
    NoAccount,
    /// Somebody changed it in the meantime.
    #[error("it was changed in the meantime")]
    Changed,
    /// Too much work is waiting.
    #[error("too much work is waiting for the account store")]
    Busy,
    /// There is no room for it on the disk.
    #[error("the tracker's disk is full, or its quota is used up")]
    Full,
    /// Its file is not there any more: what would be written now would be gone at the next start.
    #[error("the account database {} was removed or replaced while the tracker ran", safe_path(.0))]
    Lost(PathBuf),
    /// The store itself is in trouble.
    #[error("the account store failed: {0}")]
    Failed(String),
}

/// Returns a name that is free for somebody who wants this one: itself, or one like it.
///
/// # Errors
/// As [`AccountStore::demand_free`], apart from names that are not free.
pub fn free_name(store: &mut dyn AccountStore, wanted: &UserName) -> Result<Option<NewUserName>, StoreError> {
    for name in alternatives(wanted) {
        match store.demand_free(name.as_user_name()) {
            Ok(()) => return Ok(Some(name)),
            Err(StoreError::NameTaken(_) | StoreError::NameLike { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// A store behind a thread that owns it. Dropping this ends the thread, after the work that was waiting.
#[derive(Debug)]
pub struct Accounts {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    watch: Arc<Watch>,
    waiting: Arc<Waiting>,
}

/// How much work waits for whom.
#[derive(Debug, Default)]
struct Waiting(Mutex<WaitingWork>);

#[derive(Debug, Default)]
struct WaitingWork {
    by_origin: HashMap<Origin, usize>,
    by_network: HashMap<Network, usize>,
}

/// A place in the queue for somebody's work, free again when this is dropped.
#[derive(Debug)]
struct QueuePlace {
    waiting: Arc<Waiting>,
    from: Origin,
}

/// What is known of how the store does.
#[derive(Debug, Default)]
struct Watch {
    metrics: OnceLock<Arc<Metrics>>,
    /// Why the last change could not be stored.
    trouble: Mutex<Option<String>>,
}

type Work = Box<dyn FnOnce(&mut dyn AccountStore) + Send>;

impl Accounts {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(mut store: impl AccountStore + 'static) -> std::io::Result<Self> {
        let (work, mut waiting) = mpsc::channel::<Work>(QUEUE);
        let thread = std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
            while let Some(work) = waiting.blocking_recv() {
                work(&mut store);
            }
        })?;
        Ok(Self { work: Some(work), thread: Some(thread), watch: Arc::default(), waiting: Arc::default() })
    }

    /// From now on tells `metrics` how long each piece of work took.
    pub fn measure_with(&self, metrics: Arc<Metrics>) {
        let _ = self.watch.metrics.set(metrics);
    }

    /// Lets the thread do `job`, which only reads.
    ///
    /// # Errors
    /// `job`'s own, [`StoreError::Busy`], or [`StoreError::Failed`] when the thread is gone.
    pub async fn run<T: Send + 'static>(
        &self,
        asker: Asker,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(asker, job, |watch, _, took| watch.read(took)).await
    }

    /// Lets the thread do `job`, which changes something. Once it waits in the queue it is done, even if the caller
    /// goes away.
    ///
    /// # Errors
    /// `job`'s own, [`StoreError::Busy`], or [`StoreError::Failed`] when the thread is gone.
    pub async fn commit<T: Send + 'static>(
        &self,
        asker: Asker,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(asker, job, |watch, done, took| watch.committed(done.as_ref().err(), took)).await
    }

    /// Why the last change could not be stored; `None` when it could, or there was none yet.
    pub fn trouble(&self) -> Option<String> {
        self.watch.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the thread is there and comes to what waits for it; waits as long as that takes, even for a place in
    /// the queue.
    pub async fn is_alive(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |_| {
            // Nobody waits for the answer any more.
            let _ = answer.send(());
        });
        match &self.work {
            Some(queue) => queue.send(work).await.is_ok() && answered.await.is_ok(),
            None => false,
        }
    }

    async fn queue<T: Send + 'static>(
        &self,
        asker: Asker,
        job: impl FnOnce(&mut dyn AccountStore) -> Result<T, StoreError> + Send + 'static,
        note: impl FnOnce(&Watch, &Result<T, StoreError>, Duration) + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed("its thread is gone".to_owned());
        let (answer, answered) = oneshot::channel();
        let place = match asker {
            Asker::Administrator => None,
            Asker::Client(from) => Some(Waiting::place(&self.waiting, from).ok_or(StoreError::Busy)?),
        };
        let watch = Arc::clone(&self.watch);
        let work: Work = Box::new(move |store| {
            drop(place);
            let began = Instant::now();
            let done = match job(store) {
                Err(StoreError::Failed(why)) if store.is_out_of_room() => {
                    tracing::warn!("no room for the account store: {why}");
                    Err(StoreError::Full)
                }
                done => done,
            };
            note(&watch, &done, began.elapsed());
            // Nobody waits for the answer any more: the work is done all the same.
            let _ = answer.send(done);
        });
        match self.work.as_ref().ok_or_else(gone)?.try_send(work) {
            Ok(()) => answered.await.map_err(|_| gone())?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone()),
        }
    }
}

impl Waiting {
    fn place(waiting: &Arc<Self>, from: Origin) -> Option<QueuePlace> {
        let mut work = waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = work.by_origin.get(&from).copied().unwrap_or_default();
        let network = from.network().map(|it| (it, work.by_network.get(&it).copied().unwrap_or_default()));
        // Proxies and forwarders come from this machine itself.
        let most = if from.is_loopback() { QUEUE } else { OF_ORIGIN };
        if of_origin >= most || network.is_some_and(|(_, count)| count >= OF_NETWORK) {
            return None;
        }
        work.by_origin.insert(from, of_origin + 1);
        if let Some((network, count)) = network {
            work.by_network.insert(network, count + 1);
        }
        drop(work);
        Some(QueuePlace { waiting: Arc::clone(waiting), from })
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        let mut work = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        less(&mut work.by_origin, self.from);
        if let Some(network) = self.from.network() {
            less(&mut work.by_network, network);
        }
    }
}

fn less<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

impl Watch {
    fn read(&self, took: Duration) {
        if let Some(metrics) = self.metrics.get() {
            metrics.read(Store::Accounts, took);
        }
    }

    /// A change that was refused for what it says shows nothing of the disk.
    fn committed(&self, why: Option<&StoreError>, took: Duration) {
        let trouble = match why {
            None => None,
            Some(why @ (StoreError::Full | StoreError::Lost(_) | StoreError::Failed(_))) => Some(why.to_string()),
            Some(_) => return,
        };
        if let Some(metrics) = self.metrics.get() {
            metrics.committed(Store::Accounts, took, trouble.is_none());
        }
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some() && trouble.is_none() {
            info!("accounts can be changed again");
        }
        *known = trouble;
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.work = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the account store's thread panicked");
        }
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        let accounts = Accounts::start(SqliteStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let attempts = (0..20).map(|_| accounts.commit(Asker::Administrator, |store| store.create(&account("bob"))));
        let mut won = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await {
                Ok(()) => won += 1,
                Err(error) => assert!(matches!(error, StoreError::NameTaken(_))),
            }
        }
        assert_eq!(won, 1);
    }

    /// The store's thread at work on a job that ends when something is sent; and that job.
    async fn occupied(
        accounts: &Accounts,
    ) -> (std::sync::mpsc::Sender<()>, std::pin::Pin<Box<impl Future<Output = Result<(), StoreError>>>>) {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let mut first =
            Box::pin(accounts.run(Asker::Administrator, move |_| held.recv().map_err(|_| StoreError::Changed)));
        assert!(poll_once(first.as_mut()).await.is_none());
        (hold, first)
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_what_waits_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::start(SqliteStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let mut jobs = Vec::new();
        let busy = loop {
            let mut job = Box::pin(accounts.run(Asker::Administrator, |_| Ok(())));
            match poll_once(job.as_mut()).await {
                Some(answer) => break answer,
                None => jobs.push(job),
            }
            assert!(jobs.len() <= QUEUE + 1);
        };
        assert!(matches!(busy, Err(StoreError::Busy)));
        hold.send(()).unwrap();
        assert!(first.as_mut().await.is_ok());
        for job in jobs {
            assert!(job.await.is_ok());
        }
    }

    #[tokio::test]
    async fn whoever_fills_the_queue_fills_their_own_part() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::start(SqliteStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let from = |n: u16| Asker::Client(Origin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into()));
        let mut jobs = Vec::new();
        for n in 0..QUEUE {
            let mut job = Box::pin(accounts.run(from(1 + n as u16 / 256), |_| Ok(())));
            if poll_once(job.as_mut()).await.is_none() {
                jobs.push(job);
            }
        }
        assert_eq!(jobs.len(), 4 * OF_ORIGIN);
        let mut elsewhere = Box::pin(accounts.run(Asker::Client(Origin::of([10, 0, 0, 1].into())), |_| Ok(())));
        assert!(poll_once(elsewhere.as_mut()).await.is_none());
        assert!(hold.send(()).is_ok() && first.as_mut().await.is_ok() && elsewhere.as_mut().await.is_ok());
        for job in jobs {
            assert!(job.await.is_ok());
        }
        assert!(accounts.run(from(1), |_| Ok(())).await.is_ok());
    }

    #[tokio::test]
    async fn trouble_lasts_until_something_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = Accounts::start(SqliteStore::open(&folder.path().join("db")).unwrap()).unwrap();
        assert_eq!(accounts.trouble(), None);
        let full = accounts.commit(Asker::Administrator, |_| Err::<(), _>(StoreError::Full)).await;
        assert!(matches!(full, Err(StoreError::Full)));
        // A refusal for what was asked, and a read, say nothing about the disk.
        assert!(
            accounts
                .commit(Asker::Administrator, |_| Err::<(), _>(StoreError::NameTaken(account("bob").user)))
                .await
                .is_err()
        );
        assert!(accounts.run(Asker::Administrator, |store| store.all()).await.is_ok());
        assert!(accounts.trouble().unwrap().contains("disk is full"));
        accounts.commit(Asker::Administrator, |store| store.probe()).await.unwrap();
        assert_eq!(accounts.trouble(), None);
        assert!(accounts.is_alive().await);
        let panicked = accounts.run(Asker::Administrator, |_| -> Result<(), _> { panic!("as a bug would") }).await;
        assert!(matches!(panicked, Err(StoreError::Failed(_))));
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
