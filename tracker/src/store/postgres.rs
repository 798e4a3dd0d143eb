//! Accounts and rooms in PostgreSQL.
//!
//! ```text
//! AccountStore ─ job ─► PostgresStore ─ permit ─► thread: BEGIN, the rules' statements, COMMIT ─► pool of connections
//!                            ▲ up or down
//!                       DatabaseLink ◄─ watch_database: the lease, renewed each second, back-off
//! ```
//!
//! A job is the same code that runs on SQLite, so it runs in a thread of its own that waits for each statement. Nobody
//! can cancel it: a COMMIT that was begun is always heard to its end, even if the client is gone.
//!
//! Changes are `SERIALIZABLE`: the rules read before they write (is the name free, how many rooms are there), and this is
//! the only level at which they are as right as on SQLite, where one change runs after the other. Row locks would need a
//! second thought at each rule, and can't lock a name that nobody has yet. A change that another one came in between is
//! repeated; the last attempts lock the others out, so that one of them succeeds.
//!
//! Each change inserts a token of its own. A COMMIT whose answer is lost is looked up by inserting the token again: that
//! waits for the transaction's end and finds it, or makes sure that it is undone for ever. (The number of a transaction
//! tells less: it is given again after a crash.) Only if the database doesn't come back in time is it unknown whether the
//! change is made.
//!
//! The database may be several servers, of which one takes changes: each session looks whether its server is that one, and
//! none that another took the place of (`database_history`). A COMMIT for which a standby is waited for in vain counts as
//! one whose answer is lost.
//!
//! Several trackers use a database at a time. Each run has a number and a lease (`node_lease`), renewed each second; each
//! change looks whether the number still has one. What others have to know goes through a log (`log_session`): a job that
//! changes accounts or rooms adds to it in its own transaction, which locks the end of the log from its beginning.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | connections | `MAX_CONNECTIONS`, one for the lease and one for the log | jobs wait; origins take turns |
//! | jobs that wait | `MAX_WAITING_JOBS`, for `QUEUE_PATIENCE` | the newest of the origin that has most waiting: `busy` |
//! | a statement | `STATEMENT_LIMIT` on the server, `STATEMENT_PATIENCE` here | undone: `busy` |
//! | attempts at a change | `MAX_ATTEMPTS`, the last ones alone | undone: `busy` |
//! | the search for a lost COMMIT | `RESOLUTION_PATIENCE` | unknown whether it is made |
//! | the database doesn't answer a look | `STATEMENT_PATIENCE` | `busy` for everything at once, until it answers again |
//! | attempts to reach it again | one after `MIN_BACKOFF`, later ones up to `MAX_BACKOFF` apart | |

mod database_history;
mod database_link;
mod database_session;
mod database_watch;
mod job_runner;
mod log_epoch;
mod log_session;
mod node_lease;
mod postgres_address;
mod postgres_rows;
mod postgres_schema;
mod postgres_tls;
mod server_password;
mod statement_failure;
mod store_connect_error;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::Fingerprint;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::store_rows::StoreRows;
use super::{AccountStoreError, StoreResult};
use crate::fair_semaphore::{FairSemaphore, Requester};
use crate::metrics::TrackerMetrics;
use crate::registry::NodeId;
use database_link::DatabaseLink;
use database_session::{DatabaseConnector, DatabaseSession};
pub(super) use job_runner::JobKind;
pub use log_session::{LogEntry, LogError, LogSession, LogTurn, NodeDebt};
pub use postgres_address::{PostgresAddress, PostgresAddressError, redacted_address};
pub use store_connect_error::StoreConnectError;

/// Connections for jobs.
const MAX_CONNECTIONS: usize = 8;
/// Jobs that wait for a connection.
const MAX_WAITING_JOBS: usize = 1024;
/// The time that a job waits for its turn.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);
/// The time after which the server itself ends a statement.
const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// The time after which a server that says nothing counts as lost. Longer than its own limit, which tells more.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(4);
/// Attempts at a change that others come in between, or whose connection breaks.
const MAX_ATTEMPTS: u32 = 6;
/// The attempts after which a change locks others out.
const SHARED_ATTEMPTS: u32 = 3;
/// The time in which a COMMIT whose answer was lost is looked up.
const RESOLUTION_PATIENCE: Duration = Duration::from_secs(4);
/// The interval at which the database is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The time before the first attempt to reach the database again.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// The longest time between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Accounts and rooms in a PostgreSQL database, which several trackers may use.
#[derive(Debug)]
pub struct PostgresStore {
    link: Arc<DatabaseLink>,
    permits: Arc<FairSemaphore>,
    /// Ends with the store, and with it the renewal of the lease.
    _watch: JoinSet<()>,
}

impl PostgresStore {
    /// Connects, brings the schema up to date, and becomes one of the database's trackers. Fails with
    /// [`StoreConnectError`] when it can't be reached or used.
    pub async fn connect(address: &PostgresAddress) -> Result<Self, StoreConnectError> {
        let connector = Arc::new(DatabaseConnector::new(address.for_one_store())?);
        let (session, node, sent) = database_watch::open(&connector).await?;
        let link = Arc::new(DatabaseLink::new(connector, node, Handle::current())?);
        link.lease().record(sent);
        let mut watch = JoinSet::new();
        watch.spawn(database_watch::watch_database(Arc::clone(&link), session));
        let permits = Arc::new(FairSemaphore::new(MAX_CONNECTIONS, MAX_WAITING_JOBS, MAX_WAITING_JOBS));
        Ok(Self { link, permits, _watch: watch })
    }

    /// Returns the address, without secrets.
    pub fn address(&self) -> String {
        self.link.address().to_string()
    }

    /// Returns the log of the changes that all trackers of the database share.
    pub(super) fn log(&self) -> ReplicatedLog {
        ReplicatedLog { link: Arc::clone(&self.link) }
    }

    /// Watches whether this process missed more than the database still has.
    pub fn watch_outdated(&self) -> watch::Receiver<bool> {
        self.link.watch_outdated()
    }

    /// Refuses a key that other trackers of the database don't have. Fails with [`StoreConnectError`].
    pub async fn claim_identity(&self, fingerprint: Fingerprint) -> Result<(), StoreConnectError> {
        let session = self.open_session().await?;
        database_watch::claim_identity(&session, self.link.node(), fingerprint).await
    }

    /// Returns whether there is no account.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn is_empty(&self) -> StoreResult<bool> {
        let count = self.run(Requester::Administrator, JobKind::Read, |rows| rows.count_accounts()).await?;
        Ok(count == 0)
    }

    /// Returns the reason why the database can't be used at the moment.
    pub(super) fn outage(&self) -> Option<String> {
        self.link.outage()
    }

    pub(super) fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        self.link.health().set_metrics(metrics);
    }

    pub(super) fn last_write_error(&self) -> Option<String> {
        self.link.health().last_write_error()
    }

    /// Runs a job in a thread, when a connection is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        requester: Requester,
        kind: JobKind,
        job: impl Fn(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        // At once, while the database is known to be away: nobody waits for what can't be done.
        self.link.ensure_up()?;
        let permit = timeout(QUEUE_PATIENCE, self.permits.acquire(requester)).await;
        let permit = permit.ok().flatten().ok_or(AccountStoreError::Busy)?;
        let link = Arc::clone(&self.link);
        let running = spawn_blocking(move || {
            let _held_until_done = permit;
            let began = Instant::now();
            let done = job_runner::run_job(&link, kind, &job);
            match kind {
                JobKind::Read | JobKind::Snapshot => link.health().record_read(began.elapsed()),
                JobKind::Change | JobKind::LoggedChange => {
                    link.health().record_commit(done.as_ref().err(), began.elapsed());
                }
            }
            done
        });
        // The panic may have come after the COMMIT was sent.
        running.await.unwrap_or_else(|panic| match kind {
            JobKind::Read | JobKind::Snapshot => Err(AccountStoreError::Failed(panic.to_string())),
            JobKind::Change | JobKind::LoggedChange => Err(AccountStoreError::Unknown(panic.to_string())),
        })
    }

    /// Runs a job in this thread, which is none of the runtime's.
    #[cfg(test)]
    pub(super) fn run_here<T>(&self, kind: JobKind, job: &dyn Fn(&dyn StoreRows) -> StoreResult<T>) -> StoreResult<T> {
        let _context = self.link.runtime().enter();
        job_runner::run_job(&self.link, kind, job)
    }

    /// Returns the runtime on which its connections live.
    pub(super) fn runtime(&self) -> &Handle {
        self.link.runtime()
    }

    /// Opens a session outside of the pool, for work that takes long.
    pub(super) async fn open_session(&self) -> Result<DatabaseSession, StoreConnectError> {
        self.link.connector().open().await
    }

    /// Waits until all jobs that were begun are done; new ones wait for as long as this future lives.
    pub(super) async fn finish_jobs(&self) {
        let mut permits = Vec::new();
        // Whoever has all permits knows that no job is under way.
        for _ in 0..MAX_CONNECTIONS {
            permits.push(self.permits.acquire(Requester::Administrator).await);
        }
    }
}

/// The log of the changes that all trackers of a database share, and the lease of this one.
#[derive(Debug, Clone)]
pub struct ReplicatedLog {
    link: Arc<DatabaseLink>,
}

impl ReplicatedLog {
    /// Connects, and wakes `hint` at each entry from now on. Fails with [`LogError`].
    pub async fn open(&self, hint: Arc<Notify>) -> Result<LogSession, LogError> {
        LogSession::open(&self.link, hint).await
    }

    /// Returns the number of this run.
    pub fn node(&self) -> NodeId {
        self.link.node()
    }

    /// True while no other tracker may take this one for dead.
    pub fn is_lease_held(&self) -> bool {
        self.link.lease().is_held()
    }

    /// Returns the time for which no other tracker may take this one for dead.
    pub fn lease_left(&self) -> Duration {
        self.link.lease().left()
    }

    /// Waits a while for this run to have another number than `before`: others took it for dead.
    pub async fn wait_for_other_node(&self, before: NodeId) {
        self.link.raise_alarm();
        let mut node = self.link.watch_node();
        // Tried again by the caller if it takes longer.
        let _ = timeout(WATCH_INTERVAL, node.wait_for(|node| *node != before)).await;
    }

    /// Lets the database be looked at now, after a failure.
    pub fn report_trouble(&self) {
        self.link.raise_alarm();
    }

    /// Reports that this process missed more than the log still has.
    pub fn report_outdated(&self) {
        self.link.report_outdated();
    }
}
