//! The accounts in one SQLite file, in WAL mode, synced at every commit.

mod account_database_error;
mod account_schema;
mod name_claims;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::FileLossDetector;
use rusqlite::{Connection, Params, Row, Transaction, TransactionBehavior, params};
use shared::account_name::{NewUserName, suggest_alternatives};
use shared::{Fingerprint, UserName};

use super::sqlite_query::{execute, parsed, query_all, query_optional, query_value};
use super::sqlite_rooms::{self, RecordStamp, RoomOutcome};
use super::{Account, AccountStoreError, StoreResult, sqlite_file, unix_ms};
use crate::registry::{FORMER_KEYS, FormerKey};
pub use account_database_error::AccountDatabaseError;
use account_schema::{MIGRATIONS, migrate};
use name_claims::{claim, claim_free_names, ensure_name_free, remove_claims};

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
        let mut store = Self::open(path)?;
        let verdict: String = store.db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
        let accounts = store.bindings().map_err(|why| damaged(why.to_string()))?.len();
        sqlite_rooms::mark_restored(&store.db).map_err(failed)?;
        Ok(accounts)
    }
}

/// The statements behind [`super::AccountStore`], which documents them. Each write is one transaction.
impl SqliteAccountStore {
    pub(crate) fn find(&mut self, user: &UserName) -> StoreResult<Option<Account>> {
        let sql = "SELECT password_hash, fingerprint FROM account WHERE user = ?1";
        query_optional(&self.db, sql, [user.as_str()], |row| {
            let binding = row.get::<_, Option<[u8; 32]>>(1)?.map(Fingerprint::from_bytes);
            Ok(Account { user: user.clone(), password_hash: row.get(0)?, binding })
        })
    }

    pub(crate) fn bindings(&mut self) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>> {
        let columns = |row: &Row<'_>| Ok((parsed(row, 0)?, row.get::<_, Option<_>>(1)?.map(Fingerprint::from_bytes)));
        query_all(&self.db, "SELECT user, fingerprint FROM account ORDER BY user", [], columns)
    }

    pub(crate) fn create(&mut self, account: &Account, lapses: Option<SystemTime>) -> StoreResult {
        let Account { user, password_hash, binding } = account;
        let fingerprint = binding.as_ref().map(Fingerprint::as_bytes);
        // Checked and inserted in one transaction: a second tracker process can't come in between.
        self.in_transaction(|step| {
            // A hash has a salt of its own: an account with the same one is this one, made by the first attempt.
            let same =
                "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1 AND password_hash = ?2 AND fingerprint IS ?3)";
            if query_value(step, same, params![user.as_str(), password_hash, fingerprint])? {
                return Ok(());
            }
            ensure_name_free(step, user)?;
            step.prepare_cached("INSERT INTO account (user, password_hash, fingerprint) VALUES (?1, ?2, ?3)")
                .and_then(|mut insert| insert.execute(params![user.as_str(), password_hash, fingerprint]))
                .map_err(|error| conflict_error(error, user))?;
            claim(step, user)?;
            if let Some(lapses) = lapses {
                let row = params![user.as_str(), unix_ms(lapses)];
                execute(step, "INSERT OR REPLACE INTO unused_account VALUES (?1, ?2)", row)?;
            }
            Ok(())
        })
    }

    pub(crate) fn count(&mut self) -> StoreResult<usize> {
        query_value(&self.db, "SELECT count(*) FROM account", [])
    }

    pub(crate) fn ensure_name_free(&mut self, user: &UserName) -> StoreResult {
        ensure_name_free(&self.db, user)
    }

    pub(crate) fn find_free_name(&mut self, wanted: &UserName) -> StoreResult<Option<NewUserName>> {
        for name in suggest_alternatives(wanted) {
            match self.ensure_name_free(name.as_user_name()) {
                Ok(()) => return Ok(Some(name)),
                Err(AccountStoreError::NameTaken(_) | AccountStoreError::NameLike { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    pub(crate) fn names_ignoring_case(&mut self, user: &UserName) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user FROM account WHERE user = ?1 COLLATE NOCASE ORDER BY user";
        query_all(&self.db, sql, [user.as_str()], |row| parsed(row, 0))
    }

    pub(crate) fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> StoreResult {
        // An attempt that is repeated after a lost answer finds its own hash.
        let update = "UPDATE account SET password_hash = ?3 WHERE user = ?1 AND password_hash IN (?2, ?3)";
        self.change_one(update, [user.as_str(), old, new], AccountStoreError::Changed)
    }

    pub(crate) fn bind(
        &mut self,
        user: &UserName,
        old: Option<&FormerKey>,
        new: Fingerprint,
        stamp: RecordStamp<'_>,
    ) -> StoreResult<Vec<RoomOutcome>> {
        self.in_transaction(|step| {
            let old_key = old.map(|former| former.fingerprint.as_bytes());
            let rows = step
                // `IS` also matches a missing binding, which `=` never does.
                .prepare_cached(
                    "UPDATE account SET fingerprint = ?3 WHERE user = ?1 AND (fingerprint IS ?2 OR fingerprint = ?3)",
                )
                .and_then(|mut update| update.execute(params![user.as_str(), old_key, new.as_bytes()]))
                .map_err(|error| conflict_error(error, user))?;
            if rows != 1 {
                return Err(AccountStoreError::Changed);
            }
            if let Some(FormerKey { fingerprint, user, since }) = old {
                // A key may be bound again and replaced again: the last time counts.
                let former = params![fingerprint.as_bytes(), user.as_str(), unix_ms(*since)];
                let oldest = "DELETE FROM former_key WHERE fingerprint IN
                          (SELECT fingerprint FROM former_key ORDER BY moved_ms DESC LIMIT -1 OFFSET ?1)";
                execute(step, "INSERT OR REPLACE INTO former_key VALUES (?1, ?2, ?3)", former)?;
                execute(step, oldest, [FORMER_KEYS])?;
            }
            sqlite_rooms::end_memberships(step, stamp, user, Some(new))
        })
    }

    pub(crate) fn former_keys(&mut self) -> StoreResult<Vec<FormerKey>> {
        let sql = "SELECT fingerprint, user, moved_ms FROM former_key ORDER BY moved_ms";
        query_all(&self.db, sql, [], |row| {
            let fingerprint = Fingerprint::from_bytes(row.get(0)?);
            let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0));
            Ok(FormerKey { fingerprint, user: parsed(row, 1)?, since })
        })
    }

    pub(crate) fn reset_password(&mut self, user: &UserName, new: &str) -> StoreResult {
        let update = "UPDATE account SET password_hash = ?2 WHERE user = ?1";
        self.change_one(update, [user.as_str(), new], AccountStoreError::NoAccount)
    }

    pub(crate) fn unbind(&mut self, user: &UserName, stamp: RecordStamp<'_>) -> StoreResult<Vec<RoomOutcome>> {
        self.in_transaction(|step| {
            if execute(step, "UPDATE account SET fingerprint = NULL WHERE user = ?1", [user.as_str()])? == 0 {
                return Err(AccountStoreError::NoAccount);
            }
            sqlite_rooms::end_memberships(step, stamp, user, None)
        })
    }

    pub(crate) fn remove(&mut self, user: &UserName, stamp: RecordStamp<'_>) -> StoreResult<Vec<RoomOutcome>> {
        self.in_transaction(|step| {
            remove(step, user)?;
            // Accounts older than the claims may look alike: then only one had the claim, and the other gets it now.
            claim_free_names(step)?;
            sqlite_rooms::forget_user(step, stamp, user)
        })
    }

    pub(crate) fn unused(&mut self) -> StoreResult<Vec<UserName>> {
        query_all(&self.db, "SELECT user FROM unused_account ORDER BY user", [], |row| parsed(row, 0))
    }

    pub(crate) fn mark_used(&mut self, user: &UserName) -> StoreResult {
        self.ensure_file_in_place()?;
        execute(&self.db, "DELETE FROM unused_account WHERE user = ?1", [user.as_str()]).map(drop)
    }

    pub(crate) fn lapsed(&mut self, now: SystemTime, at_most: usize) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user FROM unused_account WHERE lapses_ms <= ?1 ORDER BY lapses_ms, user LIMIT ?2";
        query_all(&self.db, sql, params![unix_ms(now), at_most], |row| parsed(row, 0))
    }

    pub(crate) fn remove_lapsed(
        &mut self,
        user: &UserName,
        now: SystemTime,
        stamp: RecordStamp<'_>,
    ) -> StoreResult<Vec<RoomOutcome>> {
        self.in_transaction(|step| {
            let has_lapsed = "SELECT EXISTS (SELECT 1 FROM unused_account WHERE user = ?1 AND lapses_ms <= ?2)";
            // Asked again: it may have been used since it was found.
            if !query_value::<bool>(step, has_lapsed, params![user.as_str(), unix_ms(now)])? {
                return Err(AccountStoreError::NoAccount);
            }
            remove(step, user)?;
            sqlite_rooms::forget_user(step, stamp, user)
        })
    }

    pub(crate) fn claim_free_names(&mut self) -> StoreResult {
        self.in_transaction(|step| Ok(claim_free_names(step)?))
    }

    pub(crate) fn password_hashes(&mut self) -> StoreResult<Vec<(UserName, String)>> {
        let columns = |row: &Row<'_>| Ok((parsed(row, 0)?, row.get(1)?));
        query_all(&self.db, "SELECT user, password_hash FROM account ORDER BY user", [], columns)
    }

    pub(crate) fn probe(&mut self) -> StoreResult {
        self.ensure_file_in_place()?;
        // SQLite writes the version even if it is the same, so this commits like a change.
        Ok(self.db.pragma_update(None, "user_version", MIGRATIONS.len())?)
    }

    pub(crate) fn is_out_of_room(&self) -> bool {
        self.file_place.path().parent().is_some_and(sqlite_file::is_out_of_room)
    }
}

impl SqliteAccountStore {
    /// Refuses to write to a file that is no longer at its path.
    fn ensure_file_in_place(&self) -> StoreResult {
        if self.file_place.is_lost() { Err(AccountStoreError::Lost(self.file_place.path().to_owned())) } else { Ok(()) }
    }

    /// Returns the database, for reading.
    pub(super) const fn database(&self) -> &Connection {
        &self.db
    }

    /// Runs `change` in one transaction, which takes the write lock at once: all of it is stored, or nothing.
    pub(super) fn in_transaction<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> StoreResult<T>,
    ) -> StoreResult<T> {
        self.ensure_file_in_place()?;
        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&step)?;
        step.commit()?;
        Ok(done)
    }

    fn change_one(&self, sql: &str, params: impl Params, otherwise: AccountStoreError) -> StoreResult {
        self.ensure_file_in_place()?;
        // One statement is a transaction by itself.
        if execute(&self.db, sql, params)? == 1 { Ok(()) } else { Err(otherwise) }
    }
}

fn remove(step: &Transaction<'_>, user: &UserName) -> StoreResult {
    if execute(step, "DELETE FROM account WHERE user = ?1", [user.as_str()])? == 0 {
        return Err(AccountStoreError::NoAccount);
    }
    remove_claims(step, user)?;
    execute(step, "DELETE FROM former_key WHERE user = ?1", [user.as_str()])?;
    execute(step, "DELETE FROM unused_account WHERE user = ?1", [user.as_str()]).map(drop)
}

fn conflict_error(error: rusqlite::Error, user: &UserName) -> AccountStoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        // The name is the primary key; the fingerprint is the only other unique column.
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => AccountStoreError::NameTaken(user.clone()),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => AccountStoreError::KeyTaken,
        _ => error.into(),
    }
}
