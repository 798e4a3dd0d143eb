//! A store for tests of the rules: a database, and the calls of the interface without its threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postgres_server::PostgresServer;
use shared::{Fingerprint, UserName};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::account_rules;
use super::postgres::{JobKind, PostgresAddress, PostgresStore};
use super::room_rules::RecordStamp;
use super::room_values::RoomOutcome;
use super::store_rows::StoreRows;
use super::{Account, SqliteAccountStore, StoreResult, unix_ms};
use crate::registry::FormerKey;

/// None of the accounts is in a room, so nothing is signed.
const UNSIGNED: RecordStamp<'_> = RecordStamp { signer: None, now: UNIX_EPOCH };

/// A database of one of the kinds that there are.
pub(super) enum TestStore {
    Sqlite { store: SqliteAccountStore, path: PathBuf, _folder: Option<Arc<TempDir>> },
    Postgres { store: PostgresStore, address: Box<PostgresAddress>, runtime: Runtime },
}

impl TestStore {
    /// Runs a test on a new database of each kind.
    pub(super) fn each(test: impl Fn(Self)) {
        test(Self::new_sqlite());
        match PostgresServer::shared() {
            Some(server) => test(Self::new_postgres(server)),
            None => println!("PostgreSQL is not installed: only SQLite is tested"),
        }
    }

    /// Runs a test of thousands of changes on a new database of each kind: on PostgreSQL, where they take minutes, with
    /// `VIZINHO_LONG` only.
    pub(super) fn each_bulky(test: impl Fn(Self)) {
        match std::env::var_os("VIZINHO_LONG") {
            Some(_) => Self::each(test),
            None => test(Self::new_sqlite()),
        }
    }

    fn new_postgres(server: &PostgresServer) -> Self {
        let database = server.create_database().unwrap();
        let address = Box::new(PostgresAddress::parse(&server.address(&database)).unwrap());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = runtime.block_on(PostgresStore::connect(&address)).unwrap();
        Self::Postgres { store, address, runtime }
    }

    pub(super) fn new_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        Self::Sqlite { store: SqliteAccountStore::open(&path).unwrap(), path, _folder: Some(Arc::new(folder)) }
    }

    /// Opens a SQLite file.
    pub(super) fn open(path: &Path) -> Self {
        Self::Sqlite { store: SqliteAccountStore::open(path).unwrap(), path: path.to_owned(), _folder: None }
    }

    /// Closes the database and opens it again.
    pub(super) fn reopened(self) -> Self {
        match self {
            Self::Sqlite { store, path, _folder } => {
                drop(store);
                Self::Sqlite { store: SqliteAccountStore::open(&path).unwrap(), path, _folder }
            }
            Self::Postgres { store, address, runtime } => {
                drop(store);
                let store = runtime.block_on(PostgresStore::connect(&address)).unwrap();
                Self::Postgres { store, address, runtime }
            }
        }
    }

    pub(super) fn sqlite(&mut self) -> &mut SqliteAccountStore {
        match self {
            Self::Sqlite { store, .. } => store,
            Self::Postgres { .. } => panic!("the test is about SQLite"),
        }
    }

    /// Syncs no more, which many changes would wait for.
    pub(super) fn forget_safety(&mut self) {
        match self {
            Self::Sqlite { store, .. } => store.database().execute_batch("PRAGMA synchronous = OFF").unwrap(),
            // The server of the tests never syncs.
            Self::Postgres { .. } => {}
        }
    }

    pub(super) fn read<T>(&self, job: impl Fn(&dyn StoreRows) -> StoreResult<T>) -> StoreResult<T> {
        match self {
            Self::Sqlite { store, .. } => store.read(job),
            Self::Postgres { store, .. } => store.run_here(JobKind::Snapshot, &job),
        }
    }

    pub(super) fn commit<T>(&mut self, job: impl Fn(&dyn StoreRows) -> StoreResult<T>) -> StoreResult<T> {
        match self {
            Self::Sqlite { store, .. } => store.commit(job),
            Self::Postgres { store, .. } => store.run_here(JobKind::Change, &job),
        }
    }

    pub(super) fn find(&self, user: &UserName) -> StoreResult<Option<Account>> {
        self.read(|rows| rows.find_account(user))
    }

    pub(super) fn bindings(&self) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>> {
        self.read(|rows| rows.bindings())
    }

    pub(super) fn count(&self) -> StoreResult<usize> {
        self.read(|rows| rows.count_accounts())
    }

    pub(super) fn names_ignoring_case(&self, user: &UserName) -> StoreResult<Vec<UserName>> {
        self.read(|rows| rows.names_ignoring_case(user))
    }

    pub(super) fn former_keys(&self) -> StoreResult<Vec<FormerKey>> {
        self.read(|rows| rows.former_keys())
    }

    pub(super) fn unused(&self) -> StoreResult<Vec<UserName>> {
        self.read(|rows| rows.unused_accounts())
    }

    pub(super) fn lapsed(&self, now: SystemTime, at_most: usize) -> StoreResult<Vec<UserName>> {
        self.read(|rows| rows.lapsed_accounts(unix_ms(now), at_most))
    }

    pub(super) fn password_hashes(&self) -> StoreResult<Vec<(UserName, String)>> {
        self.read(|rows| rows.password_hashes())
    }

    pub(super) fn create(&mut self, account: &Account, lapses: Option<SystemTime>) -> StoreResult {
        self.commit(|rows| account_rules::create(rows, account, lapses))
    }

    pub(super) fn set_password(&mut self, user: &UserName, old: &str, new: &str) -> StoreResult {
        self.commit(|rows| account_rules::set_password(rows, user, old, new))
    }

    pub(super) fn reset_password(&mut self, user: &UserName, new: &str) -> StoreResult {
        self.commit(|rows| account_rules::reset_password(rows, user, new))
    }

    pub(super) fn bind(
        &mut self,
        user: &UserName,
        old: Option<&FormerKey>,
        new: Fingerprint,
    ) -> StoreResult<Vec<RoomOutcome>> {
        self.commit(|rows| account_rules::bind(rows, UNSIGNED, user, old, new))
    }

    pub(super) fn unbind(&mut self, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
        self.commit(|rows| account_rules::unbind(rows, UNSIGNED, user))
    }

    pub(super) fn remove(&mut self, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
        self.commit(|rows| account_rules::remove(rows, UNSIGNED, user))
    }

    pub(super) fn remove_lapsed(&mut self, user: &UserName, until: SystemTime) -> StoreResult<Vec<RoomOutcome>> {
        self.commit(|rows| account_rules::remove_lapsed(rows, UNSIGNED, user, until))
    }

    pub(super) fn mark_used(&mut self, user: &UserName) -> StoreResult {
        self.commit(|rows| rows.delete_lapse(user))
    }

    pub(super) fn probe(&mut self) -> StoreResult {
        self.commit(|rows| rows.touch())
    }
}
