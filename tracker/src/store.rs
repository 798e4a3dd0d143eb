//! The store: accounts and rooms that survive the process, and the present users for the next process.
//!
//! [`AccountStore`] is the interface for accounts and rooms, [`PresenceStore`] that for presences: asynchronous methods
//! over the domain's types. Commits wait for the disk in threads of their own and never hold up the runtime.
//!
//! ```text
//! AccountStore     the interface: a job for each method
//!  ├► account_rules, room_rules    what each change means, written once
//!  │   └► store_rows               one method a statement
//!  └► store_backend ─┬► account_thread ─► sqlite_rows      one file of this process
//!                    └► postgres ─► postgres_rows         a database with servers of its own
//! store_copy           everything from one kind of database to the other
//! ```
//!
//! A write that returned `Ok` is on the disk. After a lost answer it may be repeated without harm: names, keys, hashes and
//! times are the caller's, and what is already as wanted is `Ok`. An error says whether the write is certainly not done
//! ([`AccountStoreError::is_undone`]).
//!
//! A change that failed because the disk is full or broken is remembered until one succeeds:
//! [`AccountStore::last_write_error`].
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | jobs waiting for the SQLite file's thread | `QUEUE_CAPACITY` | `busy` |
//! | of those, for all clients | all but `ADMINISTRATOR_PLACES` | `busy` |
//! | of those, for one origin | an eighth of the queue; three quarters of the clients' places for one IPv6 network (/64) | `busy` |
//! | connections, jobs and time in PostgreSQL | the table in `postgres` | `busy` |
//! | accounts on the disk | [`MAX_ACCOUNTS`], each at most 3 KiB with its claims | REGISTER is refused; `tracker user add` makes more |
//! | accounts made by REGISTER whose owner never logged in | [`UNUSED_ACCOUNT_LIFETIME`] | removed, and the name is free |
//! | rooms, their members and records | the table in [`crate::membership`] | refused |
//! | replaced keys | [`crate::registry::FORMER_KEYS`] | the oldest is forgotten, and its owner is told less |
//!
//! An account is used from the first login by password or key on, and then never lapses; neither does one that the
//! administrator made. Earlier versions did not record logins: accounts of theirs lapse a year after the migration unless
//! they are used until then.

mod account_rules;
mod account_thread;
mod claim_key;
mod postgres;
mod presence_store;
mod room_rules;
mod room_store;
mod room_values;
mod shared_log;
mod sqlite_accounts;
pub(crate) mod sqlite_file;
mod sqlite_presence;
mod sqlite_query;
mod sqlite_rows;
mod store_backend;
mod store_copy;
mod store_health;
mod store_rows;
mod stored_role;
#[cfg(test)]
mod test_store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::ErrorCode;
use shared::account_name::NewUserName;
use shared::safe_text::safe_path;
use shared::{Fingerprint, UserName};

use crate::fair_semaphore::Requester;
use crate::membership::{RecordSigner, RoomRefusal};
use crate::metrics::TrackerMetrics;
use crate::registry::{FormerKey, ReplicatedChange, TokenHash};

use account_thread::AccountThread;
pub use postgres::{
    LogEntry, LogError, LogSession, LogTurn, NodeDebt, PostgresAddress, PostgresAddressError, PostgresStore,
    ReplicatedLog, StoreConnectError, redacted_address,
};
pub use presence_store::{PresenceStore, StoreTurn};
use room_rules::RecordStamp;
pub use room_values::{JoinRequirement, RoomCaller, RoomDraft, RoomOutcome};
pub use shared_log::InitialState;
use shared_log::{log_unbinding, room_changes};
pub use sqlite_accounts::{AccountDatabaseError, SqliteAccountStore};
use store_backend::StoreBackend;
pub use store_copy::{CopyReport, StoreCopyError, copy_to_postgres, copy_to_sqlite};
pub use store_rows::SharedState;
use store_rows::StoreRows;

/// Most accounts that `REGISTER` makes; an administrator may add more.
pub const MAX_ACCOUNTS: usize = 30_000;

/// The time after REGISTER within which an account must be used for the first time.
pub const UNUSED_ACCOUNT_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// One account.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The name, unique in this spelling and against similar ones.
    pub user: UserName,
    /// The password's hash, a PHC string.
    pub password_hash: String,
    /// The key that the account is bound to; `None` for clients of the exercise.
    pub binding: Option<Fingerprint>,
}

/// The reason why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say all")]
pub enum AccountStoreError {
    #[error("the name {0} is taken: choose another, or log in as {0} if it is yours")]
    NameTaken(UserName),
    #[error(
        "the name {wanted} can be taken for {taken}, which is somebody's: choose another, or log in as {taken} if it is yours"
    )]
    NameLike { wanted: UserName, taken: UserName },
    #[error("another account is bound to that key")]
    KeyTaken,
    #[error("there is no account of that name")]
    NoAccount,
    #[error("it was changed in the meantime")]
    Changed,
    /// The rules of rooms refuse it.
    #[error(transparent)]
    Room(#[from] RoomRefusal),
    #[error("too much work is waiting for the account store")]
    Busy,
    #[error("the tracker's disk is full, or its quota is used up")]
    Full,
    #[error("the database can't be used at the moment: {0}")]
    Unreachable(String),
    #[error("the account database {} was removed or replaced while the tracker ran", safe_path(.0))]
    Lost(PathBuf),
    #[error("the account store failed: {0}")]
    Failed(String),
    #[error("the account store failed, and it is unknown whether the change is made: {0}")]
    Unknown(String),
}

/// The reason why presence can't be stored.
#[derive(Debug, thiserror::Error)]
#[error("who is present can't be stored: {0}")]
pub struct PresenceStoreError(String);

impl AccountStoreError {
    /// True if the write is certainly not done. Otherwise it may be repeated.
    pub const fn is_undone(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// The accounts and rooms. Dropping this waits for the jobs in the queue.
#[derive(Debug)]
pub struct AccountStore {
    backend: StoreBackend,
    signer: Option<Arc<RecordSigner>>,
}

type StoreResult<T = ()> = Result<T, AccountStoreError>;

/// Every method fails with [`AccountStoreError::Busy`] when too many jobs wait, and with [`AccountStoreError::Failed`]
/// when the store can't be used; every write also with [`AccountStoreError::Full`], [`AccountStoreError::Lost`] and
/// [`AccountStoreError::Unknown`]. Further errors are named. A write goes on even if its caller goes away.
#[expect(clippy::missing_errors_doc, reason = "the errors that are common to all methods are described above")]
impl AccountStore {
    /// Starts the thread of a SQLite file. Without a signer there are no rooms. Fails with the system's error when it
    /// has no thread left.
    pub fn start(accounts: SqliteAccountStore, signer: Option<RecordSigner>) -> std::io::Result<Self> {
        let thread = AccountThread::start(accounts)?;
        Ok(Self { backend: StoreBackend::Sqlite(thread), signer: signer.map(Arc::new) })
    }

    /// Keeps accounts and rooms in PostgreSQL. Without a signer there are no rooms.
    pub fn with_postgres(database: PostgresStore, signer: Option<RecordSigner>) -> Self {
        Self { backend: StoreBackend::Postgres(database), signer: signer.map(Arc::new) }
    }

    /// Returns the account of this name.
    pub async fn find(&self, requester: Requester, user: &UserName) -> StoreResult<Option<Account>> {
        let user = user.clone();
        self.backend.read(requester, move |rows| rows.find_account(&user)).await
    }

    /// Returns the names of all accounts in order, with their bindings.
    pub async fn bindings(&self, requester: Requester) -> StoreResult<Vec<(UserName, Option<Fingerprint>)>> {
        self.backend.read(requester, |rows| rows.bindings()).await
    }

    /// Returns the number of accounts.
    pub async fn count(&self, requester: Requester) -> StoreResult<usize> {
        self.backend.read(requester, |rows| rows.count_accounts()).await
    }

    /// Refuses a name that an account has, or that looks like one, as [`shared::account_name`] defines:
    /// [`AccountStoreError::NameTaken`], [`AccountStoreError::NameLike`].
    pub async fn ensure_name_free(&self, requester: Requester, user: &UserName) -> StoreResult {
        let user = user.clone();
        self.backend.read(requester, move |rows| account_rules::ensure_name_free(rows, &user)).await
    }

    /// Returns a free name for a user who wants this one: itself or a similar one. `None` if no suggestion is free.
    pub async fn find_free_name(&self, requester: Requester, wanted: &UserName) -> StoreResult<Option<NewUserName>> {
        let wanted = wanted.clone();
        self.backend.read(requester, move |rows| account_rules::find_free_name(rows, &wanted)).await
    }

    /// Returns all names that equal this one apart from letter case.
    pub async fn names_ignoring_case(&self, requester: Requester, user: &UserName) -> StoreResult<Vec<UserName>> {
        let user = user.clone();
        self.backend.read(requester, move |rows| rows.names_ignoring_case(&user)).await
    }

    /// Makes an account, which claims its name and all names that look like it. It lapses at `lapses` unless it is used
    /// until then. Errors as those of [`AccountStore::ensure_name_free`], and [`AccountStoreError::KeyTaken`].
    pub async fn create(&self, requester: Requester, account: Account, lapses: Option<SystemTime>) -> StoreResult {
        let create = move |rows: &dyn StoreRows| {
            account_rules::create(rows, &account, lapses)?;
            let Account { user, binding, .. } = &account;
            let made = ReplicatedChange::Registered { user: user.clone(), key: *binding, lapses: lapses.is_some() };
            rows.append_to_log(vec![made])
        };
        self.backend.commit_logged(requester, create).await
    }

    /// Replaces the hash `old` by `new`; [`AccountStoreError::Changed`] when it is neither.
    pub async fn set_password(&self, requester: Requester, user: &UserName, old: String, new: String) -> StoreResult {
        let user = user.clone();
        self.backend.commit(requester, move |rows| account_rules::set_password(rows, &user, &old, &new)).await
    }

    /// Replaces the binding `old` by `new`, and records `old` as a former key: [`AccountStoreError::Changed`] when the
    /// binding is neither, [`AccountStoreError::KeyTaken`] when another account has `new`. Only the latest
    /// [`crate::registry::FORMER_KEYS`] are kept. Memberships that aren't of `new` end.
    pub async fn bind(
        &self,
        requester: Requester,
        user: &UserName,
        old: Option<FormerKey>,
        new: Fingerprint,
    ) -> StoreResult<Vec<RoomOutcome>> {
        let (user, signer) = (user.clone(), self.signer.clone());
        let bind = move |rows: &dyn StoreRows| {
            // A repeated request finds its own key, and nobody is told of it again.
            let is_news = rows.find_account(&user)?.is_none_or(|account| account.binding != Some(new));
            let outcomes = account_rules::bind(rows, stamp(rows, &signer), &user, old.as_ref(), new)?;
            let bound = ReplicatedChange::Bound { user: user.clone(), key: new, former: old.clone() };
            rows.append_to_log(is_news.then_some(bound).into_iter().chain(room_changes(&outcomes)).collect())?;
            Ok(outcomes)
        };
        self.backend.commit_logged(requester, bind).await
    }

    /// Returns all recorded replaced keys, the latest last.
    pub async fn former_keys(&self, requester: Requester) -> StoreResult<Vec<FormerKey>> {
        self.backend.read(requester, |rows| rows.former_keys()).await
    }

    /// Replaces the hash as [`AccountStore::set_password`] does, and revokes all sessions but the one with the token
    /// `kept` on all trackers of a database.
    pub async fn change_password(
        &self,
        requester: Requester,
        user: &UserName,
        (old, new): (String, String),
        kept: Option<TokenHash>,
    ) -> StoreResult {
        let user = user.clone();
        let change = move |rows: &dyn StoreRows| {
            account_rules::set_password(rows, &user, &old, &new)?;
            rows.append_to_log(vec![ReplicatedChange::Revoked { user: user.clone(), kept }])
        };
        self.backend.commit_logged(requester, change).await
    }

    /// Replaces the account's hash, whatever it was; [`AccountStoreError::NoAccount`].
    pub async fn reset_password(&self, requester: Requester, user: &UserName, new: String) -> StoreResult {
        let user = user.clone();
        let reset = move |rows: &dyn StoreRows| {
            account_rules::reset_password(rows, &user, &new)?;
            rows.append_to_log(vec![ReplicatedChange::Revoked { user: user.clone(), kept: None }])
        };
        self.backend.commit_logged(requester, reset).await
    }

    /// Removes the account's binding, and ends its memberships; [`AccountStoreError::NoAccount`].
    pub async fn unbind(&self, requester: Requester, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
        let (user, signer) = (user.clone(), self.signer.clone());
        let unbind = move |rows: &dyn StoreRows| {
            log_unbinding(rows, &user, account_rules::unbind(rows, stamp(rows, &signer), &user)?)
        };
        self.backend.commit_logged(requester, unbind).await
    }

    /// Removes the account, and ends its memberships. Its claims become free unless another account's name looks like
    /// it as well. [`AccountStoreError::NoAccount`], also for a repeated removal.
    pub async fn remove(&self, requester: Requester, user: &UserName) -> StoreResult<Vec<RoomOutcome>> {
        let (user, signer) = (user.clone(), self.signer.clone());
        let remove = move |rows: &dyn StoreRows| {
            log_unbinding(rows, &user, account_rules::remove(rows, stamp(rows, &signer), &user)?)
        };
        self.backend.commit_logged(requester, remove).await
    }

    /// Returns all accounts' names in order, with their hashes.
    pub async fn password_hashes(&self, requester: Requester) -> StoreResult<Vec<(UserName, String)>> {
        self.backend.read(requester, |rows| rows.password_hashes()).await
    }

    /// Returns the accounts that were never used and will lapse.
    pub async fn unused(&self, requester: Requester) -> StoreResult<Vec<UserName>> {
        self.backend.read(requester, |rows| rows.unused_accounts()).await
    }

    /// Records that the account is used: it never lapses.
    pub async fn mark_used(&self, requester: Requester, user: &UserName) -> StoreResult {
        let user = user.clone();
        self.backend.commit(requester, move |rows| rows.delete_lapse(&user)).await
    }

    /// Returns up to `at_most` accounts that lapsed, the longest lapsed first.
    pub async fn lapsed(&self, requester: Requester, now: SystemTime, at_most: usize) -> StoreResult<Vec<UserName>> {
        self.backend.read(requester, move |rows| rows.lapsed_accounts(unix_ms(now), at_most)).await
    }

    /// Removes the account if it lapsed; [`AccountStoreError::NoAccount`] when it is used or gone. Other accounts get its
    /// claims only with [`AccountStore::claim_free_names`], which takes long for many accounts.
    pub async fn remove_lapsed(
        &self,
        requester: Requester,
        user: &UserName,
        now: SystemTime,
    ) -> StoreResult<Vec<RoomOutcome>> {
        let (user, signer) = (user.clone(), self.signer.clone());
        let remove = move |rows: &dyn StoreRows| {
            log_unbinding(rows, &user, account_rules::remove_lapsed(rows, stamp(rows, &signer), &user, now)?)
        };
        self.backend.commit_logged(requester, remove).await
    }

    /// Gives claims that are free to accounts whose names look like them.
    pub async fn claim_free_names(&self, requester: Requester) -> StoreResult {
        self.backend.commit(requester, account_rules::claim_free_names).await
    }

    /// Commits a write without effect, to find out whether the store can be written.
    pub async fn probe(&self, requester: Requester) -> StoreResult {
        self.backend.commit(requester, |rows| rows.touch()).await
    }

    /// Records the duration of each job in `metrics` from now on.
    pub fn set_metrics(&self, metrics: Arc<TrackerMetrics>) {
        self.backend.set_metrics(metrics);
    }

    /// Returns the reason why the last change failed; `None` after a success, or before any change.
    pub fn last_write_error(&self) -> Option<String> {
        self.backend.last_write_error()
    }

    /// Returns the kind of the store, for people: where the accounts are, without secrets.
    pub fn describe(&self) -> String {
        self.backend.describe()
    }

    /// Returns the reason why the store can't be used at the moment, if that is known.
    pub fn outage(&self) -> Option<String> {
        self.backend.outage()
    }

    /// Copies everything to a new SQLite file if it isn't in one that can be copied itself; false if it is. Blocks the
    /// thread, which must be none of the runtime's. Fails with [`StoreCopyError`].
    pub fn copy_elsewhere(&self, path: &Path) -> Result<bool, StoreCopyError> {
        match &self.backend {
            StoreBackend::Sqlite(_) => Ok(false),
            StoreBackend::Postgres(database) => {
                database.runtime().block_on(copy_to_sqlite(database, path)).map(|_| true)
            }
        }
    }

    /// Waits until the changes that were begun are stored. To be called before the runtime ends.
    pub async fn finish(&self) {
        self.backend.finish().await;
    }

    /// True if the store works through its queue. Waits as long as that takes, even for a place in the queue.
    pub async fn is_alive(&self) -> bool {
        self.backend.is_alive().await
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the hash, which must not reach a log.
        f.debug_struct("Account").field("user", &self.user).field("binding", &self.binding).finish_non_exhaustive()
    }
}

/// Returns the stamp of a change that is made in this transaction.
fn stamp<'a>(rows: &dyn StoreRows, signer: &'a Option<Arc<RecordSigner>>) -> RecordStamp<'a> {
    RecordStamp { signer: signer.as_deref(), now: rows.now() }
}

/// Returns a time as databases hold it; a time before 1970 is 0.
fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl From<rusqlite::Error> for AccountStoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            // A commit that can't be synced may be on the disk all the same.
            Some(ErrorCode::SystemIoFailure) => Self::Unknown(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
