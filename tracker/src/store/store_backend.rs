//! The database behind the account store.

use std::sync::Arc;

use super::StoreResult;
use super::account_thread::AccountThread;
use super::postgres::{JobKind, PostgresStore};
use super::store_rows::StoreRows;
use crate::fair_semaphore::Requester;
use crate::metrics::TrackerMetrics;

/// The database behind the account store, and the way in which jobs run on it.
///
/// An enum and not a trait: the jobs' results have any type, which an object of a trait can't return without a box
/// around each future, and a type parameter would spread to everything that holds the service.
#[derive(Debug)]
pub(super) enum StoreBackend {
    /// A SQLite file with a thread of its own.
    Sqlite(AccountThread),
    /// A database that has servers of its own.
    Postgres(PostgresStore),
}

impl StoreBackend {
    /// Runs a `job` that reads, and needs no more than that each of its statements sees what is committed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl Fn(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        match self {
            Self::Sqlite(thread) => thread.read(requester, job).await,
            Self::Postgres(database) => database.run(requester, JobKind::Read, job).await,
        }
    }

    /// Runs a `job` that reads with several statements, which see the database as of one moment.
    pub(super) async fn read_snapshot<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl Fn(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        match self {
            Self::Sqlite(thread) => thread.read(requester, job).await,
            Self::Postgres(database) => database.run(requester, JobKind::Snapshot, job).await,
        }
    }

    /// Runs a `job` in one transaction that is stored whole or not at all, even if the caller goes away. It may run
    /// several times, of which only the last one counts.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl Fn(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        match self {
            Self::Sqlite(thread) => thread.commit(requester, job).await,
            Self::Postgres(database) => database.run(requester, JobKind::Change, job).await,
        }
    }

    /// Runs a `job` as [`StoreBackend::commit`] does, which may add to the log that all trackers of the database read.
    pub(super) async fn commit_logged<T: Send + 'static>(
        &self,
        requester: Requester,
        job: impl Fn(&dyn StoreRows) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        match self {
            Self::Sqlite(thread) => thread.commit(requester, job).await,
            Self::Postgres(database) => database.run(requester, JobKind::LoggedChange, job).await,
        }
    }

    /// Records the duration of each job in `metrics` from now on.
    pub(super) fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        match self {
            Self::Sqlite(thread) => thread.set_metrics(metrics),
            Self::Postgres(database) => database.set_metrics(metrics),
        }
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub(super) fn last_write_error(&self) -> Option<String> {
        match self {
            Self::Sqlite(thread) => thread.last_write_error(),
            Self::Postgres(database) => database.last_write_error(),
        }
    }

    /// Returns where the accounts are, without secrets.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Sqlite(_) => "SQLite in the data folder".to_owned(),
            Self::Postgres(database) => format!("PostgreSQL database {}", database.address()),
        }
    }

    /// Returns the reason why the database can't be used at the moment, if that is known.
    pub(super) fn outage(&self) -> Option<String> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(database) => database.outage(),
        }
    }

    /// Waits for the changes that were begun.
    pub(super) async fn finish(&self) {
        match self {
            // Dropping it waits for them.
            Self::Sqlite(_) => {}
            Self::Postgres(database) => database.finish_jobs().await,
        }
    }

    /// True if the store works. Waits as long as that takes to find out.
    pub(super) async fn is_alive(&self) -> bool {
        match self {
            Self::Sqlite(thread) => thread.is_alive().await,
            // A database that is away is no fault of this process, which a restart would mend.
            Self::Postgres(_) => true,
        }
    }
}
