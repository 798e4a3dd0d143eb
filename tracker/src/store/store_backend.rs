//! The database behind the account store.

use std::sync::Arc;

use super::StoreResult;
use super::account_thread::AccountThread;
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
        }
    }

    /// Records the duration of each job in `metrics` from now on.
    pub(super) fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        match self {
            Self::Sqlite(thread) => thread.set_metrics(metrics),
        }
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub(super) fn last_write_error(&self) -> Option<String> {
        match self {
            Self::Sqlite(thread) => thread.last_write_error(),
        }
    }

    /// True if the store works. Waits as long as that takes to find out.
    pub(super) async fn is_alive(&self) -> bool {
        match self {
            Self::Sqlite(thread) => thread.is_alive().await,
        }
    }
}
