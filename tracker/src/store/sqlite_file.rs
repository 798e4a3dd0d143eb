//! Opening SQLite files on any file system.
//!
//! A write-ahead log needs memory that processes share through a file, which some network and FUSE file systems lack.
//! There the rollback journal is used, which is only slower.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use shared::safe_text::safe_path;
use tracing::info;

use crate::folder_lock::{is_locking_unsupported, private_file};

/// The message for a file that can't be opened because no descriptor is left.
pub(crate) const TOO_MANY_OPEN: &str =
    "too many open files; raise the limit with `ulimit -n 4096` (LimitNOFILE= in a unit) and start the tracker again";
/// The suffixes of a database's files: the database, its rollback journal, its write-ahead log with the shared memory. A
/// journal or a log must never meet another database of the same name: SQLite would write it into that one.
pub(crate) const FILE_SUFFIXES: [&str; 4] = ["", "-journal", "-wal", "-shm"];
/// The time to wait for another connection that locks the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are written to find out whether there is room: as many as the memory has that SQLite shares by a file.
const PROBE_BYTES: usize = 32 * 1024;
/// The bytes of a database's header. SQLite takes a file of a single byte for a database with nothing in it.
const HEADER_BYTES: u64 = 100;

/// Opens or creates a database, with a write-ahead log if the file system supports one.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let with_log = || {
        let db = connect(path)?;
        let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        // The log's shared memory is mapped at the first read, so only that shows whether it works.
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok::<_, rusqlite::Error>((db, mode == "wal"))
    };
    match with_log() {
        Ok((db, true)) => Ok(db),
        Ok((db, false)) => log_rollback_journal(path, db),
        Err(why) if may_lack_shared_memory(&why) && !is_out_of_descriptors() => {
            match open_with_rollback_journal(path) {
                Ok(db) => log_rollback_journal(path, db),
                // The first error says more about the file.
                Err(_) => Err(why),
            }
        }
        Err(why) => Err(why),
    }
}

/// Appends one of [`FILE_SUFFIXES`] to a database's path.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a database that is not open, with all its files.
pub(crate) fn remove(path: &Path) {
    for suffix in FILE_SUFFIXES {
        // What can't be removed fails later, with a better message.
        let _ = std::fs::remove_file(with_suffix(path, suffix));
    }
}

/// True if there is no database: no file, or one too short for a header. A log without one doesn't count: SQLite begins
/// it after the header is written, and discards it where there is none.
pub(crate) fn is_missing_or_empty(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.len() < HEADER_BYTES)
}

/// Returns the error if files in the folder can't be locked. SQLite itself reports such a file system as one on which
/// another process holds the lock.
pub(crate) fn locking_error(folder: &Path) -> Option<io::Error> {
    let probe = folder.join(format!(".lock-{}", std::process::id()));
    let locked = private_file(&probe).and_then(|file| Ok(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)?));
    // An empty file that can't be removed is harmless.
    let _ = std::fs::remove_file(&probe);
    locked.err().filter(is_locking_unsupported)
}

/// Returns whether nothing more can be written to the folder for want of room: its disk is full, or a quota is used up,
/// of which SQLite says no more than that a write failed.
pub(crate) fn is_out_of_room(folder: &Path) -> bool {
    let probe = folder.join(format!(".room-{}", std::process::id()));
    let written = private_file(&probe).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    let _ = std::fs::remove_file(&probe);
    written.is_err_and(|why| is_want_of_room(&why))
}

fn is_want_of_room(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether this process has no descriptor left, which SQLite tells as a file that it can't open.
pub(crate) fn is_out_of_descriptors() -> bool {
    let full = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    // SQLite opens two at once, and may have closed one by now.
    let opened: Vec<_> = (0..2).map(|_| std::fs::File::open("/")).collect();
    let is_full = |why: &io::Error| why.raw_os_error().is_some_and(|why| full.contains(&why));
    opened.iter().any(|opened| opened.as_ref().is_err_and(is_full))
}

/// Opens a database as it is: its journal mode stays.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    // A restored backup may come from an attacker: nothing in its schema may run code.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    Ok(db)
}

/// Opens a database with a rollback journal. An existing log is read with this process's own memory, and removed.
fn open_with_rollback_journal(path: &Path) -> rusqlite::Result<Connection> {
    let db = connect(path)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    db.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0))?;
    db.pragma_update(None, "locking_mode", "NORMAL")?;
    // Leaving exclusive mode releases the lock only at the next read; a backup needs to read the file, too.
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(db)
}

fn log_rollback_journal(path: &Path, db: Connection) -> rusqlite::Result<Connection> {
    info!(path = %safe_path(path), "the file system can't have a write-ahead log: a rollback journal takes its place");
    Ok(db)
}

fn may_lack_shared_memory(why: &rusqlite::Error) -> bool {
    let code = why.sqlite_error_code();
    matches!(
        code,
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
        )
    )
}

#[cfg(test)]
mod tests {
    use certs::{FileLossDetector, has_stable_inodes};

    use super::*;

    fn mode(db: &Connection) -> String {
        db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_quota_is_a_want_of_room_and_a_look_for_it_leaves_nothing_behind() {
        // ENOSPC, EDQUOT, EIO.
        let is_want = |number| is_want_of_room(&io::Error::from_raw_os_error(number));
        assert_eq!([28, 122, 5].map(is_want), [true, true, false]);
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_out_of_room(folder.path()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_schema_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let db = open(&path).unwrap();
        assert!(db.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert_eq!(db.query_row("PRAGMA trusted_schema", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert_eq!(mode(&db), "wal");
    }

    #[test]
    fn a_database_that_was_removed_or_replaced_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let db = open(&path).unwrap();
        let place = FileLossDetector::new(&path);
        db.execute_batch("CREATE TABLE t (n INTEGER)").unwrap();
        assert!(!place.is_lost());
        let away = folder.path().join("away");
        std::fs::rename(&path, &away).unwrap();
        assert!(place.is_lost());
        std::fs::rename(&away, &path).unwrap();
        assert!(!place.is_lost(), "it is back");
        std::fs::remove_file(&path).unwrap();
        drop(open(&path).unwrap());
        assert_eq!(place.is_lost(), has_stable_inodes(&path), "another one is in its place");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(place.is_lost());
    }

    #[test]
    fn what_a_log_holds_is_there_without_shared_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        assert!(is_missing_or_empty(&path));
        for len in [0, 1, 99] {
            std::fs::File::create(&path).unwrap().set_len(len).unwrap();
            assert!(is_missing_or_empty(&path));
        }
        std::fs::remove_file(&path).unwrap();
        let db = open(&path).unwrap();
        assert_eq!(mode(&db), "wal");
        db.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").unwrap();
        // As after a kill: the log is still there.
        for ending in ["", "-wal"] {
            let copied = folder.path().join(format!("copy{ending}"));
            std::fs::copy(folder.path().join(format!("db{ending}")), copied).unwrap();
        }
        let copy = folder.path().join("copy");
        assert!(!is_missing_or_empty(&copy), "the header is there before the log");
        let db = open_with_rollback_journal(&copy).unwrap();
        assert_eq!(mode(&db), "truncate");
        // Others may read it meanwhile.
        let other = connect(&copy).unwrap();
        assert_eq!(other.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
        db.execute_batch("INSERT INTO t VALUES (8)").unwrap();
        assert_eq!(other.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    }
}
