//! The opening of the accounts and the key, wherever the accounts are, and the watch over them.

use std::path::PathBuf;
use std::time::Duration;

use certs::{FileLossDetector, Identity};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::data_folder::DataFolder;
use super::{DaemonError, tracker_identity};
use crate::membership::RecordSigner;
use crate::store::{AccountStore, PostgresAddress, PostgresStore};

/// The interval at which the lock's file and the account database are checked.
const FOLDER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The file in the data folder that remembers which of the database's servers is the primary.
const HISTORY_FILE: &str = "database-history.json";

/// The accounts and the key of a tracker that starts.
#[derive(Debug)]
pub(super) struct OpenedAccounts {
    pub(super) accounts: AccountStore,
    pub(super) identity: Identity,
    pub(super) guard: AccountGuard,
}

/// The means to notice that the accounts are lost to this process.
#[derive(Debug)]
pub(super) enum AccountGuard {
    /// A file that may be removed or replaced.
    File(FileLossDetector),
    /// A database from which this process may miss too much.
    Database { outdated: watch::Receiver<bool>, address: String },
}

impl OpenedAccounts {
    /// Opens the accounts and the key of a locked folder. Accounts come before the key: a key without accounts then
    /// means that the accounts were lost.
    pub(super) async fn open(folder: &DataFolder, store: Option<&PostgresAddress>) -> Result<Self, DaemonError> {
        folder.prepare(store.is_none())?;
        match store {
            None => {
                let file = folder.open_accounts()?;
                let guard = AccountGuard::File(file.file_place());
                let identity = tracker_identity::open_identity(folder.path(), !file.is_empty()?)?;
                let accounts = AccountStore::start(file, RecordSigner::new(&identity))?;
                Ok(Self { accounts, identity, guard })
            }
            Some(address) => {
                let unusable = |why| DaemonError::Database { address: address.to_string(), why };
                let remembering = address.clone().with_history_file(folder.path().join(HISTORY_FILE));
                let database = PostgresStore::connect(&remembering).await.map_err(unusable)?;
                let is_empty = database.is_empty().await?;
                if is_empty && folder.existing_accounts()?.is_some() {
                    let folder = folder.path().to_owned();
                    return Err(DaemonError::AccountsElsewhere { folder, address: address.to_string() });
                }
                let guard =
                    AccountGuard::Database { outdated: database.watch_outdated(), address: address.to_string() };
                let identity = tracker_identity::open_identity(folder.path(), !is_empty)?;
                database.claim_identity(identity.fingerprint()).await.map_err(unusable)?;
                let accounts = AccountStore::with_postgres(database, RecordSigner::new(&identity));
                Ok(Self { accounts, identity, guard })
            }
        }
    }
}

impl AccountGuard {
    /// Keeps the lock's file in place, and returns when the accounts are lost, with the reason. A database file that is
    /// missing for a moment (a backup, a file system that is mounted again) is waited for.
    pub(super) async fn watch(&mut self, folder: &DataFolder) -> DaemonError {
        let mut ticks = interval(FOLDER_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_lost = false;
        loop {
            ticks.tick().await;
            folder.maintain_lock();
            match self {
                Self::File(file) => {
                    let is_lost = file.is_lost();
                    // Twice in a row: once may be the moment of a rename.
                    if is_lost && was_lost {
                        return DaemonError::AccountsLost(PathBuf::from(file.path()));
                    }
                    was_lost = is_lost;
                }
                Self::Database { outdated, address } => {
                    if *outdated.borrow() {
                        return DaemonError::Outdated(address.clone());
                    }
                }
            }
        }
    }
}
