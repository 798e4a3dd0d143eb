//! SQLite files on whatever file system the data folder is on.
//!
//! A write-ahead log needs memory that processes share through a file, which some network and FUSE file systems don't
//! give. There the rollback journal does the same work, only slower.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tracing::info;

/// How long to wait for another connection that holds the file.
const BUSY: Duration = Duration::from_secs(5);

/// Opens a database, made if there is none, with a write-ahead log where the file system can have one.
///
/// # Errors
/// Those of SQLite.
pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let with_log = || {
        let db = connect(path)?;
        let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        // The log's shared memory is mapped at the first read.
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        Ok::<_, rusqlite::Error>((db, mode == "wal"))
    };
    match with_log() {
        Ok((db, true)) => Ok(db),
        Ok((db, false)) => told_of(path, db),
        Err(why) if may_want_of_shared_memory(&why) => match with_rollback_journal(path) {
            Ok(db) => told_of(path, db),
            Err(_) => Err(why),
        },
        Err(why) => Err(why),
    }
}

/// Whether nothing was ever written to the database: no file, or one without content, and no log either.
pub(crate) fn is_void(path: &Path) -> bool {
    let has_content = |path: PathBuf| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let mut log = OsString::from(path);
    log.push("-wal");
    !has_content(path.to_owned()) && !has_content(log.into())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// A log that is there is read with memory of this process alone, and done away with.
fn with_rollback_journal(path: &Path) -> rusqlite::Result<Connection> {
    let db = connect(path)?;
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    db.query_row("PRAGMA journal_mode = TRUNCATE", [], |row| row.get::<_, String>(0))?;
    db.pragma_update(None, "locking_mode", "NORMAL")?;
    // The lock is given up at the end of a read that follows: a backup reads the file, too.
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(db)
}

fn told_of(path: &Path, db: Connection) -> rusqlite::Result<Connection> {
    info!(path = %path.display(), "the file system can't have a write-ahead log: a rollback journal takes its place");
    Ok(db)
}

fn may_want_of_shared_memory(why: &rusqlite::Error) -> bool {
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
    use super::*;

    fn mode(db: &Connection) -> String {
        db.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_a_log_holds_is_there_without_shared_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        assert!(is_void(&path));
        drop(std::fs::File::create(&path).unwrap());
        assert!(is_void(&path));
        let db = open(&path).unwrap();
        assert_eq!(mode(&db), "wal");
        db.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)").unwrap();
        // As after a kill: the log is still there.
        for ending in ["", "-wal"] {
            let copied = folder.path().join(format!("copy{ending}"));
            std::fs::copy(folder.path().join(format!("db{ending}")), copied).unwrap();
        }
        let copy = folder.path().join("copy");
        assert!(!is_void(&copy));
        let db = with_rollback_journal(&copy).unwrap();
        assert_eq!(mode(&db), "truncate");
        // Others may read it meanwhile.
        let other = connect(&copy).unwrap();
        assert_eq!(other.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
        db.execute_batch("INSERT INTO t VALUES (8)").unwrap();
        assert_eq!(other.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    }
}
