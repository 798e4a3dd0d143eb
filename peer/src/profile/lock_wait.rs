//! Waits for a database that another process holds, in short steps that notice a request to end, with a notice that
//! names the holder.
//!
//! The holder is found in the system's table of locks. Testing the lock itself would open the file once more, and
//! closing that would drop all locks that SQLite has on it in this process (fcntl(2)).
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a wait for the database | `LOCK_TIMEOUT` | an error that names the holder |
//! | the same when the holder is stopped | `STOPPED_HOLDER_TIMEOUT` | as above |
//! | the same when this process is asked to end | `TERMINATION_TIMEOUT` | as above |

use std::cell::RefCell;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use localization::tr;
use rustix::fs::{FlockOperation, fcntl_lock};
use shared::safe_text::{safe_line, safe_path};

use super::node_lock;
use crate::sys::{self, UserNotifier, job_control, process_command};

/// Time that another process may hold the database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a stopped process may hold it.
const STOPPED_HOLDER_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time that a process may hold it when this one is asked to end; most hold it for some milliseconds.
const TERMINATION_TIMEOUT: Duration = Duration::from_millis(500);
/// Time after which the user is told about the wait.
const NOTICE_DELAY: Duration = Duration::from_secs(2);
/// Time of one step.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Time after which the file system is probed for locks: SQLite reports a missing lock support as a held lock.
const LOCK_PROBE_DELAY: Duration = Duration::from_millis(200);

/// The bytes of a database that SQLite locks to write, from its pending byte on (os_unix.c).
const DATABASE_LOCK_BYTES: RangeInclusive<u64> = 0x4000_0000..=0x4000_0000 + 511;
/// The bytes of a log's shared memory that it locks for writing, checkpointing and recovery (wal.c).
const LOG_LOCK_BYTES: RangeInclusive<u64> = 120..=122;

thread_local! {
    /// The database that this thread uses: SQLite calls a busy handler, on the thread that waits, without saying for which
    /// file.
    static DATABASE_IN_USE: RefCell<Option<Arc<Path>>> = const { RefCell::new(None) };
}

/// Tells the user about a long wait.
pub static LOCK_WAIT_NOTIFIER: UserNotifier = UserNotifier::new();

/// A process that holds a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LockHolder {
    pub(super) pid: u32,
    /// The command line, safe to print.
    pub(super) command: Option<String>,
    pub(super) is_stopped: bool,
}

/// The use of a database by this thread, for which its waits are until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct DatabaseUse {
    /// Another database that the thread uses meanwhile.
    outer: Option<Arc<Path>>,
}

impl DatabaseUse {
    /// Begins to use the database at `path`.
    pub(super) fn begin(path: Arc<Path>) -> Self {
        Self { outer: DATABASE_IN_USE.replace(Some(path)) }
    }
}

impl Drop for DatabaseUse {
    fn drop(&mut self) {
        // Fails only when the thread ends.
        let _ = DATABASE_IN_USE.try_with(|used| used.replace(self.outer.take()));
    }
}

/// Makes `connection` wait with [`wait_step`] when its database is held.
pub(super) fn install_busy_handler(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(wait_step))
}

/// Waits one step; `steps` is the number of steps before. Returns false when the wait is over.
pub(super) fn wait_step(steps: i32) -> bool {
    let waited = POLL_INTERVAL * u32::try_from(steps).unwrap_or(u32::MAX);
    let goes_on = can_wait_longer(waited);
    if goes_on {
        std::thread::sleep(POLL_INTERVAL);
    }
    goes_on
}

/// Returns whether a wait of this length goes on, and tells the user about it once.
fn can_wait_longer(waited: Duration) -> bool {
    // The time is counted in steps, so that each of these moments occurs exactly once.
    let is_moment = |moment: Duration| (moment..moment + POLL_INTERVAL).contains(&waited);
    if waited >= LOCK_TIMEOUT || (waited >= TERMINATION_TIMEOUT && job_control::requested_termination().is_some()) {
        return false;
    }
    // Every second only: reading the table of locks costs more than a step.
    let each_second = waited >= STOPPED_HOLDER_TIMEOUT
        && (waited.as_millis() - STOPPED_HOLDER_TIMEOUT.as_millis()) % 1000 < POLL_INTERVAL.as_millis();
    let (looks_for_locks, tells) = (is_moment(LOCK_PROBE_DELAY), is_moment(NOTICE_DELAY));
    if !(each_second || looks_for_locks || tells) {
        return true;
    }
    let Some(path) = DATABASE_IN_USE.with_borrow(Clone::clone) else { return true };
    // There is nothing to wait for: the error names the missing lock support.
    if looks_for_locks && probe_lock_support(&path).is_some() {
        return false;
    }
    let holder = if each_second || tells { find_lock_holder(&path) } else { None };
    // A stopped holder releases nothing before somebody continues it.
    if each_second && holder.as_ref().is_some_and(|holder| holder.is_stopped) {
        return false;
    }
    if tells && let Some(holder) = holder {
        let words = describe_process(holder.pid, holder.command.as_deref());
        let text = tr!("waiting for {process}, which holds {path}", process = words, path = safe_path(&path));
        LOCK_WAIT_NOTIFIER.tell(&text);
    }
    true
}

/// Describes a process for the user, with its command if known.
pub(super) fn describe_process(pid: u32, command: Option<&str>) -> String {
    match command {
        None => tr!("process {pid}", pid),
        Some(command) => tr!("process {pid} ({command})", pid, command),
    }
}

impl LockHolder {
    /// Returns the process of this id as a holder.
    pub(super) fn from_pid(pid: u32) -> Self {
        let command = process_command(pid).map(|command| safe_line(&command).into_owned());
        Self { pid, command, is_stopped: sys::is_process_stopped(pid) }
    }
}

/// Finds the other process that holds the database at `path`.
pub(super) fn find_lock_holder(path: &Path) -> Option<LockHolder> {
    let in_table = || {
        let parts = [(path.to_owned(), DATABASE_LOCK_BYTES), (sibling_path(path, "-shm"), LOG_LOCK_BYTES)];
        let held = parts.into_iter().flat_map(|(path, bytes)| sys::write_lock_holders(&path, &bytes));
        // This process's other connections hold locks as well, and are not to be waited for.
        held.into_iter().find(|pid| *pid != std::process::id()).map(LockHolder::from_pid)
    };
    // On systems without a readable table, a stopped node is the likeliest holder.
    let stopped_node = || {
        let home = path.parent()?;
        let pid = node_lock::read_node_holder(home).pid.filter(|pid| sys::is_process_stopped(*pid))?;
        node_lock::is_node_locked(home).is_ok_and(|is_held| is_held).then(|| LockHolder::from_pid(pid))
    };
    in_table().or_else(stopped_node)
}

/// Returns the error if the file system of `path` supports no locks.
pub(super) fn probe_lock_support(path: &Path) -> Option<io::Error> {
    // A file of its own: closing the database would drop SQLite's locks (see the module).
    // Named by process: two processes must not remove each other's probe.
    let probe = sibling_path(path, &format!("-lock-{}", std::process::id()));
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&probe);
    let locked = opened.and_then(|file| Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?));
    // A probe that stays behind is an empty file, and the next probe of this process removes it.
    let _ = fs::remove_file(&probe);
    locked.err().filter(sys::is_locking_unsupported)
}

fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends() {
        assert!(can_wait_longer(Duration::ZERO) && can_wait_longer(Duration::from_secs(5)));
        assert!(!can_wait_longer(LOCK_TIMEOUT));
    }

    #[test]
    fn a_wait_is_for_the_database_in_use() {
        let in_use = || DATABASE_IN_USE.with_borrow(Clone::clone);
        let [outer, inner]: [Arc<Path>; 2] = ["/a/profile.db", "/b/profile.db"].map(|path| Path::new(path).into());
        let first = DatabaseUse::begin(outer.clone());
        let second = DatabaseUse::begin(inner.clone());
        assert_eq!(in_use(), Some(inner));
        drop(second);
        assert_eq!(in_use(), Some(outer));
        drop(first);
        assert_eq!(in_use(), None, "nothing is kept of a database that is closed");
    }

    #[test]
    fn a_usual_file_system_has_locks_and_keeps_nothing_of_the_look() {
        let home = tempfile::tempdir().unwrap();
        assert!(probe_lock_support(&home.path().join("profile.db")).is_none());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
