//! One user's state on one machine: identity, account, friends, shares, messages.
//!
//! A folder (0700) with `identity/identity.pem`, `profile.db` (SQLite) and, while a node runs, `node.lock` and
//! `node.sock`. Several processes of one profile may use it at the same time.
//!
//! What a file system can't do is done without where that is safe: a journal that is rolled back where there is no memory
//! to share for a write-ahead log, a socket elsewhere, looks but no changes where nothing can be written or there is no
//! room. Where nothing can be locked, or where others could read the key, there is no profile.

mod busy;
mod database_place;
mod error;
mod folders;
mod forgetting;
mod friends;
mod history;
mod messages;
mod node_lock;
mod offers;
mod outbox;
mod partials;
mod people;
mod place;
mod removal;
mod requests;
mod schema;
mod shares;
mod steady;
mod trackers;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use certs::{FilePlace, Identity, IdentityError, IfMissing, Reliance, Replacement};
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use shared::UserName;

pub use busy::tell_waits_with;
pub use error::ProfileError;
pub use folders::SharedFolder;
pub use friends::{Friend, Meeting};
pub use history::HistoryQuery;
pub use messages::{Direction, Kept, MessageState, StoredMessage};
pub use node_lock::{NodeHolder, NodeLock};
pub use outbox::Waiting;
pub use partials::PartialShare;
pub use people::Unread;
pub use removal::{Forget, Forgotten};
pub use requests::Standing;
pub use schema::APPLICATION_ID;
pub use shares::{FileHash, HashedShare, Share, SharePage};
pub use trackers::{KeyStanding, KnownTracker};

/// The database's name in the profile's folder.
const DATABASE: &str = "profile.db";
/// The name of the folder with the key.
const IDENTITY: &str = "identity";
/// The key's name in it.
const KEY: &str = "identity.pem";

/// One user's state on one machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Profile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: PathBuf,
    /// The database's.
    place: FilePlace,
    access: Access,
    /// For looks at what is shared and who is known.
    database: Mutex<Connection>,
    /// For looks at messages, which may take longer.
    ledger: OnceLock<Mutex<Connection>>,
    /// For whatever is written. It may wait for the disk, or for another program that holds the database; in WAL mode
    /// the looks over the other connections never wait for it.
    writer: OnceLock<Mutex<Connection>>,
}

/// The use that is made of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anything.
    Use,
    /// To be looked at for a moment: nothing has to be written for that, so that a full disk is no hindrance.
    Look,
}

impl Access {
    fn connect(self, path: &Path) -> Result<Connection, ProfileError> {
        match self {
            Self::Use => schema::open(path),
            Self::Look => schema::open_to_look(path),
        }
    }
}

/// Who this profile is, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's name.
    pub user: UserName,
    /// The tracker it is registered with, `HOST:PORT`.
    pub tracker: String,
}

/// The identity that an account is to be bound to.
#[derive(Debug)]
pub enum IdentityToBind {
    /// The one that the profile has.
    Kept(Identity),
    /// One that takes its place once the account is bound to it.
    New(Replacement),
}

impl IdentityToBind {
    /// Returns the identity.
    pub const fn identity(&self) -> &Identity {
        match self {
            Self::Kept(identity) => identity,
            Self::New(replacement) => replacement.identity(),
        }
    }

    /// Makes it the profile's; returns where the key that was there before is kept.
    ///
    /// # Errors
    /// [`ProfileError::Identity`].
    pub fn commit(self) -> Result<Option<PathBuf>, ProfileError> {
        match self {
            Self::Kept(_) => Ok(None),
            Self::New(replacement) => Ok(replacement.commit()?),
        }
    }

    /// Leaves the profile as it was: the account isn't bound to it.
    ///
    /// # Errors
    /// [`ProfileError::Identity`].
    pub fn discard(self) -> Result<(), ProfileError> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::New(replacement) => Ok(replacement.discard()?),
        }
    }
}

const PUT_SETTING: &str = "INSERT INTO setting (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";

impl Profile {
    /// Opens the profile in `home`, made if it isn't there. What is made and can't be used is removed again.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn open(home: &Path) -> Result<Self, ProfileError> {
        match Self::open_existing(home, Access::Use)? {
            Some(profile) => Ok(profile),
            None => place::Place::make(home)?.keep_if(|home| Self::open_in(home, Access::Use)),
        }
    }

    /// Opens the profile in `home`; `None` when there is none, and nothing is made.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn open_existing(home: &Path, access: Access) -> Result<Option<Self>, ProfileError> {
        if database_place::is_there(home)? { Self::open_in(home, access).map(Some) } else { Ok(None) }
    }

    fn open_in(home: &Path, access: Access) -> Result<Self, ProfileError> {
        let home = home.canonicalize().map_err(|source| ProfileError::Io { path: home.to_owned(), source })?;
        let database = Mutex::new(access.connect(&home.join(DATABASE))?);
        let place = FilePlace::of(&home.join(DATABASE));
        let (ledger, writer) = (OnceLock::new(), OnceLock::new());
        Ok(Self { inner: Arc::new(Inner { home, place, access, database, ledger, writer }) })
    }

    /// Demands that the database that is open is the one at its path.
    ///
    /// # Errors
    /// [`ProfileError::DatabaseLost`].
    pub fn demand_database(&self) -> Result<(), ProfileError> {
        let place = &self.inner.place;
        if place.is_lost() { Err(ProfileError::DatabaseLost { path: place.path().to_owned() }) } else { Ok(()) }
    }

    /// Looks through the database for damage, for at most `patience`: what is not found by then may show later.
    ///
    /// # Errors
    /// [`ProfileError`] when there is some.
    pub fn check(&self, patience: Duration) -> Result<(), ProfileError> {
        let writer = self.writer()?;
        let (handle, (done, is_done)) = (writer.get_interrupt_handle(), mpsc::channel::<()>());
        let found = std::thread::scope(|scope| {
            scope.spawn(move || {
                if let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(patience) {
                    handle.interrupt();
                }
            });
            let found = writer.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            drop(done);
            found
        });
        match found {
            Ok(text) if text == "ok" => Ok(()),
            Ok(text) => Err(self.damaged(text)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                tracing::info!("the database is large and was looked through only in part");
                Ok(())
            }
            Err(error) => self.sql(Err(error)),
        }
    }

    /// The profile's folder.
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// Whether the profile lies where nothing can be written: it can be looked at.
    pub fn is_read_only(&self) -> bool {
        self.database().is_readonly(rusqlite::MAIN_DB).unwrap_or(false)
    }

    /// Returns the identity; it is made if there is none and no account that belongs to it.
    ///
    /// # Errors
    /// [`ProfileError::Identity`].
    pub fn identity(&self) -> Result<Identity, ProfileError> {
        let folder = self.inner.home.join(IDENTITY);
        let Some(Account { user, .. }) = self.account()? else {
            return Ok(Identity::open(&folder, IfMissing::Create)?);
        };
        let reason = format!("the account {user} belongs to it");
        let otherwise = format!("give the account a new key with `peer login {user} --rebind`");
        let reliance = Reliance { reason: &reason, otherwise: &otherwise };
        Ok(Identity::open(&folder, IfMissing::Fail(reliance))?)
    }

    /// Returns the identity for an account that is to belong to it from now on: a new one where the one that is kept is
    /// missing, empty or damaged.
    ///
    /// # Errors
    /// [`ProfileError::Identity`].
    pub fn identity_to_bind(&self) -> Result<IdentityToBind, ProfileError> {
        let folder = self.inner.home.join(IDENTITY);
        match Identity::load(&folder) {
            Ok(Some(identity)) => Ok(IdentityToBind::Kept(identity)),
            Ok(None) | Err(IdentityError::Damaged { .. }) => Ok(IdentityToBind::New(Replacement::begin(&folder)?)),
            Err(error) => Err(error.into()),
        }
    }

    /// The file of the key.
    pub fn key_path(&self) -> PathBuf {
        self.inner.home.join(IDENTITY).join(KEY)
    }

    /// Whether there is a key that can be used.
    pub fn has_key(&self) -> bool {
        Identity::load(&self.inner.home.join(IDENTITY)).is_ok_and(|key| key.is_some())
    }

    /// Where a node listens to other processes of this profile, if its file system can hold a socket there.
    pub fn socket_path(&self) -> PathBuf {
        self.inner.home.join("node.sock")
    }

    /// Becomes the profile's one node.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`], [`ProfileError::NoLocks`], or as the system says.
    pub fn lock_node(&self) -> Result<NodeLock, ProfileError> {
        NodeLock::take(&self.inner.home)
    }

    /// Whether a node holds the profile.
    ///
    /// # Errors
    /// As the system says.
    pub fn is_node_running(&self) -> Result<bool, ProfileError> {
        node_lock::is_held(&self.inner.home)
    }

    /// The node that holds the profile, or held it last, as it said itself.
    pub fn node_holder(&self) -> NodeHolder {
        node_lock::holder(&self.inner.home)
    }

    /// Waits until no node holds the profile, or for some seconds.
    ///
    /// # Errors
    /// As the system says.
    pub async fn await_node_end(&self) -> Result<(), ProfileError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(20);
        let wait = async {
            loop {
                match self.is_node_running() {
                    Ok(true) => tokio::time::sleep(PAUSE).await,
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let runs = || ProfileError::NodeRuns { pid: self.node_holder().pid };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| Err(runs()))
    }

    /// Who this profile is, if it ever registered or logged in.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn account(&self) -> Result<Option<Account>, ProfileError> {
        let (Some(user), Some(tracker)) = (self.setting("user")?, self.setting("tracker")?) else { return Ok(None) };
        let user = user.parse().map_err(|_| self.damaged(format!("the account {user:?}")))?;
        Ok(Some(Account { user, tracker }))
    }

    /// Records who this profile is.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_account(&self, account: &Account) -> Result<(), ProfileError> {
        let mut writer = self.writer()?;
        // Both or none: half an account is none.
        let transaction = self.sql(writer.transaction())?;
        for (key, value) in [("user", account.user.as_str()), ("tracker", &account.tracker)] {
            self.sql(transaction.execute(PUT_SETTING, [key, value]))?;
        }
        self.sql(transaction.commit())
    }

    /// Forgets who this profile is; the identity stays.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn clear_account(&self) -> Result<(), ProfileError> {
        self.set_setting("user", None)
    }

    /// The tracker that was used last, if any.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn last_tracker(&self) -> Result<Option<String>, ProfileError> {
        self.setting("tracker")
    }

    /// The UDP port that the node had last, so that others find it there again.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn last_port(&self) -> Result<Option<u16>, ProfileError> {
        Ok(self.setting("port")?.and_then(|text| text.parse().ok()))
    }

    /// Records the node's UDP port.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_last_port(&self, port: u16) -> Result<(), ProfileError> {
        self.set_setting("port", Some(&port.to_string()))
    }

    /// What failed in the last fetch, as the fetch wrote it.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn last_failed_fetch(&self) -> Result<Option<String>, ProfileError> {
        self.setting("failed_fetch")
    }

    /// Records what failed in a fetch, if anything did.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_last_failed_fetch(&self, what: Option<&str>) -> Result<(), ProfileError> {
        if what.is_none() && self.setting("failed_fetch")?.is_none() {
            return Ok(());
        }
        self.set_setting("failed_fetch", what)
    }

    /// The program that is run for every message that comes, and its arguments.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn hook(&self) -> Result<Option<Vec<String>>, ProfileError> {
        let damaged = |text: &String| self.damaged(format!("the hook {text:?}"));
        let hook = self.setting("hook")?;
        hook.map(|text| serde_json::from_str(&text).map_err(|_| damaged(&text))).transpose()
    }

    /// Records the program that is run for every message that comes.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_hook(&self, argv: Option<&[String]>) -> Result<(), ProfileError> {
        let text = argv.map(|argv| serde_json::Value::from(argv).to_string());
        self.set_setting("hook", text.as_deref())
    }

    /// Whether a terminal rings when a message comes.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn rings(&self) -> Result<bool, ProfileError> {
        Ok(self.setting("bell")?.as_deref() != Some("off"))
    }

    /// Records whether a terminal rings when a message comes.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn set_rings(&self, rings: bool) -> Result<(), ProfileError> {
        self.set_setting("bell", Some(if rings { "on" } else { "off" }))
    }

    fn setting(&self, key: &str) -> Result<Option<String>, ProfileError> {
        let database = self.database();
        let mut query = self.sql(database.prepare_cached("SELECT value FROM setting WHERE key = ?1"))?;
        self.sql(query.query_row([key], |row| row.get(0)).optional())
    }

    fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), ProfileError> {
        let writer = self.writer()?;
        let changed = match value {
            Some(value) => writer.execute(PUT_SETTING, [key, value]),
            None => writer.execute("DELETE FROM setting WHERE key = ?1", [key]),
        };
        self.sql(changed).map(|_| ())
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no transaction half done: rusqlite rolls back on drop.
        self.inner.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for looks at messages.
    fn ledger(&self) -> Result<MutexGuard<'_, Connection>, ProfileError> {
        self.opened(&self.inner.ledger, self.inner.access)
    }

    /// The connection for whatever is written.
    ///
    /// # Errors
    /// [`ProfileError::DatabaseLost`] when that would be lost.
    fn writer(&self) -> Result<MutexGuard<'_, Connection>, ProfileError> {
        self.demand_database()?;
        self.opened(&self.inner.writer, Access::Use)
    }

    fn opened<'a>(
        &self,
        connection: &'a OnceLock<Mutex<Connection>>,
        access: Access,
    ) -> Result<MutexGuard<'a, Connection>, ProfileError> {
        let connection = match connection.get() {
            Some(connection) => connection,
            None => {
                // To open it would make another one.
                self.demand_database()?;
                let opened = access.connect(&self.inner.home.join(DATABASE))?;
                connection.get_or_init(|| Mutex::new(opened))
            }
        };
        Ok(connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, ProfileError> {
        result.map_err(|source| ProfileError::database(&self.inner.home.join(DATABASE), source))
    }

    fn damaged(&self, what: String) -> ProfileError {
        ProfileError::Damaged { path: self.inner.home.join(DATABASE), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn the_account_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let profile = Profile::open(&home.path().join("p")).unwrap();
        assert_eq!(profile.account().unwrap(), None);
        let account = Account { user: "alice".parse().unwrap(), tracker: "10.0.0.1:8000".into() };
        profile.set_account(&account).unwrap();
        drop(profile);
        let profile = Profile::open(&home.path().join("p")).unwrap();
        assert_eq!(profile.account().unwrap(), Some(account));
        profile.clear_account().unwrap();
        assert_eq!(profile.account().unwrap(), None);
        assert_eq!(profile.last_tracker().unwrap().as_deref(), Some("10.0.0.1:8000"));
    }

    #[test]
    fn a_write_that_waits_for_a_stopped_node_names_it() {
        let home = tempfile::tempdir().unwrap();
        Profile::open(home.path()).unwrap();
        let mut node = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let lock = std::fs::File::create(home.path().join("node.lock")).unwrap();
        lock.try_lock().unwrap();
        std::io::Write::write_all(&mut &lock, format!("{}\n", node.id()).as_bytes()).unwrap();
        let pid = rustix::process::Pid::from_child(&node);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !sys::is_stopped(node.id()) {
            assert!(std::time::Instant::now() < until, "a signal takes no time");
            std::thread::yield_now();
        }
        let held = Connection::open(home.path().join(DATABASE)).unwrap();
        held.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = Profile::open(home.path()).unwrap().clear_account().unwrap_err();
        node.kill().unwrap();
        node.wait().unwrap();
        assert!(matches!(&error, ProfileError::NodeStopped { pid, .. } if *pid == node.id()), "{error}");
        assert!(error.to_string().contains("sleep 600"), "{error}");
    }

    #[test]
    fn damage_is_found_before_anything_is_written() {
        let home = tempfile::tempdir().unwrap();
        let (path, patience) = (home.path().join("profile.db"), Duration::from_secs(60));
        let profile = Profile::open(home.path()).unwrap();
        let bob = "bob".parse().unwrap();
        for byte in 0..100 {
            let (id, text) = (shared::peer::MessageId::from_bytes([byte; 16]), "word ".repeat(400));
            let message = shared::peer::ChatMessage { id, ts: 0, text: text.into(), offer: None, room: None };
            profile.store_theirs(&bob, &[message], 1).unwrap();
        }
        profile.check(patience).unwrap();
        drop(profile);
        let mut bytes = std::fs::read(&path).unwrap();
        // The header and the schema are whole, what lies behind is not.
        let from = bytes.len() - 3 * 4096;
        bytes[from..].fill(0x55);
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
        let error = Profile::open(home.path()).unwrap().check(patience).unwrap_err();
        assert!(error.to_string().contains("damaged") && !error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is kept as it is");
    }
}
