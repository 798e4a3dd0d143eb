//! The rows of accounts in SQLite.

mod sqlite_room_rows;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, Row, params};
use shared::{Fingerprint, UserName};

use super::sqlite_query::{execute, parsed, query_all, query_optional, query_value};
use super::store_rows::{AccountRows, SharedState, StoreRows};
use super::{Account, AccountStoreError, StoreResult, unix_ms};
use crate::registry::{FormerKey, ReplicatedChange};

/// The rows of one SQLite database. Its one thread runs one transaction after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct SqliteRows<'a>(&'a Connection);

impl<'a> SqliteRows<'a> {
    pub(super) const fn new(db: &'a Connection) -> Self {
        Self(db)
    }
}

impl StoreRows for SqliteRows<'_> {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn touch(&self) -> StoreResult {
        let version: usize = query_value(self.0, "PRAGMA user_version", [])?;
        // SQLite writes the version even if it is the same, so this commits like a change.
        Ok(self.0.pragma_update(None, "user_version", version)?)
    }

    fn append_to_log(&self, _: Vec<ReplicatedChange>) -> StoreResult {
        // The one tracker that has the file tells itself.
        Ok(())
    }

    fn shared_state(&self) -> StoreResult<Option<SharedState>> {
        Ok(None)
    }
}

impl AccountRows for SqliteRows<'_> {
    fn find_account(&self, user: &UserName) -> StoreResult<Option<Account>> {
        let sql = "SELECT password_hash, fingerprint FROM account WHERE user = ?1";
        query_optional(self.0, sql, [user.as_str()], |row| {
            Ok(Account { user: user.clone(), password_hash: row.get(0)?, binding: key_in(row, 1)? })
        })
    }

    fn bindings(&self) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>> {
        let columns = |row: &Row<'_>| Ok((parsed(row, 0)?, key_in(row, 1)?));
        query_all(self.0, "SELECT user, fingerprint FROM account ORDER BY user", [], columns)
    }

    fn password_hashes(&self) -> StoreResult<Vec<(UserName, String)>> {
        let columns = |row: &Row<'_>| Ok((parsed(row, 0)?, row.get(1)?));
        query_all(self.0, "SELECT user, password_hash FROM account ORDER BY user", [], columns)
    }

    fn count_accounts(&self) -> StoreResult<usize> {
        query_value(self.0, "SELECT count(*) FROM account", [])
    }

    fn names_ignoring_case(&self, user: &UserName) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user FROM account WHERE user = ?1 COLLATE NOCASE ORDER BY user";
        query_all(self.0, sql, [user.as_str()], |row| parsed(row, 0))
    }

    fn insert_account(&self, account: &Account) -> StoreResult {
        let Account { user, password_hash, binding } = account;
        // Not by `execute`, whose error no longer says which of the two values is taken.
        let row = params![user.as_str(), password_hash, binding.as_ref().map(Fingerprint::as_bytes)];
        self.0
            .prepare_cached("INSERT INTO account (user, password_hash, fingerprint) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(row))
            .map_err(|error| conflict_error(error, user))?;
        Ok(())
    }

    fn delete_account(&self, user: &UserName) -> StoreResult<bool> {
        Ok(execute(self.0, "DELETE FROM account WHERE user = ?1", [user.as_str()])? > 0)
    }

    fn set_password_hash(&self, user: &UserName, hash: &str) -> StoreResult<bool> {
        let update = "UPDATE account SET password_hash = ?2 WHERE user = ?1";
        Ok(execute(self.0, update, [user.as_str(), hash])? > 0)
    }

    fn set_binding(&self, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool> {
        let row = params![user.as_str(), key.as_ref().map(Fingerprint::as_bytes)];
        let changed = self
            .0
            .prepare_cached("UPDATE account SET fingerprint = ?2 WHERE user = ?1")
            .and_then(|mut update| update.execute(row))
            .map_err(|error| conflict_error(error, user))?;
        Ok(changed > 0)
    }

    fn claim_holder(&self, claims: &[i64]) -> StoreResult<Option<UserName>> {
        for key in claims {
            let holder = "SELECT user FROM name_claim WHERE key = ?1";
            if let Some(taken) = query_optional(self.0, holder, [key], |row| parsed(row, 0))? {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    fn insert_free_claims(&self, claims: &[(i64, &UserName)]) -> StoreResult {
        let mut insert = self.0.prepare_cached("INSERT OR IGNORE INTO name_claim (key, user) VALUES (?1, ?2)")?;
        for (key, user) in claims {
            insert.execute(params![key, user.as_str()])?;
        }
        Ok(())
    }

    fn delete_claims(&self, user: &UserName, claims: &[i64]) -> StoreResult {
        let mut delete = self.0.prepare_cached("DELETE FROM name_claim WHERE key = ?1 AND user = ?2")?;
        for key in claims {
            delete.execute(params![key, user.as_str()])?;
        }
        Ok(())
    }

    fn set_lapse(&self, user: &UserName, lapses_ms: i64) -> StoreResult {
        let row = params![user.as_str(), lapses_ms];
        execute(self.0, "INSERT OR REPLACE INTO unused_account VALUES (?1, ?2)", row).map(drop)
    }

    fn lapse_of(&self, user: &UserName) -> StoreResult<Option<i64>> {
        let sql = "SELECT lapses_ms FROM unused_account WHERE user = ?1";
        query_optional(self.0, sql, [user.as_str()], |row| row.get(0))
    }

    fn delete_lapse(&self, user: &UserName) -> StoreResult {
        execute(self.0, "DELETE FROM unused_account WHERE user = ?1", [user.as_str()]).map(drop)
    }

    fn unused_accounts(&self) -> StoreResult<Vec<UserName>> {
        query_all(self.0, "SELECT user FROM unused_account ORDER BY user", [], |row| parsed(row, 0))
    }

    fn lapsed_accounts(&self, until_ms: i64, at_most: usize) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user FROM unused_account WHERE lapses_ms <= ?1 ORDER BY lapses_ms, user LIMIT ?2";
        query_all(self.0, sql, params![until_ms, at_most], |row| parsed(row, 0))
    }

    fn former_keys(&self) -> StoreResult<Vec<FormerKey>> {
        let sql = "SELECT fingerprint, user, moved_ms FROM former_key ORDER BY moved_ms";
        query_all(self.0, sql, [], |row| {
            let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0));
            Ok(FormerKey { fingerprint: Fingerprint::from_bytes(row.get(0)?), user: parsed(row, 1)?, since })
        })
    }

    fn set_former_key(&self, former: &FormerKey) -> StoreResult {
        let row = params![former.fingerprint.as_bytes(), former.user.as_str(), unix_ms(former.since)];
        execute(self.0, "INSERT OR REPLACE INTO former_key VALUES (?1, ?2, ?3)", row).map(drop)
    }

    fn trim_former_keys(&self, kept: usize) -> StoreResult {
        let oldest = "DELETE FROM former_key WHERE fingerprint IN
            (SELECT fingerprint FROM former_key ORDER BY moved_ms DESC LIMIT -1 OFFSET ?1)";
        execute(self.0, oldest, [kept]).map(drop)
    }

    fn delete_former_keys(&self, user: &UserName) -> StoreResult {
        execute(self.0, "DELETE FROM former_key WHERE user = ?1", [user.as_str()]).map(drop)
    }
}

/// Returns the key in a column that may be empty.
fn key_in(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Fingerprint>> {
    Ok(row.get::<_, Option<[u8; 32]>>(column)?.map(Fingerprint::from_bytes))
}

fn conflict_error(error: rusqlite::Error, user: &UserName) -> AccountStoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        // The name is the primary key; the fingerprint is the only other unique column.
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => AccountStoreError::NameTaken(user.clone()),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => AccountStoreError::KeyTaken,
        _ => error.into(),
    }
}
