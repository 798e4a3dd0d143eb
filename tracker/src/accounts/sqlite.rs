//! The accounts in one SQLite file, in WAL mode, synced at every commit.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};
use shared::{Fingerprint, UserName};

use super::{Account, AccountStore, StoreError};
use crate::sqlite_file;

/// What brings the schema from version `n` to `n + 1`, in order. Never change one that was released: append.
const MIGRATIONS: [&str; 1] = ["CREATE TABLE account (
    user TEXT NOT NULL PRIMARY KEY,
    password_hash TEXT NOT NULL,
    fingerprint BLOB UNIQUE CHECK (fingerprint IS NULL OR length(fingerprint) = 32)
) STRICT, WITHOUT ROWID"];

/// The accounts in one file.
#[derive(Debug)]
pub struct SqliteStore {
    db: Connection,
}

/// Why the file can't be used. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not a database, or not a whole one.
    #[error(
        "the account database {path} is damaged ({why}): put back a copy of it \
         (`tracker restore FILE`), or move it away and begin without accounts (`tracker new accounts`)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A later version of the tracker wrote it.
    #[error(
        "the account database {path} has schema version {found}, this tracker knows versions up to {known}: \
         use the newer tracker that wrote it"
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// It can't be opened, read or written.
    #[error(
        "can't use the account database {path}: {why}; check its permissions and the space on its disk, \
         or choose a folder on another disk with --data-dir"
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |error: rusqlite::Error| open_error(path, &error);
        let mut db = sqlite_file::open(path).map_err(failed)?;
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { path: path.to_owned(), why: verdict });
        }
        db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let found: usize = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        let known = MIGRATIONS.len();
        if found > known {
            return Err(OpenError::TooNew { path: path.to_owned(), found, known });
        }
        for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
            migrate(&mut db, version + 1, migration).map_err(failed)?;
        }
        Ok(Self { db })
    }

    /// Returns whether there is no account.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let any = "SELECT EXISTS (SELECT 1 FROM account)";
        self.db.query_row(any, [], |row| row.get::<_, bool>(0)).map(|any| !any).map_err(failed)
    }

    /// Looks at all of a file that is to become the account database, and counts its accounts.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn check(path: &Path) -> Result<usize, OpenError> {
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        let mut store = Self::open(path)?;
        let verdict: String = store
            .db
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|error| open_error(path, &error))?;
        if verdict != "ok" {
            return Err(damaged(verdict));
        }
        Ok(store.all().map_err(|why| damaged(why.to_string()))?.len())
    }
}

impl AccountStore for SqliteStore {
    fn find(&mut self, user: &UserName) -> Result<Option<Account>, StoreError> {
        let mut query =
            self.db.prepare_cached("SELECT password_hash, fingerprint FROM account WHERE user = ?1").map_err(failed)?;
        let account = |row: &Row<'_>| {
            let binding = row.get::<_, Option<[u8; 32]>>(1)?.map(Fingerprint::from_bytes);
            Ok(Account { user: user.clone(), password_hash: row.get(0)?, binding })
        };
        query.query_row([user.as_str()], account).optional().map_err(failed)
    }

    fn all(&mut self) -> Result<Vec<(UserName, Option<Fingerprint>)>, StoreError> {
        let mut query = self.db.prepare("SELECT user, fingerprint FROM account ORDER BY user").map_err(failed)?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<_>>(1)?)));
        rows.map_err(failed)?
            .map(|row| {
                let (user, fingerprint) = row.map_err(failed)?;
                let user =
                    user.parse().map_err(|why| StoreError::Failed(format!("the stored user {user:?}: {why}")))?;
                Ok((user, fingerprint.map(Fingerprint::from_bytes)))
            })
            .collect()
    }

    fn create(&mut self, account: &Account) -> Result<(), StoreError> {
        let Account { user, password_hash, binding } = account;
        let fingerprint = binding.as_ref().map(Fingerprint::as_bytes);
        let mut insert = self
            .db
            .prepare_cached("INSERT INTO account (user, password_hash, fingerprint) VALUES (?1, ?2, ?3)")
            .map_err(failed)?;
        insert.execute(params![user.as_str(), password_hash, fingerprint]).map_err(taken)?;
        Ok(())
    }

    fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> Result<(), StoreError> {
        let mut update = self
            .db
            .prepare_cached("UPDATE account SET password_hash = ?3 WHERE user = ?1 AND password_hash = ?2")
            .map_err(failed)?;
        changed_one(update.execute([user.as_str(), old, new]).map_err(failed)?)
    }

    fn bind(&mut self, user: &UserName, old: Option<Fingerprint>, new: Fingerprint) -> Result<(), StoreError> {
        let mut update = self
            .db
            .prepare_cached("UPDATE account SET fingerprint = ?3 WHERE user = ?1 AND fingerprint IS ?2")
            .map_err(failed)?;
        let old = old.as_ref().map(Fingerprint::as_bytes);
        changed_one(update.execute(params![user.as_str(), old, new.as_bytes()]).map_err(taken)?)
    }

    fn reset_password(&mut self, user: &UserName, new: &str) -> Result<(), StoreError> {
        self.change_one("UPDATE account SET password_hash = ?2 WHERE user = ?1", [user.as_str(), new])
    }

    fn unbind(&mut self, user: &UserName) -> Result<(), StoreError> {
        self.change_one("UPDATE account SET fingerprint = NULL WHERE user = ?1", [user.as_str()])
    }

    fn remove(&mut self, user: &UserName) -> Result<(), StoreError> {
        self.change_one("DELETE FROM account WHERE user = ?1", [user.as_str()])
    }

    fn hashes(&mut self) -> Result<Vec<(UserName, String)>, StoreError> {
        let mut query = self.db.prepare("SELECT user, password_hash FROM account ORDER BY user").map_err(failed)?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).map_err(failed)?;
        rows.map(|row| row.map_err(failed).and_then(|(user, hash)| Ok((parsed_user(&user)?, hash)))).collect()
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        // Written even when it is the same, and so a commit like any other.
        self.db.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(failed)
    }
}

impl SqliteStore {
    fn change_one(&self, sql: &str, params: impl Params) -> Result<(), StoreError> {
        let rows = self.db.prepare_cached(sql).and_then(|mut change| change.execute(params)).map_err(failed)?;
        if rows == 1 { Ok(()) } else { Err(StoreError::NoAccount) }
    }
}

fn parsed_user(user: &str) -> Result<UserName, StoreError> {
    user.parse().map_err(|why| StoreError::Failed(format!("the stored user {user:?}: {why}")))
}

fn migrate(db: &mut Connection, version: usize, sql: &str) -> rusqlite::Result<()> {
    let step = db.transaction()?;
    step.execute_batch(sql)?;
    step.pragma_update(None, "user_version", version)?;
    step.commit()
}

fn changed_one(rows: usize) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Changed) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn failed(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        _ => StoreError::Failed(error.to_string()),
    }
}

fn taken(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => StoreError::NameTaken,
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => StoreError::KeyTaken,
        _ => failed(error),
    }
}

fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, why },
        _ => OpenError::Unusable { path, why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
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
            let mut store = SqliteStore::open(&path).unwrap();
            store.create(&alice).unwrap();
            store.create(&bob).unwrap();
        }
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.find(&alice.user).unwrap(), Some(alice.clone()));
        assert_eq!(store.find(&"Bob".parse().unwrap()).unwrap(), None);
        assert_eq!(store.all().unwrap(), [(alice.user, None), (bob.user, Some(key(1)))]);
        let level: u32 = store.db.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        let mode: String = store.db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!((level, mode.as_str()), (2, "wal"));
    }

    #[test]
    fn names_and_keys_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("db")).unwrap();
        store.create(&account("bob", Some(key(1)))).unwrap();
        store.create(&account("eve", None)).unwrap();
        let eve: UserName = "eve".parse().unwrap();
        assert!(matches!(store.create(&account("bob", None)), Err(StoreError::NameTaken)));
        assert!(matches!(store.create(&account("mallory", Some(key(1)))), Err(StoreError::KeyTaken)));
        assert!(matches!(store.bind(&eve, None, key(1)), Err(StoreError::KeyTaken)));
        store.bind(&eve, None, key(2)).unwrap();
        assert!(matches!(store.bind(&eve, None, key(3)), Err(StoreError::Changed)));
        store.bind(&eve, Some(key(2)), key(3)).unwrap();
        assert!(matches!(store.set_password(&eve, "other", "new"), Err(StoreError::Changed)));
        store.set_password(&eve, "hash of eve", "new").unwrap();
        let found = store.find(&eve).unwrap().unwrap();
        assert_eq!((found.password_hash.as_str(), found.binding), ("new", Some(key(3))));
    }

    #[test]
    fn what_an_administrator_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("db")).unwrap();
        let (bob, eve): (UserName, UserName) = ("bob".parse().unwrap(), "eve".parse().unwrap());
        store.create(&account("bob", Some(key(1)))).unwrap();
        for missing in [store.reset_password(&eve, "x"), store.unbind(&eve), store.remove(&eve)] {
            assert!(matches!(missing, Err(StoreError::NoAccount)));
        }
        store.reset_password(&bob, "new").unwrap();
        store.unbind(&bob).unwrap();
        assert_eq!(store.hashes().unwrap(), [(bob.clone(), "new".to_owned())]);
        store.remove(&bob).unwrap();
        assert_eq!(store.all().unwrap(), []);
    }

    #[test]
    fn a_probe_is_written_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let log = || folder.path().join("db-wal").metadata().unwrap().len();
        let mut store = SqliteStore::open(&path).unwrap();
        store.create(&account("bob", None)).unwrap();
        let before = log();
        store.probe().unwrap();
        assert!(log() > before);
        assert_eq!(SqliteStore::check(&path).unwrap(), 1);
    }

    #[test]
    fn files_that_can_t_be_used_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        std::fs::File::create(&path).and_then(|mut file| std::io::Write::write_all(&mut file, &[7; 8192])).unwrap();
        assert!(matches!(SqliteStore::open(&path), Err(OpenError::Damaged { .. })));
        let newer = folder.path().join("newer");
        drop(SqliteStore::open(&newer).unwrap());
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
        assert!(matches!(SqliteStore::open(&newer), Err(OpenError::TooNew { found: 9, known: 1, .. })));
        assert!(matches!(SqliteStore::open(&folder.path().join("no/db")), Err(OpenError::Unusable { .. })));
    }
}
