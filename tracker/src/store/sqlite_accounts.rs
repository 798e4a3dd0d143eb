//! The accounts in one SQLite file, in WAL mode, synced at every commit.

mod account_database_error;
mod account_schema;
mod room_schema;
#[cfg(test)]
mod tests;

use std::path::Path;

use certs::FileLossDetector;
use rusqlite::{Connection, TransactionBehavior, params};

use super::room_rules::RESTORED_SETTING;
use super::sqlite_query::query_value;
use super::sqlite_rows::SqliteRows;
use super::store_rows::StoreRows;
use super::{AccountStoreError, StoreResult, sqlite_file};
pub use account_database_error::AccountDatabaseError;
use account_schema::{MIGRATIONS, migrate};

/// Accounts in one SQLite file.
#[derive(Debug)]
pub struct SqliteAccountStore {
    db: Connection,
    file_place: FileLossDetector,
}

impl SqliteAccountStore {
    /// Opens the file, creates it if necessary, and migrates its schema. Fails with [`AccountDatabaseError`] when the
    /// file is damaged, too new or unusable.
    pub fn open(path: &Path) -> Result<Self, AccountDatabaseError> {
        let failed = |error: rusqlite::Error| AccountDatabaseError::of(path, &error);
        let mut db = sqlite_file::open(path).map_err(failed)?;
        // `quick_check` doesn't compare the indices with the tables, and so is fast enough for each start.
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(AccountDatabaseError::Damaged { path: path.to_owned(), why: verdict });
        }
        // FULL syncs the log at each commit: a change that was answered survives a crash of the machine.
        db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let found: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        let known = MIGRATIONS.len();
        if found > known {
            return Err(AccountDatabaseError::TooNew { path: path.to_owned(), found, known });
        }
        migrate(&mut db, found).map_err(failed)?;
        Ok(Self { db, file_place: FileLossDetector::new(path) })
    }

    /// True if there is no account. Fails with [`AccountStoreError::Failed`] when the file can't be read.
    pub fn is_empty(&self) -> StoreResult<bool> {
        query_value(&self.db, "SELECT NOT EXISTS (SELECT 1 FROM account)", [])
    }

    /// Returns the detector that notices when the file is removed or replaced.
    pub(crate) fn file_place(&self) -> FileLossDetector {
        self.file_place.clone()
    }

    /// Checks a backup completely before it becomes the account database, and counts its accounts. Its rooms get a
    /// record of the restore at the next start. Fails with [`AccountDatabaseError`] when it is empty, damaged, too new
    /// or unusable.
    pub fn check_backup(path: &Path) -> Result<usize, AccountDatabaseError> {
        let damaged = |why: String| AccountDatabaseError::Damaged { path: path.to_owned(), why };
        let failed = |error: rusqlite::Error| AccountDatabaseError::of(path, &error);
        if sqlite_file::is_missing_or_empty(path) {
            return Err(damaged("it is empty".to_owned()));
        }
        // Opening migrates the schema: a backup of an older tracker is fit for this one.
        let store = Self::open(path)?;
        let verdict: String = store.db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
        let accounts = store.read(|rows| rows.bindings()).map_err(|why| damaged(why.to_string()))?.len();
        // Records that were signed after the backup are void.
        let mark = "INSERT OR REPLACE INTO room_setting VALUES (?1, x'01')";
        store.db.execute(mark, params![RESTORED_SETTING]).map_err(failed)?;
        Ok(accounts)
    }
}

impl SqliteAccountStore {
    /// Runs `job`, which only reads.
    pub(super) fn read<T>(&self, job: impl FnOnce(&dyn StoreRows) -> StoreResult<T>) -> StoreResult<T> {
        job(&SqliteRows::new(&self.db))
    }

    /// Runs `change` in one transaction, which takes the write lock at once: all of it is stored, or nothing.
    pub(super) fn commit<T>(&mut self, change: impl FnOnce(&dyn StoreRows) -> StoreResult<T>) -> StoreResult<T> {
        self.ensure_file_in_place()?;
        // A second tracker process can't come in between what is read and what is written.
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&SqliteRows::new(&step))?;
        step.commit()?;
        Ok(done)
    }

    /// Returns the database, for copies of all of it.
    pub(super) const fn database(&self) -> &Connection {
        &self.db
    }

    /// True if the file can't grow for want of room.
    pub(super) fn is_out_of_room(&self) -> bool {
        self.file_place.path().parent().is_some_and(sqlite_file::is_out_of_room)
    }

    /// Refuses to write to a file that is no longer at its path.
    fn ensure_file_in_place(&self) -> StoreResult {
        if self.file_place.is_lost() { Err(AccountStoreError::Lost(self.file_place.path().to_owned())) } else { Ok(()) }
    }
}

/// The calls of tests that know the file.
#[cfg(test)]
impl SqliteAccountStore {
    pub(crate) fn create(&mut self, account: &super::Account) -> StoreResult {
        self.commit(|rows| super::account_rules::create(rows, account, None))
    }

    pub(crate) fn bindings(&self) -> StoreResult<Vec<(shared::UserName, Option<shared::Fingerprint>)>> {
        self.read(|rows| rows.bindings())
    }
}
