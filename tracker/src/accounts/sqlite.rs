//! The accounts in one SQLite file, in WAL mode, synced at every commit.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use certs::FilePlace;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, Transaction, TransactionBehavior, params};
use shared::account_name::{Claim, claims};
use shared::{Fingerprint, UserName};

use super::{Account, AccountStore, StoreError};
use crate::registry::{FORMER_KEYS, FormerKey};
use crate::sqlite_file::{self, TOO_MANY_OPEN};

/// The steps that bring the schema from version `n` to `n + 1`, in order. Never change one that was released: append.
const MIGRATIONS: [fn(&Transaction<'_>) -> rusqlite::Result<()>; 4] = [
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
        claim_what_is_free(step)
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
    // Names are read in another way than before.
    |step| {
        step.execute("DELETE FROM name_claim WHERE kind = 'look'", [])?;
        claim_what_is_free(step)
    },
];

/// The accounts in one file.
#[derive(Debug)]
pub struct SqliteStore {
    db: Connection,
    place: FilePlace,
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
    /// No descriptor is left to open it.
    #[error("can't use the account database {path}: {TOO_MANY_OPEN}")]
    TooManyOpen {
        /// The file.
        path: PathBuf,
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
            migrate(&mut db, version + 1, *migration).map_err(failed)?;
        }
        Ok(Self { db, place: FilePlace::of(path) })
    }

    /// Returns whether there is no account.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let any = "SELECT EXISTS (SELECT 1 FROM account)";
        self.db.query_row(any, [], |row| row.get::<_, bool>(0)).map(|any| !any).map_err(failed)
    }

    /// Returns the place of its file.
    pub(crate) fn place(&self) -> FilePlace {
        self.place.clone()
    }

    /// Looks at all of a file that is to become the account database, and counts its accounts.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn check(path: &Path) -> Result<usize, OpenError> {
        let damaged = |why: String| OpenError::Damaged { path: path.to_owned(), why };
        if sqlite_file::is_void(path) {
            return Err(damaged("it is empty".to_owned()));
        }
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
        let step = self.begin()?;
        demand_free(&step, user)?;
        step.prepare_cached("INSERT INTO account (user, password_hash, fingerprint) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![user.as_str(), password_hash, fingerprint]))
            .map_err(|error| taken(error, user))?;
        claim(&step, user).map_err(failed)?;
        step.commit().map_err(failed)
    }

    fn demand_free(&mut self, user: &UserName) -> Result<(), StoreError> {
        demand_free(&self.db, user)
    }

    fn named_like(&mut self, user: &UserName) -> Result<Vec<UserName>, StoreError> {
        let sql = "SELECT user FROM account WHERE user = ?1 COLLATE NOCASE ORDER BY user";
        let mut query = self.db.prepare_cached(sql).map_err(failed)?;
        let rows = query.query_map([user.as_str()], |row| row.get::<_, String>(0)).map_err(failed)?;
        rows.map(|row| row.map_err(failed).and_then(|user| parsed_user(&user))).collect()
    }

    fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> Result<(), StoreError> {
        self.demand_place()?;
        let mut update = self
            .db
            .prepare_cached("UPDATE account SET password_hash = ?3 WHERE user = ?1 AND password_hash = ?2")
            .map_err(failed)?;
        changed_one(update.execute([user.as_str(), old, new]).map_err(failed)?)
    }

    fn bind(&mut self, user: &UserName, old: Option<Fingerprint>, new: Fingerprint) -> Result<(), StoreError> {
        self.demand_place()?;
        let mut update = self
            .db
            .prepare_cached("UPDATE account SET fingerprint = ?3 WHERE user = ?1 AND fingerprint IS ?2")
            .map_err(failed)?;
        let old = old.as_ref().map(Fingerprint::as_bytes);
        changed_one(update.execute(params![user.as_str(), old, new.as_bytes()]).map_err(|error| taken(error, user))?)
    }

    fn remember_former(&mut self, former: &FormerKey) -> Result<(), StoreError> {
        let moved_ms = former.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let moved_ms = i64::try_from(moved_ms).unwrap_or(i64::MAX);
        let (key, user) = (former.fingerprint.as_bytes(), former.user.as_str());
        let step = self.begin()?;
        step.execute("INSERT OR REPLACE INTO former_key VALUES (?1, ?2, ?3)", params![key, user, moved_ms])
            .map_err(failed)?;
        let oldest = "DELETE FROM former_key WHERE fingerprint IN
                      (SELECT fingerprint FROM former_key ORDER BY moved_ms DESC LIMIT -1 OFFSET ?1)";
        step.execute(oldest, [FORMER_KEYS]).map_err(failed)?;
        step.commit().map_err(failed)
    }

    fn former_keys(&mut self) -> Result<Vec<FormerKey>, StoreError> {
        let sql = "SELECT fingerprint, user, moved_ms FROM former_key ORDER BY moved_ms";
        let mut query = self.db.prepare(sql).map_err(failed)?;
        let columns = |row: &Row<'_>| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?));
        let rows = query.query_map([], columns).map_err(failed)?;
        rows.map(|row| {
            let (fingerprint, user, moved_ms) = row.map_err(failed)?;
            let since = UNIX_EPOCH + Duration::from_millis(u64::try_from(moved_ms).unwrap_or(0));
            Ok(FormerKey { fingerprint: Fingerprint::from_bytes(fingerprint), user: parsed_user(&user)?, since })
        })
        .collect()
    }

    fn reset_password(&mut self, user: &UserName, new: &str) -> Result<(), StoreError> {
        self.change_one("UPDATE account SET password_hash = ?2 WHERE user = ?1", [user.as_str(), new])
    }

    fn unbind(&mut self, user: &UserName) -> Result<(), StoreError> {
        self.change_one("UPDATE account SET fingerprint = NULL WHERE user = ?1", [user.as_str()])
    }

    fn remove(&mut self, user: &UserName) -> Result<(), StoreError> {
        let step = self.begin()?;
        let removed = step.execute("DELETE FROM account WHERE user = ?1", [user.as_str()]).map_err(failed)?;
        if removed == 0 {
            return Err(StoreError::NoAccount);
        }
        step.execute("DELETE FROM name_claim WHERE user = ?1", [user.as_str()]).map_err(failed)?;
        step.execute("DELETE FROM former_key WHERE user = ?1", [user.as_str()]).map_err(failed)?;
        // Of older accounts that are like each other, only one had the claim.
        claim_what_is_free(&step).map_err(failed)?;
        step.commit().map_err(failed)
    }

    fn hashes(&mut self) -> Result<Vec<(UserName, String)>, StoreError> {
        let mut query = self.db.prepare("SELECT user, password_hash FROM account ORDER BY user").map_err(failed)?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).map_err(failed)?;
        rows.map(|row| row.map_err(failed).and_then(|(user, hash)| Ok((parsed_user(&user)?, hash)))).collect()
    }

    fn probe(&mut self) -> Result<(), StoreError> {
        self.demand_place()?;
        // Written even when it is the same, and so a commit like any other.
        self.db.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(failed)
    }

    fn is_out_of_room(&self) -> bool {
        self.place.path().parent().is_some_and(sqlite_file::is_out_of_room)
    }
}

impl SqliteStore {
    /// Refuses to write to a file that is no longer at its place.
    fn demand_place(&self) -> Result<(), StoreError> {
        if self.place.is_lost() { Err(StoreError::Lost(self.place.path().to_owned())) } else { Ok(()) }
    }

    /// Begins a change that nobody else's change comes in between.
    fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        self.demand_place()?;
        self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)
    }

    fn change_one(&self, sql: &str, params: impl Params) -> Result<(), StoreError> {
        self.demand_place()?;
        let rows = self.db.prepare_cached(sql).and_then(|mut change| change.execute(params)).map_err(failed)?;
        if rows == 1 { Ok(()) } else { Err(StoreError::NoAccount) }
    }
}

fn parsed_user(user: &str) -> Result<UserName, StoreError> {
    user.parse().map_err(|why| StoreError::Failed(format!("the stored user {user:?}: {why}")))
}

fn demand_free(db: &Connection, user: &UserName) -> Result<(), StoreError> {
    let exists = "SELECT EXISTS (SELECT 1 FROM account WHERE user = ?1)";
    if db
        .prepare_cached(exists)
        .and_then(|mut query| query.query_row([user.as_str()], |row| row.get(0)))
        .map_err(failed)?
    {
        return Err(StoreError::NameTaken(user.clone()));
    }
    let mut holder = db.prepare_cached("SELECT user FROM name_claim WHERE kind = ?1 AND key = ?2").map_err(failed)?;
    for Claim { kind, key } in claims(user) {
        let held = holder.query_row([kind.as_str(), &key], |row| row.get::<_, String>(0)).optional().map_err(failed)?;
        if let Some(taken) = held {
            return Err(StoreError::NameLike { wanted: user.clone(), taken: parsed_user(&taken)? });
        }
    }
    Ok(())
}

/// Claims for one account what nobody else has.
fn claim(db: &Connection, user: &UserName) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT OR IGNORE INTO name_claim (kind, key, user) VALUES (?1, ?2, ?3)")?;
    for Claim { kind, key } in claims(user) {
        insert.execute([kind.as_str(), &key, user.as_str()])?;
    }
    Ok(())
}

/// Claims for all accounts, by name, what nobody else has.
fn claim_what_is_free(db: &Connection) -> rusqlite::Result<()> {
    let mut query = db.prepare("SELECT user FROM account ORDER BY user")?;
    let users = query.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    // A name that is none is told where the accounts are read.
    users.iter().filter_map(|user| user.parse().ok()).try_for_each(|user| claim(db, &user))
}

fn migrate(
    db: &mut Connection,
    version: usize,
    migration: fn(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let step = db.transaction()?;
    migration(&step)?;
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

fn taken(error: rusqlite::Error, user: &UserName) -> StoreError {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => StoreError::NameTaken(user.clone()),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE) => StoreError::KeyTaken,
        _ => failed(error),
    }
}

fn open_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, why) = (path.to_owned(), error.to_string());
    if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && sqlite_file::is_without_descriptors() {
        return OpenError::TooManyOpen { path };
    }
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
    fn nothing_is_written_to_a_file_that_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        let bob = account("bob", None);
        store.create(&bob).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lost = |done: Result<(), StoreError>| assert!(matches!(done, Err(StoreError::Lost(_))), "{done:?}");
        lost(store.create(&account("eve", None)));
        lost(store.set_password(&bob.user, &bob.password_hash, "new"));
        lost(store.reset_password(&bob.user, "new"));
        lost(store.bind(&bob.user, None, key(1)));
        lost(store.unbind(&bob.user));
        lost(store.remove(&bob.user));
        lost(store.probe());
        assert_eq!(store.find(&bob.user).unwrap(), Some(bob));
        assert!(!path.exists());
    }

    #[test]
    fn names_and_keys_are_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("db")).unwrap();
        store.create(&account("bob", Some(key(1)))).unwrap();
        store.create(&account("eve", None)).unwrap();
        let eve: UserName = "eve".parse().unwrap();
        assert!(matches!(store.create(&account("bob", None)), Err(StoreError::NameTaken(_))));
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
    fn an_account_claims_what_can_be_taken_for_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&folder.path().join("db")).unwrap();
        let is_like = |store: &mut SqliteStore, wanted: &str, taken: &str| {
            let created = store.create(&account(wanted, None));
            let is_like = matches!(&created, Err(StoreError::NameLike { taken: it, .. }) if it.as_str() == taken);
            assert!(is_like, "{wanted}: {created:?}");
            assert_eq!(store.find(&wanted.parse().unwrap()).unwrap(), None);
        };
        store.create(&account("bob", Some(key(1)))).unwrap();
        for other in ["BOB", "Bob", "b0b", "bob.", "b-o-b"] {
            is_like(&mut store, other, "bob");
        }
        store.create(&account("alice", None)).unwrap();
        is_like(&mut store, "a11ce", "alice");
        // An account that was refused for its key claims nothing.
        assert!(matches!(store.create(&account("carol", Some(key(1)))), Err(StoreError::KeyTaken)));
        store.create(&account("CAROL", None)).unwrap();
        assert_eq!(store.named_like(&"BOB".parse().unwrap()).unwrap(), ["bob".parse().unwrap()]);
        assert_eq!(store.named_like(&"b0b".parse().unwrap()).unwrap(), []);
        store.remove(&"bob".parse().unwrap()).unwrap();
        store.create(&account("B0B", None)).unwrap();
        is_like(&mut store, "bob", "B0B");
    }

    #[test]
    fn older_accounts_keep_their_names_and_claim_what_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(include_str!("fixtures/accounts_of_version_1.sql")).unwrap();
        drop(old);
        let mut store = SqliteStore::open(&path).unwrap();
        let all: Vec<String> = store.all().unwrap().into_iter().map(|(user, _)| user.to_string()).collect();
        assert_eq!(all, ["--help", "-x", "..", "BOB", "Bob", "alice", "b0b", "bob"]);
        assert_eq!(store.find(&"-x".parse().unwrap()).unwrap().unwrap().password_hash, "hash of -x");
        let like_bob = store.named_like(&"bOb".parse().unwrap()).unwrap();
        assert_eq!(like_bob.iter().map(UserName::as_str).collect::<Vec<_>>(), ["BOB", "Bob", "bob"]);
        let refused = |store: &mut SqliteStore| {
            let created = store.create(&account("boB", None));
            assert!(matches!(created, Err(StoreError::NameLike { .. })), "{created:?}");
        };
        // Whoever of them goes, the name stays claimed by the others.
        for user in ["BOB", "bob", "Bob", "b0b"] {
            refused(&mut store);
            store.remove(&user.parse().unwrap()).unwrap();
        }
        store.create(&account("boB", None)).unwrap();
        store.create(&account("x", None)).unwrap_err();
        assert_eq!(SqliteStore::check(&path).unwrap(), 5);
    }

    #[test]
    fn accounts_of_version_3_claim_what_looks_like_them_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        store.create(&account("vl-2", None)).unwrap();
        store.create(&account("mary", None)).unwrap();
        drop(store);
        // As version 3 had them.
        let old = Connection::open(&path).unwrap();
        old.execute_batch(
            "DELETE FROM name_claim WHERE kind = 'look';
            INSERT INTO name_claim VALUES ('look', 'vl2', 'vl-2'), ('look', 'mary', 'mary');
            PRAGMA user_version = 3;",
        )
        .unwrap();
        drop(old);
        let mut store = SqliteStore::open(&path).unwrap();
        for (wanted, taken) in [("v1-2", "vl-2"), ("rnary", "mary"), ("MARY", "mary")] {
            let created = store.create(&account(wanted, None));
            assert!(
                matches!(&created, Err(StoreError::NameLike { taken: it, .. }) if it.as_str() == taken),
                "{created:?}"
            );
        }
        store.create(&account("bob", None)).unwrap();
    }

    #[test]
    fn keys_whose_place_others_took_are_remembered_for_as_long_as_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut store = SqliteStore::open(&path).unwrap();
        let bob: UserName = "bob".parse().unwrap();
        store.create(&account("bob", None)).unwrap();
        let former = |n: u16| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_be_bytes());
            let since = UNIX_EPOCH + Duration::from_millis(1_000_000 + u64::from(n));
            FormerKey { fingerprint: Fingerprint::from_bytes(bytes), user: bob.clone(), since }
        };
        store.remember_former(&former(1)).unwrap();
        store.remember_former(&former(2)).unwrap();
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.former_keys().unwrap(), [former(1), former(2)]);
        let all = u16::try_from(FORMER_KEYS).unwrap();
        store.db.execute_batch("PRAGMA synchronous = OFF").unwrap();
        (3..=all + 2).for_each(|n| store.remember_former(&former(n)).unwrap());
        let kept = store.former_keys().unwrap();
        assert_eq!((kept.len(), &kept[0], kept.last()), (FORMER_KEYS, &former(3), Some(&former(all + 2))));
        store.remove(&bob).unwrap();
        assert_eq!(store.former_keys().unwrap(), []);
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
        assert!(matches!(SqliteStore::open(&newer), Err(OpenError::TooNew { found: 9, known: 4, .. })));
        assert!(matches!(SqliteStore::open(&folder.path().join("no/db")), Err(OpenError::Unusable { .. })));
    }
}
