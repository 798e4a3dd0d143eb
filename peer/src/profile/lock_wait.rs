//! Waiting for a database that another process holds: in short steps, so that whoever is asked to end does, and with a
//! word about whom is waited for.
//!
//! Who holds it stands in the system's table of locks. To ask for the lock itself would want the file opened once more,
//! and to close that again would give up all locks that SQLite has on it in this process (fcntl(2)).
//!
//! | resource | bound | beyond |
//! |---|---|---|
//! | a wait for the database | `PATIENCE` | an error that names the holder |
//! | the same when the holder is stopped | `STOPPED_FOR` | as above |
//! | the same when this process is asked to end | `ONCE_ENDING` | as above |

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, major, minor};
use shared::safe_text::{safe_line, safe_path};

use super::node_lock;
use crate::sys::{self, job_control, process_command};

/// How long another process may hold the database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one that is stopped may.
const STOPPED_HOLDER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long one may when this process is asked to end: most hold it for some milliseconds.
const TERMINATION_TIMEOUT: Duration = Duration::from_millis(500);
/// From when on it is told who is waited for.
const NOTICE_DELAY: Duration = Duration::from_secs(2);
/// Between two looks.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// When it is looked whether the file system has locks at all: SQLite takes one without for a file that is locked.
const LOCK_PROBE_DELAY: Duration = Duration::from_millis(200);

/// Databases of this process, as a rule one.
static DATABASES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
/// Tells the user whom is waited for.
static WAIT_NOTIFIER: OnceLock<WaitNotifier> = OnceLock::new();

type WaitNotifier = Box<dyn Fn(&str) + Send + Sync>;

/// A process that holds a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LockHolder {
    pub(super) pid: u32,
    /// What it runs, as it can be shown.
    pub(super) command: Option<String>,
    pub(super) is_stopped: bool,
}

/// Sets what tells the user that a wait takes long.
pub fn set_wait_notifier(tell: impl Fn(&str) + Send + Sync + 'static) {
    // Only the first counts: a process has one user.
    let _ = WAIT_NOTIFIER.set(Box::new(tell));
}

/// Waits for the database at `path` in this module's way wherever `connection` finds it held.
pub(super) fn install_busy_handler(connection: &rusqlite::Connection, path: &Path) -> rusqlite::Result<()> {
    databases().insert(path.to_owned());
    connection.busy_handler(Some(wait_step))
}

/// Waits one step of a wait that has gone on for so many; false when that is enough.
pub(super) fn wait_step(steps: i32) -> bool {
    let waited = POLL_INTERVAL * u32::try_from(steps).unwrap_or(u32::MAX);
    let goes_on = can_wait_longer(waited);
    if goes_on {
        std::thread::sleep(POLL_INTERVAL);
    }
    goes_on
}

/// Whether a wait that has lasted so long goes on; tells of it when it is time to.
fn can_wait_longer(waited: Duration) -> bool {
    // Counted in steps: each of these moments comes once.
    let is_moment = |moment: Duration| (moment..moment + POLL_INTERVAL).contains(&waited);
    if waited >= LOCK_TIMEOUT || (waited >= TERMINATION_TIMEOUT && job_control::requested_termination().is_some()) {
        return false;
    }
    let each_second = waited >= STOPPED_HOLDER_TIMEOUT
        && (waited.as_millis() - STOPPED_HOLDER_TIMEOUT.as_millis()) % 1000 < POLL_INTERVAL.as_millis();
    let (looks_for_locks, tells) = (is_moment(LOCK_PROBE_DELAY), is_moment(NOTICE_DELAY));
    if !(each_second || looks_for_locks || tells) {
        return true;
    }
    let all = databases().clone();
    if looks_for_locks && all.iter().any(|path| probe_lock_support(path).is_some()) {
        return false;
    }
    if each_second && all.iter().filter_map(|path| find_lock_holder(path)).any(|holder| holder.is_stopped) {
        return false;
    }
    if tells && let Some((path, holder)) = all.iter().find_map(|path| Some((path, find_lock_holder(path)?))) {
        let words = describe_process(holder.pid, holder.command.as_deref());
        notify_wait(&format!("waiting for {words}, which holds {}", safe_path(path)));
    }
    true
}

/// A process for people, with its command where that is known.
pub(super) fn describe_process(pid: u32, command: Option<&str>) -> String {
    let command = command.map(|command| format!(" ({command})")).unwrap_or_default();
    format!("process {pid}{command}")
}

fn notify_wait(words: &str) {
    match WAIT_NOTIFIER.get() {
        Some(tell) => tell(words),
        None => tracing::info!("{words}"),
    }
}

fn databases() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LockHolder {
    /// The process with this number.
    pub(super) fn from_pid(pid: u32) -> Self {
        let command = process_command(pid).map(|command| safe_line(&command).into_owned());
        Self { pid, command, is_stopped: sys::is_process_stopped(pid) }
    }
}

/// The other process that holds the database at `path`, if that can be found out.
pub(super) fn find_lock_holder(path: &Path) -> Option<LockHolder> {
    let in_table = || {
        let table = fs::read_to_string("/proc/locks").ok()?;
        let files = [(LockedFile::Database, path.to_owned()), (LockedFile::SharedMemory, sibling_path(path, "-shm"))];
        let files = files.into_iter().filter_map(|(part, path)| Some((part, fs::metadata(&path).ok()?, path)));
        files.into_iter().find_map(|(part, metadata, path)| {
            let device = (major(metadata.dev()), minor(metadata.dev()));
            let held = parse_write_locks(&table, part, metadata.ino());
            // Some file systems have other numbers there than they tell.
            let is_there = |lock: &&FileLock| lock.device == device || has_file_open(lock.pid, &path);
            held.iter()
                .filter(|lock| lock.pid != std::process::id())
                .find(is_there)
                .map(|lock| LockHolder::from_pid(lock.pid))
        })
    };
    // A node may be stopped where no table of locks can be read.
    let stopped_node = || {
        let home = path.parent()?;
        let pid = node_lock::read_node_holder(home).pid.filter(|pid| sys::is_process_stopped(*pid))?;
        node_lock::is_node_locked(home).is_ok_and(|is_held| is_held).then(|| LockHolder::from_pid(pid))
    };
    in_table().or_else(stopped_node)
}

/// Why nothing beside `path` can be locked, if that is so.
pub(super) fn probe_lock_support(path: &Path) -> Option<io::Error> {
    // Not the database itself: see the module.
    let probe = sibling_path(path, &format!("-lock-{}", std::process::id()));
    let opened = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&probe);
    let locked = opened.and_then(|file| Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?));
    // What is left is an empty file, and swept up by the next look.
    let _ = fs::remove_file(&probe);
    locked.err().filter(sys::is_file_locking_unsupported)
}

fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The files of a database in which locks stand for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockedFile {
    Database,
    /// What the processes of a write-ahead log share.
    SharedMemory,
}

/// One line of the system's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileLock {
    pid: u32,
    device: (u32, u32),
}

/// The locks in the system's table that keep others from writing to a database, of whose files one has this inode.
fn parse_write_locks(table: &str, part: LockedFile, inode: u64) -> Vec<FileLock> {
    // Bytes that SQLite locks: in the database from its pending byte on; in the memory to write, to put the log into the
    // database, and to recover (os_unix.c, wal.c).
    let (first, last) = match part {
        LockedFile::Database => (0x4000_0000, 0x4000_0000 + 511),
        LockedFile::SharedMemory => (120, 122),
    };
    let lock = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        // A line with an arrow is of somebody who waits.
        if words.next()? != "POSIX" || words.nth(1)? != "WRITE" {
            return None;
        }
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
        let mut file = words.next()?.split(':');
        let mut hexadecimal = || u32::from_str_radix(file.next()?, 16).ok();
        let device = (hexadecimal()?, hexadecimal()?);
        let is_it = file.next()?.parse::<u64>().ok()? == inode;
        let begin: u64 = words.next()?.parse().ok()?;
        let end: u64 = words.next().map(|end| end.parse().unwrap_or(u64::MAX))?;
        (is_it && begin <= last && end >= first).then_some(FileLock { pid, device })
    };
    table.lines().filter_map(lock).collect()
}

fn has_file_open(pid: u32, path: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|open| open == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1: FLOCK  ADVISORY  WRITE 30900 fe:00:7 0 EOF
2: POSIX  ADVISORY  READ 12 fe:00:7 128 128
3: POSIX  ADVISORY  WRITE 13 fe:00:7 120 120
3: -> POSIX  ADVISORY  WRITE 14 fe:00:7 120 120
4: POSIX  ADVISORY  WRITE 15 fe:00:8 120 120
5: POSIX  ADVISORY  WRITE 16 fe:00:9 1073741824 1073742335
6: POSIX  ADVISORY  WRITE 17 103:02:9 0 EOF
7: POSIX  ADVISORY  WRITE -1 fe:00:9 0 EOF
8: OFDLCK ADVISORY  WRITE -1 fe:00:7 0 EOF";

    #[test]
    fn who_keeps_others_from_writing_stands_in_the_table() {
        let lock = |pid, device| FileLock { pid, device };
        assert_eq!(parse_write_locks(TABLE, LockedFile::SharedMemory, 7), [lock(13, (0xfe, 0))]);
        assert_eq!(parse_write_locks(TABLE, LockedFile::SharedMemory, 8), [lock(15, (0xfe, 0))]);
        assert_eq!(parse_write_locks(TABLE, LockedFile::Database, 7), []);
        assert_eq!(parse_write_locks(TABLE, LockedFile::Database, 9), [lock(16, (0xfe, 0)), lock(17, (0x103, 2))]);
        assert_eq!(parse_write_locks("rubbish\n1: POSIX", LockedFile::Database, 9), []);
    }

    #[test]
    fn a_wait_ends() {
        assert!(can_wait_longer(Duration::ZERO) && can_wait_longer(Duration::from_secs(5)));
        assert!(!can_wait_longer(LOCK_TIMEOUT));
    }

    #[test]
    fn a_usual_file_system_has_locks_and_keeps_nothing_of_the_look() {
        let home = tempfile::tempdir().unwrap();
        assert!(probe_lock_support(&home.path().join("profile.db")).is_none());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }
}
