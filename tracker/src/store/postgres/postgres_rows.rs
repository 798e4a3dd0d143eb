//! The rows of accounts in PostgreSQL.
//!
//! Statements wait for the server in the thread of their job, each with a limit of time. Whatever fails spoils the
//! transaction: it is never committed, even if a rule goes on.

mod postgres_log_rows;
mod postgres_room_rows;

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shared::{Fingerprint, UserName};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSqlOwned, ToSql};

use super::STATEMENT_PATIENCE;
use super::statement_failure::StatementFailure;
use crate::registry::{FormerKey, NodeId, ReplicatedChange};
use crate::store::store_rows::{AccountRows, SharedState, StoreRows};
use crate::store::{Account, AccountStoreError, StoreResult, unix_ms};

/// The values of a statement.
pub(super) type StatementValues<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The rows of one connection, within its transaction if it has begun one.
pub(super) struct PostgresRows<'a> {
    client: &'a deadpool_postgres::ClientWrapper,
    runtime: &'a Handle,
    now: SystemTime,
    node: NodeId,
    /// The first failure of a statement.
    failure: RefCell<Option<StatementFailure>>,
}

impl<'a> PostgresRows<'a> {
    pub(super) fn new(
        client: &'a deadpool_postgres::ClientWrapper,
        runtime: &'a Handle,
        now: SystemTime,
        node: NodeId,
    ) -> Self {
        Self { client, runtime, now, node, failure: RefCell::default() }
    }

    /// Returns the first failure of a statement, if one failed.
    pub(super) fn into_failure(self) -> Option<StatementFailure> {
        self.failure.into_inner()
    }

    fn wait<T>(&self, statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> StoreResult<T> {
        // What went before is spoiled, and the server would say no more than that.
        if let Some(failure) = &*self.failure.borrow() {
            return Err(failure.to_store_error());
        }
        let failure = match self.runtime.block_on(timeout(STATEMENT_PATIENCE, statement)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(why)) => StatementFailure::of(&why),
            Err(_) => StatementFailure::silence(),
        };
        let error = failure.to_store_error();
        *self.failure.borrow_mut() = Some(failure);
        Err(error)
    }

    /// Runs a change, and returns the number of rows that it changed.
    fn execute(&self, sql: &str, values: StatementValues<'_>) -> StoreResult<u64> {
        self.wait(async {
            let statement = self.client.prepare_cached(sql).await?;
            self.client.execute(&statement, values).await
        })
    }

    fn query_all<T>(
        &self,
        sql: &str,
        values: StatementValues<'_>,
        read: impl FnMut(&Row) -> StoreResult<T>,
    ) -> StoreResult<Vec<T>> {
        let rows = self.wait(async {
            let statement = self.client.prepare_cached(sql).await?;
            self.client.query(&statement, values).await
        })?;
        rows.iter().map(read).collect()
    }

    /// Returns the first row; `None` if there is none.
    fn query_optional<T>(
        &self,
        sql: &str,
        values: StatementValues<'_>,
        read: impl FnMut(&Row) -> StoreResult<T>,
    ) -> StoreResult<Option<T>> {
        Ok(self.query_all(sql, values, read)?.into_iter().next())
    }

    /// Returns the first column of the only row.
    fn query_value<T: FromSqlOwned>(&self, sql: &str, values: StatementValues<'_>) -> StoreResult<T> {
        let value = self.query_optional(sql, values, |row| value(row, 0))?;
        value.ok_or_else(|| AccountStoreError::Failed("a row is missing".to_owned()))
    }
}

impl StoreRows for PostgresRows<'_> {
    fn now(&self) -> SystemTime {
        self.now
    }

    fn touch(&self) -> StoreResult {
        self.execute("UPDATE write_probe SET probes = probes + 1", &[]).map(drop)
    }

    fn append_to_log(&self, changes: Vec<ReplicatedChange>) -> StoreResult {
        self.append_entry(&changes)
    }

    fn shared_state(&self) -> StoreResult<Option<SharedState>> {
        self.load_shared_state().map(Some)
    }
}

impl AccountRows for PostgresRows<'_> {
    fn find_account(&self, user: &UserName) -> StoreResult<Option<Account>> {
        let sql = "SELECT password_hash, fingerprint FROM account WHERE user_name = $1";
        self.query_optional(sql, &[&user.as_str()], |row| {
            Ok(Account { user: user.clone(), password_hash: value(row, 0)?, binding: key_in(row, 1)? })
        })
    }

    fn bindings(&self) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>> {
        let sql = "SELECT user_name, fingerprint FROM account ORDER BY user_name";
        self.query_all(sql, &[], |row| Ok((parsed(row, 0)?, key_in(row, 1)?)))
    }

    fn password_hashes(&self) -> StoreResult<Vec<(UserName, String)>> {
        let sql = "SELECT user_name, password_hash FROM account ORDER BY user_name";
        self.query_all(sql, &[], |row| Ok((parsed(row, 0)?, value(row, 1)?)))
    }

    fn count_accounts(&self) -> StoreResult<usize> {
        self.query_value("SELECT count(*) FROM account", &[]).map(count)
    }

    fn names_ignoring_case(&self, user: &UserName) -> StoreResult<Vec<UserName>> {
        // In the collation "C", `lower` changes ASCII letters alone, as is done here.
        let sql = "SELECT user_name FROM account WHERE lower(user_name) = $1 ORDER BY user_name";
        self.query_all(sql, &[&user.as_str().to_ascii_lowercase()], |row| parsed(row, 0))
    }

    fn insert_account(&self, account: &Account) -> StoreResult {
        let Account { user, password_hash, binding } = account;
        let insert = "INSERT INTO account (user_name, password_hash, fingerprint) VALUES ($1, $2, $3)";
        let key = binding.as_ref().map(|key| &key.as_bytes()[..]);
        let inserted = self.execute(insert, &[&user.as_str(), password_hash, &key]);
        inserted.map(drop).map_err(|why| self.conflict_error(why, user))
    }

    fn delete_account(&self, user: &UserName) -> StoreResult<bool> {
        Ok(self.execute("DELETE FROM account WHERE user_name = $1", &[&user.as_str()])? > 0)
    }

    fn set_password_hash(&self, user: &UserName, hash: &str) -> StoreResult<bool> {
        let update = "UPDATE account SET password_hash = $2 WHERE user_name = $1";
        Ok(self.execute(update, &[&user.as_str(), &hash])? > 0)
    }

    fn set_binding(&self, user: &UserName, key: Option<Fingerprint>) -> StoreResult<bool> {
        let update = "UPDATE account SET fingerprint = $2 WHERE user_name = $1";
        let key = key.as_ref().map(|key| &key.as_bytes()[..]);
        let updated = self.execute(update, &[&user.as_str(), &key]);
        updated.map(|rows| rows > 0).map_err(|why| self.conflict_error(why, user))
    }

    fn claim_holder(&self, claims: &[i64]) -> StoreResult<Option<UserName>> {
        let sql = "SELECT name_claim.user_name FROM unnest($1::int8[]) WITH ORDINALITY AS wanted (key, number)
            JOIN name_claim ON name_claim.key = wanted.key ORDER BY number LIMIT 1";
        self.query_optional(sql, &[&claims], |row| parsed(row, 0))
    }

    fn insert_free_claims(&self, claims: &[(i64, &UserName)]) -> StoreResult {
        // In their order: of two accounts that look alike the first one gets the claim.
        let insert = "INSERT INTO name_claim (key, user_name)
            SELECT * FROM unnest($1::int8[], $2::text[]) ON CONFLICT DO NOTHING";
        for some in claims.chunks(CLAIMS_AT_ONCE) {
            let (keys, users): (Vec<i64>, Vec<&str>) = some.iter().map(|(key, user)| (key, user.as_str())).unzip();
            self.execute(insert, &[&keys, &users])?;
        }
        Ok(())
    }

    fn delete_claims(&self, user: &UserName, claims: &[i64]) -> StoreResult {
        let delete = "DELETE FROM name_claim WHERE key = ANY ($1) AND user_name = $2";
        self.execute(delete, &[&claims, &user.as_str()]).map(drop)
    }

    fn set_lapse(&self, user: &UserName, lapses_ms: i64) -> StoreResult {
        let insert = "INSERT INTO unused_account (user_name, lapses_ms) VALUES ($1, $2)
            ON CONFLICT (user_name) DO UPDATE SET lapses_ms = excluded.lapses_ms";
        self.execute(insert, &[&user.as_str(), &lapses_ms]).map(drop)
    }

    fn lapse_of(&self, user: &UserName) -> StoreResult<Option<i64>> {
        let sql = "SELECT lapses_ms FROM unused_account WHERE user_name = $1";
        self.query_optional(sql, &[&user.as_str()], |row| value(row, 0))
    }

    fn delete_lapse(&self, user: &UserName) -> StoreResult {
        self.execute("DELETE FROM unused_account WHERE user_name = $1", &[&user.as_str()]).map(drop)
    }

    fn unused_accounts(&self) -> StoreResult<Vec<UserName>> {
        self.query_all("SELECT user_name FROM unused_account ORDER BY user_name", &[], |row| parsed(row, 0))
    }

    fn lapsed_accounts(&self, until_ms: i64, at_most: usize) -> StoreResult<Vec<UserName>> {
        let sql = "SELECT user_name FROM unused_account WHERE lapses_ms <= $1 ORDER BY lapses_ms, user_name LIMIT $2";
        self.query_all(sql, &[&until_ms, &limit(at_most)], |row| parsed(row, 0))
    }

    fn former_keys(&self) -> StoreResult<Vec<FormerKey>> {
        let sql = "SELECT fingerprint, user_name, moved_ms FROM former_key ORDER BY moved_ms, fingerprint";
        self.query_all(sql, &[], |row| {
            let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(value::<i64>(row, 2)?).unwrap_or(0));
            Ok(FormerKey { fingerprint: Fingerprint::from_bytes(array(row, 0)?), user: parsed(row, 1)?, since })
        })
    }

    fn set_former_key(&self, former: &FormerKey) -> StoreResult {
        let insert = "INSERT INTO former_key (fingerprint, user_name, moved_ms) VALUES ($1, $2, $3)
            ON CONFLICT (fingerprint) DO UPDATE SET user_name = excluded.user_name, moved_ms = excluded.moved_ms";
        let values: StatementValues<'_> =
            &[&&former.fingerprint.as_bytes()[..], &former.user.as_str(), &unix_ms(former.since)];
        self.execute(insert, values).map(drop)
    }

    fn trim_former_keys(&self, kept: usize) -> StoreResult {
        let oldest = "DELETE FROM former_key WHERE fingerprint IN
            (SELECT fingerprint FROM former_key ORDER BY moved_ms DESC OFFSET $1)";
        self.execute(oldest, &[&limit(kept)]).map(drop)
    }

    fn delete_former_keys(&self, user: &UserName) -> StoreResult {
        self.execute("DELETE FROM former_key WHERE user_name = $1", &[&user.as_str()]).map(drop)
    }
}

/// Claims that are inserted by one statement.
const CLAIMS_AT_ONCE: usize = 10_000;

impl PostgresRows<'_> {
    /// Says what a row that is there already means.
    fn conflict_error(&self, error: AccountStoreError, user: &UserName) -> AccountStoreError {
        match self.failure.borrow().as_ref().and_then(StatementFailure::violated_constraint) {
            Some("account_pkey") => AccountStoreError::NameTaken(user.clone()),
            Some("account_fingerprint_key") => AccountStoreError::KeyTaken,
            _ => error,
        }
    }
}

fn value<T: FromSqlOwned>(row: &Row, column: usize) -> StoreResult<T> {
    row.try_get(column).map_err(|why| AccountStoreError::Failed(why.to_string()))
}

/// Parses a stored text.
fn parsed<T: FromStr>(row: &Row, column: usize) -> StoreResult<T>
where
    T::Err: Display,
{
    let text: String = value(row, column)?;
    text.parse().map_err(|why| AccountStoreError::Failed(format!("the stored text {text:?}: {why}")))
}

/// Returns stored bytes of a fixed length.
fn array<const N: usize>(row: &Row, column: usize) -> StoreResult<[u8; N]> {
    let bytes: Vec<u8> = value(row, column)?;
    bytes.try_into().map_err(|_| AccountStoreError::Failed(format!("stored bytes that are not {N}")))
}

/// Returns the key in a column that may be empty.
fn key_in(row: &Row, column: usize) -> StoreResult<Option<Fingerprint>> {
    let bytes: Option<Vec<u8>> = value(row, column)?;
    let wrong = |_| AccountStoreError::Failed("a stored key that is none".to_owned());
    bytes.map(|bytes| bytes.try_into().map(Fingerprint::from_bytes).map_err(wrong)).transpose()
}

fn count(stored: i64) -> usize {
    usize::try_from(stored).unwrap_or_default()
}

fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
