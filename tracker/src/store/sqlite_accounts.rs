//! The accounts in one SQLite file, in WAL mode, synced at every commit.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certs::FileLossDetector;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};
use shared::account_name::{NameClaim, NewUserName, name_claims, suggest_alternatives};
use shared::{Fingerprint, UserName};

use super::claim_key::claim_key;
use super::sqlite_file::{self, TOO_MANY_OPEN};
use super::sqlite_rooms::{self, RecordStamp, RoomOutcome};
use super::{Account, AccountStoreError, store_error, unix_ms};
use crate::registry::{FORMER_KEYS, FormerKey};

/// The steps that bring the schema from version `n` to `n + 1`, in order. Released steps never change: append new ones.
const MIGRATIONS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; 7] = [
    |step| {
        step.execute_batch(
            "CREATE TABLE account (
                user TEXT NOT NULL PRIMARY KEY,
                password_hash TEXT NOT NULL,
                fingerprint BLOB UNIQUE CHECK (fingerprint IS NULL OR length(fingerprint) = 32)
            ) STRICT, WITHOUT ROWID",
        )
    },
    |step| {
        step.execute_batch(
            "CREATE TABLE name_claim (
                kind TEXT NOT NULL,
                key TEXT NOT NULL,
                user TEXT NOT NULL,
                PRIMARY KEY (kind, key)
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX name_claim_user ON name_claim (user);
            CREATE INDEX account_user_nocase ON account (user COLLATE NOCASE);",
        )?;
        claim_free_names_as_text(step)
    },
    |step| {
        step.execute_batch(
            "CREATE TABLE former_key (
                fingerprint BLOB NOT NULL PRIMARY KEY CHECK (length(fingerprint) = 32),
                user TEXT NOT NULL,
                -- When another key took its place, milliseconds since 1970.
                moved_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX former_key_moved ON former_key (moved_ms);",
        )
    },
    // The readings of names' looks changed: claims are made anew.
    |step| {
        step.execute("DELETE FROM name_claim WHERE kind = 'look'", [])?;
        claim_free_names_as_text(step)
    },
    // Keys of claims take eight bytes each, however long the name is.
    |step| {
        step.execute_batch(
            "ALTER TABLE name_claim RENAME TO old_claim;
            CREATE TABLE name_claim (key INTEGER NOT NULL PRIMARY KEY, user TEXT NOT NULL) STRICT;",
        )?;
        {
            let mut old = step.prepare("SELECT kind, key, user FROM old_claim")?;
            let mut insert = step.prepare("INSERT OR IGNORE INTO name_claim (key, user) VALUES (?1, ?2)")?;
            let mut rows = old.query([])?;
            while let Some(row) = rows.next()? {
                let (kind, key): (String, String) = (row.get(0)?, row.get(1)?);
                insert.execute(params![claim_key(&kind, &key), row.get::<_, String>(2)?])?;
            }
        }
        step.execute_batch("DROP TABLE old_claim")
    },
    // Earlier versions didn't record logins: their accounts have a year to be used.
    |step| {
        step.execute_batch(
            "CREATE TABLE unused_account (
                user TEXT NOT NULL PRIMARY KEY,
                -- When it is removed unless it is used until then, milliseconds since 1970.
                lapses_ms INTEGER NOT NULL
            ) STRICT, WITHOUT ROWID;
            INSERT INTO unused_account
                SELECT user, (CAST(strftime('%s', 'now') AS INTEGER) + 365 * 86400) * 1000 FROM account;",
        )
    },
    sqlite_rooms::create_tables,
];

/// Accounts in one SQLite file.
#[derive(Debug)]
pub struct SqliteAccountStore {
    db: Connection,
    file_place: FileLossDetector,
}

/// The reason why the file can't be used. Every message says what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum AccountDatabaseError {
    #[error(
        "the account database {path} is damaged ({why}): put back a copy of it \
         (`tracker restore FILE`), or move it away and begin without accounts (`tracker new accounts`)"
    )]
    Damaged { path: PathBuf, why: String },
    #[error(
        "the account database {path} has schema version {found}, this tracker knows versions up to {known}: \
         use the newer tracker that wrote it"
    )]
    TooNew {
        path: PathBuf,
        found: usize,
        /// The latest version that this tracker knows.
        known: usize,
    },
    #[error("can't use the account database {path}: {TOO_MANY_OPEN}")]
    TooManyOpen { path: PathBuf },
    #[error(
        "can't use the account database {path}: {why}; check its permissions and the space on its disk, \
         or choose a folder on another disk with --data-dir"
    )]
    Unusable {
        path: PathBuf,
        /// The error of SQLite or the system.
        why: String,
    },
}

impl SqliteAccountStore {
    /// Opens the file, creates it if necessary, and migrates its schema. Fails with [`AccountDatabaseError`] when the
    /// file is damaged, too new or unusable.
    pub fn open(path: &Path) -> Result<Self, AccountDatabaseError> {
        let failed = |error: rusqlite::Error| open_error(path, &error);
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
        for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
            migrate(&mut db, version + 1, *migration).map_err(failed)?;
        }
        Ok(Self { db, file_place: FileLossDetector::new(path) })
    }

    /// True if there is no account. Fails with [`AccountStoreError::Failed`] when the file can't be read.
    pub fn is_empty(&self) -> Result<bool, AccountStoreError> {
        let any = "SELECT EXISTS (SELECT 1 FROM account)";
        self.db.query_row(any, [], |row| row.get::<_, bool>(0)).map(|any| !any).map_err(store_error)
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
        if sqlite_file::is_missing_or_empty(path) {
            return Err(damaged("it is empty".to_owned()));
        }
        // Opening migrates the schema: a backup of an older tracker is fit for this one.
        let mut store = Self::open(path)?;
        let verdict: String = store
            .db
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|error| open_error(path, &error))?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
        let accounts = store.bindings().map_err(|why| damaged(why.to_string()))?.len();
        sqlite_rooms::mark_restored(&store.db).map_err(|error| open_error(path, &error))?;
        Ok(accounts)
    }
}

/// The statements behind [`super::AccountStore`], which documents them. Each write is one transaction.
impl SqliteAccountStore {
    pub(crate) fn find(&mut self, user: &UserName) -> Result<Option<Account>, AccountStoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT password_hash, fingerprint FROM account WHERE user = ?1")
            .map_err(store_error)?;
        let account = |row: &Row<'_>| {
            let binding = row.get::<_, Option<[u8; 32]>>(1)?.map(Fingerprint::from_bytes);
            Ok(Account { user: user.clone(), password_hash: row.get(0)?, binding })
        };
        query.query_row([user.as_str()], account).optional().map_err(store_error)
    }

    pub(crate) fn bindings(&mut self) -> Result<Vec<(UserName, Option<Fingerprint>)>, AccountStoreError> {
        let mut query = self.db.prepare("SELECT user, fingerprint FROM account ORDER BY user").map_err(store_error)?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<_>>(1)?)));
        rows.map_err(store_error)?
            .map(|row| {
                let (user, fingerprint) = row.map_err(store_error)?;
                Ok((parsed_user(&user)?, fingerprint.map(Fingerprint::from_bytes)))
            })
            .collect()
    }

    pub(crate) fn create(&mut self, account: &Account, lapses: Option<SystemTime>) -> Result<(), AccountStoreError> {
        let Account { user, password_hash, binding } = account;
        let fingerprint = binding.as_ref().map(Fingerprint::as_bytes);
        // Checked and inserted in one transaction: a second tracker process can't come in between.
        let step = self.begin()?;
        // A hash has a salt of its own: an account with the same one is this one, made by the first attempt.
        let same = "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1 AND password_hash = ?2 AND fingerprint IS ?3)";
        let is_made = step
            .prepare_cached(same)
            .and_then(|mut query| query.query_row(params![user.as_str(), password_hash, fingerprint], |row| row.get(0)))
            .map_err(store_error)?;
        if is_made {
            return Ok(());
        }
        ensure_name_free(&step, user)?;
        step.prepare_cached("INSERT INTO account (user, password_hash, fingerprint) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![user.as_str(), password_hash, fingerprint]))
            .map_err(|error| conflict_error(error, user))?;
        claim(&step, user).map_err(store_error)?;
        if let Some(lapses) = lapses {
            step.prepare_cached("INSERT OR REPLACE INTO unused_account VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute(params![user.as_str(), unix_ms(lapses)]))
                .map_err(store_error)?;
        }
        step.commit().map_err(store_error)
    }

    pub(crate) fn count(&mut self) -> Result<usize, AccountStoreError> {
        let mut query = self.db.prepare_cached("SELECT count(*) FROM account").map_err(store_error)?;
        query.query_row([], |row| row.get(0)).map_err(store_error)
    }

    pub(crate) fn ensure_name_free(&mut self, user: &UserName) -> Result<(), AccountStoreError> {
        ensure_name_free(&self.db, user)
    }

    pub(crate) fn find_free_name(&mut self, wanted: &UserName) -> Result<Option<NewUserName>, AccountStoreError> {
        for name in suggest_alternatives(wanted) {
            match self.ensure_name_free(name.as_user_name()) {
                Ok(()) => return Ok(Some(name)),
                Err(AccountStoreError::NameTaken(_) | AccountStoreError::NameLike { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    pub(crate) fn names_ignoring_case(&mut self, user: &UserName) -> Result<Vec<UserName>, AccountStoreError> {
        let sql = "SELECT user FROM account WHERE user = ?1 COLLATE NOCASE ORDER BY user";
        let mut query = self.db.prepare_cached(sql).map_err(store_error)?;
        users(query.query_map([user.as_str()], |row| row.get(0)))
    }

    pub(crate) fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> Result<(), AccountStoreError> {
        let update = "UPDATE account SET password_hash = ?3 WHERE user = ?1 AND password_hash IN (?2, ?3)";
        self.change_one(update, [user.as_str(), old, new], AccountStoreError::Changed)
    }

    pub(crate) fn bind(
        &mut self,
        user: &UserName,
        old: Option<&FormerKey>,
        new: Fingerprint,
        stamp: RecordStamp<'_>,
    ) -> Result<Vec<RoomOutcome>, AccountStoreError> {
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
                step.execute("INSERT OR REPLACE INTO former_key VALUES (?1, ?2, ?3)", former)
                    .and_then(|_| step.execute(oldest, [FORMER_KEYS]))
                    .map_err(store_error)?;
            }
            sqlite_rooms::end_memberships(step, stamp, user, Some(new))
        })
    }

    pub(crate) fn former_keys(&mut self) -> Result<Vec<FormerKey>, AccountStoreError> {
        let sql = "SELECT fingerprint, user, moved_ms FROM former_key ORDER BY moved_ms";
        let mut query = self.db.prepare(sql).map_err(store_error)?;
        let columns = |row: &Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
        let rows = query.query_map([], columns).map_err(store_error)?;
        rows.map(|row| {
            let (fingerprint, user, moved_ms) = row.map_err(store_error)?;
            let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(moved_ms).unwrap_or(0));
            Ok(FormerKey { fingerprint: Fingerprint::from_bytes(fingerprint), user: parsed_user(&user)?, since })
        })
        .collect()
    }

    pub(crate) fn reset_password(&mut self, user: &UserName, new: &str) -> Result<(), AccountStoreError> {
        let update = "UPDATE account SET password_hash = ?2 WHERE user = ?1";
        self.change_one(update, [user.as_str(), new], AccountStoreError::NoAccount)
    }

    pub(crate) fn unbind(
        &mut self,
        user: &UserName,
        stamp: RecordStamp<'_>,
    ) -> Result<Vec<RoomOutcome>, AccountStoreError> {
        self.in_transaction(|step| {
            let update = "UPDATE account SET fingerprint = NULL WHERE user = ?1";
            if step.execute(update, [user.as_str()]).map_err(store_error)? == 0 {
                return Err(AccountStoreError::NoAccount);
            }
            sqlite_rooms::end_memberships(step, stamp, user, None)
        })
    }

    pub(crate) fn remove(
        &mut self,
        user: &UserName,
        stamp: RecordStamp<'_>,
    ) -> Result<Vec<RoomOutcome>, AccountStoreError> {
        self.in_transaction(|step| {
            remove(step, user)?;
            // Accounts older than the claims may look alike: then only one had the claim, and the other gets it now.
            claim_free_names(step).map_err(store_error)?;
            sqlite_rooms::forget_user(step, stamp, user)
        })
    }

    pub(crate) fn unused(&mut self) -> Result<Vec<UserName>, AccountStoreError> {
        let mut query = self.db.prepare("SELECT user FROM unused_account ORDER BY user").map_err(store_error)?;
        users(query.query_map([], |row| row.get(0)))
    }

    pub(crate) fn mark_used(&mut self, user: &UserName) -> Result<(), AccountStoreError> {
        self.ensure_file_in_place()?;
        let delete = self.db.prepare_cached("DELETE FROM unused_account WHERE user = ?1");
        delete.and_then(|mut delete| delete.execute([user.as_str()])).map(drop).map_err(store_error)
    }

    pub(crate) fn lapsed(&mut self, now: SystemTime, at_most: usize) -> Result<Vec<UserName>, AccountStoreError> {
        let sql = "SELECT user FROM unused_account WHERE lapses_ms <= ?1 ORDER BY lapses_ms, user LIMIT ?2";
        let mut query = self.db.prepare_cached(sql).map_err(store_error)?;
        users(query.query_map(params![unix_ms(now), at_most], |row| row.get(0)))
    }

    pub(crate) fn remove_lapsed(
        &mut self,
        user: &UserName,
        now: SystemTime,
        stamp: RecordStamp<'_>,
    ) -> Result<Vec<RoomOutcome>, AccountStoreError> {
        self.in_transaction(|step| {
            let sql = "SELECT EXISTS (SELECT 1 FROM unused_account WHERE user = ?1 AND lapses_ms <= ?2)";
            // Asked again: it may have been used since it was found.
            let has_lapsed = step.query_row(sql, params![user.as_str(), unix_ms(now)], |row| row.get(0));
            if !has_lapsed.map_err(store_error)? {
                return Err(AccountStoreError::NoAccount);
            }
            remove(step, user)?;
            sqlite_rooms::forget_user(step, stamp, user)
        })
    }

    pub(crate) fn claim_free_names(&mut self) -> Result<(), AccountStoreError> {
        let step = self.begin()?;
        claim_free_names(&step).map_err(store_error)?;
        step.commit().map_err(store_error)
    }

    pub(crate) fn password_hashes(&mut self) -> Result<Vec<(UserName, String)>, AccountStoreError> {
        let mut query =
            self.db.prepare("SELECT user, password_hash FROM account ORDER BY user").map_err(store_error)?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).map_err(store_error)?;
        rows.map(|row| row.map_err(store_error).and_then(|(user, hash)| Ok((parsed_user(&user)?, hash)))).collect()
    }

    pub(crate) fn probe(&mut self) -> Result<(), AccountStoreError> {
        self.ensure_file_in_place()?;
        // SQLite writes the version even if it is the same, so this commits like a change.
        self.db.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(store_error)
    }

    pub(crate) fn is_out_of_room(&self) -> bool {
        self.file_place.path().parent().is_some_and(sqlite_file::is_out_of_room)
    }
}

impl SqliteAccountStore {
    /// Refuses to write to a file that is no longer at its path.
    fn ensure_file_in_place(&self) -> Result<(), AccountStoreError> {
        if self.file_place.is_lost() { Err(AccountStoreError::Lost(self.file_place.path().to_owned())) } else { Ok(()) }
    }

    /// Returns the database, for reading.
    pub(super) const fn database(&self) -> &Connection {
        &self.db
    }

    /// Runs `change` in one transaction: all of it is stored, or nothing.
    pub(super) fn in_transaction<T>(
        &mut self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, AccountStoreError>,
    ) -> Result<T, AccountStoreError> {
        let step = self.begin()?;
        let done = change(&step)?;
        step.commit().map_err(store_error)?;
        Ok(done)
    }

    /// Begins a transaction that takes the write lock at once.
    fn begin(&mut self) -> Result<Transaction<'_>, AccountStoreError> {
        self.ensure_file_in_place()?;
        self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)
    }

    fn change_one(
        &self,
        sql: &str,
        params: impl Params,
        otherwise: AccountStoreError,
    ) -> Result<(), AccountStoreError> {
        self.ensure_file_in_place()?;
        let rows = self.db.prepare_cached(sql).and_then(|mut change| change.execute(params)).map_err(store_error)?;
        if rows == 1 { Ok(()) } else { Err(otherwise) }
    }
}

fn users(
    rows: rusqlite::Result<impl Iterator<Item = rusqlite::Result<String>>>,
) -> Result<Vec<UserName>, AccountStoreError> {
    rows.map_err(store_error)?.map(|row| row.map_err(store_error).and_then(|user| parsed_user(&user))).collect()
}

fn remove(step: &Transaction<'_>, user: &UserName) -> Result<(), AccountStoreError> {
    let delete = |sql: &str| step.execute(sql, [user.as_str()]).map_err(store_error);
    if delete("DELETE FROM account WHERE user = ?1")? == 0 {
        return Err(AccountStoreError::NoAccount);
    }
    for NameClaim { kind, key } in name_claims(user) {
        let claim = params![claim_key(kind.as_str(), &key), user.as_str()];
        step.execute("DELETE FROM name_claim WHERE key = ?1 AND user = ?2", claim).map_err(store_error)?;
    }
    delete("DELETE FROM former_key WHERE user = ?1")?;
    delete("DELETE FROM unused_account WHERE user = ?1").map(drop)
}

fn parsed_user(user: &str) -> Result<UserName, AccountStoreError> {
    user.parse().map_err(|why| AccountStoreError::Failed(format!("the stored user {user:?}: {why}")))
}

fn ensure_name_free(db: &Connection, user: &UserName) -> Result<(), AccountStoreError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1)";
    if db
        .prepare_cached(exists)
        .and_then(|mut query| query.query_row([user.as_str()], |row| row.get(0)))
        .map_err(store_error)?
    {
        return Err(AccountStoreError::NameTaken(user.clone()));
    }
    let mut holder = db.prepare_cached("SELECT user FROM name_claim WHERE key = ?1").map_err(store_error)?;
    for NameClaim { kind, key } in name_claims(user) {
        let key = claim_key(kind.as_str(), &key);
        let held = holder.query_row([key], |row| row.get::<_, String>(0)).optional().map_err(store_error)?;
        if let Some(taken) = held {
            return Err(AccountStoreError::NameLike { wanted: user.clone(), taken: parsed_user(&taken)? });
        }
    }
    Ok(())
}

/// Claims the account's names that no other account claims.
fn claim(db: &Connection, user: &UserName) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO name_claim (key, user) VALUES (?1, ?2)")?;
    for NameClaim { kind, key } in name_claims(user) {
        insert.execute(params![claim_key(kind.as_str(), &key), user.as_str()])?;
    }
    Ok(())
}

/// Claims free names in the schema of versions 2 to 4, in which a key is its text.
fn claim_free_names_as_text(db: &Connection) -> rusqlite::Result<()> {
    let mut insert = db.prepare("INSERT OR IGNORE INTO name_claim (kind, key, user) VALUES (?1, ?2, ?3)")?;
    for user in parsable_users(db)? {
        for NameClaim { kind, key } in name_claims(&user) {
            insert.execute([kind.as_str(), &key, user.as_str()])?;
        }
    }
    Ok(())
}

/// Claims the names of all accounts that are not claimed yet, in the order of the names.
fn claim_free_names(db: &Connection) -> rusqlite::Result<()> {
    parsable_users(db)?.iter().try_for_each(|user| claim(db, user))
}

/// Returns the users, ordered by name.
fn parsable_users(db: &Connection) -> rusqlite::Result<Vec<UserName>> {
    let mut query = db.prepare("SELECT user FROM account ORDER BY user")?;
    let users = query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    // A stored name that isn't valid is reported when the accounts are read.
    Ok(users.iter().filter_map(|user| user.parse().ok()).collect())
}

fn migrate(
    db: &mut Connection,
    version: usize,
    migration: fn(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    // The version changes in the same transaction, so that no step is done twice.
    let step = db.transaction()?;
    migration(&step)?;
    step.pragma_update(None, "user_version", version)?;
    step.commit()
}

fn conflict_error(error: rusqlite::Error, user: &UserName) -> AccountStoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        // The name is the primary key; the fingerprint is the only other unique column.
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => AccountStoreError::NameTaken(user.clone()),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => AccountStoreError::KeyTaken,
        _ => store_error(error),
    }
}

fn open_error(path: &Path, error: &rusqlite::Error) -> AccountDatabaseError {
    let (path, why) = (path.to_owned(), error.to_string());
    if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && sqlite_file::is_out_of_descriptors() {
        return AccountDatabaseError::TooManyOpen { path };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => AccountDatabaseError::Damaged { path, why },
        _ => AccountDatabaseError::Unusable { path, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None of these accounts is in a room, so nothing is signed.
    const UNSIGNED: RecordStamp<'_> = RecordStamp { signer: None, now: UNIX_EPOCH };

    fn key(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    /// Takes away what version 7 added.
    const WITHOUT_ROOMS: &str = "DROP TABLE room; DROP TABLE room_member; DROP TABLE room_standing;
        DROP TABLE room_record; DROP TABLE room_open_cut; DROP TABLE room_setting;";

    fn lost<T: std::fmt::Debug>(done: &Result<T, AccountStoreError>) {
        assert!(matches!(done, Err(AccountStoreError::Lost(_))), "{done:?}");
    }

    fn account(user: &str, binding: Option<Fingerprint>) -> Account {
        Account { user: user.parse().unwrap(), password_hash: format!("hash of {user}"), binding }
    }

    #[test]
    fn what_was_stored_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let (alice, bob) = (account("alice", None), account("bob", Some(key(1))));
        {
            let mut store = SqliteAccountStore::open(&path).unwrap();
            store.create(&alice, None).unwrap();
            store.create(&bob, None).unwrap();
        }
        let mut store = SqliteAccountStore::open(&path).unwrap();
        assert_eq!(store.find(&alice.user).unwrap(), Some(alice.clone()));
        assert_eq!(store.find(&"Bob".parse().unwrap()).unwrap(), None);
        assert_eq!(store.bindings().unwrap(), [(alice.user, None), (bob.user, Some(key(1)))]);
        let level: u32 = store.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        let mode: String = store.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!((level, mode.as_str()), (2, "wal"));
    }

    #[test]
    fn nothing_is_written_to_a_file_that_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let bob = account("bob", None);
        store.create(&bob, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        lost(&store.create(&account("eve", None), None));
        lost(&store.set_password(&bob.user, &bob.password_hash, "new"));
        lost(&store.reset_password(&bob.user, "new"));
        lost(&store.bind(&bob.user, None, key(1), UNSIGNED));
        lost(&store.unbind(&bob.user, UNSIGNED));
        lost(&store.remove(&bob.user, UNSIGNED));
        lost(&store.probe());
        assert_eq!(store.find(&bob.user).unwrap(), Some(bob));
        assert!(!path.exists());
    }

    #[test]
    fn names_and_keys_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
        store.create(&account("bob", Some(key(1))), None).unwrap();
        store.create(&account("eve", None), None).unwrap();
        let eve: UserName = "eve".parse().unwrap();
        assert!(matches!(store.create(&account("bob", None), None), Err(AccountStoreError::NameTaken(_))));
        assert!(matches!(store.create(&account("mallory", Some(key(1))), None), Err(AccountStoreError::KeyTaken)));
        assert!(matches!(store.bind(&eve, None, key(1), UNSIGNED), Err(AccountStoreError::KeyTaken)));
        store.bind(&eve, None, key(2), UNSIGNED).unwrap();
        assert!(matches!(store.bind(&eve, None, key(3), UNSIGNED), Err(AccountStoreError::Changed)));
        let former = FormerKey { fingerprint: key(2), user: eve.clone(), since: UNIX_EPOCH + Duration::from_secs(7) };
        store.bind(&eve, Some(&former), key(3), UNSIGNED).unwrap();
        assert_eq!(store.former_keys().unwrap(), [former]);
        assert!(matches!(store.set_password(&eve, "other", "new"), Err(AccountStoreError::Changed)));
        store.set_password(&eve, "hash of eve", "new").unwrap();
        let found = store.find(&eve).unwrap().unwrap();
        assert_eq!((found.password_hash.as_str(), found.binding), ("new", Some(key(3))));
    }

    #[test]
    fn a_write_that_is_repeated_changes_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
        let (bob, now) = (account("bob", None), UNIX_EPOCH + Duration::from_secs(7));
        let former = FormerKey { fingerprint: key(1), user: bob.user.clone(), since: now };
        for _ in 0..2 {
            store.create(&bob, Some(now)).unwrap();
        }
        let other = Account { password_hash: "another salt".to_owned(), ..bob.clone() };
        assert!(matches!(store.create(&other, None), Err(AccountStoreError::NameTaken(_))));
        for _ in 0..2 {
            store.set_password(&bob.user, &bob.password_hash, "new").unwrap();
            store.mark_used(&bob.user).unwrap();
        }
        store.bind(&bob.user, None, key(1), UNSIGNED).unwrap();
        for _ in 0..2 {
            store.bind(&bob.user, Some(&former), key(2), UNSIGNED).unwrap();
        }
        assert_eq!((store.count().unwrap(), store.former_keys().unwrap()), (1, vec![former]));
        assert_eq!(store.find(&bob.user).unwrap().unwrap().binding, Some(key(2)));
        assert_eq!(store.unused().unwrap(), []);
        for _ in 0..2 {
            store.unbind(&bob.user, UNSIGNED).unwrap();
        }
    }

    #[test]
    fn accounts_that_were_never_used_lapse_and_free_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
        let after = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let [alice, bob, eve, zoe] = ["alice", "bob", "eve", "zoe"].map(|user| account(user, None));
        store.create(&alice, None).unwrap();
        store.create(&bob, Some(after(10))).unwrap();
        store.create(&eve, Some(after(9))).unwrap();
        store.create(&zoe, Some(after(8))).unwrap();
        store.mark_used(&zoe.user).unwrap();
        assert_eq!(store.unused().unwrap(), [bob.user.clone(), eve.user.clone()]);
        assert_eq!(store.lapsed(after(8), 9).unwrap(), []);
        assert_eq!(store.lapsed(after(10), 9).unwrap(), [eve.user.clone(), bob.user.clone()]);
        assert_eq!(store.lapsed(after(10), 1).unwrap(), std::slice::from_ref(&eve.user));
        for kept in [&alice, &zoe, &bob] {
            assert!(matches!(store.remove_lapsed(&kept.user, after(9), UNSIGNED), Err(AccountStoreError::NoAccount)));
        }
        store.remove_lapsed(&eve.user, after(9), UNSIGNED).unwrap();
        assert_eq!((store.find(&eve.user).unwrap(), store.count().unwrap()), (None, 3));
        store.create(&account("EVE", None), None).unwrap();
    }

    #[test]
    fn accounts_of_version_5_have_a_year_to_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let bob = account("bob", None);
        store.create(&bob, None).unwrap();
        drop(store);
        let old = Connection::open(&path).unwrap();
        old.execute_batch(WITHOUT_ROOMS).unwrap();
        old.execute_batch("DROP TABLE unused_account; PRAGMA user_version = 5;").unwrap();
        drop(old);
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let after_days = |days: u64| SystemTime::now() + Duration::from_secs(days * 86_400);
        assert_eq!(store.lapsed(after_days(364), 9).unwrap(), []);
        assert_eq!(store.lapsed(after_days(366), 9).unwrap(), [bob.user]);
    }

    #[test]
    fn an_account_claims_what_can_be_taken_for_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
        let is_like = |store: &mut SqliteAccountStore, wanted: &str, taken: &str| {
            let created = store.create(&account(wanted, None), None);
            let is_like =
                matches!(&created, Err(AccountStoreError::NameLike { taken: it, .. }) if it.as_str() == taken);
            assert!(is_like, "{wanted}: {created:?}");
            assert_eq!(store.find(&wanted.parse().unwrap()).unwrap(), None);
        };
        store.create(&account("bob", Some(key(1))), None).unwrap();
        for other in ["BOB", "Bob", "b0b", "bob.", "b-o-b"] {
            is_like(&mut store, other, "bob");
        }
        store.create(&account("alice", None), None).unwrap();
        is_like(&mut store, "a11ce", "alice");
        // An account that was refused for its key claims nothing.
        assert!(matches!(store.create(&account("carol", Some(key(1))), None), Err(AccountStoreError::KeyTaken)));
        store.create(&account("CAROL", None), None).unwrap();
        assert_eq!(store.names_ignoring_case(&"BOB".parse().unwrap()).unwrap(), ["bob".parse().unwrap()]);
        assert_eq!(store.names_ignoring_case(&"b0b".parse().unwrap()).unwrap(), []);
        store.remove(&"bob".parse().unwrap(), UNSIGNED).unwrap();
        store.create(&account("B0B", None), None).unwrap();
        is_like(&mut store, "bob", "B0B");
    }

    #[test]
    fn older_accounts_keep_their_names_and_claim_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(include_str!("fixtures/accounts_of_version_1.sql")).unwrap();
        drop(old);
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let all: Vec<String> = store.bindings().unwrap().into_iter().map(|(user, _)| user.to_string()).collect();
        assert_eq!(all, ["--help", "-x", "..", "BOB", "Bob", "alice", "b0b", "bob"]);
        assert_eq!(store.find(&"-x".parse().unwrap()).unwrap().unwrap().password_hash, "hash of -x");
        let like_bob = store.names_ignoring_case(&"bOb".parse().unwrap()).unwrap();
        assert_eq!(like_bob.iter().map(UserName::as_str).collect::<Vec<_>>(), ["BOB", "Bob", "bob"]);
        let refused = |store: &mut SqliteAccountStore| {
            let created = store.create(&account("boB", None), None);
            assert!(matches!(created, Err(AccountStoreError::NameLike { .. })), "{created:?}");
        };
        // The name stays claimed by the remaining accounts, whichever is removed.
        for user in ["BOB", "bob", "Bob", "b0b"] {
            refused(&mut store);
            store.remove(&user.parse().unwrap(), UNSIGNED).unwrap();
        }
        store.create(&account("boB", None), None).unwrap();
        store.create(&account("x", None), None).unwrap_err();
        assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 5);
    }

    /// Sets a database back to the table of claims whose keys are texts, and runs `rows` on it.
    fn set_text_claims(path: &Path, rows: &str) {
        let old = Connection::open(path).unwrap();
        old.execute_batch(WITHOUT_ROOMS).unwrap();
        old.execute_batch(
            "DROP TABLE name_claim;
            DROP TABLE unused_account;
            CREATE TABLE name_claim (kind TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (kind, key))
                STRICT, WITHOUT ROWID;
            CREATE INDEX name_claim_user ON name_claim (user);",
        )
        .unwrap();
        old.execute_batch(rows).unwrap();
    }

    #[test]
    fn accounts_of_version_3_claim_what_looks_like_them_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        store.create(&account("vl-2", None), None).unwrap();
        store.create(&account("mary", None), None).unwrap();
        drop(store);
        // Claims as schema version 3 made them.
        set_text_claims(
            &path,
            "INSERT INTO name_claim VALUES ('case', 'vl-2', 'vl-2'), ('case', 'mary', 'mary');
            INSERT INTO name_claim VALUES ('look', 'vl2', 'vl-2'), ('look', 'mary', 'mary');
            PRAGMA user_version = 3;",
        );
        let mut store = SqliteAccountStore::open(&path).unwrap();
        for (wanted, taken) in [("v1-2", "vl-2"), ("rnary", "mary"), ("MARY", "mary")] {
            let created = store.create(&account(wanted, None), None);
            assert!(
                matches!(&created, Err(AccountStoreError::NameLike { taken: it, .. }) if it.as_str() == taken),
                "{created:?}"
            );
        }
        store.create(&account("bob", None), None).unwrap();
    }

    #[test]
    fn the_claims_of_version_4_stay_with_those_who_had_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        store.create(&account("bob", None), None).unwrap();
        drop(store);
        // Both are older than claims; the later one has them.
        set_text_claims(
            &path,
            "INSERT INTO account VALUES ('b0b', 'hash of b0b', NULL);
            INSERT INTO name_claim VALUES ('case', 'bob', 'bob'), ('look', 'bob', 'bob'), ('case', 'b0b', 'b0b');
            PRAGMA user_version = 4;",
        );
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let taken = |store: &mut SqliteAccountStore, wanted: &str| match store.create(&account(wanted, None), None) {
            Err(AccountStoreError::NameLike { taken, .. }) => taken.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!((taken(&mut store, "b.o.b"), taken(&mut store, "B0B")), ("bob".to_owned(), "b0b".to_owned()));
        store.remove(&"bob".parse().unwrap(), UNSIGNED).unwrap();
        assert_eq!(taken(&mut store, "b.o.b"), "b0b");
        assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 1);
    }

    #[test]
    fn an_account_takes_little_of_the_disk_whatever_its_name_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        store.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let empty: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        let mut created = 0;
        // Names with as many readings as there can be.
        for number in 0..2000_u32 {
            let letters: String = (0..11).map(|bit| if number >> bit & 1 == 1 { 'x' } else { 'y' }).collect();
            let user = format!("1I1I1I1I1I1I1I1I1I1I{letters}");
            let password_hash = "h".repeat(97);
            store.create(&Account { user: user.parse().unwrap(), password_hash, binding: None }, None).unwrap();
            created += 1;
        }
        let pages: i64 = store.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        assert_eq!(store.count().unwrap(), created);
        let each = (pages - empty) * 4096 / 2000;
        assert!(each <= 3072, "{each} bytes an account");
    }

    #[test]
    fn keys_whose_place_others_took_are_remembered_for_as_long_as_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteAccountStore::open(&path).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        store.create(&account("bob", None), None).unwrap();
        let former = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let since = UNIX_EPOCH + Duration::from_millis(1_000_000 + u64::from(n));
            FormerKey { fingerprint: Fingerprint::from_bytes(bytes), user: bob.clone(), since }
        };
        let replace = |store: &mut SqliteAccountStore, n: u16| {
            store.bind(&bob, Some(&former(n)), former(n + 1).fingerprint, UNSIGNED).unwrap();
        };
        store.bind(&bob, None, former(1).fingerprint, UNSIGNED).unwrap();
        replace(&mut store, 1);
        replace(&mut store, 2);
        drop(store);
        let mut store = SqliteAccountStore::open(&path).unwrap();
        assert_eq!(store.former_keys().unwrap(), [former(1), former(2)]);
        let all = u16::try_from(FORMER_KEYS).unwrap();
        store.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        (3..=all + 2).for_each(|n| replace(&mut store, n));
        let kept = store.former_keys().unwrap();
        assert_eq!((kept.len(), &kept[0], kept.last()), (FORMER_KEYS, &former(3), Some(&former(all + 2))));
        store.remove(&bob, UNSIGNED).unwrap();
        assert_eq!(store.former_keys().unwrap(), []);
    }

    #[test]
    fn what_an_administrator_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteAccountStore::open(&folder.path().join("db")).unwrap();
        let (bob, eve): (UserName, UserName) = ("bob".parse().unwrap(), "eve".parse().unwrap());
        store.create(&account("bob", Some(key(1))), None).unwrap();
        let unbound = store.unbind(&eve, UNSIGNED).map(drop);
        let removed = store.remove(&eve, UNSIGNED).map(drop);
        for missing in [store.reset_password(&eve, "x"), unbound, removed] {
            assert!(matches!(missing, Err(AccountStoreError::NoAccount)));
        }
        store.reset_password(&bob, "new").unwrap();
        store.unbind(&bob, UNSIGNED).unwrap();
        assert_eq!(store.password_hashes().unwrap(), [(bob.clone(), "new".to_owned())]);
        store.remove(&bob, UNSIGNED).unwrap();
        assert_eq!(store.bindings().unwrap(), []);
    }

    #[test]
    fn a_probe_is_written_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let log = || folder.path().join("db-wal").metadata().unwrap().len();
        let mut store = SqliteAccountStore::open(&path).unwrap();
        store.create(&account("bob", None), None).unwrap();
        let before = log();
        store.probe().unwrap();
        assert!(log() > before);
        assert_eq!(SqliteAccountStore::check_backup(&path).unwrap(), 1);
    }

    #[test]
    fn files_that_can_t_be_used_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::File::create(&path).and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 8192])).unwrap();
        assert!(matches!(SqliteAccountStore::open(&path), Err(AccountDatabaseError::Damaged { .. })));
        let newer = folder.path().join("newer");
        drop(SqliteAccountStore::open(&newer).unwrap());
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(
            SqliteAccountStore::open(&newer),
            Err(AccountDatabaseError::TooNew { found: 9, known: 7, .. })
        ));
        assert!(matches!(
            SqliteAccountStore::open(&folder.path().join("no/db")),
            Err(AccountDatabaseError::Unusable { .. })
        ));
    }
}
