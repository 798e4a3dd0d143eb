//! State of one user on one machine: identity, account, known users, shares, messages.
//!
//! A folder (0700) with `identity/identity.pem`, `profile.db` (SQLite) and, while a node runs, `node.lock` and
//! `node.sock`. Several processes of one profile may use it at the same time.
//!
//! Limits of the file system are tolerated where that is safe: a rollback journal without shared memory for a
//! write-ahead log, a socket in another folder, a read-only profile on a read-only disk. A file system without locks,
//! or one where others could read the key, can't hold a profile.

mod accept_rules;
mod audience;
mod connection_guard;
mod conversation_name;
mod conversations;
mod database_file;
mod database_opening;
mod folder_trust;
mod follows;
mod guest_chat;
mod guest_chat_bounds;
mod guest_links;
mod guest_name;
mod guest_uploads;
mod history;
mod history_removal;
mod incoming_sends;
mod known_trackers;
mod known_users;
mod lock_wait;
mod message_deletion;
mod message_requests;
mod message_store;
mod node_lock;
mod outbox;
mod outgoing_sends;
mod partial_shares;
mod profile_error;
mod profile_folder;
mod profile_identity;
mod profile_transfer;
mod removed_shares;
mod request_eviction;
mod retraction;
mod room_store;
mod schema;
mod send_pausing;
mod settings;
mod share_roots;
mod share_store;
mod shared_folders;
mod sql_integer;
mod steady_clock;
mod stored_message;
mod wishes;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use certs::FileLossDetector;
use connection_guard::ConnectionGuard;
use folder_trust::ProfileUse;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, Params, Row, Transaction, TransactionBehavior};

pub use accept_rules::{ACCEPT_WINDOW_MS, AcceptRule, AcceptedSend};
pub use audience::{Audience, InvalidAudience};
pub use conversation_name::{ConversationName, ConversationNameError};
pub use conversations::UnreadCount;
pub use follows::{Follow, FollowRecord, FollowState, FollowStatus, NewFollow, RecordedFile, RemovalConsent};
pub use guest_chat::{GuestConversation, GuestMessage, GuestMessageOutcome, GuestPost, NewGuestMessage};
pub use guest_chat_bounds::GuestChatBound;
pub use guest_links::{GuestFile, GuestLink, NewGuestFile, NewGuestLink, StoredGuestFile};
pub use guest_name::{GuestIdentity, GuestName, GuestNameError};
pub use guest_uploads::{GuestUpload, UploadReservation};
pub use history::HistoryQuery;
pub use history_removal::{ForgetQuery, ForgetSummary};
pub use incoming_sends::{IncomingSend, QueuedReceipt};
pub use known_trackers::{KnownTracker, TrackerKeyTrust};
pub use known_users::{KeyComparison, KnownUser};
pub use lock_wait::LOCK_WAIT_NOTIFIER;
pub use message_requests::ConversationStatus;
pub use message_store::StoreOutcome;
pub use node_lock::{NodeHolder, NodeLock};
pub use outbox::QueuedMessage;
pub use outgoing_sends::{NewSend, OutgoingSend, SendState};
pub use partial_shares::PartialShare;
pub use profile_error::ProfileError;
pub use profile_identity::BindingIdentity;
pub use room_store::{DeliveryCount, KnownRoom, LoadedRoom, NewRoomMessage, RoomUpdate};
pub use schema::APPLICATION_ID;
pub use settings::ProfileAccount;
pub use share_roots::{NameSubtrees, ShareRoot};
pub use share_store::{HashedFile, HashedShare, Share, SharePage};
pub use shared_folders::SharedFolder;
pub use stored_message::{MessageDirection, MessageState, RoomMessageDetails, StoredMessage};
pub use wishes::{MAX_OPEN_WISHES, ToldMatch, Wish, WishMatch, WishState};

/// The name of the database in the profile's folder.
const DATABASE_FILE: &str = "profile.db";
/// The suffixes of the database's files: itself, its rollback journal, its write-ahead log with the shared memory.
const DATABASE_FILE_SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];
/// The state of one user on one machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Profile {
    inner: Arc<ProfileInner>,
}

#[derive(Debug)]
struct ProfileInner {
    home: PathBuf,
    database_path: Arc<Path>,
    /// Detects that the database file was removed or replaced.
    database_file: FileLossDetector,
    access: Access,
    /// For looks at what is shared and who is known.
    reader: Mutex<Connection>,
    /// Reads messages, which may take longer.
    message_reader: OnceLock<Mutex<Connection>>,
    /// Writes everything. It may wait for the disk, or for another process that holds the database; in WAL mode the
    /// other two connections never wait for it.
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
            Self::Use => database_opening::open(path),
            Self::Look => database_opening::open_to_look(path),
        }
    }
}

impl Profile {
    /// Opens the profile in `home`, and creates it if there is none. A new profile that can't be used is removed again.
    ///
    /// # Errors
    /// [`ProfileError`]; [`ProfileError::MissingDatabase`] if only the key of a profile is there.
    pub fn open(home: &Path) -> Result<Self, ProfileError> {
        match Self::open_existing(home, Access::Use)? {
            Some(profile) => Ok(profile),
            None => Self::create(home),
        }
    }

    /// Opens the profile in `home` as [`Profile::open`], and begins a new database if only the key is there: for a
    /// login, which is the way on after the loss of a database. The flag is true if that was so.
    pub fn open_or_begin_anew(home: &Path) -> Result<(Self, bool), ProfileError> {
        match Self::open(home) {
            Err(ProfileError::MissingDatabase { .. }) => Ok((Self::create(home)?, true)),
            opened => Ok((opened?, false)),
        }
    }

    fn create(home: &Path) -> Result<Self, ProfileError> {
        profile_folder::NewProfileFolder::create(home)?.keep_on_success(|home| Self::open_in(home, Access::Use))
    }

    /// Opens the profile in `home`; `None` if there is none, and nothing is created.
    pub fn open_existing(home: &Path, access: Access) -> Result<Option<Self>, ProfileError> {
        if database_file::has_database(home)? { Self::open_in(home, access).map(Some) } else { Ok(None) }
    }

    fn open_in(home: &Path, access: Access) -> Result<Self, ProfileError> {
        // Once, so that the database, the lock and the socket stay in one folder even if a link is changed.
        let home = home.canonicalize().map_err(ProfileError::io_at(home))?;
        // Before SQLite reads what somebody else may have put there.
        folder_trust::ensure_private(&home, ProfileUse::Access)?;
        let database_path: Arc<Path> = home.join(DATABASE_FILE).into();
        let database = Mutex::new(access.connect(&database_path)?);
        let place = FileLossDetector::new(&database_path);
        let (ledger, writer) = (OnceLock::new(), OnceLock::new());
        Ok(Self {
            inner: Arc::new(ProfileInner {
                home,
                database_path,
                database_file: place,
                access,
                reader: database,
                message_reader: ledger,
                writer,
            }),
        })
    }

    /// Checks that the open database is still the file at its path.
    ///
    /// # Errors
    /// [`ProfileError::DatabaseLost`] if it was removed or replaced.
    pub fn check_database_file(&self) -> Result<(), ProfileError> {
        let place = &self.inner.database_file;
        if place.is_lost() { Err(ProfileError::DatabaseLost { path: place.path().to_owned() }) } else { Ok(()) }
    }

    /// Checks the database for damage, for at most `patience`; in a large database some may remain undetected.
    ///
    /// # Errors
    /// [`ProfileError::Damaged`] if damage is found.
    pub fn check_integrity(&self, patience: Duration) -> Result<(), ProfileError> {
        self.check_database(&*self.writer()?, patience)
    }

    /// Checks the database as [`Profile::check_integrity`], without the right to write: a full disk, or another process
    /// that holds the database, is no hindrance.
    pub fn look_for_damage(&self, patience: Duration) -> Result<(), ProfileError> {
        self.check_database(&*self.message_reader()?, patience)
    }

    fn check_database(&self, database: &Connection, patience: Duration) -> Result<(), ProfileError> {
        let (handle, (done, is_done)) = (database.get_interrupt_handle(), mpsc::channel::<()>());
        let found = std::thread::scope(|scope| {
            // SQLite has no time limit for a statement: another thread interrupts it.
            scope.spawn(move || {
                if let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(patience) {
                    handle.interrupt();
                }
            });
            let found = database.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
            // Ends the thread: its receiver sees the closed channel at once.
            drop(done);
            found
        });
        // The pages were read for this alone. In a process with many profiles they would be a fifth of its memory.
        let _ = database.execute_batch("PRAGMA shrink_memory");
        match found {
            Ok(text) if text == "ok" => Ok(()),
            Ok(text) => Err(self.damaged_error(text)),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                tracing::info!("the database is large and was looked through only in part");
                Ok(())
            }
            Err(error) => self.db_result(Err(error)),
        }
    }

    /// Returns the profile's folder.
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// True if the profile can only be read, because its disk is mounted read-only.
    pub fn is_read_only(&self) -> bool {
        self.reader().is_readonly(rusqlite::MAIN_DB).unwrap_or(false)
    }

    /// Returns the path of the database.
    pub fn database_path(&self) -> PathBuf {
        self.inner.database_path.to_path_buf()
    }

    /// Returns the path of the node's control socket, if the file system can hold a socket there.
    pub fn socket_path(&self) -> PathBuf {
        self.inner.home.join("node.sock")
    }

    /// Takes the lock of the profile's one node.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`] if another node holds it, [`ProfileError::NoLocks`], or [`ProfileError::Io`].
    pub fn lock_node(&self) -> Result<NodeLock, ProfileError> {
        folder_trust::ensure_private(&self.inner.home, ProfileUse::Node)?;
        NodeLock::acquire(&self.inner.home)
    }

    /// Returns whether a node holds the profile.
    ///
    /// # Errors
    /// [`ProfileError::Io`] if the locks can't be tested.
    pub fn is_node_running(&self) -> Result<bool, ProfileError> {
        node_lock::is_node_locked(&self.inner.home)
    }

    /// Returns the node that holds the profile, or held it last, from its lock file.
    pub fn node_holder(&self) -> NodeHolder {
        node_lock::read_node_holder(&self.inner.home)
    }

    /// Waits until no node holds the profile, for at most 5 s.
    ///
    /// # Errors
    /// [`ProfileError::NodeRuns`] after that time, or [`ProfileError::Io`].
    pub async fn wait_for_node_exit(&self) -> Result<(), ProfileError> {
        const NODE_EXIT_TIMEOUT: Duration = Duration::from_secs(5);
        const POLL_INTERVAL: Duration = Duration::from_millis(20);
        // Polled: a blocking lock would occupy a thread and could not be cancelled.
        let wait = async {
            loop {
                match self.is_node_running() {
                    Ok(true) => tokio::time::sleep(POLL_INTERVAL).await,
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let runs = || ProfileError::NodeRuns { pid: self.node_holder().pid };
        tokio::time::timeout(NODE_EXIT_TIMEOUT, wait).await.unwrap_or_else(|_| Err(runs()))
    }

    fn reader(&self) -> ConnectionGuard<'_> {
        ConnectionGuard::lock(&self.inner.reader, &self.inner.database_path)
    }

    /// Returns the connection for reading messages.
    fn message_reader(&self) -> Result<ConnectionGuard<'_>, ProfileError> {
        self.lock_connection(&self.inner.message_reader, self.inner.access)
    }

    /// Returns the connection for all writes.
    ///
    /// # Errors
    /// [`ProfileError::DatabaseLost`] if the file was removed or replaced, so that the write would be lost.
    fn writer(&self) -> Result<ConnectionGuard<'_>, ProfileError> {
        // A write to a removed file would succeed, be acked, and be gone.
        self.check_database_file()?;
        self.lock_connection(&self.inner.writer, Access::Use)
    }

    fn lock_connection<'a>(
        &'a self,
        connection: &'a OnceLock<Mutex<Connection>>,
        access: Access,
    ) -> Result<ConnectionGuard<'a>, ProfileError> {
        let connection = match connection.get() {
            Some(connection) => connection,
            None => {
                // Opening a removed database would create an empty one in its place.
                self.check_database_file()?;
                let opened = access.connect(&self.inner.database_path)?;
                // Two threads may have opened one each: the second is closed again.
                connection.get_or_init(|| Mutex::new(opened))
            }
        };
        Ok(ConnectionGuard::lock(connection, &self.inner.database_path))
    }

    /// Runs a query, and returns what `read` makes of its rows; the connection is free again then.
    fn query_all<T>(
        &self,
        connection: ConnectionGuard<'_>,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, ProfileError> {
        let rows = connection.prepare_cached(sql).and_then(|mut query| query.query_map(params, read)?.collect());
        // Before the rows are checked: others wait for this connection.
        drop(connection);
        self.db_result(rows)
    }

    /// Runs `work` in a transaction, and commits it if `work` succeeds.
    fn in_transaction<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ProfileError> {
        let mut writer = self.writer()?;
        let transaction = self.db_result(writer.transaction_with_behavior(behavior))?;
        let done = self.db_result(work(&transaction))?;
        self.db_result(transaction.commit())?;
        Ok(done)
    }

    fn db_result<T>(&self, result: rusqlite::Result<T>) -> Result<T, ProfileError> {
        result.map_err(|source| ProfileError::from_sqlite(&self.inner.database_path, source))
    }

    fn damaged_error(&self, what: String) -> ProfileError {
        ProfileError::Damaged { path: self.database_path(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    /// Runs `work` with a stopped process, which holds the lock of the node in `home`; it is killed afterwards.
    fn with_stopped_node<T>(home: &Path, work: impl FnOnce(u32) -> T) -> T {
        let mut node = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let lock = std::fs::File::create(home.join("node.lock")).unwrap();
        lock.try_lock().unwrap();
        std::io::Write::write_all(&mut &lock, format!("{}\n", node.id()).as_bytes()).unwrap();
        let pid = rustix::process::Pid::from_child(&node);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while !sys::is_process_stopped(node.id()) {
            assert!(std::time::Instant::now() < until, "a signal takes no time");
            std::thread::yield_now();
        }
        let done = work(node.id());
        node.kill().unwrap();
        node.wait().unwrap();
        done
    }

    #[test]
    fn a_write_that_waits_for_a_stopped_node_names_it() {
        let home = tempfile::tempdir().unwrap();
        Profile::open(home.path()).unwrap();
        let held = Connection::open(home.path().join(DATABASE_FILE)).unwrap();
        held.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (stopped, error) = with_stopped_node(home.path(), |pid| {
            (pid, Profile::open(home.path()).unwrap().clear_account().unwrap_err())
        });
        assert!(matches!(&error, ProfileError::NodeStopped { pid, .. } if *pid == stopped), "{error}");
        assert!(error.to_string().contains("sleep 600"), "{error}");
    }

    #[test]
    fn a_stopped_node_of_another_account_ends_no_wait() {
        let (home, other_home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (profile, other) = (Profile::open(home.path()).unwrap(), Profile::open(other_home.path()).unwrap());
        // The step at which a stopped holder is looked for.
        let waits_on = || lock_wait::wait_step(75);
        with_stopped_node(other_home.path(), |_| {
            let other_waits_on = {
                let _other = other.reader();
                waits_on()
            };
            assert!(!other_waits_on);
            let _own = profile.reader();
            assert!(waits_on());
        });
    }

    #[test]
    fn damage_is_found_before_anything_is_written() {
        let home = tempfile::tempdir().unwrap();
        let (path, patience) = (home.path().join("profile.db"), Duration::from_secs(60));
        let profile = Profile::open(home.path()).unwrap();
        let bob = "bob".parse().unwrap();
        for byte in 0..100 {
            let (id, text) = (shared::peer::MessageId::from_bytes([byte; 16]), "word ".repeat(400));
            let message = shared::peer::ChatMessage { id, ts: 0, text: text.into(), offer: None, send: None };
            profile.store_incoming(&bob, &[message], 1).unwrap();
        }
        profile.check_integrity(patience).unwrap();
        drop(profile);
        let mut bytes = std::fs::read(&path).unwrap();
        // The header and the schema are whole, what lies behind is not.
        let from = bytes.len() - 3 * 4096;
        bytes[from..].fill(0x55);
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), &bytes).unwrap();
        let opened = Profile::open_existing(home.path(), Access::Look).unwrap().unwrap();
        assert!(opened.look_for_damage(patience).unwrap_err().to_string().contains("damaged"));
        let error = Profile::open(home.path()).unwrap().check_integrity(patience).unwrap_err();
        assert!(error.to_string().contains("damaged") && !error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is kept as it is");
    }
}
