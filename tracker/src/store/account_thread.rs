//! The thread of the account database, and the bounded queue of jobs for it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::store_health::StoreHealth;
use super::store_rows::StoreRows;
use super::{AccountStoreError, SqliteAccountStore, StoreResult};
use crate::fair_semaphore::Requester;
use crate::metrics::TrackerMetrics;
use crate::quota_table::{QuotaLimits, QuotaTable};
use crate::rate_limits::ClientOrigin;

/// Jobs that may wait for the thread.
const QUEUE_CAPACITY: usize = 1024;
/// Places in the queue that clients can't take: health checks, backups and the administrator's changes always fit.
const ADMINISTRATOR_PLACES: usize = 64;
/// Jobs that may wait for clients.
const QUEUE_LIMITS: QuotaLimits = QuotaLimits::shared(QUEUE_CAPACITY - ADMINISTRATOR_PLACES, QUEUE_CAPACITY / 8);
const THREAD_GONE: &str = "its thread is gone";

/// The thread that owns the file. Dropping this waits for the jobs in the queue.
#[derive(Debug)]
pub(super) struct AccountThread {
    jobs: Option<mpsc::Sender<StoreJob>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<StoreHealth>,
    queue_usage: Arc<Mutex<QuotaTable>>,
}

/// A place in the queue for one job, free again when this is dropped.
#[derive(Debug)]
struct QueueSlot {
    queue_usage: Arc<Mutex<QuotaTable>>,
    from: ClientOrigin,
}

type StoreJob = Box<dyn FnOnce(&mut SqliteAccountStore) + Send>;

impl AccountThread {
    /// Starts the thread. Fails with the system's error when it has no thread left.
    pub(super) fn start(mut store: SqliteAccountStore) -> std::io::Result<Self> {
        let (work, mut waiting) = mpsc::channel::<StoreJob>(QUEUE_CAPACITY);
        let thread = std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
            while let Some(work) = waiting.blocking_recv() {
                work(&mut store);
            }
        })?;
        Ok(Self { jobs: Some(work), thread: Some(thread), health: Arc::default(), queue_usage: Arc::default() })
    }

    /// Records the duration of each job in `metrics` from now on.
    pub(super) fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        self.health.set_metrics(metrics);
    }

    /// Runs a `job` that only reads on the thread. Fails with `job`'s own, [`AccountStoreError::Busy`], or
    /// [`AccountStoreError::Failed`] when the thread is gone.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl FnOnce(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job = move |store: &mut SqliteAccountStore| store.read(job);
        // What fails to read changed nothing.
        let read = self.queue(requester, job, |watch, _, took| watch.record_read(took)).await;
        read.map_err(|why| if let AccountStoreError::Unknown(why) = why { AccountStoreError::Failed(why) } else { why })
    }

    /// Runs a `job` that changes something on the thread, in one transaction. From the queue on it is done, even if the
    /// caller goes away. Fails with `job`'s own, [`AccountStoreError::Busy`], or [`AccountStoreError::Failed`] when the
    /// thread is gone.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl FnOnce(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let job = move |store: &mut SqliteAccountStore| store.commit(job);
        self.queue(requester, job, |watch, done, took| watch.record_commit(done.as_ref().err(), took)).await
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub(super) fn last_write_error(&self) -> Option<String> {
        self.health.last_write_error()
    }

    /// True if the thread works through its queue. Waits as long as that takes, even for a place in the queue.
    pub(super) async fn is_alive(&self) -> bool {
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
        job: impl FnOnce(&mut SqliteAccountStore) -> StoreResult<T> + Send + 'static,
        note: impl FnOnce(&StoreHealth, &StoreResult<T>, Duration) + Send + 'static,
    ) -> StoreResult<T> {
        let gone = || AccountStoreError::Failed(THREAD_GONE.to_owned());
        let (answer, answered) = oneshot::channel();
        // The administrator's few jobs need no quota: clients can't take their places.
        let slot = match requester {
            Requester::Administrator => None,
            Requester::Client(from) => Some(QueueSlot::try_reserve(&self.queue_usage, from)?),
        };
        let watch = Arc::clone(&self.health);
        let work: StoreJob = Box::new(move |store| {
            // Freed when the job starts: the quota is for waiting jobs.
            drop(slot);
            let began = Instant::now();
            let done = match job(store) {
                // Of a quota that is used up SQLite says no more than that a write failed.
                Err(AccountStoreError::Failed(why) | AccountStoreError::Unknown(why)) if store.is_out_of_room() => {
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
            Ok(()) => answered.await.map_err(|_| AccountStoreError::Unknown(THREAD_GONE.to_owned()))?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(AccountStoreError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone()),
        }
    }
}

impl QueueSlot {
    fn try_reserve(queue_usage: &Arc<Mutex<QuotaTable>>, from: ClientOrigin) -> StoreResult<Self> {
        let mut usage = queue_usage.lock();
        usage.try_add(from, 1, QUEUE_LIMITS).map_err(|_| AccountStoreError::Busy)?;
        drop(usage);
        Ok(Self { queue_usage: Arc::clone(queue_usage), from })
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.queue_usage.lock().subtract(self.from, 1);
    }
}

impl Drop for AccountThread {
    fn drop(&mut self) {
        // The channel must close first: the thread ends when the queue is empty and has no sender left.
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the account store's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Account, account_rules};

    fn account(user: &str, number: usize) -> Account {
        Account { user: user.parse().unwrap(), password_hash: format!("hash {number}"), binding: None }
    }

    #[tokio::test]
    async fn of_many_who_register_one_name_exactly_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let attempts = (0..20).map(|n| {
            accounts.commit(Requester::Administrator, move |rows| account_rules::create(rows, &account("bob", n), None))
        });
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
        accounts: &AccountThread,
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
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
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
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let from = |n: u16| Requester::Client(ClientOrigin::of([0xfd00, 0, 0, 0, 0, 0, 0, n].into()));
        let mut jobs = Vec::new();
        for n in 0..QUEUE_CAPACITY {
            let mut job = Box::pin(accounts.read(from(1 + n as u16 / 256), |_| Ok(())));
            if poll_once(job.as_mut()).await.is_none() {
                jobs.push(job);
            }
        }
        assert_eq!(jobs.len(), 4 * QUEUE_LIMITS.per_origin);
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
    async fn the_administrator_has_a_place_while_clients_wait_for_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let (hold, mut first) = occupied(&accounts).await;
        let mut jobs = Vec::new();
        for n in 0..2 * QUEUE_CAPACITY {
            let from = ClientOrigin::of([10, 0, (n / 200) as u8, (n % 200) as u8].into());
            let mut job = Box::pin(accounts.read(Requester::Client(from), |_| Ok(())));
            if poll_once(job.as_mut()).await.is_none() {
                jobs.push(job);
            }
        }
        assert_eq!(jobs.len(), QUEUE_LIMITS.total);
        let mut check = Box::pin(accounts.read(Requester::Administrator, |_| Ok(())));
        assert!(poll_once(check.as_mut()).await.is_none(), "it waits like the others instead of being refused");
        assert!(hold.send(()).is_ok() && first.as_mut().await.is_ok() && check.as_mut().await.is_ok());
        for job in jobs {
            assert!(job.await.is_ok());
        }
    }

    #[tokio::test]
    async fn trouble_lasts_until_something_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        assert_eq!(accounts.last_write_error(), None);
        let full = accounts.commit(Requester::Administrator, |_| Err::<(), _>(AccountStoreError::Full)).await;
        assert!(matches!(full, Err(AccountStoreError::Full)));
        // A refusal for the request's content, and a read, say nothing about the disk.
        assert!(
            accounts
                .commit(Requester::Administrator, |_| Err::<(), _>(AccountStoreError::NameTaken(
                    account("bob", 0).user
                )))
                .await
                .is_err()
        );
        assert!(accounts.read(Requester::Administrator, |rows| rows.bindings()).await.is_ok());
        assert!(accounts.last_write_error().unwrap().contains("disk is full"));
        accounts.commit(Requester::Administrator, |rows| rows.touch()).await.unwrap();
        assert_eq!(accounts.last_write_error(), None);
        assert!(accounts.is_alive().await);
        let panicked = accounts.read(Requester::Administrator, |_| -> Result<(), _> { panic!("as a bug would") }).await;
        assert!(matches!(panicked, Err(AccountStoreError::Failed(_))));
        // The answer is lost before the thread has ended, which takes a moment more.
        while accounts.is_alive().await {
            tokio::task::yield_now().await;
        }
        let written = accounts.commit(Requester::Administrator, |rows| rows.touch()).await;
        assert!(written.is_err_and(|why| why.is_undone()), "it never reached the thread");
    }

    #[tokio::test]
    async fn a_write_whose_answer_is_lost_may_be_done() {
        let folder = tempfile::tempdir().unwrap();
        let accounts = AccountThread::start(SqliteAccountStore::open(&folder.path().join("db")).unwrap()).unwrap();
        let written = accounts.commit(Requester::Administrator, |rows| -> Result<(), _> {
            account_rules::create(rows, &account("bob", 0), None)?;
            panic!("as a bug would")
        });
        assert!(written.await.is_err_and(|why| !why.is_undone()));
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
