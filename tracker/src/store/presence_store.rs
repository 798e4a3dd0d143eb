//! The stored presences: the present users, for the next process.
//!
//! ```text
//! registry ─ marks changed users ─► every second: a batch ─► store
//! start    ◄─ leases that have not run out, of accounts that are as they were ◄─┘
//! ```
//!
//! They are a convenience without a promise: accounts and bindings are in [`super::AccountStore`], synced at every commit.
//! A kill of the process may cost the last two seconds. As with the accounts, nothing above knows that a SQLite file is
//! behind it; a batch may be stored again without harm.
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | unstored changes | one mark a user | |
//! | one second's changes | each user once, first the presences, then the lists; in the order of the marks | later changes wait for the next second |
//! | loaded presences ahead of the registry | `LOADED_AHEAD` | reading waits |
//! | a disk that can't be written | | logged once; tried again each second; no request is refused |

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::task::spawn_blocking;

use super::PresenceStoreError;
use super::sqlite_presence::SqlitePresenceStore;
use crate::metrics::{StoreKind, TrackerMetrics};
use crate::registry::{PresenceChange, RestoredPresence};

/// Presences that are read before the registry has taken them: each may have a list of 100,000 files.
const LOADED_AHEAD: usize = 4;

/// The stored presences.
#[derive(Debug)]
pub struct PresenceStore {
    file: SqlitePresenceStore,
    /// Held while a batch is collected and stored.
    turn: Arc<tokio::sync::Mutex<()>>,
    metrics: OnceLock<Arc<TrackerMetrics>>,
}

/// The turn to collect changes and store them: batches are stored in the order in which they were made.
#[derive(Debug)]
pub struct StoreTurn {
    _held: OwnedMutexGuard<()>,
}

impl PresenceStore {
    /// Opens or creates a SQLite file. A file that can't be used is set aside. Fails with [`PresenceStoreError`] when
    /// not even a new one can be created.
    pub fn open(path: &Path) -> Result<Self, PresenceStoreError> {
        let file = SqlitePresenceStore::open(path)?;
        Ok(Self { file, turn: Arc::default(), metrics: OnceLock::new() })
    }

    /// Records the duration of each batch in `metrics` from now on.
    pub fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        let _ = self.metrics.set(metrics);
    }

    /// Calls `each` with every presence whose lease has not run out, by login. Unreadable ones are left out. Fails with
    /// [`PresenceStoreError`] when the store can't be read at all.
    pub async fn load(
        &self,
        now: SystemTime,
        mut each: impl FnMut(RestoredPresence),
    ) -> Result<(), PresenceStoreError> {
        let (sender, mut loaded) = mpsc::channel(LOADED_AHEAD);
        let file = self.file.clone();
        // The receiver is gone only if this future is dropped, and with it the start of the tracker.
        let reading = spawn_blocking(move || file.load(now, |one| drop(sender.blocking_send(one))));
        while let Some(one) = loaded.recv().await {
            each(one);
        }
        reading.await.unwrap_or_else(|failure| Err(PresenceStoreError(failure.to_string())))
    }

    /// Waits until earlier batches are stored.
    pub async fn begin(&self) -> StoreTurn {
        StoreTurn { _held: Arc::clone(&self.turn).lock_owned().await }
    }

    /// Stores changes, also if this future is dropped: the next turn waits for them. Fails with [`PresenceStoreError`]
    /// with the changes; some of them may be stored.
    pub async fn store(
        &self,
        turn: StoreTurn,
        changes: Vec<PresenceChange>,
        now: SystemTime,
    ) -> Result<(), (PresenceStoreError, Vec<PresenceChange>)> {
        let (file, metrics) = (self.file.clone(), self.metrics.get().cloned());
        let changes = Arc::new(changes);
        let to_store = changes.clone();
        let storing = spawn_blocking(move || {
            // Moved in: if the caller goes away, the next batch must not overtake this one.
            let _held_until_done = turn;
            let began = Instant::now();
            let stored = file.store(&to_store, now);
            if let Some(metrics) = metrics {
                metrics.record_commit(StoreKind::Presence, began.elapsed(), stored.is_ok());
            }
            stored
        });
        let stored = storing.await.unwrap_or_else(|failure| Err(PresenceStoreError(failure.to_string())));
        // Kept here as well: they must come back even if the storing has panicked.
        stored.map_err(|why| (why, Arc::unwrap_or_clone(changes)))
    }
}
