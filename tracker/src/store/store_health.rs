//! The condition of the account store: its metrics, and the reason why its last change failed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::info;

use super::AccountStoreError;
use crate::metrics::{StoreKind, TrackerMetrics};

/// The store's condition, updated by its jobs.
#[derive(Debug, Default)]
pub(super) struct StoreHealth {
    metrics: OnceLock<Arc<TrackerMetrics>>,
    /// The reason why the last change failed; `None` after a success.
    last_write_error: Mutex<Option<String>>,
}

impl StoreHealth {
    /// Records in `metrics` from now on.
    pub(super) fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub(super) fn last_write_error(&self) -> Option<String> {
        self.last_write_error.lock().clone()
    }

    /// Records that a change is repeated because another one came in between.
    pub(super) fn record_retry(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.store_retries.inc();
        }
    }

    /// Records whether the database can be reached.
    pub(super) fn record_reachable(&self, is_reachable: bool) {
        if let Some(metrics) = self.metrics.get() {
            metrics.store_reachable.set(i64::from(is_reachable));
        }
    }

    pub(super) fn record_read(&self, took: Duration) {
        if let Some(metrics) = self.metrics.get() {
            metrics.record_read(StoreKind::Accounts, took);
        }
    }

    /// Records a commit. A refusal for the change's content says nothing about the store.
    pub(super) fn record_commit(&self, why: Option<&AccountStoreError>, took: Duration) {
        let trouble = match why {
            None => None,
            Some(
                why @ (AccountStoreError::Full
                | AccountStoreError::Lost(_)
                | AccountStoreError::Unreachable(_)
                | AccountStoreError::Failed(_)
                | AccountStoreError::Unknown(_)),
            ) => Some(why.to_string()),
            Some(_) => return,
        };
        let mut known = self.last_write_error.lock();
        if let Some(metrics) = self.metrics.get() {
            // Under the lock: of several jobs at a time the same one must be the last for both.
            metrics.record_commit(StoreKind::Accounts, took, trouble.is_none());
        }
        if known.is_some() && trouble.is_none() {
            info!("accounts can be changed again");
        }
        *known = trouble;
    }
}
